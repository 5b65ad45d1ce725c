"""Exercise 2, solved: the walk over the records."""

from __future__ import annotations

import struct


def walk(data: bytes | bytearray | memoryview, consumer: int, producer: int) -> tuple[list[bytes], int]:
    """The payloads of the records between the two positions, as copies, and the position behind the last of them.

    The ring is new: nothing has come to its end yet, so a position is an offset in `data`. All records are committed.
    """
    payloads, position = [], consumer
    while position < producer:
        (length,) = struct.unpack_from("=I", data, position)
        payloads.append(bytes(data[position + 8 : position + 8 + length]))
        position += (length + 8 + 7) & ~7
    return payloads, position


def consume(consumer_page: bytearray, producer_page: bytes | bytearray, data: bytes | bytearray) -> list[bytes]:
    """The payloads of all records that have not been consumed. Then they are: their space is handed back.

    The first 8 bytes of each page are its position. Only `consumer_page` may be written.
    """
    consumer, producer = memoryview(consumer_page).cast("Q"), memoryview(producer_page).cast("Q")
    payloads, position = walk(data, consumer[0], producer[0])
    consumer[0] = position
    return payloads
