"""Exercise 4: busy and discarded records, and rings that lie. The text is in README.md."""

from __future__ import annotations

from purebpf import RingCorrupt  # noqa: F401 (for you to raise: RingCorrupt("what is wrong"))


def records(data: bytes | memoryview, consumer: int, producer: int) -> tuple[list[bytes], int]:
    """The payloads that a consumer may have now, as copies, and its new position.

    `data` is the data area as the kernel maps it: twice, one behind the other. Whatever it holds, and whatever the positions
    are: nothing outside the records between them is read, and the function ends. Raises RingCorrupt for what no producer
    makes.
    """
    # TODO: first check `data` and the positions, then walk: check each record before you take it.
    raise NotImplementedError("exercise 4: records")
