"""The record walk, against a producer written down from the kernel's rules, and against damage."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from typing import Any

import pytest
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import purebpf
from purebpf.formats.ring import BUSY, DISCARD, Ring

SIZE = 256


class Pages:
    """A ring in memory. The doubled area is two copies here, so a write goes to both."""

    def __init__(self, size: int = SIZE, start: int = 0) -> None:
        self.size = size
        self.consumer, self.producer, self.data = bytearray(8), bytearray(8), bytearray(2 * size)
        self.set(self.consumer, start)
        self.set(self.producer, start)
        self.ring = Ring(memoryview(self.consumer), memoryview(self.producer), memoryview(self.data))

    @staticmethod
    def set(page: bytearray, position: int) -> None:
        struct.pack_into("=Q", page, 0, position % 2**64)

    def put(self, position: int, content: bytes) -> None:
        at = position % self.size
        first, second = content[: self.size - at], content[self.size - at :]
        for base in (0, self.size):
            self.data[base + at : base + at + len(first)] = first
            self.data[base : base + len(second)] = second

    def header(self, position: int, word: int) -> None:
        self.put(position, struct.pack("=I", word))

    def reserve(self, length: int) -> int | None:
        position, need = self.ring.producer_position, (length + 8 + 7) & ~7
        if (position + need - self.ring.consumer_position) % 2**64 > self.size - 1:
            return None
        self.header(position, length | BUSY)
        self.set(self.producer, position + need)
        return position

    def commit(self, position: int, payload: bytes, flag: int = 0) -> None:
        self.put(position + 8, payload)
        self.header(position, len(payload) | flag)

    def fill(self, payloads: Iterable[bytes]) -> None:
        for payload in payloads:
            position = self.reserve(len(payload))
            assert position is not None
            self.commit(position, payload)


def filled(*payloads: bytes, start: int = 0) -> Pages:
    pages = Pages(start=start)
    pages.fill(payloads)
    return pages


def test_records_come_in_order_and_their_space_is_handed_back() -> None:
    pages = filled(b"one", b"", b"three records")
    assert pages.ring.ready()
    assert list(pages.ring.consume()) == [b"one", b"", b"three records"]
    assert pages.ring.consumer_position == pages.ring.producer_position == 16 + 8 + 24
    assert not pages.ring.ready()
    assert list(pages.ring.consume()) == []


@pytest.mark.parametrize("start", range(0, SIZE, 8))
def test_a_record_that_wraps_is_whole(start: int) -> None:
    payload = bytes(range(100))
    assert list(filled(payload, start=start).ring.consume()) == [payload]


def test_positions_wrap_at_64_bits() -> None:
    pages = Pages(start=2**64 - 16)
    for position, payload in ((2**64 - 16, b"last"), (2**64, b"first")):
        pages.commit(position, payload)
    pages.set(pages.producer, 16)
    assert list(pages.ring.consume()) == [b"last", b"first"]
    assert pages.ring.consumer_position == 16


def test_a_busy_record_holds_up_what_is_behind_it() -> None:
    pages = Pages()
    slow, quick = pages.reserve(4), pages.reserve(5)
    assert slow is not None
    assert quick is not None
    pages.commit(quick, b"quick")
    assert not pages.ring.ready()
    assert list(pages.ring.consume()) == []
    pages.commit(slow, b"slow")
    assert list(pages.ring.consume()) == [b"slow", b"quick"]


def test_a_discarded_record_is_skipped_and_freed() -> None:
    pages = Pages()
    for payload, flag in ((b"first", DISCARD), (b"kept", 0), (b"last", DISCARD)):
        position = pages.reserve(len(payload))
        assert position is not None
        pages.commit(position, payload, flag)
    assert list(pages.ring.consume()) == [b"kept"]
    assert pages.ring.consumer_position == pages.ring.producer_position


@pytest.mark.parametrize(("consumer", "producer"), [(0, SIZE + 8), (8, 0), (0, 4), (4, 8), (2**63, 0)], ids=str)
def test_contradicting_positions_are_reported(consumer: int, producer: int) -> None:
    pages = Pages()
    pages.set(pages.consumer, consumer)
    pages.set(pages.producer, producer)
    for call in (pages.ring.consume, pages.ring.ready):
        with pytest.raises(purebpf.RingCorrupt, match="position"):
            call()


def test_a_record_beyond_the_producer_is_reported_after_the_good_ones() -> None:
    pages = filled(b"good", b"damaged!")
    pages.header(16, 9)
    assert list(pages.ring.consume()) == [b"good"]
    with pytest.raises(purebpf.RingCorrupt, match="position 0x10: header 0x00000009") as caught:
        pages.ring.consume()
    assert (caught.value.position, caught.value.header) == (16, 9)
    assert pages.ring.consumer_position == 16


def test_the_data_area_must_be_twice_a_power_of_two() -> None:
    for size in (0, 8, 24, 100):
        with pytest.raises(purebpf.RingCorrupt, match="power of two"):
            Ring(memoryview(bytearray(8)), memoryview(bytes(8)), memoryview(bytes(size)))


def test_the_fence_stands_around_headers_and_payloads() -> None:
    fences: list[int] = []
    pages = filled(b"x")
    Ring(
        memoryview(pages.consumer),
        memoryview(pages.producer),
        memoryview(pages.data),
        lambda: fences.append(struct.unpack("=Q", pages.consumer)[0]),
    ).consume()
    assert fences == [0, 0, 0]  # all three before the position is stored


@settings(max_examples=examples(300))
@given(st.binary(min_size=2 * SIZE, max_size=2 * SIZE), st.integers(0, 2**64 - 1), st.integers(0, SIZE + 64))
def test_any_content_is_read_inside_the_ring_or_reported(data: bytes, consumer: int, ahead: int) -> None:
    pages = Pages()
    pages.data[:] = data
    pages.set(pages.consumer, consumer)
    pages.set(pages.producer, consumer + ahead)
    try:
        records = pages.ring.consume()
    except purebpf.RingCorrupt:
        return
    taken = (pages.ring.consumer_position - consumer) % 2**64
    assert sum((len(r) + 15) & ~7 for r in records) <= taken <= ahead


class Protocol(RuleBasedStateMachine):
    """Any interleaving of reservations, commits and drains: what was committed comes out, once, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = Pages(start=2**64 - 512)
        self.queue: deque[list[Any]] = deque()  # [position, length, payload | None, discarded]

    @rule(length=st.integers(0, 120))
    def reserve(self, length: int) -> None:
        position = self.pages.reserve(length)
        if position is not None:
            self.queue.append([position, length, None, False])

    @precondition(lambda self: any(r[2] is None for r in self.queue))
    @rule(data=st.data(), discard=st.booleans())
    def commit(self, data: st.DataObject, discard: bool) -> None:
        record = data.draw(st.sampled_from([r for r in self.queue if r[2] is None]))
        record[2] = data.draw(st.binary(min_size=record[1], max_size=record[1]))
        record[3] = discard
        self.pages.commit(record[0], record[2], DISCARD if discard else 0)

    @rule()
    def drain(self) -> None:
        expected = []
        while self.queue and self.queue[0][2] is not None:
            record = self.queue.popleft()
            if not record[3]:
                expected.append(record[2])
        assert list(self.pages.ring.consume()) == expected

    @invariant()
    def consumer_stands_at_the_oldest_record(self) -> None:
        oldest = self.queue[0][0] if self.queue else self.pages.ring.producer_position
        assert self.pages.ring.consumer_position == oldest


TestProtocol = Protocol.TestCase
