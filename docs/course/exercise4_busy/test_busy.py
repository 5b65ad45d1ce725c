"""Exercise 4: busy and discarded records, and rings that lie."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from typing import Any

import pytest
from course import answer, ended, expect, shown
from hypothesis import given, settings
from hypothesis import strategies as st

import purebpf
from purebpf.formats.ring import records as parse
from purebpf.formats.ring_producer import SimulatedRing
from purebpf.testing import Consume, Operation, Replay, RingImage, ValidRing, hostile_rings, operations, rings

busy = answer("busy", __file__)
CORRUPT = "RingCorrupt"


def tried(data: bytes | bytearray, consumer: int, producer: int) -> Any:
    """What the answer returns, or that it raises RingCorrupt."""
    try:
        return ended(busy.records, bytes(data), consumer, producer)
    except purebpf.RingCorrupt:
        return CORRUPT


def check(ring: SimulatedRing, expected: object) -> None:
    """The payloads and the position, or CORRUPT."""
    consumer, producer = ring.query(2), ring.query(3)
    got = tried(ring.data, consumer, producer)
    expect(shown(ring.data[: ring.size], consumer, producer), got, expected)


def ring_of(*fates: str) -> SimulatedRing:
    """Records of 16 bytes with their header, named after what becomes of them: "kept", "busy" or "gone"."""
    ring = SimulatedRing(256)
    ring.data[:] = b"\xee" * len(ring.data)
    made = [ring.reserve(8) for _ in fates]
    for number, (record, fate) in enumerate(zip(made, fates)):
        assert record
        record.payload[:] = f"{fate} {number}..".encode()
        if fate != "busy":
            record.submit() if fate == "kept" else record.discard()
    return ring


# Busy


def test_a_busy_record_holds_up_what_is_behind_it() -> None:
    check(ring_of("busy", "kept", "kept"), ([], 0))


def test_what_stands_before_a_busy_record_is_taken() -> None:
    check(ring_of("kept", "kept", "busy", "kept"), ([b"kept 0..", b"kept 1.."], 32))


def test_a_busy_record_is_taken_when_it_has_been_committed() -> None:
    ring = SimulatedRing(256)
    slow = ring.reserve(4)
    ring.output(b"quick")
    check(ring, ([], 0))
    assert slow
    slow.payload[:] = b"slow"
    slow.submit()
    check(ring, ([b"slow", b"quick"], 32))


# Discarded


def test_discarded_records_are_skipped_and_handed_back() -> None:
    check(ring_of("gone", "kept", "gone", "gone", "kept", "gone"), ([b"kept 1..", b"kept 4.."], 96))


def test_discarded_records_alone_are_handed_back() -> None:
    check(ring_of("gone", "gone"), ([], 32))


def test_a_discarded_record_before_a_busy_one_is_handed_back() -> None:
    check(ring_of("gone", "busy", "gone"), ([], 16))


@given(rings())
def test_any_valid_ring(ring: ValidRing) -> None:
    got, expected = tried(ring.data, ring.consumer, ring.producer), (ring.payloads, ring.end)
    expect(shown(ring.area, ring.consumer, ring.producer), got, expected)


@settings(max_examples=30)
@given(operations(), st.sampled_from([64, 256]))
def test_all_records_come_once_while_producers_go_on(steps: list[Operation], size: int) -> None:
    ring = SimulatedRing(size, start=2**64 - 2 * size)
    replay = Replay(ring)
    for step in [*steps, Consume()]:
        if not isinstance(step, Consume):
            replay.apply(step)
            continue
        consumer, producer = ring.query(2), ring.query(3)
        got, (_batch, position) = tried(ring.data, consumer, producer), parse(ring.data, consumer, producer)
        expect(shown(ring.data[:size], consumer, producer), got, (replay.due, position))
        memoryview(ring.consumer_page).cast("Q")[0] = position


# Rings that lie


def with_word(ring: SimulatedRing, position: int, word: int) -> SimulatedRing:
    """The ring with another length word."""
    for offset in (position, ring.size + position):
        struct.pack_into("=I", ring.data, offset, word)
    return ring


@pytest.mark.parametrize("word", [9, 248, 249, 2**30 - 1, 1 << 30 | 9, 1 << 30 | 2**30 - 1], ids=hex)
def test_a_record_that_ends_behind_the_producer_position_is_refused(word: int) -> None:
    check(with_word(ring_of("kept"), 0, word), CORRUPT)


def test_the_last_record_may_end_at_the_producer_position() -> None:
    check(with_word(ring_of("kept"), 0, 8), ([b"kept 0.."], 16))


def test_good_records_before_a_bad_one_are_taken_first() -> None:
    ring = with_word(ring_of("kept", "kept"), 16, 9)
    check(ring, ([b"kept 0.."], 16))
    memoryview(ring.consumer_page).cast("Q")[0] = 16
    check(ring, CORRUPT)


@pytest.mark.parametrize("word", [1 << 31 | 2**30 - 1, 1 << 31 | 1 << 30 | 8, 1 << 31 | 9], ids=hex)
def test_of_a_busy_record_nothing_else_counts(word: int) -> None:
    check(with_word(ring_of("kept", "kept"), 16, word), ([b"kept 0.."], 16))
    check(with_word(ring_of("kept", "kept"), 0, word), ([], 0))


@pytest.mark.parametrize(
    ("consumer", "producer"),
    [(16, 0), (0, 264), (0, 2**63), (4, 16), (0, 12), (1, 9), (2**64 - 256, 8)],
)
def test_positions_that_contradict_each_other_are_refused(consumer: int, producer: int) -> None:
    data = struct.pack("=II8x", 8, 3) * 32
    got = tried(data, consumer, producer)
    expect(shown(data[:256], consumer, producer), got, CORRUPT)


def test_positions_may_be_a_whole_ring_apart() -> None:
    """The kernel always leaves a few bytes free; a ring that is full to the last does not contradict itself."""
    data = struct.pack("=II8s", 8, 3, b"payload.") * 32
    got, expected = tried(data, 8 * 256 + 16, 9 * 256 + 16), ([b"payload."] * 16, 9 * 256 + 16)
    expect(shown(data[:256], 8 * 256 + 16, 9 * 256 + 16), got, expected)


@pytest.mark.parametrize("length", [0, 8, 15, 17, 24, 100])
def test_data_that_is_not_twice_a_power_of_two_is_refused(length: int) -> None:
    got = tried(bytes(length), 0, 0)
    expect(f"A data area of {length} bytes, both positions 0.", got, CORRUPT)


@settings(max_examples=150)
@given(hostile_rings())
def test_any_hostile_ring_is_read_or_refused_as_purebpf_does(ring: RingImage) -> None:
    try:
        reader = ring.ring()
        expected: object = ([bytes(record) for record in reader.consume()], reader.consumer_position)
    except purebpf.RingCorrupt:
        expected = CORRUPT
    got = tried(ring.data, ring.consumer, ring.producer)
    expect(shown(ring.area, ring.consumer, ring.producer), got, expected)


@given(rings(), st.binary(min_size=1, max_size=8))
def test_what_is_not_between_the_positions_is_not_read(ring: ValidRing, pattern: bytes) -> None:
    size, left = len(ring.area), (ring.producer - ring.consumer) % 2**64
    area = bytearray((pattern * size)[:size])
    for position in range(ring.consumer, ring.consumer + left, 8):
        at = position % size
        area[at : at + 8] = ring.area[at : at + 8]
    got, expected = tried(area * 2, ring.consumer, ring.producer), (ring.payloads, ring.end)
    expect(shown(area, ring.consumer, ring.producer), got, expected)


# The kernel's own ring


@pytest.mark.kernel
def test_your_function_reads_a_ring_of_the_running_kernel() -> None:
    """The ring is mapped here, and the position stored; all else is your function's. Skips where it cannot be tried."""
    mmap = pytest.importorskip("mmap")
    try:
        obj = purebpf.load(purebpf.prebuilt("ring_output"))
    except purebpf.KernelError as error:  # not Linux, not root, an old kernel
        ended(busy.records, bytes(16), 0, 0)
        pytest.skip(f"no ring of a kernel here: {error}")
    with obj:
        events = obj.maps["events"]
        page, size = mmap.PAGESIZE, events.spec.max_entries
        consumer_page = mmap.mmap(events.fileno(), page)
        rest = mmap.mmap(events.fileno(), page + 2 * size, prot=mmap.PROT_READ, offset=page)
        sent, taken = size // 32 + 100, []  # records of 32 bytes: once round the ring, and on
        with consumer_page, rest:
            for number in range(1, sent + 1):
                obj.programs["output"].test_run()
                if number % 100 == 0 or number == sent:
                    taken += consumed(consumer_page, rest, page)
    assert len(taken) == sent, f"{sent} records were sent, and {len(taken)} taken"


def consumed(consumer_page: Any, rest: Any, page: int) -> list[bytes]:
    """Everything in the ring, handed back. All views are released, also where it fails, or nothing could be unmapped."""
    with ExitStack() as views:
        consumer, view = views.enter_context(memoryview(consumer_page).cast("Q")), views.enter_context(memoryview(rest))
        producer, data = views.enter_context(view[:8].cast("Q")), views.enter_context(view[page:])
        payloads: list[bytes]
        payloads, consumer[0] = busy.records(data, consumer[0], producer[0])
        return payloads
