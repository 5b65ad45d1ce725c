"""docs/consumer.py: it is what its page builds up, and it reads what the kernel writes."""

from __future__ import annotations

import functools
import runpy
import threading
from collections.abc import Iterator
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest
from features import examples, require
from hypothesis import assume, given, settings
from samples import DOCS, compiled, samples

import purebpf
from purebpf.formats.ring_producer import SimulatedRing
from purebpf.testing import Operation, Replay, ValidRing, operations, rings

CONSUMER = DOCS / "consumer.py"
# Each run sends records of all lengths below 256, whose first byte is the length, and behind every third one that is discarded.
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } events SEC(".maps");
char content[256];

SEC("raw_tp/sched_process_exec")
int send(void *ctx)
{
	__u32 *word, length;

	for (length = 0; length < 256; length++) {
		content[0] = length;
		bpf_ringbuf_output(&events, content, length, 0);
		if (length % 3)
			continue;
		word = bpf_ringbuf_reserve(&events, 4, 0);
		if (word)
			bpf_ringbuf_discard(word, 0);
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""
SENT = [bytes([length] + [0] * (length - 1))[:length] for length in range(256)]


@functools.cache
def consumer() -> Any:
    """The names of the script."""
    return SimpleNamespace(**runpy.run_path(str(CONSUMER)))


@pytest.fixture
def sender(tmp_path: Any) -> Iterator[purebpf.Object]:
    require("clang")
    with purebpf.load(compiled(SOURCE, tmp_path)) as obj:
        yield obj


def mapped(obj: purebpf.Object) -> tuple[Any, int]:
    """The script's ring, and its descriptor."""
    fd = obj.maps["events"].fileno()
    return consumer().map_ring(fd, 65536), fd


def test_the_pieces_of_the_page_are_the_script() -> None:
    pieces = [s.text for s in samples((DOCS / "consumer.md").read_text()) if s.notes.get("file") == "consumer.py, part"]
    script = CONSUMER.read_text().splitlines()
    assert [line for line in "".join(pieces).splitlines() if line] == [line for line in script if line]
    assert len(script) <= 100


@settings(max_examples=examples(300), deadline=None)
@given(rings())
def test_it_walks_over_whatever_the_kernel_could_leave(ring: ValidRing) -> None:
    assume(ring.consumer <= ring.producer)  # it knows no positions beyond 2**64
    found, reached = consumer().walk(memoryview(ring.data), ring.consumer, ring.producer)
    assert ([ring.data[where] for where in found], reached) == (ring.payloads, ring.end)


@settings(max_examples=examples(100), deadline=None)
@given(operations())
def test_it_takes_each_record_once_and_hands_back_all_it_walked_over(steps: list[Operation]) -> None:
    simulated = SimulatedRing(256)
    replay = Replay(simulated)
    pages = (memoryview(page)[:8].cast("Q") for page in (simulated.consumer_page, simulated.producer_page))
    ring = (*pages, memoryview(simulated.data))
    for step in steps:
        replay.apply(step)
        due = replay.due
        assert consumer().is_ready(ring) or not due
        assert consumer().take(ring) == due
        assert (replay.due, consumer().is_ready(ring)) == ([], False)


@pytest.mark.kernel
def test_it_reads_records_of_all_lengths_wherever_they_wrap(sender: purebpf.Object) -> None:
    ring, _fd = mapped(sender)
    for _ in range(100):
        sender.programs["send"].test_run()
        assert consumer().take(ring) == SENT
    assert ring[0][0] == ring[1][0] > 50 * 65536


@pytest.mark.kernel
def test_it_is_woken_each_time_it_sleeps(sender: purebpf.Object) -> None:
    taken: Queue[bytes] = Queue()

    def consume() -> None:
        for number, payload in enumerate(consumer().events(*mapped(sender)), 1):
            taken.put(payload)
            if number == 100 * len(SENT):
                return

    thread = threading.Thread(target=consume, daemon=True)
    thread.start()
    for _ in range(100):
        sender.programs["send"].test_run()
        assert [taken.get(timeout=30) for _ in SENT] == SENT
    thread.join()
