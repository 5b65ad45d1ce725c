"""A scenario: one idea as steps, each with what is expected of it, said before it is done, and a check of what came of it.

    >>> from purebpf.lessons.scenarios import scenario
    >>> from purebpf.lessons.simulated import simulated
    >>> performance = Performance(scenario("submit"), simulated)
    >>> performance.call
    'a = bpf_ringbuf_reserve(&events, 5, 0);'
    >>> outcome = performance.step()
    >>> outcome.as_expected, outcome.states[0].producer
    (True, 16)

All texts are plain ASCII. Numbers that depend on the size of a page stand in braces in a scenario's texts, see `Step`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import Error
from . import operations
from .moment import Moment
from .operations import Answer, Operation
from .stage import Plan, Stage
from .state import RingState
from .tell import happened


class Step(NamedTuple):
    """`expectation` is said first. `check` is true if what happened is what it says, and `because` tells why it must be so.

    In both texts {size}, {half} and {quarter} are bytes of the ring, {length} the payload of this step's record, {need} what
    it takes up, {consumer} and {producer} the positions before the step.
    """

    expectation: str
    operation: Operation
    check: Callable[[Moment], bool]
    because: str = ""


class Scenario(NamedTuple):
    """`teaches` is the paragraph that stands in front. `plan` is the ring that it needs."""

    name: str
    title: str
    teaches: str
    plan: Plan
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Outcome:
    """A step that has been done. `happened` is made of the answers and the states alone, never of the expectation."""

    scenario: str
    stage: str
    number: int
    of: int
    expectation: str
    operation: Operation
    call: str
    happened: str
    because: str
    as_expected: bool
    states: tuple[RingState, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the fields; the operation and the states as their own to_dict gives them."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["operation"] = operations.to_dict(self.operation)
        fields["states"] = [state.to_dict() for state in self.states]
        return fields


class Performance:
    """A scenario on a stage, step by step. A context manager, which closes the stage.

    `states` are the rings now. `open_stage` makes a stage for a plan.
    """

    def __init__(self, scenario: Scenario, open_stage: Callable[[Plan], Stage]) -> None:
        self.scenario, self.stage = scenario, open_stage(scenario.plan)
        self.states = self.stage.states()
        self.done = 0

    def opening(self) -> dict[str, Any]:
        """For JSON: what stands in front of the outcomes, as number 0 of them."""
        scenario = self.scenario
        return {
            "scenario": scenario.name,
            "stage": self.stage.name,
            "number": 0,
            "of": len(scenario.steps),
            "title": scenario.title,
            "teaches": scenario.teaches,
            "plan": scenario.plan._asdict(),
            "states": [state.to_dict() for state in self.states],
        }

    @property
    def next(self) -> Step | None:
        """The step that comes next, None at the end."""
        return self.scenario.steps[self.done] if self.done < len(self.scenario.steps) else None

    @property
    def expectation(self) -> str:
        """What the next step is expected to do; "" at the end."""
        return self._filled(self.next.expectation) if self.next else ""

    @property
    def call(self) -> str:
        """The next step in C; "" at the end."""
        return operations.in_c(self.next.operation, self.states[0].size, self.scenario.plan.kind) if self.next else ""

    def step(self) -> Outcome:
        """Do the next step. Raises Error if there is none."""
        step = self.next
        if step is None:
            raise Error(f"scenario {self.scenario.name} has {self.done} steps, and all are done")
        expectation, call, because = self.expectation, self.call, self._filled(step.because)
        answer = self.stage.do(step.operation)
        moment = Moment(self.scenario.plan, step.operation, answer, self.states, self.stage.states())
        self.states, self.done = moment.after, self.done + 1
        return Outcome(
            self.scenario.name,
            self.stage.name,
            self.done,
            len(self.scenario.steps),
            expectation,
            step.operation,
            call,
            happened(moment),
            because,
            _holds(step.check, moment),
            moment.after,
        )

    def _filled(self, text: str) -> str:
        step, ring = self.scenario.steps[self.done], self.states[0]
        moment = Moment(self.scenario.plan, step.operation, Answer(), self.states, self.states)
        return text.format(
            size=ring.size,
            half=ring.size // 2,
            quarter=ring.size // 4,
            length=moment.length,
            need=moment.need,
            consumer=ring.consumer,
            producer=ring.producer,
        )

    def __enter__(self) -> Performance:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stage.close()


def run(scenario: Scenario, open_stage: Callable[[Plan], Stage]) -> Iterator[Outcome]:
    """All steps, one after the other, on a stage of their own."""
    with Performance(scenario, open_stage) as performance:
        while performance.next:
            yield performance.step()


def _holds(check: Callable[[Moment], bool], moment: Moment) -> bool:
    """A check that looks for a record that is not there has failed."""
    try:
        return bool(check(moment))
    except Error:
        return False
