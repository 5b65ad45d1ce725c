"""Pictures: what they show, and that they keep within their width whatever the ring holds."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from purebpf.formats.perf_producer import SimulatedPerfRing
from purebpf.formats.ring_producer import SimulatedRing
from purebpf.lessons.render import STYLES, picture, plain
from purebpf.lessons.state import KINDS, PERF, Recorder, RingState, perf_state, ring_state
from purebpf.testing import Operation, Replay, RingImage, hostile_rings, operations

WIDTHS = st.integers(1, 200)


def lines(*states: RingState, width: int = 80) -> list[str]:
    return plain(picture(states, width)).splitlines()


def assert_fits(states: list[RingState], width: int) -> None:
    for line in picture(states, width):
        assert sum(len(span.text) for span in line) <= width
        assert all(span.style in STYLES and span.text.isascii() and span.text.isprintable() for span in line)


@settings(max_examples=150, deadline=None)
@given(hostile_rings(), st.sampled_from([kind for kind in KINDS if kind != PERF]), WIDTHS)
def test_any_ring_keeps_within_width(image: RingImage, kind: str, width: int) -> None:
    pages = [struct.pack("=Q", position) for position in (image.consumer, image.producer)]
    assert_fits([ring_state(*pages, image.data, kind)], width)


@settings(max_examples=30, deadline=None)
@given(operations(), st.sampled_from([64, 1024]), WIDTHS)
def test_any_history_keeps_within_width(done: list[Operation], size: int, width: int) -> None:
    replay, recorder = Replay(SimulatedRing(size)), Recorder()
    for operation in done:
        replay.apply(operation)
        state = recorder.state(replay.ring.consumer_page, replay.ring.producer_page, replay.ring.data)
    if done:
        assert_fits([state], width)


@given(st.lists(st.binary(max_size=64), max_size=4), st.binary(max_size=70), WIDTHS)
def test_any_perf_rings_keep_within_width(payloads: list[bytes], junk: bytes, width: int) -> None:
    ring = SimulatedPerfRing(128)
    for payload in payloads:
        ring.output(payload)
    states = [perf_state(ring.control, ring.data, "CPU 0"), perf_state(ring.control, junk, "CPU 1")]
    assert_fits(states, width)


def example() -> RingState:
    """A consumed, a discarded, a busy and a committed record."""
    ring, recorder = SimulatedRing(4096), Recorder()
    recorder.state(ring.consumer_page, ring.producer_page, ring.data)
    for position, name in ((0, "A"), (16, "B"), (40, "C"), (72, "D")):
        recorder.name(position, name)
    ring.output(b"first")
    ring.ring().consume()
    record = ring.reserve(12)
    assert record
    record.discard()
    assert ring.reserve(24)
    ring.output(b"last\n")
    pages = ring.consumer_page, ring.producer_page, ring.data
    return recorder.state(*pages, notifications=2, losses=3, asleep=True)


def test_a_picture_shows_positions_records_bits_and_counters() -> None:
    assert [line.rstrip() for line in lines(example())] == [
        "ring: 4096 bytes [..........] 72 in use, 2%  wake-ups 2  lost 3  asleep",
        "consumer position 16  producer position 88  pending 40  (a cell is 8 bytes)",
        "|A-BxxC~~~D#.....................................................| 0-511",
        "   C        P",
        "    position  offset  length word BUSY  DISC length page  state       payload",
        "A          0       0  0x00000005     0     0      5    3  consumed    first",
        "B         16      16  0x4000000c     0     1     12    3  discarded",
        "C         40      40  0x80000018     1     0     24    3  busy",
        "D         72      72  0x00000005     0     0      5    3  committed   last",
        "# committed  ~ busy  x discarded  - consumed  . free  C consumer  P producer",
    ]


def test_a_narrow_picture_is_cut() -> None:
    assert max(map(len, lines(example(), width=40))) == 40


def test_a_full_ring_is_drawn_to_scale() -> None:
    ring = SimulatedRing(4096)
    for _ in range(3):
        ring.output(bytes(1016))
    strip = lines(ring_state(ring.consumer_page, ring.producer_page, ring.data))[2]
    assert strip == "|" + "#" * 48 + "." * 16 + "| 0-4095"


def test_a_record_that_wraps_goes_on_at_the_start() -> None:
    ring, recorder = SimulatedRing(4096), Recorder()
    ring.output(bytes(3064))
    ring.ring().consume()
    recorder.name(3072, "A")
    ring.output(bytes(2040))
    drawn = lines(recorder.state(ring.consumer_page, ring.producer_page, ring.data))
    assert drawn[2:4] == ["|" + "#" * 16 + "." * 32 + "A" + "#" * 15 + "| 0-4095", " " * 17 + "P" + " " * 31 + "C"]


def test_records_far_from_the_start_are_looked_at_closely() -> None:
    ring = SimulatedRing(4096, start=2048)
    ring.output(bytes(24))
    drawn = lines(ring_state(ring.consumer_page, ring.producer_page, ring.data))
    assert drawn[2:4] == ["|####" + "." * 60 + "| 2048-2559", " C   P"]


def test_equal_positions_share_a_mark() -> None:
    ring = SimulatedRing(4096)
    assert lines(ring_state(ring.consumer_page, ring.producer_page, ring.data))[3] == " C=P"


def test_a_torn_ring_is_drawn_with_what_is_wrong() -> None:
    ring = SimulatedRing(4096)
    ring.output(b"x")
    struct.pack_into("=I", ring.data, 0, 99)
    drawn = lines(ring_state(ring.consumer_page, ring.producer_page, ring.data))
    assert drawn[2] == "torn or corrupt at 0: header 0x00000063 says 99 bytes where 8 are left"


def test_a_busy_record_shows_however_small_it_is() -> None:
    ring = SimulatedRing(1 << 20)
    assert ring.reserve(0)
    for _ in range(16):
        ring.output(bytes(60000))
    strip = lines(ring_state(ring.consumer_page, ring.producer_page, ring.data))[2]
    assert strip.startswith("|~####")


def test_perf_rings_stand_one_below_the_other_with_their_own_columns() -> None:
    ring = SimulatedPerfRing(4096)
    ring.output(b"data")
    states = [perf_state(ring.control, ring.data, f"CPU {cpu}") for cpu in range(2)]
    drawn = lines(*states)
    assert [line for line in drawn if line.startswith("CPU")] == [
        f"CPU {cpu}: 4096 bytes [..........] 16 in use, 0%  wake-ups 0  lost 0" for cpu in range(2)
    ]
    assert "           0       0  SAMPLE         16      4  committed   data" in drawn
    assert drawn[-1] == "# committed  - consumed  ! lost  . free  C consumer  P producer"
