"""What stages do with rings: operations are carried out, and a consumer can be asleep.

The rings are the simulators of formats/, or rings of the kernel's that can be used in the same way.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..errors import ObjectError
from ..formats.perf import PerfRing
from ..formats.user_ring import UserRecord, UserRing
from .consumer import Consumer
from .operations import (
    AVAIL_DATA,
    Answer,
    Consume,
    Discard,
    Drain,
    Forge,
    Operation,
    Output,
    Query,
    Read,
    Reserve,
    Sleep,
    Submit,
    Write,
    length,
    payload,
)
from .state import PERF, USER, PerfRecorder, Recorder, RingState


def _nothing() -> None:
    pass


class Record(Protocol):
    """A record that is reserved: formats.ring_producer.Reservation, or one of the kernel's."""

    position: int

    def write(self, content: bytes, /) -> None:
        """To the start of the payload."""

    def submit(self, flags: int = 0, /) -> object:
        """bpf_ringbuf_submit."""

    def discard(self, flags: int = 0, /) -> object:
        """bpf_ringbuf_discard."""


class _Ring(Protocol):
    """What user space maps, as bytearray or memoryview, the data area of 2 * size bytes; and the wake-ups so far."""

    size: int
    consumer_page: Any
    producer_page: Any
    data: Any
    notifications: int


class ProducedRing(_Ring, Protocol):
    """What programs produce to: formats.ring_producer.SimulatedRing, or a ring of the kernel's."""

    def reserve(self, length: int, /) -> Record | None:
        """bpf_ringbuf_reserve; None for NULL."""

    def output(self, data: bytes, flags: int = 0, /) -> int:
        """bpf_ringbuf_output."""

    def query(self, flag: int, /) -> int:
        """bpf_ringbuf_query."""


class DrainedRing(_Ring, Protocol):
    """What a program drains: formats.user_ring_consumer.SimulatedUserRing, or a user ring of the kernel's."""

    def ring(self) -> UserRing:
        """Its producer's side."""

    def drain(self, callback: Callable[[bytes], int], flags: int = 0) -> int:
        """bpf_user_ringbuf_drain."""


class OutputRing(Protocol):
    """One CPU's perf ring: formats.perf_producer.SimulatedPerfRing, or one of the kernel's."""

    size: int
    control: Any
    data: Any
    notifications: int

    def ring(self) -> PerfRing:
        """Its reader's side."""

    def output(self, content: bytes) -> int:
        """bpf_perf_event_output on this CPU."""


class _OperationStage(ABC):
    """What the stages have in common: operations by their type, and whether they sent a notification."""

    def __init__(self, name: str, kind: str, size: int, close: Callable[[], None]) -> None:
        self.name = name
        self._close = close
        self._kind, self._size = kind, size
        self._operations: dict[type, Callable[[Any], Answer]] = {}

    @abstractmethod
    def _notifications(self) -> int:
        """Wake-ups sent so far."""

    @abstractmethod
    def states(self) -> tuple[RingState, ...]:
        """As Stage has it."""

    def do(self, operation: Operation) -> Answer:
        """As Stage has it. Raises ObjectError for what rings of this kind do not have."""
        if type(operation) not in self._operations:
            raise ObjectError(f"a ring of kind {self._kind} has no operation {type(operation).__name__}")
        before = self._notifications()
        answer = self._operations[type(operation)](operation)
        return answer._replace(woken=True) if self._notifications() > before else answer

    def close(self) -> None:
        """As Stage has it."""
        self._operations.clear()
        self._close()


class _RecordStage(_OperationStage):
    """Records that are reserved under a name, in a ring that a Recorder watches."""

    _asleep = False

    def __init__(self, name: str, kind: str, ring: ProducedRing | DrainedRing, close: Callable[[], None]) -> None:
        super().__init__(name, kind, ring.size, close)
        self._pages = ring
        self._recorder = Recorder(kind)
        self._reserved: dict[str, Any] = {}
        self._losses = 0
        self._operations[Reserve], self._operations[Write] = self._reserve, self._write

    def states(self) -> tuple[RingState, ...]:
        """As Stage has it."""
        ring = self._pages
        pages, counters = (ring.consumer_page, ring.producer_page, ring.data), (ring.notifications, self._losses)
        return (self._recorder.state(*pages, *counters, self._asleep),)

    def _notifications(self) -> int:
        return self._pages.notifications

    @abstractmethod
    def _place(self, length: int) -> Record | UserRecord | None:
        """A new record, or None."""

    @abstractmethod
    def _write(self, operation: Write) -> Answer:
        """Write to a reserved record."""

    def _reserve(self, operation: Reserve) -> Answer:
        record = self._place(length(operation.size, self._size, self._kind))
        if record is None:
            self._losses += 1
            return Answer(None)
        self._reserved[operation.name] = record
        self._recorder.name(record.position, operation.name)
        return Answer(record.position)


class RingStage(_RecordStage):
    """BPF programs produce, and a consumer reads, which can be asleep. `kind` is "ring" or "overwrite"."""

    def __init__(self, name: str, kind: str, ring: ProducedRing, close: Callable[[], None] = _nothing) -> None:
        super().__init__(name, kind, ring, close)
        self._ring = ring
        self._consumer = Consumer(ring.consumer_page, ring.producer_page, ring.data, kind)
        self._notified = False  # since it slept last
        self._operations.update(
            {
                Submit: self._submit,
                Discard: self._discard,
                Output: self._output,
                Query: self._query,
                Read: self._read,
                Consume: self._consume,
                Sleep: self._sleep,
            }
        )

    def do(self, operation: Operation) -> Answer:
        """As Stage has it: a notification ends the consumer's sleep, or its next one."""
        answer = super().do(operation)
        if answer.woken and not isinstance(operation, Sleep):
            self._notified = True
            if self._asleep:
                self._asleep = not self._wait()
        return answer

    def _place(self, length: int) -> Record | None:
        return self._ring.reserve(length)

    def _write(self, operation: Write) -> Answer:
        self._reserved[operation.name].write(operation.text.encode("ascii"))
        return Answer()

    def _submit(self, operation: Submit) -> Answer:
        self._reserved.pop(operation.name).submit(operation.flags)
        return Answer()

    def _discard(self, operation: Discard) -> Answer:
        self._reserved.pop(operation.name).discard(operation.flags)
        return Answer()

    def _output(self, operation: Output) -> Answer:
        position = memoryview(self._ring.producer_page)[:8].cast("Q")[0]
        error = self._ring.output(payload(operation, self._size, self._kind), operation.flags)
        if error:
            self._losses += 1
        else:
            self._recorder.name(position, operation.name)
        return Answer(error)

    def _query(self, operation: Query) -> Answer:
        return Answer(self._ring.query(operation.flag))

    def _read(self, _operation: Read) -> Answer:
        self._asleep = False
        return self._consumer.read()

    def _consume(self, operation: Consume) -> Answer:
        self._asleep = False
        return self._consumer.consume(operation.limit)

    def _sleep(self, _operation: Sleep) -> Answer:
        at_once = self._wait()
        self._asleep = not at_once
        return Answer(woken=at_once)

    def _wait(self) -> bool:
        """epoll_wait, edge-triggered: does it return at once? Only a notified ring is asked whether it has data
        (ep_send_events, fs/eventpoll.c)."""
        notified, self._notified = self._notified, False
        return notified and self._ring.query(AVAIL_DATA) != 0


class UserStage(_RecordStage):
    """User space reserves and submits, a BPF program drains."""

    def __init__(self, name: str, ring: DrainedRing, close: Callable[[], None] = _nothing) -> None:
        super().__init__(name, USER, ring, close)
        self._ring = ring
        self._user = self._ring.ring()
        self._operations.update({Submit: self._submit, Discard: self._discard, Drain: self._drain, Forge: self._forge})

    def _place(self, length: int) -> UserRecord | None:
        return self._user.reserve(length)

    def _write(self, operation: Write) -> Answer:
        text = operation.text.encode("ascii")
        self._reserved[operation.name].payload[: len(text)] = text
        return Answer()

    def _submit(self, operation: Submit) -> Answer:
        self._reserved.pop(operation.name).submit()
        return Answer()

    def _discard(self, operation: Discard) -> Answer:
        self._reserved.pop(operation.name).discard()
        return Answer()

    def _drain(self, operation: Drain) -> Answer:
        taken: list[bytes] = []

        def callback(content: bytes) -> int:
            taken.append(content)
            return 0

        return Answer(self._ring.drain(callback, operation.flags), records=tuple(taken))

    def _forge(self, operation: Forge) -> Answer:
        position, claimed = self._user.producer_position, length(operation.size, self._size, self._kind)
        self._recorder.name(position, operation.name)
        struct.pack_into("=II", self._ring.data, position & self._size - 1, claimed, 0)
        struct.pack_into("=Q", self._ring.producer_page, 0, position + 16)
        return Answer(position)


class PerfStage(_OperationStage):
    """One ring for each CPU. The consumer reads them one after the other."""

    def __init__(self, name: str, rings: Sequence[OutputRing], close: Callable[[], None] = _nothing) -> None:
        super().__init__(name, PERF, rings[0].size, close)
        self._rings = rings
        self._readers = [ring.ring() for ring in self._rings]
        self._recorders = [PerfRecorder(f"CPU {cpu}") for cpu in range(len(rings))]
        self._lost_on = [0] * len(rings)
        self._operations.update({Output: self._output, Consume: self._consume})

    def states(self) -> tuple[RingState, ...]:
        """As Stage has it."""
        each = zip(self._recorders, self._rings, self._lost_on)
        return tuple(recorder.state(ring.control, ring.data, ring.notifications, lost) for recorder, ring, lost in each)

    def _notifications(self) -> int:
        return sum(ring.notifications for ring in self._rings)

    def _output(self, operation: Output) -> Answer:
        ring = self._rings[operation.cpu]
        error = ring.output(payload(operation, self._size, self._kind))
        if error:
            self._lost_on[operation.cpu] += 1
        else:
            self._recorders[operation.cpu].name_last(ring.control, ring.data, operation.name)
        return Answer(error)

    def _consume(self, _operation: Consume) -> Answer:
        drained = [reader.drain() for reader in self._readers]
        taken = tuple(record for one in drained for record in one.records)
        return Answer(len(taken), records=taken, lost=sum(one.lost for one in drained))
