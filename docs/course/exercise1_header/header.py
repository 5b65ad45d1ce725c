"""Exercise 1: the header of a record. The text is in README.md."""

from __future__ import annotations

from typing import NamedTuple


class Header(NamedTuple):
    """What the 8 bytes before a record's payload say."""

    length: int  # bytes of payload
    busy: bool  # reserved, and not yet committed
    discard: bool  # committed, and to be skipped
    page_offset: int  # the second word, as it is


def decode(header: bytes) -> Header:
    """A header of 8 bytes, which has the byte order of this machine."""
    # TODO: take the two words out, and the length word to pieces.
    raise NotImplementedError("exercise 1: decode")


def next_position(position: int, length: int) -> int:
    """Where the next record stands, when a record with `length` bytes of payload stands at `position`."""
    # TODO: add the header, round up to a multiple of 8, and mind that positions have 64 bits.
    raise NotImplementedError("exercise 1: next_position")
