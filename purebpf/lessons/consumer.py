"""The consumer of a scenario: it reads a ring's pages, and may keep to itself how far it got."""

from __future__ import annotations

from typing import Union

from ..formats.ring import records
from .operations import Answer
from .state import OVERWRITE

_Memory = Union[bytearray, memoryview]


class Consumer:
    """Reads the three buffers of a ring or of an overwriting ring, and writes the consumer position to the first."""

    def __init__(self, consumer: _Memory, producer: _Memory, data: _Memory, kind: str) -> None:
        self._consumer, self._producer, self._data, self._kind = consumer, producer, data, kind
        self._at = 0  # how far it has read

    def read(self, limit: int | None = None) -> Answer:
        """What is committed, from where it got to, or from the overwrite position if that is further."""
        end, _pending, overwrite = memoryview(self._producer)[:24].cast("Q")
        begin = max(self._at, overwrite) if self._kind == OVERWRITE else self._at
        batch, self._at = records(self._data, begin, end, limit)
        return Answer(len(batch), records=tuple(map(bytes, batch)))

    def consume(self, limit: int | None = None) -> Answer:
        """The same, and hand the room back."""
        answer = self.read(limit)
        memoryview(self._consumer)[:8].cast("Q")[0] = self._at
        return answer
