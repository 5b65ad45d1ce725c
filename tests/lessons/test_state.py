"""The state of a ring: made of any buffers, and in agreement with the parser and with what the simulator has done."""

from __future__ import annotations

import doctest
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purebpf.errors import RingCorrupt
from purebpf.formats.perf_producer import SimulatedPerfRing
from purebpf.formats.ring import BUSY, DISCARD
from purebpf.formats.ring_producer import SimulatedRing
from purebpf.lessons import state as module
from purebpf.lessons.state import (
    BUSY_RECORD,
    COMMITTED,
    CONSUMED,
    DISCARDED,
    LOST_RECORD,
    OVERWRITE,
    OVERWRITTEN,
    PERF,
    RING,
    USER,
    PerfRecorder,
    Recorder,
    RingState,
    perf_state,
    ring_state,
)
from purebpf.testing import Operation, Replay, RingImage, ValidRing, hostile_rings, operations, rings

END = 2**64


def state_of(image: RingImage, kind: str = RING) -> RingState:
    pages = [struct.pack("=Q", position) for position in (image.consumer, image.producer)]
    return ring_state(*pages, image.data, kind)


def recorded(recorder: Recorder, ring: SimulatedRing) -> RingState:
    return recorder.state(ring.consumer_page, ring.producer_page, ring.data, ring.notifications)


def test_the_docstring_tells_the_truth() -> None:
    assert doctest.testmod(module).failed == 0


# One snapshot


@given(rings())
def test_a_valid_ring_is_shown_as_the_parser_reads_it(ring: ValidRing) -> None:
    state = state_of(ring)
    ready = [record for record in state.records if (record.position - ring.end) % END > len(ring.area)]
    assert [record.payload for record in ready if record.state == COMMITTED] == ring.payloads
    assert all(record.state != BUSY_RECORD for record in ready)
    assert (state.torn, state.used) == ("", (ring.producer - ring.consumer) % END)
    assert sum(record.stride for record in state.records) == state.used
    first_busy = next((record.position for record in state.records if record.busy), ring.producer)
    assert first_busy == ring.end


@given(rings())
def test_headers_are_decoded_as_they_stand_in_the_data_area(ring: ValidRing) -> None:
    for record in state_of(ring).records:
        word, second = struct.unpack_from("=II", ring.area, record.offset)
        assert (record.word, record.second_word) == (word, second)
        assert record.offset == record.position % len(ring.area)
        assert (record.busy, record.discard, record.length) == (bool(word & BUSY), bool(word & DISCARD), word % DISCARD)
        assert record.state == (BUSY_RECORD if record.busy else DISCARDED if record.discard else COMMITTED)
        assert len(record.payload) == record.length


@settings(max_examples=150, deadline=None)
@given(hostile_rings(), st.sampled_from([RING, OVERWRITE, USER]))
def test_a_state_is_made_of_anything_and_says_what_does_not_fit(image: RingImage, kind: str) -> None:
    state = state_of(image, kind)
    assert RingState.from_dict(json.loads(json.dumps(state.to_dict()))) == state
    assert 0 <= state.fill <= 1
    if kind == OVERWRITE:
        return
    try:
        parsed = [bytes(record) for record in image.records()]
    except RingCorrupt:
        assert state.torn
        return
    before_busy = []
    for record in state.records:
        if record.busy:
            break
        before_busy += [] if record.discard else [record.payload]
    assert before_busy == parsed
    assert bool(state.torn) == (sum(record.stride for record in state.records) != state.used)


def test_where_a_ring_is_torn_is_told_and_what_stands_before_is_kept() -> None:
    ring = SimulatedRing(64)
    ring.output(b"good")
    ring.output(b"bad")
    struct.pack_into("=I", ring.data, 16, 40)
    state = ring_state(ring.consumer_page, ring.producer_page, ring.data)
    assert [record.payload for record in state.records] == [b"good"]
    assert (state.torn_at, state.torn) == (16, "header 0x00000028 says 40 bytes where 8 are left")
    struct.pack_into("=Q", ring.consumer_page, 0, 40)
    state = ring_state(ring.consumer_page, ring.producer_page, ring.data)
    assert (state.torn_at, state.records) == (None, ())
    assert state.torn == "consumer position 40 and producer position 32 contradict each other"


def test_a_user_ring_has_no_pending_position_and_a_ring_no_overwrite_position() -> None:
    ring = SimulatedRing(64)
    ring.output(b"")
    ring.output(b"")
    pages = ring.consumer_page, ring.producer_page, ring.data
    assert ring_state(*pages).pending == 8
    assert ring_state(*pages, USER).pending is None
    assert ring_state(*pages).overwrite is None


# One after the other


@settings(max_examples=60, deadline=None)
@given(operations(), st.sampled_from([64, 256, 1024]))
def test_states_follow_what_is_done(done: list[Operation], size: int) -> None:
    replay, recorder = Replay(SimulatedRing(size)), Recorder()
    recorded(recorder, replay.ring)
    for operation in done:
        replay.apply(operation)
        state = recorded(recorder, replay.ring)
        assert (state.torn, state.used) == ("", replay.ring.query(0))
        assert (state.consumer, state.producer) == (replay.ring.query(2), replay.ring.query(3))
        assert [record.position for record in state.records if record.busy] == sorted(
            record.position for record in replay.reserved
        )
        due = []
        for record in state.records:
            if record.busy:
                break
            due += [] if record.discard else [record.payload]
        assert due == replay.due
        assert_seamless(state)
        assert all(record.state == CONSUMED and not record.busy for record in state.past)
        assert sum(record.stride for record in state.all_records) <= size


def assert_seamless(state: RingState) -> None:
    """Records stand one behind the other, up to the producer position; consumed ones before the consumer position."""
    ends = [(record.position + record.stride) % END for record in state.all_records]
    assert [record.position for record in state.all_records[1:]] == ends[:-1]
    assert ends[-1:] in ([], [state.producer])
    assert all((state.begin - record.position) % END <= state.size for record in state.past)


def test_consumed_records_are_shown_until_they_are_overwritten() -> None:
    ring, recorder = SimulatedRing(64), Recorder()
    consumer = ring.ring()
    recorded(recorder, ring)
    for text in (b"one", b"two", b"three"):
        ring.output(text)
    recorder.name(16, "B")
    consumer.consume()
    state = recorded(recorder, ring)
    assert [(r.payload, r.state, r.name) for r in state.past] == [
        (b"one", CONSUMED, ""),
        (b"two", CONSUMED, "B"),
        (b"three", CONSUMED, ""),
    ]
    ring.output(bytes(16))
    assert [record.payload for record in recorded(recorder, ring).past] == [b"two", b"three"]
    ring.output(bytes(8))
    assert [record.payload for record in recorded(recorder, ring).past] == [b"three"]


def test_a_recorder_that_came_late_shows_no_past() -> None:
    ring = SimulatedRing(64)
    ring.output(b"one")
    ring.ring().consume()
    recorder = Recorder()
    assert recorded(recorder, ring).past == ()
    ring.output(b"two")
    assert [record.payload for record in recorded(recorder, ring).records] == [b"two"]


def test_a_name_goes_with_its_record() -> None:
    ring, recorder = SimulatedRing(64), Recorder()
    recorder.name(0, "A")
    ring.output(bytes(40))
    assert recorded(recorder, ring).records[0].name == "A"
    ring.ring().consume()
    ring.output(bytes(40))
    state = recorded(recorder, ring)
    assert [record.name for record in state.all_records] == [""]
    assert state.named("A") is None


def test_a_recorder_remembers_no_more_than_it_can_show() -> None:
    ring, recorder = SimulatedRing(1 << 16), Recorder(most=4)
    reader = ring.ring()
    for _ in range(1000):
        for _ in range(3):
            ring.output(b"event")
        recorded(recorder, ring)
        reader.consume()
        assert len(recorded(recorder, ring).past) in (3, 4)
    assert len(recorder._starts) < 4 * 4


def test_records_that_were_thrown_away_unread_are_told_from_consumed_ones() -> None:
    ring, recorder = SimulatedRing(128, overwrite=True), Recorder(OVERWRITE)
    for _ in range(7):
        ring.output(bytes(8))
        recorded(recorder, ring)
    struct.pack_into("=Q", ring.consumer_page, 0, 16)
    ring.output(bytes(24))  # takes the room of two, of which one has been consumed
    state = recorded(recorder, ring)
    assert (state.begin, state.overwrite, state.overwritten) == (32, 32, 1)
    assert [(record.position, record.state) for record in state.past] == [(16, OVERWRITTEN)]
    struct.pack_into("=Q", ring.consumer_page, 0, 48)
    assert [(record.position, record.state) for record in recorded(recorder, ring).past] == [
        (16, OVERWRITTEN),
        (32, CONSUMED),
    ]


# Perf rings


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.binary(max_size=60)), max_size=30), st.sampled_from([64, 256]))
def test_a_perf_ring_is_shown_as_its_reader_reads_it(steps: list[bytes | None], size: int) -> None:
    ring = SimulatedPerfRing(size)
    reader = ring.ring()
    for step in steps:
        if step is not None:
            ring.output(step)
            continue
        state = perf_state(ring.control, ring.data, "CPU 0")
        drained = reader.drain()
        assert (state.torn, state.kind, state.label) == ("", PERF, "CPU 0")
        assert [record.payload for record in state.records if record.state == COMMITTED] == drained.records
        assert sum(record.lost for record in state.records if record.state == LOST_RECORD) == drained.lost
        assert RingState.from_dict(json.loads(json.dumps(state.to_dict()))) == state


def test_a_perf_ring_shows_what_was_read_until_it_is_overwritten() -> None:
    ring, recorder = SimulatedPerfRing(64), PerfRecorder("CPU 1")
    for name in "AB":
        ring.output(name.encode())
        recorder.name_last(ring.control, ring.data, name)
    recorder.state(ring.control, ring.data)
    ring.ring().drain()
    state = recorder.state(ring.control, ring.data, notifications=2, losses=1)
    assert [(record.name, record.state) for record in state.all_records] == [("A", CONSUMED), ("B", CONSUMED)]
    assert (state.label, state.notifications, state.losses) == ("CPU 1", 2, 1)
    ring.output(bytes(36))
    state = recorder.state(ring.control, ring.data)
    assert [(record.name, record.state) for record in state.all_records] == [("B", CONSUMED), ("", COMMITTED)]


@settings(max_examples=150, deadline=None)
@given(
    st.binary(min_size=64, max_size=64) | st.binary(max_size=20),
    st.integers(0, END - 1),
    st.integers(0, END - 1) | st.integers(0, 9).map(lambda n: 8 * n),
)
def test_a_state_is_made_of_any_perf_ring(data: bytes, tail: int, ahead: int) -> None:
    control = bytearray(4096)
    struct.pack_into("=QQ", control, 1024, (tail + ahead) % END, tail)
    state = perf_state(control, data)
    assert RingState.from_dict(json.loads(json.dumps(state.to_dict()))) == state
    if not state.torn:
        assert sum(record.stride for record in state.records) == state.used == ahead


@pytest.mark.parametrize(("kind", "size", "where"), [(9, 12, 0), (9, 0, 0), (2, 16, 0), (9, 4096, 0)])
def test_a_damaged_perf_record_is_told(kind: int, size: int, where: int) -> None:
    ring = SimulatedPerfRing(64)
    ring.output(b"good")
    struct.pack_into("=IHH", ring.data, where, kind, 0, size)
    state = perf_state(ring.control, ring.data)
    assert (state.torn_at, state.torn) == (where, f"header says type {kind} and {size} bytes where 16 are left")
