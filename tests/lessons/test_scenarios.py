"""Every scenario keeps what it promises, on pages of any size; one that promises too much is found out."""

from __future__ import annotations

import doctest
import json
import re
from collections.abc import Iterator
from functools import partial

import pytest

import purebpf
from purebpf.lessons import operations
from purebpf.lessons import scenario as module
from purebpf.lessons.operations import Consume, Output, Reserve, Share, Sleep, Submit
from purebpf.lessons.scenario import Outcome, Performance, Scenario, Step, run
from purebpf.lessons.scenarios import SCENARIOS, scenario
from purebpf.lessons.simulated import simulated
from purebpf.lessons.stage import Plan
from purebpf.lessons.state import KINDS, RingState

PAGES = (4096, 16384, 65536)
each_scenario = pytest.mark.parametrize("name", SCENARIOS)


def outcomes(name: str, page_size: int = 4096) -> list[Outcome]:
    return list(run(scenario(name), partial(simulated, page_size=page_size)))


def steps(name: str) -> Iterator[tuple[tuple[RingState, ...], Outcome]]:
    """Each outcome with the states before it."""
    with Performance(scenario(name), simulated) as performance:
        while performance.next:
            before = performance.states
            yield before, performance.step()


def test_the_docstring_tells_the_truth() -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("page_size", PAGES)
@each_scenario
def test_every_step_is_as_expected(name: str, page_size: int) -> None:
    failed = [f"{o.number}: {o.expectation} -- {o.happened}" for o in outcomes(name, page_size) if not o.as_expected]
    assert not failed


@each_scenario
def test_a_scenario_teaches_one_thing_in_few_steps(name: str) -> None:
    shown = scenario(name)
    assert (shown.name, shown.plan.kind in KINDS) == (name, True)
    assert 5 <= len(shown.steps) <= 17
    assert len(shown.title) <= 60
    assert len(shown.teaches) <= 600


@pytest.mark.parametrize("page_size", PAGES)
@each_scenario
def test_texts_are_whole_sentences_in_ascii(name: str, page_size: int) -> None:
    for outcome in outcomes(name, page_size):
        texts = [outcome.expectation, outcome.happened, *([outcome.because] if outcome.because else [])]
        for text in [*texts, scenario(name).teaches]:
            assert text.isascii()
            assert text.isprintable()
            assert text[0].isupper() or text[0].isdigit()
            assert text[-1] in '."'
            assert "{" not in text
            assert "  " not in text
        assert outcome.call.isascii()
        assert outcome.call.count(";") >= 1


@each_scenario
def test_a_step_leaves_room_for_a_picture_on_a_terminal_of_80_by_24(name: str) -> None:
    for outcome in outcomes(name):
        texts = (outcome.expectation, outcome.call, outcome.happened, outcome.because)
        lines = sum(-(-len(text) // 68) for text in texts)
        assert lines + 12 <= 24, "text, a title, and a picture of some lines"


@each_scenario
def test_numbers_that_are_told_are_those_of_the_states(name: str) -> None:
    told = 0
    for before, outcome in steps(name):
        cpu = getattr(outcome.operation, "cpu", 0)
        was, now = before[cpu], outcome.states[cpu]
        for which, first, last in re.findall(r"The (\w+) position went from (\d+) to (\d+)", outcome.happened):
            assert (getattr(was, which), getattr(now, which)) == (int(first), int(last))
            told += 1
        for which, position in re.findall(r"The (\w+) position stays at (\d+)", outcome.happened):
            assert getattr(was, which) == getattr(now, which) == int(position)
            told += 1
        for who, sent in re.findall(r"(\w+) notified (?:the consumer )?\((\d+) so far\)", outcome.happened):
            assert sum(state.notifications for state in outcome.states) == int(sent), who
        for lost in re.findall(r"loss \((\d+) so far\)", outcome.happened):
            assert now.losses == int(lost)
        for position in re.findall(r"the consumer position is (\d+)", outcome.happened):
            assert now.consumer == int(position)
        for name_, size, position in re.findall(r"(\w) has (\d+) bytes .*? at position (\d+)", outcome.happened):
            record = now.named(name_)
            assert record
            assert (record.stride, record.position) == (int(size), int(position))
            told += 1
        for name_, first, last in re.findall(r"word of (\w) went from (\w+) to (\w+)", outcome.happened):
            old, new = was.named(name_), now.named(name_)
            assert old
            assert new
            assert (old.word, new.word) == (int(first, 16), int(last, 16))
            told += 1
    assert told > 4


@each_scenario
def test_outcomes_go_through_json_and_back(name: str) -> None:
    for outcome in outcomes(name):
        values = json.loads(json.dumps(outcome.to_dict()))
        assert tuple(RingState.from_dict(state) for state in values["states"]) == outcome.states
        assert (values["expectation"], values["number"], values["of"]) == (
            outcome.expectation,
            outcome.number,
            len(scenario(name).steps),
        )
        assert values["operation"]["operation"] == type(outcome.operation).__name__.lower()


def test_an_opening_has_the_ring_before_the_first_step() -> None:
    with Performance(scenario("perf"), simulated) as performance:
        values = json.loads(json.dumps(performance.opening()))
    assert (values["scenario"], values["number"], values["of"]) == ("perf", 0, 11)
    assert [RingState.from_dict(state) for state in values["states"]] == list(performance.states)
    assert values["plan"] == {"kind": "perf", "pages": 1, "cpus": 2}


# What is wrong is said


def wrong(*steps: Step) -> Scenario:
    return Scenario("wrong", "Wrong", "Nothing.", Plan(), steps)


def test_a_wrong_expectation_is_reported_and_the_rest_goes_on() -> None:
    shown = wrong(
        Step("The second record is there already.", Reserve("A", 8), lambda m: bool(m.record_of("B"))),
        Step("It is busy for ever.", Submit("A"), lambda m: m.record.busy),
        Step("It is read.", Consume(), lambda m: len(m.answer.records) == 1),
    )
    assert [outcome.as_expected for outcome in run(shown, simulated)] == [False, False, True]


class Forgetful:
    """A stage whose ring never has a record."""

    name = "forgetful"

    def do(self, _operation: operations.Operation) -> operations.Answer:
        return operations.Answer()

    def states(self) -> tuple[RingState, ...]:
        return (RingState("ring", 4096, 4096, 0, 0),)

    def close(self) -> None:
        pass


def test_a_stage_that_does_not_do_what_it_says_is_found_out() -> None:
    for outcome in run(scenario("busy"), lambda _plan: Forgetful()):
        assert not outcome.as_expected or isinstance(outcome.operation, Consume)
        assert outcome.happened


def test_what_happened_does_not_depend_on_what_was_expected() -> None:
    (first,) = run(wrong(Step("Yes.", Reserve("A", 8), lambda _m: True)), simulated)
    (second,) = run(wrong(Step("No.", Reserve("A", 8), lambda _m: False)), simulated)
    assert first.happened == second.happened
    assert (first.as_expected, second.as_expected) == (True, False)


def test_expectations_are_there_before_the_step() -> None:
    shown = wrong(Step("{need} bytes from {producer} on, of {size}.", Reserve("A", Share(1, 4)), lambda _m: True))
    with Performance(shown, simulated) as performance:
        assert performance.expectation == "1024 bytes from 0 on, of 4096."
        assert performance.call == "a = bpf_ringbuf_reserve(&events, 1016, 0);"
        assert performance.states[0].producer == 0
        performance.step()
        assert (performance.expectation, performance.call, performance.next) == ("", "", None)
        with pytest.raises(purebpf.Error, match="has 1 steps"):
            performance.step()


def test_a_ring_has_the_operations_of_its_kind() -> None:
    with pytest.raises(purebpf.ObjectError, match="kind perf has no operation Reserve"):
        simulated(Plan("perf")).do(Reserve("A", 8))


def test_an_unknown_scenario_is_named_with_those_that_exist() -> None:
    with pytest.raises(purebpf.Error, match="no scenario 'nothing'") as caught:
        scenario("nothing")
    assert "submit, wrap, busy" in caught.value.hint


# The sleeping consumer


def woken(*done: operations.Operation) -> list[bool]:
    stage = simulated(Plan())
    return [stage.do(operation).woken for operation in done]


def test_a_notification_before_the_sleep_ends_it_at_once_if_there_is_something() -> None:
    assert woken(Output("A", 8, "x"), Sleep()) == [True, True]
    assert woken(Output("A", 8, "x"), Consume(), Sleep()) == [True, False, False]


def test_a_notification_wakes_once() -> None:
    stage = simulated(Plan())
    stage.do(Sleep())
    assert stage.states()[0].asleep
    assert stage.do(Output("A", 8, "x")).woken
    assert not stage.states()[0].asleep
    assert not stage.do(Sleep()).woken
    assert stage.states()[0].asleep


def test_a_consumer_that_looks_is_awake() -> None:
    stage = simulated(Plan())
    stage.do(Sleep())
    stage.do(Consume())
    assert not stage.states()[0].asleep
