"""Exercise 2: the walk over the records. The text is in README.md."""

from __future__ import annotations


def walk(data: bytes | bytearray | memoryview, consumer: int, producer: int) -> tuple[list[bytes], int]:
    """The payloads of the records between the two positions, as copies, and the position behind the last of them.

    The ring is new: nothing has come to its end yet, so a position is an offset in `data`. All records are committed.
    """
    # TODO: read the length word at the position, copy the payload behind the header, go on at the next record.
    raise NotImplementedError("exercise 2: walk")


def consume(consumer_page: bytearray, producer_page: bytes | bytearray, data: bytes | bytearray) -> list[bytes]:
    """The payloads of all records that have not been consumed. Then they are: their space is handed back.

    The first 8 bytes of each page are its position. Only `consumer_page` may be written.
    """
    # TODO: read both positions, walk, store the new consumer position. memoryview(page).cast("Q")[0] is the position.
    raise NotImplementedError("exercise 2: consume")
