"""One operation with what it gave, and the rings before and after it: what a check looks at, and what can be told of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import Error
from ..formats.pieces import stride
from .operations import Answer, Operation, length
from .stage import Plan
from .state import RecordState, RingState


def text(payload: bytes) -> str:
    """The printable ASCII at the start of a payload, without the dots that fill it up, and 24 characters of it at most."""
    found = re.match(rb"[ -~]*", payload)
    shown = found.group().decode("ascii") if found else ""
    return (shown.rstrip(".") or shown)[:24]


@dataclass(frozen=True)
class Moment:
    """An operation, what it gave, and the rings before and after it."""

    plan: Plan
    operation: Operation
    answer: Answer
    before: tuple[RingState, ...]
    after: tuple[RingState, ...]

    @property
    def was(self) -> RingState:
        """The ring before; of a perf buffer, that of the CPU."""
        return self.before[getattr(self.operation, "cpu", 0)]

    @property
    def now(self) -> RingState:
        """The ring after; of a perf buffer, that of the CPU."""
        return self.after[getattr(self.operation, "cpu", 0)]

    @property
    def length(self) -> int:
        """Bytes of payload that the operation is about; 0 if it names no size."""
        size = getattr(self.operation, "size", 0)
        return length(size, self.was.size, self.plan.kind)

    @property
    def need(self) -> int:
        """Bytes that such a record takes up in the ring."""
        return stride(self.length)

    @property
    def record(self) -> RecordState:
        """The record that the operation names, after it. Raises Error if it is not in the ring."""
        return self.record_of(getattr(self.operation, "name", ""))

    def record_of(self, name: str) -> RecordState:
        """The newest record of this name, after the operation. Raises Error if it is not in the ring."""
        found = self.now.named(name)
        if found is None:
            raise Error(f"Record {name} is not in the ring")
        return found

    @property
    def texts(self) -> tuple[str, ...]:
        """What was read of each record, as text: see `text`."""
        return tuple(map(text, self.answer.records))
