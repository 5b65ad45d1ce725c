"""The machine of exercise 5: its producer is the kernel's, and it finds each missing barrier, on the machines that need it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import weak_memory
from weak_memory import ARM64, IN_ORDER, X86, Discard, Machine, Reserve, Scenario, Submit

from purebpf.formats.ring_producer import SimulatedRing

COURSE = Path(__file__).parents[2] / "docs" / "course"
SOLUTION = (COURSE / "solutions" / "barriers.py").read_text()
PLAIN = Scenario(64, (Reserve(b"The first record"), Submit(0), Reserve(b"and then a longer one..."), Submit(1)))
REUSED = Scenario(32, (Reserve(b"The first record"), Submit(0), Reserve(b"And another one."), Submit(1)))
DISCARDED = Scenario(
    64, (Reserve(b"8 bytes."), Reserve(b"The first record"), Submit(1), Discard(0), Reserve(b"no room " * 3))
)


def without(barrier: int) -> weak_memory.Consumer:
    """The solution without one of its barriers."""
    names: dict[str, weak_memory.Consumer] = {}
    code, count = re.subn(rf"yield Barrier\(\)(?=  # {barrier})", "pass", SOLUTION)
    assert count == (barrier > 0)
    exec(code, names)
    return names["drain"]


@pytest.mark.parametrize("scenario", [PLAIN, DISCARDED])
def test_its_producer_leaves_the_kernels_bytes(scenario: Scenario) -> None:
    """Nobody consumes meanwhile."""
    ring, reserved, memory = SimulatedRing(scenario.size), [], bytearray(scenario.size)
    for action in scenario.actions:
        if isinstance(action, Reserve):
            reserved.append(record := ring.reserve(len(action.payload)))
            if record:
                record.payload[:] = action.payload
        elif record := reserved[action.which]:
            record.submit() if isinstance(action, Submit) else record.discard()
    position = bytes(8)
    for store in weak_memory.produced(scenario, (0,) * 100).stores:
        if store.cell == weak_memory.PRODUCER_POSITION:
            position = store.value
        else:
            memory[store.cell : store.cell + 8] = store.value
    assert memory == ring.data[: ring.size]
    assert position == ring.producer_page[:8]


@pytest.mark.parametrize("barrier", [1, 2, 3, 4])
@pytest.mark.parametrize(("machine", "needed"), [(IN_ORDER, []), (X86, [4]), (ARM64, [1, 2, 3, 4])])
def test_a_missing_barrier_is_found_where_it_is_needed(machine: Machine, needed: list[int], barrier: int) -> None:
    failures = [weak_memory.explore(without(barrier), machine, scenario).failure for scenario in (PLAIN, REUSED)]
    assert any(failures) == (barrier in needed)


@pytest.mark.parametrize(
    ("barrier", "scenario", "failure"),
    [(1, PLAIN, "no record"), (2, PLAIN, "stale"), (3, REUSED, "overwritten"), (4, PLAIN, "lost wake-up")],
)
def test_what_goes_wrong_is_what_the_barrier_is_for(barrier: int, scenario: Scenario, failure: str) -> None:
    assert weak_memory.explore(without(barrier), ARM64, scenario).failure.startswith(failure)


def test_what_the_text_shows_is_what_is_found() -> None:
    outcome = weak_memory.explore(without(2), ARM64, PLAIN)
    assert f"```text\n{outcome}\n```" in (COURSE / "exercise5_barriers" / "README.md").read_text()


def test_the_solution_is_right_on_all_of_them() -> None:
    for machine in (IN_ORDER, X86, ARM64):
        for scenario in (PLAIN, REUSED, DISCARDED):
            assert not weak_memory.explore(without(0), machine, scenario).failure
