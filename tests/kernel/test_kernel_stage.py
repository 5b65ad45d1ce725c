"""Scenarios on the kernel's own rings: the same answers, pages and wake-ups as in the simulators, step by step."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from features import require

from purebpf.errors import Error, KernelError, NotSupported, ObjectError
from purebpf.formats.perf import LOST
from purebpf.formats.ring import BUSY, DISCARD
from purebpf.formats.ring_producer import FORCE_WAKEUP, NO_WAKEUP
from purebpf.kernel.gates import Gates
from purebpf.kernel_stage import kernel_stage
from purebpf.kernel_stage.ring import KernelRing
from purebpf.lessons.operations import (
    AVAIL_DATA,
    Consume,
    Discard,
    Drain,
    Operation,
    Output,
    Query,
    Read,
    Reserve,
    Share,
    Sleep,
    Submit,
    Write,
)
from purebpf.lessons.scenario import Performance, Scenario, Step
from purebpf.lessons.scenarios import SCENARIOS, scenario
from purebpf.lessons.simulated import simulated
from purebpf.lessons.stage import Plan, Stage
from purebpf.lessons.state import OVERWRITE, PERF, RING, USER, RecordState, RingState

pytestmark = [pytest.mark.kernel, pytest.mark.needs("syscall_program", "userfaultfd")]

PAGE, ONE_PAGE = mmap.PAGESIZE, Plan()
NEEDED = {OVERWRITE: ("ring_overwrite",), PERF: ("two_cpus",), USER: ("user_ringbuf",), RING: ()}


def made_of(*operations: Operation, plan: Plan = ONE_PAGE) -> Scenario:
    return Scenario("made", "", "", plan, tuple(Step("", operation, lambda _moment: True) for operation in operations))


@contextmanager
def both(shown: Scenario) -> Iterator[tuple[Stage, Stage]]:
    """The kernel's stage and the simulated one."""
    require(*NEEDED[shown.plan.kind])
    with closing(kernel_stage(shown)(shown.plan)) as kernel, closing(simulated(shown.plan, PAGE)) as memory:
        yield kernel, memory


def comparable(states: tuple[RingState, ...], others: tuple[RingState, ...]) -> list[RingState]:
    """Without a pending position where one of them has none, and without the kernel's number of a perf event."""
    return [
        replace(
            state,
            records=_told(state.records),
            past=_told(state.past),
            pending=None if None in (state.pending, other.pending) else state.pending,
        )
        for state, other in zip(states, others)
    ]


def _told(records: tuple[RecordState, ...]) -> tuple[RecordState, ...]:
    """Words about lost events have the event's number in front."""
    return tuple(replace(record, payload=record.payload[8:16]) if record.word == LOST else record for record in records)


def same(kernel: Stage, memory: Stage) -> None:
    ours, theirs = kernel.states(), memory.states()
    assert comparable(ours, theirs) == comparable(theirs, ours)


def compare(shown: Scenario) -> None:
    with both(shown) as (kernel, memory):
        same(kernel, memory)
        for step in shown.steps:
            assert kernel.do(step.operation) == memory.do(step.operation)
            same(kernel, memory)


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_scenario_is_the_kernels_step_by_step(name: str) -> None:
    compare(scenario(name))
    assert threading.active_count() == 1


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_step_is_as_expected_on_the_kernel(name: str) -> None:
    shown = scenario(name)
    require(*NEEDED[shown.plan.kind])
    with Performance(shown, kernel_stage(shown)) as performance:
        assert performance.stage.name.startswith("Linux ")
        outcomes = [performance.step() for _ in shown.steps]
    assert [outcome.expectation for outcome in outcomes if not outcome.as_expected] == []


def test_what_no_scenario_does_is_the_kernels_too() -> None:
    """Flags, a name used again, a discard of the next record, several pages, records that go round the end."""
    compare(
        made_of(
            Reserve("A", 100),
            Write("A", "hundred"),
            Discard("A", NO_WAKEUP),
            Sleep(),
            Reserve("A", Share(1, 2)),
            Reserve("B", 3),
            Submit("B", FORCE_WAKEUP),
            Sleep(),
            Write("A", "half"),
            Submit("A"),
            Query(AVAIL_DATA),
            Read(),
            Consume(limit=2),
            Consume(),
            Output("C", Share(3, 4), "round the end"),
            Output("D", Share(3, 4), "lost"),
            Reserve("E", Share(1, 2)),
            Consume(),
            plan=Plan(pages=4),
        )
    )


def test_what_a_scenario_leaves_busy_is_busy_at_its_end() -> None:
    shown = made_of(Reserve("A", 8), Reserve("B", Share(2, 1)))
    with both(shown) as (kernel, memory):
        for step in shown.steps:
            assert kernel.do(step.operation) == memory.do(step.operation)
        same(kernel, memory)
        assert kernel.states()[0].records[0].busy


def test_a_program_that_is_left_in_the_middle_comes_to_its_end() -> None:
    operations = [Reserve("A", 8), Write("A", "never"), Submit("A")]
    with KernelRing(Plan(), operations) as ring:
        assert ring.reserve(8)
        assert threading.active_count() == 2
        ring.finish()
        assert ring.data[:8].cast("I")[0] == 8  # submitted
    assert threading.active_count() == 1
    with KernelRing(Plan(), [*operations[:1], Query(0)]) as ring:
        ring.reserve(8)
        word = ring.data[:8].cast("I")  # which keeps the memory
        assert word[0] == BUSY | 8
    assert word[0] == DISCARD | 8
    assert threading.active_count() == 1


def test_what_a_ring_cannot_do_is_said_before_anything_is_done() -> None:
    with pytest.raises(ObjectError, match="kind ring has no operation Drain"):
        kernel_stage(made_of(Output("A", 8, "a"), Drain()))(Plan())
    with pytest.raises(ObjectError, match="reserves 32 records"):
        kernel_stage(made_of(*(Reserve("A", 8) for _ in range(32))))(Plan())
    assert threading.active_count() == 1


def test_a_program_that_ends_before_it_was_to_is_an_error() -> None:
    with KernelRing(Plan(), []) as ring, pytest.raises(KernelError, match="ended too early"):
        ring.reserve(8)
    assert threading.active_count() == 1


def test_operations_come_in_the_order_of_the_scenario_only() -> None:
    shown = made_of(Output("A", 8, "a"), Consume())
    with (
        closing(kernel_stage(shown)(shown.plan)) as stage,
        pytest.raises(Error, match=r"goes on with Output\(name='A'"),
    ):
        stage.do(Consume())


@pytest.mark.lacks("ring_overwrite")
def test_overwrite_mode_is_missing_on_older_kernels() -> None:
    shown = scenario("overwrite")
    with pytest.raises(NotSupported, match=r"Linux 6\.19"):
        kernel_stage(shown)(shown.plan)


def test_more_cpus_than_there_are_are_not_supported() -> None:
    shown = made_of(plan=Plan(PERF, cpus=1 << 12))
    with pytest.raises(NotSupported, match=r"needs 4096 CPUs, and CPU .* is not online"):
        kernel_stage(shown)(shown.plan)


def test_closed_gates_are_open_though_a_child_keeps_their_descriptor() -> None:
    theirs, ours = os.pipe()
    gates = Gates(1)
    child = os.fork()
    if not child:
        signal.pause()
    try:
        write = ctypes.CDLL(None).write  # without the GIL
        reader = threading.Thread(target=write, args=(ours, ctypes.c_void_p(gates.address(0)), 1), daemon=True)
        reader.start()
        while gates.reached(1) is None:
            pass
        gates.close()
        reader.join(10)
        assert not reader.is_alive()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ours)
        os.close(theirs)


def test_a_fault_that_was_taken_back_is_no_error() -> None:
    readable, writable = os.pipe()
    os.close(writable)
    with Gates(1) as gates:
        gates._poll.register(readable)  # it polls ready, and then there is nothing
        assert gates.reached(10) is None
    os.close(readable)


def test_a_gate_is_reached_when_its_memory_is_read_and_not_before() -> None:
    with Gates(2) as gates:
        assert gates.reached(0) is None
        reader = threading.Thread(target=lambda: gates._memory[PAGE])
        gates.open(0)
        assert gates._memory[0] == 0
        gates.open(1)
        reader.start()
        reader.join()
        assert gates.reached(0) is None
        with pytest.raises(KernelError, match="EEXIST"):
            gates.open(1)
