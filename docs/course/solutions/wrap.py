"""Exercise 3, solved: a ring that has been filled many times over."""

from __future__ import annotations

import struct


def offset(position: int, size: int) -> int:
    """Where a position lies in a data area of `size` bytes, a power of two."""
    return position & (size - 1)


def walk(data: bytes | bytearray | memoryview, consumer: int, producer: int) -> tuple[list[bytes], int]:
    """The payloads of the records between the two positions, as copies, and the position behind the last of them.

    `data` is the data area as the kernel maps it: twice, one behind the other. Positions are any; all records are committed.
    """
    size = len(data) // 2
    payloads, position = [], consumer
    while position != producer:
        at = offset(position, size)
        (length,) = struct.unpack_from("=I", data, at)
        payloads.append(bytes(data[at + 8 : at + 8 + length]))
        position = (position + ((length + 8 + 7) & ~7)) % 2**64
    return payloads, position


def walk_once(area: bytes | bytearray | memoryview, consumer: int, producer: int) -> tuple[list[bytes], int]:
    """The same, of a data area that is there only once, as a file has it that somebody saved."""
    size = len(area)
    payloads, position = [], consumer
    while position != producer:
        (length,) = struct.unpack_from("=I", area, offset(position, size))
        start = offset(position + 8, size)
        first = bytes(area[start : start + length])
        payloads.append(first + bytes(area[: length - len(first)]))
        position = (position + ((length + 8 + 7) & ~7)) % 2**64
    return payloads, position
