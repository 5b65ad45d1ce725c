"""Exercise 1, solved: the header of a record."""

from __future__ import annotations

import struct
from typing import NamedTuple

BUSY, DISCARD = 1 << 31, 1 << 30
LENGTH = DISCARD - 1


class Header(NamedTuple):
    """What the 8 bytes before a record's payload say."""

    length: int  # bytes of payload
    busy: bool  # reserved, and not yet committed
    discard: bool  # committed, and to be skipped
    page_offset: int  # the second word, as it is


def decode(header: bytes) -> Header:
    """A header of 8 bytes, which has the byte order of this machine."""
    word, page_offset = struct.unpack("=II", header)
    return Header(word & LENGTH, bool(word & BUSY), bool(word & DISCARD), page_offset)


def next_position(position: int, length: int) -> int:
    """Where the next record stands, when a record with `length` bytes of payload stands at `position`."""
    return (position + 8 + length + 7) // 8 * 8 % 2**64
