"""Discarding: a record that was reserved in vain."""

from __future__ import annotations

from ..operations import Consume, Discard, Reserve, Sleep, Submit, Write
from ..scenario import Scenario, Step
from ..stage import Plan
from ..state import BUSY_RECORD, DISCARDED

SCENARIO = Scenario(
    name="discard",
    title="Discard: the consumer skips it",
    teaches=(
        "A program that has reserved must submit or discard; the verifier insists. Discarding takes BUSY away like"
        " submitting, and sets bit 30, DISCARD: the consumer skips the record. Its room is not given back at once, as others"
        " may stand behind it: it is free when the consumer has passed it. Whether the consumer is notified is decided as"
        " for any other record."
    ),
    plan=Plan(),
    steps=(
        Step("A first record is reserved.", Reserve("A", 8), lambda m: m.record.state == BUSY_RECORD),
        Step("And a second one.", Reserve("B", 8), lambda m: m.record.state == BUSY_RECORD),
        Step(
            "The program finds that there is nothing to tell, and discards the second. The length stays, bit 30 is set, and the"
            " producer position does not go back.",
            Discard("B"),
            lambda m: (
                m.record.state == DISCARDED
                and m.record.word == 0x40000008
                and m.now.producer == m.was.producer
                and not m.answer.woken
            ),
        ),
        Step("The first is written.", Write("A", "event"), lambda m: m.record.payload.startswith(b"event")),
        Step("And submitted, which notifies.", Submit("A"), lambda m: m.answer.woken),
        Step(
            "The consumer gets one record, skips the other, and hands back the room of both: {producer} bytes.",
            Consume(),
            lambda m: m.texts == ("event",) and m.now.consumer == m.now.producer == 32,
        ),
        Step("It has caught up, and goes to sleep.", Sleep(), lambda m: m.now.asleep),
        Step("A program reserves again.", Reserve("C", 8), lambda m: m.record.state == BUSY_RECORD and m.now.asleep),
        Step(
            "It discards the very record that the consumer comes to next: the consumer is woken all the same.",
            Discard("C"),
            lambda m: m.answer.woken and not m.now.asleep,
            "BPF_RB_NO_WAKEUP as flag of the discard would have spared it that.",
        ),
        Step(
            "It finds nothing to read, but must move its position: else the room would be lost, and the next wake-up with it.",
            Consume(),
            lambda m: not m.answer.records and m.now.consumer == m.now.producer,
        ),
    ),
)
