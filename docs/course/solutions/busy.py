"""Exercise 4, solved: busy and discarded records, and rings that lie."""

from __future__ import annotations

import struct

from purebpf import RingCorrupt

BUSY, DISCARD = 1 << 31, 1 << 30
LENGTH = DISCARD - 1


def records(data: bytes | memoryview, consumer: int, producer: int) -> tuple[list[bytes], int]:
    """The payloads that a consumer may have now, as copies, and its new position.

    `data` is the data area as the kernel maps it: twice, one behind the other. Whatever it holds, and whatever the positions
    are: nothing outside the records between them is read, and the function ends. Raises RingCorrupt for what no producer
    makes.
    """
    size = len(data) // 2
    if size < 8 or size & (size - 1) or len(data) != 2 * size:
        raise RingCorrupt(f"{len(data)} bytes of data are not twice a power of two")
    left = (producer - consumer) % 2**64
    if left > size or consumer % 8 or producer % 8:
        raise RingCorrupt(f"positions {consumer} and {producer} cannot both be true in a ring of {size} bytes")
    payloads, position = [], consumer
    while left:
        at = position & (size - 1)
        (word,) = struct.unpack_from("=I", data, at)
        if word & BUSY:
            break
        length = word & LENGTH
        if 8 + length > left:
            if position != consumer:
                break
            raise RingCorrupt(f"position {position}: a record of {length} bytes ends behind the producer position")
        if not word & DISCARD:
            payloads.append(bytes(data[at + 8 : at + 8 + length]))
        step = (length + 8 + 7) & ~7
        position, left = (position + step) % 2**64, left - step
    return payloads, position
