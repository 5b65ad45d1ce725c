"""Exercise 5: a consumer of a ring whose loads and stores may pass each other. The text is in README.md."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

# All that you need of it; the operations are described at the top of weak_memory.py.
from weak_memory import (  # noqa: F401
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
    """Take all records from `position` on; return the position when the consumer may sleep.

    A generator: `word = yield LoadLengthWord(position)`. It is called anew, with what it returned, when it has been woken.
    """
    # TODO: your walk, batch by batch. Then the four barriers.
    raise NotImplementedError("exercise 5: drain")
