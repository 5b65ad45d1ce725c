"""Exercise 5: a consumer of a ring whose loads and stores may pass each other."""

from __future__ import annotations

import pytest
import weak_memory
from course import answer
from weak_memory import ARM64, IN_ORDER, X86, Discard, Machine, Reserve, Scenario, Submit

barriers = answer("barriers", __file__)

FIRST, SECOND, THIRD = b"The first record", b"and then a longer one...", b"the end."
SCENARIOS = {
    "nothing": Scenario(64, ()),
    "two records": Scenario(64, (Reserve(FIRST), Submit(0), Reserve(SECOND), Submit(1))),
    "the second takes the place of the first": Scenario(
        32, (Reserve(FIRST), Submit(0), Reserve(FIRST[::-1]), Submit(1))
    ),
    "committed in reverse": Scenario(64, (Reserve(FIRST), Reserve(SECOND), Submit(1), Submit(0))),
    "the first is discarded": Scenario(64, (Reserve(FIRST), Reserve(SECOND), Discard(0), Submit(1))),
    "the last is discarded": Scenario(64, (Reserve(THIRD), Submit(0), Reserve(THIRD), Discard(1))),
    "one stays busy": Scenario(64, (Reserve(THIRD), Reserve(FIRST), Submit(0))),
    "three records": Scenario(128, (Reserve(THIRD), Reserve(THIRD), Submit(0), Submit(1), Reserve(THIRD), Submit(2))),
}
scenarios = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)


def check(machine: Machine, scenario: Scenario) -> None:
    """Whatever order things happen in, nothing goes wrong."""
    __tracebackhide__ = True
    outcome = weak_memory.explore(barriers.drain, machine, scenario)
    if outcome.failure:
        raise AssertionError(f"\n{outcome}")


@scenarios
def test_on_a_machine_that_does_everything_in_order(scenario: Scenario) -> None:
    """No barrier is needed: that each record is taken, and that none is missed by going to sleep, is the code's own doing."""
    check(IN_ORDER, scenario)


@scenarios
def test_on_x86_where_a_store_may_wait_while_loads_are_done(scenario: Scenario) -> None:
    check(X86, scenario)


@scenarios
def test_on_arm64_where_loads_and_stores_pass_each_other(scenario: Scenario) -> None:
    check(ARM64, scenario)


def test_barriers_are_paid_for_once_a_batch_and_not_for_each_record() -> None:
    """In a ring whose producer has finished before the consumer begins."""
    one, eight = (weak_memory.barriers_taken(barriers.drain, _batch(number)) for number in (1, 8))
    assert one == eight, f"one record takes {one} barriers, and eight that are all there take {eight}"


def _batch(number: int) -> Scenario:
    return Scenario(256, tuple(action for which in range(number) for action in (Reserve(THIRD), Submit(which))))
