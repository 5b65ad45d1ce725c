"""Rings and overwriting rings of the kernel's.

A program cannot keep a reservation beyond its end, and what the consumer does comes between. So all that programs do in a
scenario is one program, in a straight line, that stops at a gate before each operation; it runs in a thread, and sleeps
while the consumer reads, and while the pages are looked at. As a program should not sleep for long, the whole scenario is
performed when the stage is opened, in a fraction of a second, and the stage hands out what was recorded.
"""

from __future__ import annotations

import mmap
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from ..errors import KernelError, NotSupported, ObjectError
from ..formats.abi import MapFlags, MapType, ProgType
from ..formats.ring_producer import NO_WAKEUP
from ..formats.ring_program import DISCARD, SUBMIT, RingProgram
from ..formats.spec import MapSpec, ObjectSpec
from ..kernel import probe
from ..kernel.gates import Gates
from ..kernel.program import Program
from ..kernel.ring_pages import RingPages
from ..lessons.operations import (
    Consume,
    Discard,
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
from ..lessons.recorded import RecordedStage, Recording
from ..lessons.stage import Plan
from ..lessons.stages import RingStage
from ..lessons.state import OVERWRITE, RingState
from ..object import load
from .notices import Notices

_PROGRAM = "produce"
_BY_USER_SPACE = (Consume, Read, Sleep)
_GLANCE = 0.1  # seconds between looks at whether the program has ended
_PATIENCE = 10.0  # seconds until a program that does not come to its next gate is given up
_PENDING = 1  # 8-byte word of the producer page


def open_stage(name: str, plan: Plan, scenario: Sequence[Operation]) -> RecordedStage:
    """Perform the operations, and play them back."""
    if not probe.has_prog_type(ProgType.SYSCALL):
        raise NotSupported(
            "this kernel has no BPF programs of type SYSCALL, with which scenarios are performed (Linux 5.14 has them)",
            hint="without --kernel the ring is simulated, on any Unix",
        )
    with _not_stopped(), KernelRing(plan, scenario) as ring:
        stage = _KernelRingStage(name, plan.kind, ring)
        opening = stage.states()
        steps = [(operation, stage.do(operation), stage.states()) for operation in scenario]
        ring.finish()
        if not ring.has_pending:
            opening = _without_pending(opening)
            steps = [(operation, answer, _without_pending(states)) for operation, answer, states in steps]
    return RecordedStage(name, Recording(opening, steps))


@contextmanager
def _not_stopped() -> Iterator[None]:
    """Keep Ctrl-Z pending: a program that is at a gate when its process is stopped takes a whole CPU."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _without_pending(states: tuple[RingState, ...]) -> tuple[RingState, ...]:
    return tuple(replace(state, pending=None) for state in states)


class _KernelRingStage(RingStage):
    """As with a simulated ring, but it is the kernel that says whether epoll_wait returns."""

    def __init__(self, name: str, kind: str, ring: KernelRing) -> None:
        super().__init__(name, kind, ring)
        self._kernel = ring

    def _wait(self) -> bool:
        return self._kernel.wait()


class KernelRing:
    """A ring in the kernel, and the program that produces to it. Calls must be those for which the program was made.

    A context manager: when it is left, the program runs to its end, and nothing stays behind.
    """

    def __init__(self, plan: Plan, scenario: Sequence[Operation]) -> None:
        self.size = plan.pages * mmap.PAGESIZE
        self.notifications = self._answered = 0
        self._owned = ExitStack()
        try:
            self._open(plan, [operation for operation in scenario if not isinstance(operation, _BY_USER_SPACE)])
        except BaseException:
            self._owned.close()
            raise

    def _open(self, plan: Plan, produced: list[Operation]) -> None:
        gates = self._owned.enter_context(Gates(len(produced) + 1))
        obj = self._owned.enter_context(load(_spec(self.size, plan.kind, produced, gates)))
        ring_map, self._answers = obj.maps[RingProgram.RING], obj.maps[RingProgram.ANSWERS]
        pages = self._owned.enter_context(RingPages(ring_map, writable=True))
        self.consumer_page, self.producer_page, self.data = pages.consumer, pages.producer, pages.data
        self._notices = self._owned.enter_context(Notices(ring_map.fileno()))
        self._consumers = self._owned.enter_context(Notices(ring_map.fileno()))
        self._run = self._owned.enter_context(_Run(obj.programs[_PROGRAM], gates))

    def _producer(self) -> memoryview:
        return self.producer_page[:24].cast("Q")

    def _step(self) -> None:
        """The program's next operation."""
        self._run.step()
        self.notifications += self._notices.come()

    def _answer(self) -> int:
        """What that has answered: a signed number."""
        found: int = struct.unpack_from("=q", self._answers[0], 8 * self._answered)[0]
        self._answered += 1
        return found

    def reserve(self, _length: int) -> KernelRecord | None:
        """As SimulatedRing has it, and so are the others."""
        position = self._producer()[0]
        self._step()
        return KernelRecord(self._step, position) if self._answer() else None

    def output(self, _data: bytes, _flags: int = 0) -> int:
        """bpf_ringbuf_output."""
        self._step()
        return self._answer()

    def query(self, _flag: int) -> int:
        """bpf_ringbuf_query."""
        self._step()
        return self._answer()

    def wait(self) -> bool:
        """The consumer's epoll_wait, edge-triggered: does it return at once?"""
        return self._consumers.come()

    def finish(self) -> None:
        """The program comes to its end, after two records more. Raises what it ended with."""
        self._run.finish()

    @property
    def has_pending(self) -> bool:
        """Does this kernel keep a pending position? It shows when the program has come to its end: every record has been
        committed, and the last reservation has moved that position, if there is one, beyond the first record."""
        return self._producer()[_PENDING] != 0

    def __enter__(self) -> KernelRing:
        return self

    def __exit__(self, *_error: object) -> None:
        self._owned.close()


class KernelRecord:
    """A record that the program has reserved. What it writes to it, and how it commits it, is in the program."""

    def __init__(self, step: Callable[[], None], position: int) -> None:
        self.position, self._step = position, step

    def write(self, _content: bytes) -> None:
        """As Reservation has it, and so are the others."""
        self._step()

    def submit(self, _flags: int = 0) -> None:
        """bpf_ringbuf_submit."""
        self._step()

    def discard(self, _flags: int = 0) -> None:
        """bpf_ringbuf_discard."""
        self._step()


def _spec(size: int, kind: str, produced: list[Operation], gates: Gates) -> ObjectSpec:
    """The ring, and the program that does these operations, each behind a gate, and comes to its end behind the last one."""
    program = RingProgram(sum(isinstance(operation, Reserve) for operation in produced))
    slots: dict[str, int] = {}
    reserved, content = 0, bytearray(8)
    for number, operation in enumerate(produced):
        program.read_memory(gates.address(number))
        if isinstance(operation, Reserve):
            slots[operation.name], reserved = reserved, reserved + 1
            program.reserve(slots[operation.name], length(operation.size, size, kind))
        elif isinstance(operation, Write):
            program.write(slots[operation.name], operation.text.encode("ascii"))
        elif isinstance(operation, (Submit, Discard)):
            helper = SUBMIT if isinstance(operation, Submit) else DISCARD
            program.commit(slots[operation.name], helper, operation.flags)
        elif isinstance(operation, Output):
            sent = payload(operation, size, kind)
            program.output(len(content), len(sent), operation.flags)
            content += sent
        elif isinstance(operation, Query):
            program.query(operation.flag)
        else:
            raise ObjectError(f"a ring of kind {kind} has no operation {type(operation).__name__}")
    program.read_memory(gates.address(len(produced)))
    for slot in range(reserved):  # what the scenario leaves busy: the verifier insists
        program.commit(slot, DISCARD, NO_WAKEUP)
    for _ in range(2):
        program.output(0, 0, NO_WAKEUP)
    flags = int(MapFlags.RB_OVERWRITE) if kind == OVERWRITE else 0
    maps = [
        MapSpec(RingProgram.RING, MapType.RINGBUF, max_entries=size, flags=flags),
        MapSpec(RingProgram.CONTENT, MapType.ARRAY, 4, len(content), 1, contents=content),
        MapSpec(RingProgram.ANSWERS, MapType.ARRAY, 4, 8 * program.answers, 1),
    ]
    return ObjectSpec({made.name: made for made in maps}, {_PROGRAM: program.spec(_PROGRAM)}, "GPL", sys.byteorder)


class _Run:
    """A program that runs in a thread, from gate to gate. A context manager, at whose end it has come to its own."""

    def __init__(self, program: Program, gates: Gates) -> None:
        self._program, self._gates = program, gates
        self._at = 0
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=program.spec.name)

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the thread that waits
        try:
            self._program.test_run()
        except Exception as error:
            self._error = error

    def step(self) -> None:
        """Have it go on to its next gate. Raises what it ended with before, and KernelError if it takes too long."""
        self._gates.open(self._at)
        self._at += 1
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while self._gates.reached(_GLANCE) != self._at:
            if not self._thread.is_alive():
                raise self._error or KernelError("the program of the scenario ended too early")
            if time.monotonic() > deadline:
                raise KernelError(
                    f"the program of the scenario did not come to step {self._at} in {_PATIENCE:g} seconds"
                )

    def finish(self) -> None:
        """Have it come to its end. Raises what it ended with."""
        self._gates.close()
        self._thread.join()
        if self._error:
            raise self._error

    def __enter__(self) -> _Run:
        try:
            self._thread.start()
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._gates.close()
        if self._thread.is_alive():  # not if it could not be started
            self._thread.join()
