"""The simulated producer: what it writes, whom it wakes, and that no interleaving with a consumer loses a record."""

from __future__ import annotations

import doctest
import struct
from collections import deque
from typing import NamedTuple

import pytest
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import purebpf
from purebpf.formats import ring_producer
from purebpf.formats.ring import BUSY, DISCARD, Ring
from purebpf.formats.ring_producer import EAGAIN, EINVAL, FORCE_WAKEUP, LARGEST, NO_WAKEUP, Reservation, SimulatedRing

END = 2**64
SIZES = st.sampled_from([64, 256, 4096])
STARTS = st.one_of(
    st.just(0), st.integers(0, 2**61 - 1).map(lambda n: 8 * n), st.integers(1, 64).map(lambda n: END - 8 * n)
)


def reserve(ring: SimulatedRing, length: int) -> Reservation:
    record = ring.reserve(length)
    assert record is not None
    return record


def header(ring: SimulatedRing, position: int) -> tuple[int, int]:
    found = struct.unpack_from("=II", ring.data, position % ring.size)
    return int(found[0]), int(found[1])


def positions(ring: SimulatedRing) -> tuple[int, int, int]:
    """Consumer, producer, pending."""
    words = struct.unpack_from("=Q", ring.consumer_page) + struct.unpack_from("=QQ", ring.producer_page)
    return int(words[0]), int(words[1]), int(words[2])


def consumer_at(ring: SimulatedRing, position: int) -> None:
    struct.pack_into("=Q", ring.consumer_page, 0, position)


# What is written


def test_the_docstring_tells_the_truth() -> None:
    assert doctest.testmod(ring_producer).failed == 0


def test_a_reservation_is_busy_and_moves_the_producer() -> None:
    ring = SimulatedRing(4096)
    record = reserve(ring, 13)
    assert (record.position, record.length, len(record.payload)) == (0, 13, 13)
    assert header(ring, 0) == (13 | BUSY, 3)
    assert positions(ring) == (0, 24, 0)
    assert reserve(ring, 0).position == 24


def test_a_commit_changes_the_length_word_and_the_payload_only() -> None:
    ring = SimulatedRing(64)
    kept, dropped = reserve(ring, 3), reserve(ring, 8)
    kept.payload[:], dropped.payload[:] = b"abc", b"discarded"[:8]
    dropped.discard()
    kept.submit()
    assert header(ring, 0) == (3, 3)
    assert header(ring, 16) == (8 | DISCARD, 3)
    assert ring.data[8:16] == b"abc" + bytes(5)
    assert ring.data[24:32] == b"discarde"
    assert positions(ring) == (0, 32, 0)


def test_the_header_says_how_many_pages_it_is_away_from_the_kernels_struct() -> None:
    ring = SimulatedRing(16384)
    assert [header(ring, reserve(ring, 4088).position)[1] for _ in range(3)] == [3, 4, 5]
    large = SimulatedRing(1 << 17, page_size=65536)
    assert [header(large, reserve(large, 65528 - 8).position)[1] for _ in range(2)] == [3, 3]
    assert header(large, reserve(large, 0).position)[1] == 4


def test_a_record_keeps_the_old_bytes_that_nobody_overwrites() -> None:
    ring = SimulatedRing(32)
    assert ring.output(b"old bytes") == 0
    ring.ring().consume()
    assert ring.output(b"") == 0
    record = reserve(ring, 5)
    assert bytes(record.payload) == b"old b"
    record.payload[1:3] = b"NE"
    record.submit()
    assert ring.data[8:17] == b"oNE bytes"[:5] + b"ytes"


@pytest.mark.parametrize("start", range(0, 64, 8))
def test_both_halves_stay_equal_round_the_ring(start: int) -> None:
    ring = SimulatedRing(64, start=start)
    consumer = ring.ring()
    for number in range(20):
        payload = bytes([number]) * (7 * number % 49)
        assert ring.output(payload) == 0
        assert ring.data[:64] == ring.data[64:]
        assert list(consumer.consume()) == [payload]


def test_the_pending_position_follows_at_the_next_reservation() -> None:
    ring = SimulatedRing(64)
    first, second = reserve(ring, 0), reserve(ring, 0)
    second.submit()
    reserve(ring, 0)
    assert positions(ring) == (0, 24, 0)
    first.submit()
    assert positions(ring)[2] == 0
    assert ring.reserve(100) is None
    assert positions(ring)[2] == 0, "a record that is too large is refused before the walk"
    assert ring.reserve(56) is None
    assert positions(ring)[2] == 16, "one that finds no room, after it"


# What is refused


def test_the_last_eight_bytes_are_never_filled() -> None:
    ring = SimulatedRing(64)
    assert ring.reserve(56) is None
    assert ring.reserve(49) is None
    reserve(ring, 48)
    assert ring.reserve(0) is None
    assert SimulatedRing(8).reserve(0) is None


@pytest.mark.parametrize("length", [4089, 1 << 20, LARGEST, LARGEST + 1, 2**32, 2**64 - 1])
def test_what_never_fits_changes_nothing(length: int) -> None:
    ring = SimulatedRing(4096)
    before = bytes(ring.producer_page + ring.data)
    assert ring.reserve(length) is None
    assert bytes(ring.producer_page + ring.data) == before


def test_reserve_takes_no_flags() -> None:
    ring = SimulatedRing(4096)
    assert ring.reserve(8, NO_WAKEUP) is None
    assert positions(ring) == (0, 0, 0)


def test_output_answers_with_the_kernels_error_numbers() -> None:
    ring = SimulatedRing(64)
    assert ring.output(b"x" * 30, 4) == -EINVAL
    assert ring.output(b"x" * 30, NO_WAKEUP | FORCE_WAKEUP) == 0
    assert ring.output(b"x" * 30) == -EAGAIN
    assert ring.output(b"x" * 100) == -EAGAIN
    assert ring.output(b"x" * 100, -1) == -EINVAL
    assert [bytes(r) for r in ring.ring().consume()] == [b"x" * 30]


def test_a_false_consumer_position_does_not_have_a_busy_record_overwritten() -> None:
    """The attack that the pending position is there against."""
    ring = SimulatedRing(64)
    victim = reserve(ring, 8)
    victim.payload[:] = b"precious"
    assert ring.output(b"x" * 24) == 0
    consumer_at(ring, 40)
    assert ring.reserve(16) is None
    assert ring.reserve(0) is not None
    victim.submit()
    assert ring.data[8:16] == b"precious"
    assert ring.reserve(8) is not None


def test_a_query_answers_in_the_kernels_numbers() -> None:
    ring = SimulatedRing(64, start=END - 8)
    reserve(ring, 10)
    assert [ring.query(flag) for flag in range(6)] == [24, 64, END - 8, 16, 0, 0]
    assert ring.query(-1) == ring.query(2**32) == 0
    consumer_at(ring, 24)
    assert ring.query(0) == END - 8


# Who is woken


@pytest.mark.parametrize(
    ("flags", "next_woken", "other_woken"),
    [(0, True, False), (NO_WAKEUP, False, False), (FORCE_WAKEUP, True, True), (3, True, True), (4, True, False)],
)
def test_flags_and_place_decide_on_the_wakeup(flags: int, next_woken: bool, other_woken: bool) -> None:
    for commit in (Reservation.submit, Reservation.discard):
        ring = SimulatedRing(64, start=24)
        first, second = reserve(ring, 3), reserve(ring, 3)
        assert commit(second, flags) is other_woken
        assert commit(first, flags) is next_woken
        assert ring.notifications == next_woken + other_woken


@pytest.mark.parametrize("rounds", [-1, 0, 1, 5])
def test_the_place_in_the_data_is_compared_not_the_position(rounds: int) -> None:
    """Which differs only for a consumer that stores false positions."""
    ring = SimulatedRing(64, start=24)
    record = reserve(ring, 3)
    consumer_at(ring, (24 + 64 * rounds) % END)
    assert record.submit()


def test_a_commit_behind_one_that_woke_nobody_wakes_nobody() -> None:
    ring = SimulatedRing(256)
    ring.output(b"quiet", NO_WAKEUP)
    ring.output(b"not next")
    assert ring.notifications == 0
    ring.output(b"forced", FORCE_WAKEUP)
    assert ring.notifications == 1
    ring.ring().consume()
    ring.output(b"next again")
    assert ring.notifications == 2


def test_an_output_that_fails_wakes_nobody() -> None:
    ring = SimulatedRing(64)
    ring.output(b"x" * 100, FORCE_WAKEUP)
    ring.output(b"", FORCE_WAKEUP | 4)
    assert ring.notifications == 0


# Misuse


def test_a_record_is_committed_once_and_not_written_after_that() -> None:
    ring = SimulatedRing(64)
    for commit in (Reservation.submit, Reservation.discard):
        record = reserve(ring, 4)
        view, part = record.payload, record.payload[1:]
        commit(record)
        after = bytes(ring.data)
        for use in (record.submit, record.discard, lambda record=record: record.payload):
            with pytest.raises(purebpf.ClosedError, match="has been submitted or discarded"):
                use()
        with pytest.raises(ValueError, match="released"):
            view[0] = 1
        part[0] = 1
        assert bytes(ring.data) == after


def test_an_array_on_the_payload_outlives_the_commit_harmlessly() -> None:
    numpy = pytest.importorskip("numpy")
    ring = SimulatedRing(64)
    record = reserve(ring, 4)
    array = numpy.asarray(record.payload)
    array[:] = 7
    assert record.submit()
    array[:] = 8
    assert [bytes(r) for r in ring.ring().consume()] == [b"\x07" * 4]


def test_a_payload_keeps_its_length() -> None:
    record = reserve(SimulatedRing(64), 4)
    with pytest.raises(ValueError, match="different structures"):
        record.payload[:] = b"five!"


@pytest.mark.parametrize("size", [-8, 0, 4, 24, 4097])
def test_the_size_must_be_a_power_of_two(size: int) -> None:
    with pytest.raises(purebpf.ObjectError, match=f"a ring of {size} bytes"):
        SimulatedRing(size)


@pytest.mark.parametrize("page_size", [-4096, 0, 1024, 5000])
def test_the_page_size_must_be_one_that_linux_has(page_size: int) -> None:
    with pytest.raises(purebpf.ObjectError, match=f"a page of {page_size} bytes"):
        SimulatedRing(4096, page_size=page_size)


@pytest.mark.parametrize("start", [-8, 4, END, END - 1])
def test_the_start_must_be_a_position(start: int) -> None:
    with pytest.raises(purebpf.ObjectError, match="start position"):
        SimulatedRing(4096, start=start)


def test_a_negative_length_is_an_error() -> None:
    with pytest.raises(purebpf.ObjectError, match="-1 bytes"):
        SimulatedRing(64).reserve(-1)


# Any interleaving


@given(SIZES, STARTS, st.lists(st.binary(max_size=56), max_size=60), st.integers(1, 5))
def test_what_is_put_out_is_consumed_in_order(size: int, start: int, payloads: list[bytes], chunk: int) -> None:
    ring = SimulatedRing(size, start=start)
    consumer, waiting, seen = ring.ring(), deque(payloads), list[bytes]()
    while waiting:
        if len(waiting[0]) > size - 16 or ring.output(waiting[0]) == 0:
            waiting.popleft()
        else:
            seen += map(bytes, consumer.consume(chunk))
    seen += map(bytes, consumer.consume())
    assert seen == [p for p in payloads if len(p) <= size - 16]


@given(st.binary(min_size=128, max_size=128), st.integers(0, 200), st.integers(0, END - 1), st.binary(max_size=64))
def test_a_ring_that_somebody_scribbled_on_does_not_hang(junk: bytes, ahead: int, consumer: int, data: bytes) -> None:
    """The pending walk reads headers: whatever they say, it ends."""
    ring = SimulatedRing(64)
    ring.data[:] = junk
    struct.pack_into("=Q", ring.producer_page, 0, 8 * ahead)
    consumer_at(ring, consumer)
    ring.reserve(len(data))
    assert ring.output(data) in (0, -EAGAIN)


class Model(NamedTuple):
    """A record as it should be: `payload` None while it is busy; `kept` is what was there before."""

    position: int
    length: int
    payload: bytes | None = None
    discarded: bool = False
    quiet: bool = False


class Producers(RuleBasedStateMachine):
    """Several producers and a consumer, in any order, with positions that also wrap at 2**64."""

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[int, Reservation] = {}
        self.records: list[Model] = []
        self.drained_at = 0  # notifications when the consumer last found nothing more; -1: it stopped before

    @initialize(size=SIZES, start=STARTS)
    def begin(self, size: int, start: int) -> None:
        self.ring = SimulatedRing(size, start=start)
        self.consumer: Ring = self.ring.ring()

    @rule(length=st.one_of(st.integers(0, 40), st.integers(0, 4100)))
    def reserve(self, length: int) -> None:
        consumer, producer, _pending = positions(self.ring)
        need = (length + 15) // 8 * 8
        record = self.ring.reserve(length)
        assert (record is None) == ((producer - consumer) % END + need > self.ring.size - 1)
        if record:
            assert record.position == producer
            self.open[producer] = record
            self.records.append(Model(producer, length))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), discard=st.booleans(), flags=st.integers(0, 3))
    def commit(self, data: st.DataObject, discard: bool, flags: int) -> None:
        position = data.draw(st.sampled_from(sorted(self.open)))
        record, at = self.open.pop(position), [r.position for r in self.records].index(position)
        head = data.draw(st.binary(max_size=min(record.length, 16)))
        record.payload[: len(head)] = head
        payload, is_next = bytes(record.payload), position == self.consumer.consumer_position
        woken = record.discard(flags) if discard else record.submit(flags)
        assert woken == (flags >= FORCE_WAKEUP or (is_next and flags == 0))
        self.records[at] = Model(position, record.length, payload, discard, flags == NO_WAKEUP)

    @rule(data=st.binary(max_size=80), flags=st.integers(0, 3))
    def output(self, data: bytes, flags: int) -> None:
        _consumer, position, _pending = positions(self.ring)
        if self.ring.output(data, flags) == 0:
            self.records.append(Model(position, len(data), data, quiet=flags == NO_WAKEUP))
        else:
            assert (position - self.consumer.consumer_position) % END + len(data) + 8 > self.ring.size - 8

    @rule(limit=st.one_of(st.none(), st.integers(0, 5)))
    def consume(self, limit: int | None) -> None:
        expected: list[bytes] = []
        consumed = self.consumer.consume(limit)
        while self.records and self.records[0].position != self.consumer.consumer_position:
            record = self.records.pop(0)
            assert record.payload is not None
            expected += [] if record.discarded else [record.payload]
        assert list(consumed) == expected
        if limit is None:
            assert not self.records or self.records[0].payload is None
        self.drained_at = -1 if self.consumer.ready() else self.ring.notifications

    @invariant()
    def nothing_is_overwritten_and_headers_tell_the_state(self) -> None:
        for record in self.records:
            flag = BUSY if record.payload is None else DISCARD if record.discarded else 0
            page = 3 + record.position % self.ring.size // 4096
            assert header(self.ring, record.position) == (record.length | flag, page)
            at = (record.position + 8) % self.ring.size
            assert record.payload in (None, self.ring.data[at : at + record.length])
        assert self.ring.data[: self.ring.size] == self.ring.data[self.ring.size :]

    @invariant()
    def positions_are_never_further_apart_than_the_ring_is_large(self) -> None:
        consumer, producer, pending = positions(self.ring)
        assert (producer - consumer) % END == self.consumer.available <= self.ring.size - 8
        assert (producer - pending) % END <= self.ring.size - 8
        assert all((producer - position) % END <= (producer - pending) % END for position in self.open)

    @invariant()
    def a_consumer_that_found_nothing_is_woken_for_the_next_record(self) -> None:
        if self.drained_at >= 0 and self.consumer.ready() and not self.records[0].quiet:
            assert self.ring.notifications > self.drained_at


TestProducers = Producers.TestCase
TestProducers.settings = settings(max_examples=examples(60), stateful_step_count=50)
