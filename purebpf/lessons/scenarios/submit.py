"""Reserve and submit: the two halves of a record's life."""

from __future__ import annotations

from ..operations import Consume, Reserve, Submit, Write
from ..scenario import Scenario, Step
from ..stage import Plan
from ..state import BUSY_RECORD, COMMITTED

SCENARIO = Scenario(
    name="submit",
    title="Reserve and submit",
    teaches=(
        "A BPF program makes a record in two halves. Reserving takes room in the ring and moves the producer position"
        " behind it; the program then fills the room in place. Submitting takes the BUSY bit away, and only from then on"
        " may the consumer read. In front of each record stands a header of 8 bytes: a length word, whose bit 31 is BUSY"
        " and whose bit 30 is DISCARD, and a word for the kernel's own use. Records start at multiples of 8."
    ),
    plan=Plan(),
    steps=(
        Step(
            "The record takes {need} bytes: 8 of header, 5 of payload, 3 of padding. The producer position moves behind it,"
            " and the record is busy.",
            Reserve("A", 5),
            lambda m: (
                m.answer.value == 0
                and m.record.state == BUSY_RECORD
                and m.now.producer == m.was.producer + m.need == 16
            ),
            "The kernel writes the header before it stores the producer position: who sees the position sees BUSY.",
        ),
        Step(
            "A consumer that looks now gets nothing, and its position stays: the record is busy.",
            Consume(),
            lambda m: not m.answer.records and m.now.consumer == m.was.consumer,
        ),
        Step(
            "The program writes into the ring itself. Nothing is copied, and the record is busy still.",
            Write("A", "hello"),
            lambda m: m.record.payload == b"hello" and m.record.busy,
        ),
        Step(
            "Bit 31 of the length word goes away; the producer position stays. The record is the one that the consumer comes"
            " to next, so the kernel notifies it.",
            Submit("A"),
            lambda m: (
                m.record.state == COMMITTED
                and m.record.word == 5
                and m.now.producer == m.was.producer
                and m.answer.woken
            ),
            "One exchange of the length word publishes the payload: it is there before BUSY goes.",
        ),
        Step(
            "The consumer gets 5 bytes, and hands the room back: its position becomes {producer}, and the ring is empty.",
            Consume(),
            lambda m: m.texts == ("hello",) and m.now.consumer == m.now.producer == m.was.producer and not m.now.used,
            "The bytes are still there. Nobody clears them; the next round of records is written over them.",
        ),
        Step(
            "A record without payload is a header alone. It starts where the last one ended: positions only grow.",
            Reserve("B", 0),
            lambda m: m.answer.value == m.was.producer and m.record.stride == m.need == 8,
        ),
        Step(
            "This one is notified, too: the consumer had caught up with it.",
            Submit("B"),
            lambda m: m.answer.woken and m.record.word == 0,
        ),
    ),
)
