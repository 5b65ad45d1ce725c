"""Wrap-around: a record that passes the end of the data area."""

from __future__ import annotations

from ..operations import Consume, Output, Reserve, Share, Submit, Write
from ..scenario import Scenario, Step
from ..stage import Plan

_PART = Share(3, 8)

SCENARIO = Scenario(
    name="wrap",
    title="Wrap-around, and why the data is mapped twice",
    teaches=(
        "Positions only grow; where a record stands in the data area is its position modulo the size, which is a power of"
        " two. A record may pass the end of the area and go on at its start. Neither the program nor the consumer has to"
        " know: the same pages are mapped twice, one behind the other, so every record is in one piece in memory."
    ),
    plan=Plan(),
    steps=(
        Step(
            "A record of three eighths of the ring, {need} bytes, goes to the start of the data area.",
            Output("A", _PART, "first"),
            lambda m: m.answer.value == 0 and m.record.offset == 0 and m.now.producer == m.need,
        ),
        Step(
            "Another one follows right behind it.",
            Output("B", _PART, "second"),
            lambda m: m.record.offset == m.need and m.now.producer == 2 * m.need,
        ),
        Step(
            "Both are read, and their room is handed back: the ring is empty, with both positions at {producer}.",
            Consume(),
            lambda m: m.texts == ("first", "second") and m.now.consumer == m.now.producer and m.now.used == 0,
        ),
        Step(
            "Only a quarter of the data area is left behind offset {producer}, and still there is room for {need} bytes: the"
            " record goes on at the start of the area. Its position goes beyond the size, {size}.",
            Reserve("C", _PART),
            lambda m: m.record.offset + m.record.stride > m.now.size and m.now.producer == 3 * m.need > m.now.size,
            "What counts is the distance between the positions, which is {need} at most: the room that was handed back.",
        ),
        Step(
            "The program writes to its payload as to any other.",
            Write("C", "third"),
            lambda m: m.record.payload.startswith(b"third"),
        ),
        Step("It is submitted as any other, too.", Submit("C"), lambda m: not m.record.busy and m.answer.woken),
        Step(
            "The consumer gets the record in one piece, which begins before the end of the area and ends in its second mapping.",
            Consume(),
            lambda m: m.texts == ("third",) and len(m.answer.records[0]) == 3 * m.now.size // 8 - 8,
        ),
        Step(
            "Position {producer} is in the second round: the offset is {producer} modulo {size}. And the payload holds what"
            " was there before, bytes of A.",
            Reserve("D", 5),
            lambda m: m.record.position - m.record.offset == m.now.size and m.record.payload == b".....",
        ),
        Step(
            "A program that submits without writing sends these old bytes.",
            Submit("D"),
            lambda m: not m.record.busy and m.record.payload == b".....",
            "Reserving does not clear anything: write every byte of what you submit.",
        ),
        Step(
            "The consumer cannot tell them from new ones.",
            Consume(),
            lambda m: m.answer.records == (b".....",),
        ),
    ),
)
