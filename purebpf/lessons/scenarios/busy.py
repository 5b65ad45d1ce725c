"""A busy record at the head holds up everything behind it."""

from __future__ import annotations

from ..operations import Consume, Output, Reserve, Submit, Write
from ..scenario import Scenario, Step
from ..stage import Plan
from ..state import BUSY_RECORD, COMMITTED

SCENARIO = Scenario(
    name="busy",
    title="Two producers out of order: the busy record at the head",
    teaches=(
        "Any number of programs on any CPUs may produce (multi-producer): reserving is done under a lock, one after the"
        " other, and decides the order once and for all. They may finish in any order, as a commit touches nothing but its"
        " own record. But the consumer goes from header to header, and cannot step over a busy one: a slow producer"
        " holds up all that were reserved after it. There is one consumer position, hence one consumer (single-consumer)."
    ),
    plan=Plan(),
    steps=(
        Step(
            "A program on one CPU reserves first.",
            Reserve("A", 24),
            lambda m: m.answer.value == 0 and m.record.busy,
        ),
        Step(
            "A program on another CPU reserves behind it, while the first is at work.",
            Reserve("B", 24),
            lambda m: m.answer.value == 32 and m.record.busy and m.record_of("A").busy,
        ),
        Step(
            "The second one is quicker, and writes.",
            Write("B", "quick"),
            lambda m: m.record.payload.startswith(b"quick"),
        ),
        Step(
            "It submits. Its record is committed, but nobody is notified: the consumer comes to A first.",
            Submit("B"),
            lambda m: m.record.state == COMMITTED and not m.answer.woken,
            "A notification would be for nothing: a consumer that woke up would find A busy, and sleep again.",
        ),
        Step(
            "The consumer gets nothing, although B is complete: A stands in front of it.",
            Consume(),
            lambda m: not m.answer.records and m.now.consumer == 0 and m.record_of("A").state == BUSY_RECORD,
        ),
        Step(
            "A third record has to wait, too, however it is made.",
            Output("C", 24, "third"),
            lambda m: m.answer.value == 0 and not m.answer.woken and m.record.state == COMMITTED,
        ),
        Step(
            "What is behind the busy record stays, and its room cannot be handed back: the consumer still gets nothing.",
            Consume(),
            lambda m: not m.answer.records and m.now.used == 96,
        ),
        Step("At last the first program writes.", Write("A", "slow"), lambda m: m.record.payload.startswith(b"slow")),
        Step(
            "It submits. This is the record that the consumer comes to next, so it is notified: once, for all three.",
            Submit("A"),
            lambda m: m.answer.woken and m.now.notifications == 1,
        ),
        Step(
            "All come out at once, in the order in which they were reserved, not in which they were submitted.",
            Consume(),
            lambda m: m.texts == ("slow", "quick", "third") and not m.now.used,
        ),
    ),
)
