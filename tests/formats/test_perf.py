"""The perf ring's walk, against a producer written down from the kernel's rules, and against damage."""

from __future__ import annotations

import struct
from collections import deque

import pytest
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from purebpf.errors import RingCorrupt
from purebpf.formats.perf import HEAD, LOST, SAMPLE, TAIL, Drained, PerfRing

SIZE = 256
OTHER = 12345  # a type of record that the reader has no use for


def record(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHH", kind, 0, 8 + len(body)) + body


def sample(payload: bytes) -> bytes:
    """As perf_prepare_sample lays it out: the length counts the padding, so that the record is a multiple of 8."""
    padded = payload + bytes(-(len(payload) + 4) % 8)
    return record(SAMPLE, struct.pack("=I", len(padded)) + padded)


def lost(count: int) -> bytes:
    return record(LOST, struct.pack("=QQ", 7, count))


class Pages:
    """A ring in memory, and the kernel's side of it."""

    def __init__(self, start: int = 0, size: int = SIZE) -> None:
        self.control, self.data = bytearray(4096), bytearray(size)
        self.words = memoryview(self.control).cast("Q")
        self.words[HEAD] = self.words[TAIL] = start % 2**64
        self.ring = PerfRing(memoryview(self.control), memoryview(self.data))

    def write(self, content: bytes) -> bool:
        """One or several whole records; False where they find no room (kernel/events/ring_buffer.c, CIRC_SPACE)."""
        head = self.words[HEAD]
        if (self.words[TAIL] - head - 1) % len(self.data) < len(content):
            return False
        for index, byte in enumerate(content):
            self.data[(head + index) % len(self.data)] = byte
        self.words[HEAD] = (head + len(content)) % 2**64
        return True


def test_records_come_in_order_and_their_space_is_handed_back() -> None:
    pages = Pages()
    assert pages.write(sample(b"one.") + sample(b"") + sample(b"three records"))
    assert pages.ring.ready()
    records, count = pages.ring.drain()
    assert [r.rstrip(b"\0") for r in records] == [b"one.", b"", b"three records"]
    assert count == 0
    assert pages.words[TAIL] == pages.words[HEAD]
    assert not pages.ring.ready()
    assert pages.ring.drain() == Drained([], 0)


def test_lost_records_are_counted_and_other_kinds_passed_over() -> None:
    pages = Pages()
    assert pages.write(lost(3) + sample(b"kept") + record(OTHER, bytes(16)) + record(OTHER, b"") + lost(40))
    assert pages.ring.drain() == Drained([b"kept"], 43)


@pytest.mark.parametrize("start", [*range(0, SIZE, 8), 2**64 - 8, 2**64 - 64])
def test_a_record_that_wraps_is_whole_and_positions_wrap_at_64_bits(start: int) -> None:
    payload = bytes(range(100))
    pages = Pages(start)
    assert pages.write(sample(payload))
    assert pages.ring.drain() == Drained([payload], 0)
    assert pages.words[TAIL] == pages.words[HEAD]


@pytest.mark.parametrize(("head", "tail"), [(SIZE + 8, 0), (0, 8), (2**63, 0)])
def test_contradicting_positions_are_reported(head: int, tail: int) -> None:
    pages = Pages()
    pages.words[HEAD], pages.words[TAIL] = head, tail
    with pytest.raises(RingCorrupt, match=r"data_head .* and data_tail"):
        pages.ring.drain()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("=IHH", SAMPLE, 0, 0), "says 0 bytes"),
        (struct.pack("=IHH", SAMPLE, 0, 12) + bytes(8), "says 12 bytes"),
        (struct.pack("=IHH", SAMPLE, 0, 24) + bytes(8), "says 24 bytes where 16 are left"),
        (bytes(4), "says 0 bytes where 4 are left"),
        (record(SAMPLE, struct.pack("=II", 5, 0)), "sample of 8 bytes says that 5"),
        (record(SAMPLE, b""), "sample of 0 bytes"),
    ],
)
def test_a_contradicting_record_is_reported_once_and_given_up(content: bytes, message: str) -> None:
    pages = Pages()
    assert pages.write(content)
    with pytest.raises(RingCorrupt, match=message):
        pages.ring.drain()
    assert pages.ring.drain() == Drained([], 0)


@pytest.mark.parametrize("size", [0, 4, 24, 100])
def test_the_data_area_must_be_a_power_of_two(size: int) -> None:
    with pytest.raises(RingCorrupt, match="power of two"):
        Pages(size=size)


def test_the_fences_stand_before_the_tail_is_stored() -> None:
    pages = Pages()
    assert pages.write(sample(b"x"))
    tails: list[int] = []
    fenced = PerfRing(memoryview(pages.control), memoryview(pages.data), lambda: tails.append(pages.words[TAIL]))
    fenced.drain()
    assert tails == [0, 0]


@settings(max_examples=examples(500), deadline=None)
@given(st.binary(min_size=SIZE, max_size=SIZE), st.integers(0, 2**64 - 1), st.integers(0, SIZE + 64))
def test_any_content_is_read_inside_the_ring_or_reported(data: bytes, tail: int, ahead: int) -> None:
    pages = Pages(tail)
    pages.data[:] = data
    pages.words[HEAD] = (tail + ahead) % 2**64
    try:
        records, _lost = pages.ring.drain()
    except RingCorrupt:
        return
    assert sum(len(r) + 12 for r in records) <= ahead


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=6), st.integers(0, 400), st.integers(1, 255))
def test_a_flipped_byte_never_brings_up_anything_but_our_error(payloads: list[bytes], at: int, flip: int) -> None:
    pages = Pages(size=1024)
    for payload in payloads:
        assert pages.write(sample(payload))
    pages.data[at] ^= flip
    try:
        pages.ring.drain()
    except RingCorrupt:
        assert pages.words[TAIL] == pages.words[HEAD]


class Protocol(RuleBasedStateMachine):
    """Any interleaving of output and drains: each record comes out once and in order, or is counted as lost."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = Pages(start=2**64 - 512)
        self.written: deque[bytes] = deque()
        self.unreported = self.told = 0

    @rule(payload=st.binary(max_size=120).map(lambda b: b + bytes(-(len(b) + 4) % 8)))
    def output(self, payload: bytes) -> None:
        """As __perf_output_begin: what is lost is told, in front, with the next record that finds room."""
        notice = lost(self.unreported) if self.unreported else b""
        if self.pages.write(notice + sample(payload)):
            self.written.append(payload)
            self.told, self.unreported = self.told + self.unreported, 0
        else:
            self.unreported += 1

    @rule()
    def drain(self) -> None:
        assert self.pages.ring.ready() == bool(self.written)
        assert self.pages.ring.drain() == Drained([*self.written], self.told)
        self.written.clear()
        self.told = 0


Protocol.TestCase.settings = settings(max_examples=examples(60), deadline=None)
TestProtocol = Protocol.TestCase
