"""The perf buffer, which programs used before there were ring buffers."""

from __future__ import annotations

from ..operations import Consume, Output, Share
from ..scenario import Scenario, Step
from ..stage import Plan
from ..state import PERF

_QUARTER = Share(1, 4)

SCENARIO = Scenario(
    name="perf",
    title="The perf buffer, for comparison: a ring for each CPU",
    teaches=(
        "Before Linux 5.8, events went through perf buffers (BPF_MAP_TYPE_PERF_EVENT_ARRAY). Each CPU has a ring of its own:"
        " no lock between CPUs, but no order either, and a burst on one CPU overflows its ring while the others are empty."
        " The event is always copied, as with bpf_ringbuf_output. One thing is better: the ring counts what it lost, and says"
        " so with the next record that finds room. As readers mostly ask for it, each record wakes the reader."
    ),
    plan=Plan(PERF, pages=1, cpus=2),
    steps=(
        Step(
            "The first event, on CPU 1: a header of 8 bytes, a length of 4, the event, and padding.",
            Output("A", 5, "first", cpu=1),
            lambda m: m.answer.value == 0 and m.now.producer == 24 and not m.after[0].producer,
        ),
        Step(
            "The second, on CPU 0, goes to another ring.",
            Output("B", 6, "second", cpu=0),
            lambda m: m.answer.value == 0 and m.after[0].producer == m.after[1].producer == 24,
        ),
        Step(
            "The third, on CPU 1 again. Each one has notified the reader.",
            Output("C", 5, "third", cpu=1),
            lambda m: m.answer.woken and sum(ring.notifications for ring in m.after) == 3,
        ),
        Step(
            "The reader reads ring by ring: the second event comes first. The order is lost.",
            Consume(),
            lambda m: m.texts == ("second", "first", "third"),
            "Only a time in the event itself tells the order; readers sort by it, and must wait before they can.",
        ),
        Step(
            "A burst on CPU 0: a quarter of its ring.",
            Output("D", _QUARTER, "four", cpu=0),
            lambda m: m.answer.value == 0,
        ),
        Step("Another one.", Output("E", _QUARTER, "five", cpu=0), lambda m: m.answer.value == 0),
        Step(
            "And another one.",
            Output("F", _QUARTER, "six", cpu=0),
            lambda m: m.answer.value == 0 and m.now.fill == 0.75,
        ),
        Step(
            "The fourth finds its ring full and is lost, while that of CPU 1 is empty.",
            Output("G", _QUARTER, "seven", cpu=0),
            lambda m: m.answer.value == -28 and m.now.losses == 1 and not m.after[1].used,
            "With one ring for all CPUs there would have been room: a ring buffer can be smaller than all perf rings together.",
        ),
        Step(
            "The reader gets three. That one was lost is not told yet.",
            Consume(),
            lambda m: m.texts == ("four", "five", "six") and not m.answer.lost,
        ),
        Step(
            "The next event that finds room brings the news: 24 bytes in front of it say how many were lost.",
            Output("H", 5, "eight", cpu=0),
            lambda m: m.answer.value == 0 and [record.lost for record in m.now.records] == [1, 0],
        ),
        Step(
            "The reader gets the event, and the count.",
            Consume(),
            lambda m: m.texts == ("eight",) and m.answer.lost == 1,
        ),
    ),
)
