"""The simulated producer against the kernel's: the same operations leave the same bytes, answers and wake-ups.

Each list of operations that hypothesis chooses becomes a straight-line BPF program, so that reservations interleave in
any way while the verifier checks each of them. It stores what the helpers answer in its context. Reservations end with
the program; what the consumer does comes between two programs of one object.
"""

from __future__ import annotations

import mmap
import random
import select
import struct
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple, Union

import pytest
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import purebpf
from purebpf.formats.abi import MapType
from purebpf.formats.ring import Ring
from purebpf.formats.ring_producer import FORCE_WAKEUP, NO_WAKEUP, Reservation, SimulatedRing
from purebpf.formats.ring_program import DISCARD, SUBMIT, RingProgram
from purebpf.formats.spec import MapSpec

pytestmark = [pytest.mark.kernel, pytest.mark.needs("syscall_program")]

PAGE = mmap.PAGESIZE
CONTENT = random.Random(8).randbytes(5 * PAGE)  # what `output` copies from
SLOTS = 3
FARTHEST = 2**15 - 32  # byte that an instruction's offset reaches, and some more
LONG = 3.0  # seconds until a wake-up counts as not sent


class Reserve(NamedTuple):
    """Reserve into a slot, and write `content` to byte `at` of the payload."""

    slot: int
    length: int
    flags: int
    at: int
    content: bytes


class Commit(NamedTuple):
    slot: int
    helper: int
    flags: int


class Output(NamedTuple):
    start: int
    length: int
    flags: int


class Query(NamedTuple):
    flag: int


class Consume(NamedTuple):
    limit: int


class StorePosition(NamedTuple):
    """What a consumer must not do: store any position, here so far from the producer's."""

    distance: int


Operation = Union[Reserve, Commit, Output, Query]
Run = list[Operation]
Step = Union[Run, Consume, StorePosition]


# The operations in the kernel


def assemble(run: Run) -> RingProgram:
    program = RingProgram(SLOTS)
    for operation in run:
        if isinstance(operation, Reserve):
            program.reserve(operation.slot, operation.length, operation.flags)
            program.write(operation.slot, operation.content, operation.at)
        elif isinstance(operation, Commit):
            program.commit(operation.slot, operation.helper, operation.flags)
        elif isinstance(operation, Output):
            program.output(operation.start, operation.length, operation.flags)
        else:
            program.query(operation.flag)
    return program


class Kernel:
    """A ring in the kernel, and a program for each list of operations."""

    def __init__(self, size: int, runs: list[Run]) -> None:
        self.size = size
        programs, self.answers = [], []
        for number, run in enumerate(runs):
            program = assemble(run)
            programs.append(program.spec(f"run{number}"))
            self.answers.append(program.answers)
        maps = [
            MapSpec(RingProgram.RING, MapType.RINGBUF, max_entries=size),
            MapSpec(RingProgram.CONTENT, MapType.ARRAY, 4, len(CONTENT), 1, contents=bytearray(CONTENT)),
            MapSpec(RingProgram.ANSWERS, MapType.ARRAY, 4, 8 * max([1, *self.answers]), 1),
        ]
        self.spec = purebpf.ObjectSpec({m.name: m for m in maps}, {p.name: p for p in programs}, "GPL", sys.byteorder)

    @contextmanager
    def loaded(self) -> Iterator[Kernel]:
        with purebpf.load(self.spec) as self.obj, select.epoll() as self.epoll:
            fd = self.obj.maps["events"].fileno()
            writable = mmap.mmap(fd, PAGE)
            rest = mmap.mmap(fd, PAGE + 2 * self.size, mmap.MAP_SHARED, mmap.PROT_READ, offset=PAGE)
            self.epoll.register(fd, select.EPOLLIN | select.EPOLLET)
            with closing(writable) as self.consumer_page, closing(rest) as self.rest:
                yield self

    def run(self, number: int) -> list[int]:
        """What the helpers answered."""
        assert self.obj.programs[f"run{number}"].test_run().return_value == 0
        count = self.answers[number]
        return list(struct.unpack_from(f"={count}Q", self.obj.maps[RingProgram.ANSWERS][0]))

    def notified(self, seconds: float) -> bool:
        """Since the last call."""
        return bool(self.epoll.poll(seconds))

    def consume(self, limit: int) -> list[bytes]:
        consumer, rest = memoryview(self.consumer_page), memoryview(self.rest)
        ring = Ring(consumer, rest[:PAGE], rest[PAGE:])
        records = [bytes(record) for record in ring.consume(limit)]
        ring.release()
        for view in (consumer, rest):
            view.release()
        return records


# The same, simulated


def simulate(ring: SimulatedRing, run: Run) -> list[int]:
    slots: dict[int, Reservation | None] = {}
    answers: list[int] = []
    for operation in run:
        if isinstance(operation, Reserve):
            record = slots[operation.slot] = ring.reserve(operation.length, operation.flags)
            answers.append(record is not None)
            if record:
                record.payload[operation.at : operation.at + len(operation.content)] = operation.content
        elif isinstance(operation, Commit):
            if taken := slots[operation.slot]:
                (taken.submit if operation.helper == SUBMIT else taken.discard)(operation.flags)
        elif isinstance(operation, Output):
            data = CONTENT[operation.start : operation.start + operation.length]
            answers.append(ring.output(data, operation.flags) % 2**64)
        else:
            answers.append(ring.query(operation.flag))
    return answers


def same_bytes(ring: SimulatedRing, kernel: Kernel) -> None:
    assert kernel.consumer_page[:] == ring.consumer_page
    assert kernel.rest[:PAGE] == ring.producer_page
    assert kernel.rest[PAGE:] == ring.data


def compare(size: int, steps: list[Step]) -> SimulatedRing:
    """Run the steps on both sides, and compare everything after each."""
    ring, number = SimulatedRing(size, page_size=PAGE), 0
    consumer = ring.ring()
    with Kernel(size, [step for step in steps if isinstance(step, list)]).loaded() as kernel:
        for step in steps:
            if isinstance(step, list):
                before = ring.notifications
                assert kernel.run(number) == simulate(ring, step)
                # epoll reports what was notified, if the positions then say that there is something
                woken = ring.notifications > before and ring.query(0) != 0
                assert kernel.notified(LONG if woken else 0) == woken
                number += 1
            elif isinstance(step, Consume):
                assert kernel.consume(step.limit) == list(consumer.consume(step.limit))
            else:
                position = struct.pack("=Q", (ring.query(3) + step.distance) % 2**64)
                kernel.consumer_page[:8] = ring.consumer_page[:8] = position
            same_bytes(ring, kernel)
    return ring


# What hypothesis chooses

ANY_FLAGS = st.sampled_from([0, 0, 0, NO_WAKEUP, FORCE_WAKEUP, NO_WAKEUP | FORCE_WAKEUP, 4, 2**63 | FORCE_WAKEUP])


def lengths(size: int) -> st.SearchStrategy[int]:
    edges = [size // 2 - 8, size // 2 - 7, size - 24, size - 17, size - 16, size - 15, size - 8, size - 7, size]
    small, medium = st.integers(0, 40), st.integers(size // 16, size // 3)
    return st.one_of(small, small, medium, medium, medium, st.integers(0, size + 16), st.sampled_from(edges))


@st.composite
def reservations(draw: st.DrawFn, size: int, slot: int) -> Reserve:
    never = st.sampled_from([2**30 - 1, 2**30, 2**31, 2**32 - 8])
    length = draw(never if draw(st.integers(0, 15)) == 15 else lengths(size))
    written = draw(st.integers(0, min(length, 24)))
    last = min(length - written, FARTHEST)
    at = draw(st.one_of(st.just(0), st.integers(0, last), st.just(last)))
    content = draw(st.binary(min_size=written, max_size=written))
    flags = draw(st.sampled_from([0] * 20 + [NO_WAKEUP, 8]))
    return Reserve(slot, length, flags, at, content)


@st.composite
def outputs(draw: st.DrawFn, size: int) -> Output:
    length = draw(lengths(size))
    return Output(draw(st.integers(0, len(CONTENT) - length - 1)), length, draw(ANY_FLAGS))


def queries() -> st.SearchStrategy[Query]:
    return st.builds(Query, st.one_of(st.integers(0, 5), st.sampled_from([2**32, 2**64 - 1])))


@st.composite
def runs(draw: st.DrawFn, size: int) -> Run:
    """Operations of which each is possible; at the end all slots are free."""
    run: Run = []
    taken: set[int] = set()

    def commit() -> None:
        slot = draw(st.sampled_from(sorted(taken)))
        taken.remove(slot)
        run.append(Commit(slot, draw(st.sampled_from([SUBMIT, DISCARD])), draw(ANY_FLAGS)))

    for kind in draw(st.lists(st.sampled_from(["reserve", "reserve", "commit", "output", "query"]), max_size=16)):
        if kind == "reserve" and len(taken) < SLOTS:
            slot = min(set(range(SLOTS)) - taken)
            run.append(draw(reservations(size, slot)))
            taken.add(slot)
        elif kind == "commit" and taken:
            commit()
        elif kind == "output":
            run.append(draw(outputs(size)))
        else:
            run.append(draw(queries()))
    while taken:
        commit()
    return run


SIZES = st.sampled_from([PAGE, PAGE, PAGE, 2 * PAGE, 4 * PAGE])


@st.composite
def histories(draw: st.DrawFn, between: st.SearchStrategy[Step]) -> tuple[int, list[Step]]:
    """A ring's size, and what happens to it, from any place in the ring."""
    size = draw(SIZES)
    steps: list[Step] = [[Output(0, draw(st.integers(0, size - 16)), 0)], Consume(1)]
    for _ in range(draw(st.integers(1, 5))):
        steps += [draw(runs(size)), draw(between)]
    return size, steps


CONSUMED = st.builds(Consume, st.sampled_from([0, 1, 2, 5, 1000, 1000]))
NEAR = st.integers(-PAGE // 8, PAGE // 16).map(lambda n: 8 * n)
STORED = st.builds(StorePosition, st.one_of(NEAR, NEAR, st.integers(-PAGE, PAGE // 2), st.integers(0, 2**64 - 1)))


@settings(max_examples=examples(400), deadline=None)
@given(histories(CONSUMED))
def test_any_operations_leave_the_kernels_bytes(history: tuple[int, list[Step]]) -> None:
    compare(*history)


@settings(max_examples=examples(200), deadline=None)
@given(histories(STORED))
def test_so_they_do_with_false_consumer_positions(history: tuple[int, list[Step]]) -> None:
    compare(*history)


# Cases that chance may miss


@pytest.mark.parametrize("flags", [0, NO_WAKEUP, FORCE_WAKEUP, NO_WAKEUP | FORCE_WAKEUP, 4])
@pytest.mark.parametrize("helper", [SUBMIT, DISCARD])
@pytest.mark.parametrize("others", [(), (NO_WAKEUP,)], ids=["next", "not next"])
def test_each_flag_wakes_as_in_the_kernel(flags: int, helper: int, others: tuple[int, ...]) -> None:
    """A consumer that has caught up, or that has not; and one that has caught up again."""
    quiet: Run = [Output(0, 10, other) for other in others]
    run: Run = [*quiet, Reserve(0, 20, 0, 0, b"x"), Commit(0, helper, flags)]
    ring = compare(PAGE, [run, Consume(1000), run, Consume(1), run])
    wakes = flags & FORCE_WAKEUP or not (flags & NO_WAKEUP or others)
    assert ring.notifications >= (2 if wakes else 0)
    assert bool(ring.notifications) == bool(wakes)


def test_records_committed_in_reverse_wake_once_the_first_is_there() -> None:
    run: Run = [Reserve(slot, 8, 0, 0, b"") for slot in range(SLOTS)]
    backwards: Run = [Commit(slot, SUBMIT, 0) for slot in reversed(range(SLOTS))]
    assert compare(PAGE, [[*run, *backwards], Consume(1000), [*run, *backwards]]).notifications == 2


def test_a_busy_record_is_not_overwritten_when_the_consumer_lies() -> None:
    """By its position there is room behind a record that reaches beyond it; by the pending position there is none."""
    busy: Run = [Reserve(0, 3 * PAGE // 4, 0, 0, b"precious"), Output(0, PAGE // 2, 0), Query(3), Commit(0, SUBMIT, 0)]
    ring = compare(PAGE, [StorePosition(PAGE // 2), [*busy, Query(3), Output(0, PAGE // 2, 0)]])
    assert ring.query(3) == 3 * PAGE // 4 + PAGE // 2 + 16


@pytest.mark.parametrize("distance", range(-PAGE + 12, -PAGE + 22))
def test_the_last_byte_is_the_kernels_for_positions_that_are_no_multiples_of_8(distance: int) -> None:
    full: Run = [Output(0, PAGE // 2, 0), Output(0, PAGE // 2 - 100, 0)]
    ring = compare(PAGE, [full, StorePosition(distance), [Output(0, 8, 0), Query(3)]])
    assert (ring.query(3) > PAGE - 72) == (distance >= -PAGE + 17)


def test_a_record_of_every_length_is_the_kernels_round_the_ring() -> None:
    """Some 2,000 times round a ring of one page, with the ring's end at every place in a record."""
    steps: list[Step] = []
    for length in range(0, PAGE - 15, PAGE // 4096):
        steps += [[Output(length, length, 0)], Consume(1)]
    assert compare(PAGE, steps).query(3) > 2000 * PAGE
