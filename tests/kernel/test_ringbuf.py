"""The reader of a ring on the running kernel: its ways of reading, typed events, several rings."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable

import pytest
from ring_sender import SIZE, SOURCE, Sender, numbers

import purebpf
from purebpf.formats.abi import MapFlags
from purebpf.kernel.ringbuf import RingBuffer, RingGroup

pytestmark = pytest.mark.kernel


def test_the_ways_of_reading_share_one_order(sender: Sender) -> None:
    """Each record comes once, whichever call takes it."""
    sender.send(100)
    ring, seen = sender.ring, []
    seen += numbers(ring.consume(3))
    for record in ring:
        seen += numbers([record])
        if len(seen) == 10:
            break
    seen += numbers(ring.consume(5))
    with ring.lease(5) as batch:
        seen += numbers(batch)
    for record in ring.drain():
        seen += numbers([record])
        if len(seen) == 50:
            break
    seen += numbers(ring.poll(1, limit=10))
    seen += numbers(ring.drain())
    assert seen == list(range(100))
    assert not ring.consume()
    assert not ring.poll(0)


def test_an_iterator_that_is_kept_gives_nothing_that_another_call_has_given(sender: Sender) -> None:
    sender.send(20)
    ring = sender.ring
    kept = iter(ring)
    seen = numbers([next(kept)])
    seen += numbers(ring.consume(5))
    seen += numbers([next(kept)])
    seen += numbers(ring.consume())
    sender.send(3)
    seen += numbers([next(kept)])
    for record in ring.drain():
        seen += numbers([record])
        seen += numbers(ring.consume(1))
    assert seen == list(range(23))


def test_a_final_consume_has_all_that_iterations_left(sender: Sender) -> None:
    sender.send(10)
    assert numbers([next(iter(sender.ring))]) == [0]
    sender.send(10)
    assert numbers(sender.ring.consume()) == list(range(1, 20))


@pytest.mark.parametrize("limit", [-1, -(2**40)])
def test_a_negative_number_of_records_is_refused(sender: Sender, limit: int) -> None:
    sender.send(3)
    for call in (sender.ring.consume, lambda n: sender.ring.poll(0, n), lambda n: sender.ring.lease(n).__enter__()):
        with pytest.raises(ValueError, match="at most"):
            call(limit)
    assert not sender.ring.consume(0)
    assert not sender.ring.poll(10, 0)
    assert numbers([next(iter(sender.ring))]) == [0]
    with pytest.raises(ValueError, match="at most"):
        sender.ring.consume(limit)
    assert numbers(sender.ring.consume()) == [1, 2]


def test_a_wait_may_be_endless_in_other_words(sender: Sender) -> None:
    timer = threading.Timer(0.05, sender.send, [1])
    timer.start()
    assert sender.ring.wait(math.inf)
    assert sender.ring.wait(-1)
    timer.join()


def test_a_poll_waits_for_the_first_record(sender: Sender) -> None:
    begin = time.monotonic()
    assert not sender.ring.poll(0.05)
    assert time.monotonic() - begin >= 0.05
    timer = threading.Timer(0.1, sender.send, [1])
    timer.start()
    assert numbers(sender.ring.poll(10)) == [0]
    assert time.monotonic() - begin < 5
    timer.join()


def test_events_are_decoded_by_the_type_of_this_name(sender: Sender) -> None:
    sender.send(2)
    events = sender.obj.events("events", "event")
    first, second = events.consume()
    assert (first.number, first.kind.name, second.kind.name) == (0, "QUIET", "LOUD")
    assert [(p.row, p.column) for p in second.at] == [(0, 0), (3, 4)]
    assert (second.name, bytes(second.raw)) == (b"tick", b"\0\0\x09")
    assert (second.low, second.high, second.negative) == (5, 17, -1)
    assert (second.whole, second.halves) == (0x00020001, [1, 2])
    assert second._asdict()["number"] == 1
    assert repr(second).startswith("event(number=1, kind=LOUD, at=[place(row=0, column=0), place(row=3, column=4)]")


def test_events_are_decoded_by_the_type_that_the_map_declares(sender: Sender) -> None:
    sender.send(30)
    assert [event.number for event in sender.obj.events("typed").drain()] == list(range(30))


def test_a_ring_without_a_declared_type_asks_for_one(sender: Sender) -> None:
    with pytest.raises(purebpf.ObjectError, match="'events' does not declare") as caught:
        sender.obj.events("events")
    assert 'events("events", "event")' in caught.value.hint.replace("'", '"')
    with pytest.raises(purebpf.ObjectError, match="no struct 'evnt'"):
        sender.obj.events("events", "evnt")


def test_a_record_that_is_too_short_for_its_type_is_reported_and_nothing_else_lost(sender: Sender) -> None:
    sender.obj.globals.with_short = 1
    sender.send(20)
    events = sender.obj.events("events", "event")
    seen: list[int] = []
    with pytest.raises(purebpf.ObjectError, match=f"struct event has {SIZE} bytes; there is a record of 1"):
        seen.extend(event.number for event in events)
    assert seen == [0]
    assert [event.number for event in events.consume()] == list(range(1, 20))


def test_a_full_ring_is_drained_and_takes_records_again(sender: Sender) -> None:
    sender.send(1000)
    sender.send(1000)
    lost, room = sender.obj.globals.lost, 65536 // (SIZE + 8)
    assert sender.ring.fill > 0.99
    first = numbers(sender.ring.consume())
    assert len(first) + lost == 2000
    assert abs(len(first) - room) <= 1
    sender.send(10)
    assert numbers(sender.ring.consume()) == list(range(len(first), len(first) + 10))


def test_what_was_lost_is_read_where_the_programs_count_it(sender: Sender) -> None:
    ring = sender.obj.ring("events", lost="lost")
    assert ring.lost == 0
    sender.send(1000)
    sender.send(1000)
    assert ring.lost == 2000 - len(ring.consume()) > 0
    for array in ("per_cpu", "plain"):
        counts = sender.obj.events("events", "event", lost=array)
        before = counts.lost
        sender.obj.maps[array][0] = [1] * len(sender.obj.maps[array][0]) if array == "per_cpu" else 7
        assert counts.lost - before == (os.cpu_count() if array == "per_cpu" else 7)
    with pytest.raises(purebpf.ObjectError, match="only the programs know"):
        _ = sender.ring.lost
    for nothing in ("typed", "no_such"):
        with pytest.raises(purebpf.ObjectError, match=nothing):
            sender.obj.ring("events", lost=nothing)


def test_a_group_hands_the_records_of_several_rings_to_their_callbacks(sender: Sender) -> None:
    plain: list[int] = []
    typed: list[int] = []
    with RingGroup() as group:
        group.add(sender.ring, lambda record: plain.extend(numbers([record])))
        group.add(sender.obj.events("typed"), lambda event: typed.append(event.number))
        assert group.poll(0.01) == 0
        threading.Timer(0.05, sender.send, [10]).start()
        assert group.poll(10) > 0
        deadline = time.monotonic() + 10
        while len(plain) + len(typed) < 20 and time.monotonic() < deadline:
            group.poll(0.1)
        assert (plain, typed) == (list(range(10)), list(range(10)))
        sender.send(10)
        assert group.consume(4) == 4
        assert group.consume() == 16


def test_a_callback_that_raises_loses_no_other_record(sender: Sender) -> None:
    seen: list[int] = []

    def callback(record: memoryview) -> None:
        seen.extend(numbers([record]))
        if seen[-1] == 3:
            raise KeyError

    sender.send(10)
    with RingGroup() as group:
        group.add(sender.ring, callback)
        with pytest.raises(KeyError):
            group.consume()
        group.consume()
    assert seen == list(range(10))


def test_a_ring_that_overwrites_is_refused_by_name(build: Callable[[str], purebpf.ObjectSpec]) -> None:
    spec = build(SOURCE)
    spec.maps["events"].flags |= MapFlags.RB_OVERWRITE
    with pytest.raises(purebpf.NotSupported, match=r"overwrite.*BPF_F_RB_OVERWRITE"), purebpf.load(spec) as obj:
        obj.ring("events")


def test_a_reader_leaves_no_descriptor_behind(sender: Sender) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        ring = RingBuffer(sender.obj.maps["events"])
        ring.wait(0)
        ring.close()
    assert os.listdir("/proc/self/fd") == before
