"""Overwrite mode: the newest events are kept, not the oldest."""

from __future__ import annotations

from ..operations import OVERWRITE_POSITION, Consume, Output, Query, Reserve, Share, Submit
from ..scenario import Scenario, Step
from ..stage import Plan
from ..state import OVERWRITE

_QUARTER = Share(1, 4)

SCENARIO = Scenario(
    name="overwrite",
    title="Overwrite mode: the newest events are kept",
    teaches=(
        "A ring that is created with BPF_F_RB_OVERWRITE (Linux 6.19) throws the oldest records away for new ones, as a"
        " flight recorder does, whether somebody has read them or not. Behind the last one that went is the overwrite"
        " position, and a consumer goes on there if it is further than its own. Reserving fails only where a record would have"
        " to go that is busy."
    ),
    plan=Plan(OVERWRITE),
    steps=(
        Step("A quarter of the ring.", Output("A", _QUARTER, "one"), lambda m: m.answer.value == 0),
        Step("A second one.", Output("B", _QUARTER, "two"), lambda m: m.answer.value == 0),
        Step("A third one.", Output("C", _QUARTER, "three"), lambda m: m.answer.value == 0 and m.now.overwrite == 0),
        Step(
            "In any other ring the fourth would be lost. Here it finds room, and the oldest goes: the overwrite position moves"
            " behind A. The consumer position does not move; the kernel never writes it.",
            Output("D", _QUARTER, "four"),
            lambda m: (
                m.answer.value == 0
                and m.now.overwrite == m.now.size // 4
                and m.now.overwritten == 1
                and m.now.consumer == m.was.consumer
                and not m.now.losses
            ),
        ),
        Step(
            "A program can ask for the overwrite position, too.",
            Query(OVERWRITE_POSITION),
            lambda m: m.answer.value == m.now.overwrite == m.now.size // 4,
        ),
        Step(
            "The consumer goes on at the overwrite position, {quarter}, and gets the three newest.",
            Consume(),
            lambda m: m.texts == ("two", "three", "four") and m.now.consumer == m.now.producer,
            "While it copies a record, that one may be overwritten: it must look at the overwrite position again afterwards.",
        ),
        Step(
            "A program reserves, and is slow. For its room B goes, which has been read: no loss.",
            Reserve("E", _QUARTER),
            lambda m: m.record.busy and m.now.overwrite == m.now.size // 2 and m.now.overwritten == 1,
        ),
        Step("Others go on.", Output("F", _QUARTER, "six"), lambda m: m.answer.value == 0),
        Step("And on.", Output("G", _QUARTER, "seven"), lambda m: m.answer.value == 0),
        Step(
            "Now the oldest is E, which is busy. It cannot be thrown away while it is being filled: the event is lost.",
            Output("H", _QUARTER, "eight"),
            lambda m: m.answer.value == -11 and m.now.losses == 1 and m.now.overwrite == m.was.overwrite,
        ),
        Step("E is submitted.", Submit("E"), lambda m: not m.record.busy),
        Step(
            "Now it can go, and does, though nobody has read it.",
            Output("I", _QUARTER, "nine"),
            lambda m: m.answer.value == 0 and m.now.overwritten == 2 and m.now.overwrite == 5 * (m.now.size // 4),
        ),
        Step(
            "The consumer gets the newest three again. That something was lost, it can only tell from the gap between its own"
            " position and the overwrite position.",
            Consume(),
            lambda m: m.texts == ("six", "seven", "nine") and m.was.consumer < m.was.begin == m.was.overwrite,
        ),
    ),
)
