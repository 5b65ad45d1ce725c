"""Exercise 5, solved: a consumer of a ring whose loads and stores may pass each other."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from weak_memory import (
    BUSY,
    DISCARD,
    LENGTH,
    Barrier,
    CopyPayload,
    LoadLengthWord,
    LoadProducerPosition,
    Operation,
    StoreConsumerPosition,
)


def drain(position: int) -> Generator[Operation, Any, int]:
    """Take all records from `position` on; return the position when the consumer may sleep."""
    while True:
        producer = yield LoadProducerPosition()
        yield Barrier()  # 1: a header is loaded after the position that says that it is there
        records, end = [], position
        while end < producer:
            word = yield LoadLengthWord(end)
            if word & BUSY:
                break
            if not word & DISCARD:
                records.append(CopyPayload(end, word & LENGTH))
            end += ((word & LENGTH) + 8 + 7) & ~7
        if end == position:
            return position
        yield Barrier()  # 2: a payload is loaded after the header that says that it was written
        yield from records
        yield Barrier()  # 3: what is being loaded is not handed back
        yield StoreConsumerPosition(end)
        yield Barrier()  # 4: the producer sees the position before the ring is looked at for the last time
        position = end
