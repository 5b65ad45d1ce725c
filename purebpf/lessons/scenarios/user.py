"""The user ring buffer: user space produces, a BPF program consumes."""

from __future__ import annotations

from ..operations import Discard, Drain, Forge, Reserve, Share, Submit, Write
from ..scenario import Scenario, Step
from ..stage import Plan
from ..state import USER

SCENARIO = Scenario(
    name="user",
    title="The user ring buffer: the other way round",
    teaches=(
        "In a user ring buffer (BPF_MAP_TYPE_USER_RINGBUF, Linux 6.1) user space reserves and submits, and a BPF program"
        " drains. Headers and positions are the same, the protections of the pages are exchanged. No system call is made for a"
        " message, and none runs the program: messages wait until it runs for another reason. The kernel believes nothing that"
        " user space has written, and checks each header before the program sees the record."
    ),
    plan=Plan(USER),
    steps=(
        Step("User space reserves.", Reserve("A", 8), lambda m: m.answer.value == 0 and m.record.busy),
        Step(
            "The program runs and drains: nothing yet, the message is busy.",
            Drain(),
            lambda m: m.answer.value == 0 and not m.answer.records and m.now.consumer == 0,
        ),
        Step("Another thread reserves behind it.", Reserve("B", 8), lambda m: m.answer.value == 16),
        Step("It writes its message.", Write("B", "two"), lambda m: bool(m.record)),
        Step("It submits first.", Submit("B"), lambda m: not m.record.busy and m.record.payload.startswith(b"two")),
        Step(
            "A busy message holds up those behind it in this direction, too.",
            Drain(),
            lambda m: m.answer.value == 0 and m.now.consumer == 0,
        ),
        Step("The first message is written.", Write("A", "one"), lambda m: bool(m.record)),
        Step("And submitted.", Submit("A"), lambda m: not m.record.busy),
        Step(
            "The program's callback is run twice, in order, and the consumer position moves: here the kernel writes it. Writers"
            " that wait for room are notified.",
            Drain(),
            lambda m: m.answer.value == 2 and m.texts == ("one", "two") and m.now.consumer == 32 and m.answer.woken,
        ),
        Step("A third message.", Reserve("C", 8), lambda m: m.record.busy),
        Step("It is discarded.", Discard("C"), lambda m: m.record.discard and not m.record.busy),
        Step("A fourth one follows.", Reserve("D", 8), lambda m: m.record.busy),
        Step("It is submitted.", Submit("D"), lambda m: not m.record.busy),
        Step(
            "The discarded one is skipped and does not count: the answer is 1.",
            Drain(),
            lambda m: m.answer.value == 1 and len(m.answer.records) == 1 and m.now.consumer == m.now.producer,
        ),
        Step(
            "Now something goes wrong in user space: a header claims {length} bytes, where the producer position leaves 8.",
            Forge("E", Share(1, 2)),
            lambda m: m.now.torn != "" and m.now.torn_at == m.was.producer,
        ),
        Step(
            "The kernel refuses: the message must end before the producer position. It does not step over it.",
            Drain(),
            lambda m: m.answer.value == -22 and not m.answer.records and m.now.consumer == m.was.consumer,
        ),
        Step(
            "And refuses again, for ever: this ring is of no use any more.",
            Drain(),
            lambda m: m.answer.value == -22 and m.now.consumer == m.was.consumer,
            "What protects the kernel does not protect user space from itself: use a library that writes headers correctly.",
        ),
    ),
)
