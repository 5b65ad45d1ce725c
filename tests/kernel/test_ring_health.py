"""The ring's numbers are those that the kernel gives inside BPF, and a wait ends when, and only when, it should."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator

import pytest
from ring_orders import FORCE_WAKEUP, LONG, NO_WAKEUP, SOURCE, emit, later, numbers, takes

import purebpf
from purebpf.kernel.ringbuf import RingBuffer

pytestmark = [pytest.mark.kernel, pytest.mark.needs("loop")]

Ring = RingBuffer[memoryview]


@pytest.fixture
def obj(build: Callable[[str], purebpf.ObjectSpec]) -> Iterator[purebpf.Object]:
    with purebpf.load(build(SOURCE)) as loaded:
        yield loaded


@pytest.fixture
def ring(obj: purebpf.Object) -> Ring:
    return obj.ring("events")


def agree(obj: purebpf.Object, ring: Ring) -> int:
    """The numbers of bpf_ringbuf_query, of which the first is returned, are those of the ring."""
    answers = struct.unpack("=QQQQ", obj.programs["ask"].test_run(context=bytes(32)).context)
    assert (ring.available, ring.size, ring.consumer_position, ring.producer_position) == answers
    assert ring.fill == answers[0] / answers[1]
    return int(answers[0])


# What bpf_ringbuf_query says


def test_an_empty_ring_has_the_kernels_numbers(obj: purebpf.Object, ring: Ring) -> None:
    assert agree(obj, ring) == 0
    assert ring.size == obj.maps["events"].spec.max_entries


def test_committed_records_count_with_their_headers_and_rounding(obj: purebpf.Object, ring: Ring) -> None:
    for size, total in ((8, 16), (1, 32), (13, 56), (0, 64)):
        emit(obj, 0, size=size)
        assert agree(obj, ring) == total
    emit(obj, 0, program="discard")
    assert agree(obj, ring) == 80


def test_a_full_ring_has_the_kernels_numbers(obj: purebpf.Object, ring: Ring) -> None:
    assert emit(obj, 0, size=ring.size - 16)
    assert not emit(obj, 1, size=0)
    assert agree(obj, ring) == ring.size - 8
    ring.consume()
    while emit(obj, 0, size=100):
        pass
    assert agree(obj, ring) > ring.size - 112
    assert ring.fill > 0.97


def test_what_is_left_by_a_limit_has_the_kernels_numbers(obj: purebpf.Object, ring: Ring) -> None:
    for number in range(10):
        emit(obj, number)
    assert numbers(ring.consume(3)) == [0, 1, 2]
    assert agree(obj, ring) == 7 * 16
    assert next(iter(ring)) is not None  # an iteration copies, and hands back, what it finds
    assert agree(obj, ring) == 0


def test_a_lease_hands_back_at_its_end(obj: purebpf.Object, ring: Ring) -> None:
    for number in range(10):
        emit(obj, number)
    with ring.lease(4) as batch:
        assert agree(obj, ring) == 10 * 16
        emit(obj, 10)
        assert agree(obj, ring) == 11 * 16
        assert numbers(batch) == [0, 1, 2, 3]
    assert agree(obj, ring) == 7 * 16


def test_positions_go_on_growing_round_the_ring(obj: purebpf.Object, ring: Ring) -> None:
    for number in range(1000):
        assert emit(obj, number, size=8 + number % 700)
        agree(obj, ring)
        if number % 4 == 3:
            assert numbers(ring.consume()) == [number - 3, number - 2, number - 1, number]
    assert agree(obj, ring) == 0
    assert ring.consumer_position > 4 * ring.size


def test_a_busy_record_is_counted_as_available(obj: purebpf.Object, ring: Ring) -> None:
    with later(0, emit, obj, 1, 0, 900_000_000, "dawdle"):
        while not ring.available:
            time.sleep(0.01)
        assert agree(obj, ring) == 16
        assert not ring.wait(0)
        assert len(ring.consume()) == 0
        emit(obj, 2)
        assert agree(obj, ring) == 32
        assert not ring.wait(0), "a busy record holds up those behind it"
    assert numbers(ring.consume()) == [1, 2]
    assert agree(obj, ring) == 0


# Waking up


def test_a_record_wakes_each_time(obj: purebpf.Object, ring: Ring) -> None:
    for number in range(5):
        with takes(0.04), later(0.05, emit, obj, number):
            assert ring.wait(LONG)
        assert numbers(ring.consume()) == [number]
    with takes(0.04), later(0.05, emit, obj, 5):
        assert ring.wait()


def test_no_wakeup_lets_sleep_and_is_seen_by_the_next_call(obj: purebpf.Object, ring: Ring) -> None:
    with takes(0.4), later(0.05, emit, obj, 1, NO_WAKEUP):
        ring.wait(0.4)
    with takes(0):
        assert ring.wait(LONG)
    assert numbers(ring.consume()) == [1]


def test_a_record_behind_one_that_woke_nobody_wakes_only_by_force(obj: purebpf.Object, ring: Ring) -> None:
    emit(obj, 0, NO_WAKEUP)
    assert numbers(ring.consume()) == [0]
    with takes(0.4), later(0.05, emit, obj, 1, NO_WAKEUP), later(0.1, emit, obj, 2):
        ring.wait(0.4)
    assert numbers(ring.consume()) == [1, 2]
    with takes(0.1), later(0.05, emit, obj, 3, NO_WAKEUP), later(0.1, emit, obj, 4, FORCE_WAKEUP):
        assert ring.wait(LONG)
    assert numbers(ring.consume()) == [3, 4]


def test_poll_goes_on_waiting_when_it_was_woken_by_a_discarded_record(obj: purebpf.Object, ring: Ring) -> None:
    with takes(0.3), later(0.05, emit, obj, 0, FORCE_WAKEUP, 8, "discard"):
        assert len(ring.poll(0.3)) == 0
    with takes(0.1), later(0.05, emit, obj, 0, 0, 8, "discard"), later(0.1, emit, obj, 1):
        assert numbers(ring.poll(LONG)) == [1]


def test_a_busy_record_is_waited_for_asleep_and_wakes(obj: purebpf.Object, ring: Ring) -> None:
    with later(0, emit, obj, 1, 0, 400_000_000, "dawdle"):
        while not ring.available:
            time.sleep(0.01)
        before = time.thread_time()
        with takes(0.1):
            assert ring.wait(LONG)
        assert time.thread_time() - before < 0.1
    assert numbers(ring.consume()) == [1]


def test_what_a_limit_leaves_ends_the_next_wait_at_once(obj: purebpf.Object, ring: Ring) -> None:
    for number in range(3):
        emit(obj, number)
    for number in range(3):
        with takes(0):
            assert numbers(ring.poll(LONG, 1)) == [number]
    with takes(0.1), later(0.1, emit, obj, 3):
        assert numbers(ring.poll(LONG, 1)) == [3]


def test_deadlines_are_kept_asleep(ring: Ring) -> None:
    before = time.thread_time()
    for seconds in (0.0, 0.001, 0.05, 0.25):
        with takes(seconds, seconds + 2):
            assert not ring.wait(seconds)
        with takes(seconds, seconds + 2):
            assert len(ring.poll(seconds)) == 0
    assert time.thread_time() - before < 0.2
