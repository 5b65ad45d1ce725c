"""When the consumer is woken, when not, and how a wake-up is missed."""

from __future__ import annotations

from ...formats.ring_producer import FORCE_WAKEUP, NO_WAKEUP
from ..operations import Consume, Output, Read, Sleep
from ..scenario import Scenario, Step
from ..stage import Plan

SCENARIO = Scenario(
    name="wakeup",
    title="Wake-ups: when the kernel notifies, and how one is missed",
    teaches=(
        "A wake-up is dear, so the kernel sends one only where it thinks that it is needed: when the record that is"
        " committed is the one at the consumer position. A consumer that is behind will come to the others by itself."
        " BPF_RB_NO_WAKEUP never notifies, BPF_RB_FORCE_WAKEUP always. The kernel goes by the position in the consumer"
        " page: a consumer that has read on, but not stored its position before it sleeps, is not woken again. It sleeps in"
        " epoll_wait here, with EPOLLET: nothing but a notification wakes it."
    ),
    plan=Plan(),
    steps=(
        Step("The ring is empty, and the consumer goes to sleep.", Sleep(), lambda m: m.now.asleep),
        Step(
            "The first record is at the consumer position: the consumer is woken.",
            Output("A", 8, "one"),
            lambda m: m.answer.woken and not m.now.asleep,
        ),
        Step(
            "It is awake, but has not read yet. A second record is not the next one for it: nobody is notified.",
            Output("B", 8, "two"),
            lambda m: not m.answer.woken and m.now.notifications == 1,
            "This is the adaptive part: a consumer that is busy is left alone, one notification serves for many records.",
        ),
        Step("The consumer reads both, and hands its position back.", Consume(), lambda m: m.texts == ("one", "two")),
        Step("It has caught up, and sleeps again.", Sleep(), lambda m: m.now.asleep and not m.now.used),
        Step(
            "A record with BPF_RB_NO_WAKEUP lies in the ring, and the consumer sleeps on.",
            Output("C", 8, "three", flags=NO_WAKEUP),
            lambda m: not m.answer.woken and m.now.asleep and m.now.used == 16,
        ),
        Step(
            "And the next one wakes nobody either, although it has no flag: it is not at the consumer position.",
            Output("D", 8, "four"),
            lambda m: not m.answer.woken and m.now.asleep,
            "A single NO_WAKEUP keeps a sleeping consumer asleep until one is forced, or until it looks by itself: wait with a"
            " time-out.",
        ),
        Step(
            "BPF_RB_FORCE_WAKEUP notifies wherever the consumer stands.",
            Output("E", 8, "five", flags=FORCE_WAKEUP),
            lambda m: m.answer.woken and not m.now.asleep,
        ),
        Step(
            "Now the mistake: the consumer reads all three, but does not store its position.",
            Read(),
            lambda m: m.texts == ("three", "four", "five") and m.now.consumer == m.was.consumer,
        ),
        Step(
            "It believes that it has caught up, and sleeps.",
            Sleep(),
            lambda m: m.now.asleep and m.now.used == 48,
        ),
        Step(
            "The next record is not at the consumer position that the kernel sees: the wake-up is missed.",
            Output("F", 8, "six"),
            lambda m: not m.answer.woken and m.now.asleep,
            "From here on only BPF_RB_FORCE_WAKEUP wakes it. Otherwise the ring fills up, and then events are lost.",
        ),
        Step(
            "What helps: a time-out, and looking again. The consumer reads on and hands everything back, up to {producer}.",
            Consume(),
            lambda m: m.texts == ("six",) and m.now.consumer == m.now.producer,
            "So: store the position, then look once more, then sleep. A record may have come between looking and storing.",
        ),
        Step("It sleeps, with nothing in the ring.", Sleep(), lambda m: m.now.asleep and not m.now.used),
        Step(
            "And is woken again.",
            Output("G", 8, "seven"),
            lambda m: m.answer.woken and not m.now.asleep,
        ),
    ),
)
