"""A full ring: events are lost, and who knows of them."""

from __future__ import annotations

from ..operations import AVAIL_DATA, Consume, Output, Query, Reserve, Share
from ..scenario import Scenario, Step
from ..stage import Plan

_QUARTER = Share(1, 4)

SCENARIO = Scenario(
    name="full",
    title="A full ring: lost events, and who knows of them",
    teaches=(
        "A ring does not grow, and a program does not wait. Where there is no room, reserving gives NULL, output gives"
        " -EAGAIN, and the event is lost. Between the positions there may be size - 1 bytes at most, so their offsets are"
        " equal only if the ring is empty. Nothing in the ring, its pages or its queries counts what was lost: if the program does not,"
        " nobody knows. The loss is of the newest events; those in the ring stay."
    ),
    plan=Plan(),
    steps=(
        Step("A record of a quarter of the ring.", Output("A", _QUARTER, "one"), lambda m: m.answer.value == 0),
        Step("A second one.", Output("B", _QUARTER, "two"), lambda m: m.answer.value == 0 and m.now.fill == 0.5),
        Step("A third one.", Output("C", _QUARTER, "three"), lambda m: m.answer.value == 0 and m.now.fill == 0.75),
        Step(
            "The fourth would fill the ring to the last byte, which is one too many: the event is lost.",
            Output("D", _QUARTER, "four"),
            lambda m: m.answer.value == -11 and m.now.producer == m.was.producer and m.now.losses == 1,
            "With all {size} bytes in use the two positions would have the same offset, as in an empty ring.",
        ),
        Step(
            "Eight bytes less do fit in: the ring is as full as it can be.",
            Output("E", Share(1, 4, less=8), "five"),
            lambda m: m.answer.value == 0 and m.now.used == m.now.size - 8,
        ),
        Step(
            "Not even a header has room now: the answer is NULL, and the program must do without.",
            Reserve("F", 0),
            lambda m: m.answer.value is None and m.now.losses == 2 and m.now.producer == m.was.producer,
        ),
        Step(
            "The program can ask how full the ring is: all but 8 of {size} bytes. It cannot ask what was lost.",
            Query(AVAIL_DATA),
            lambda m: m.answer.value == m.now.used == m.now.size - 8,
            "Count in the program: in a global variable, where reserve gives NULL. All that purebpf brings does.",
        ),
        Step(
            "The consumer takes one record and hands back a quarter, {quarter} bytes.",
            Consume(limit=1),
            lambda m: m.texts == ("one",) and m.now.consumer == m.now.size // 4,
            "One consumer position is all that the producers look at: room in the middle does not exist for them.",
        ),
        Step(
            "Now there is room again, for {quarter} bytes exactly.",
            Output("G", _QUARTER, "six"),
            lambda m: m.answer.value == 0 and m.now.used == m.now.size - 8,
        ),
        Step(
            "The consumer gets what was kept, in order. The fourth and the empty one are missing, and no trace in the ring says so.",
            Consume(),
            lambda m: m.texts == ("two", "three", "five", "six") and m.now.losses == 2,
            "A larger ring helps with bursts. A consumer that is too slow for the average loses in any ring.",
        ),
    ),
)
