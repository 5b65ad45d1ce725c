"""Overwrite mode of the simulated producer: which records go, when a reservation still fails, what a consumer finds."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from purebpf.formats.ring import records
from purebpf.formats.ring_producer import EAGAIN, FORCE_WAKEUP, Reservation, SimulatedRing

SIZE = 64


def ring_of(size: int = SIZE) -> SimulatedRing:
    return SimulatedRing(size, overwrite=True)


def words(ring: SimulatedRing) -> tuple[int, int, int]:
    """The producer page: producer, pending, overwrite position."""
    found = struct.unpack_from("=QQQ", ring.producer_page)
    return int(found[0]), int(found[1]), int(found[2])


def reserve(ring: SimulatedRing, length: int) -> Reservation:
    record = ring.reserve(length)
    assert record is not None
    return record


def consumer_at(ring: SimulatedRing, position: int) -> None:
    struct.pack_into("=Q", ring.consumer_page, 0, position)


def test_as_long_as_there_is_room_nothing_goes() -> None:
    ring = ring_of()
    assert [ring.output(bytes(8)) for _ in range(3)] == [0, 0, 0]
    assert words(ring) == (48, 32, 0)
    assert ring.query(4) == 0


def test_the_oldest_records_go_as_whole_ones_until_there_is_room() -> None:
    ring = ring_of()
    for length in (0, 8, 24):
        ring.output(bytes(length))
    ring.output(bytes(8))  # 56 + 16 bytes: the first one alone leaves 64, which is one too many
    assert words(ring)[2] == 24
    assert [ring.query(flag) for flag in range(5)] == [48, SIZE, 0, 72, 24]


def test_discarded_records_go_like_others() -> None:
    ring = ring_of()
    reserve(ring, 24).discard()
    ring.output(bytes(16))
    ring.output(bytes(8))
    assert words(ring)[2] == 32


def test_a_busy_record_does_not_go() -> None:
    """The example of the commit that brought overwrite mode (bpf: Add overwrite mode for BPF ring buffer, in v6.19)."""
    ring = ring_of(4096)
    a, b, c = (reserve(ring, size - 8) for size in (512, 1024, 2048))
    assert ring.reserve(1536 - 8) is None  # A is busy
    a.submit()
    b.submit()
    d = reserve(ring, 1536 - 8)
    assert words(ring) == (5120, 1536, 1536)
    assert ring.reserve(1024 - 8) is None  # it would reach into C, which is busy
    c.submit()
    d.submit()
    assert ring.reserve(1024 - 8) is not None
    assert words(ring) == (6144, 5120, 3584)


def test_a_record_larger_than_the_ring_never_fits() -> None:
    ring = ring_of()
    assert ring.output(bytes(SIZE)) == -EAGAIN
    assert ring.output(bytes(SIZE - 8)) == -EAGAIN
    assert ring.output(bytes(SIZE - 16)) == 0
    assert words(ring)[2] == 0


def test_what_has_been_consumed_does_not_count_as_available() -> None:
    ring = ring_of()
    for _ in range(6):
        ring.output(bytes(8))
    assert (ring.query(0), words(ring)[2]) == (48, 48)
    consumer_at(ring, 64)
    assert ring.query(0) == 32


def test_the_consumer_position_decides_on_wake_ups_as_ever() -> None:
    ring = ring_of()
    for _ in range(8):
        ring.output(bytes(8))  # the first and the fifth stand at the consumer's offset
    assert ring.notifications == 2
    ring.output(b"", FORCE_WAKEUP)
    assert ring.notifications == 3


def test_without_overwrite_mode_there_is_no_overwrite_position() -> None:
    ring = SimulatedRing(SIZE)
    ring.output(bytes(40))
    assert ring.output(bytes(40)) == -EAGAIN
    assert (words(ring), ring.query(4)) == ((48, 48, 0), 0)


@pytest.mark.parametrize("at", [0, 2])
def test_a_program_writes_into_the_ring_itself(at: int) -> None:
    ring = SimulatedRing(SIZE)
    record = reserve(ring, 8)
    record.write(b"seen", at)
    assert ring.data[8 + at : 12 + at] == ring.data[72 + at : 76 + at] == b"seen"
    record.submit()
    assert bytes(ring.ring().consume()[0]) == (bytes(at) + b"seen").ljust(8, b"\0")


def test_a_write_stays_inside_its_record() -> None:
    ring = SimulatedRing(SIZE)
    record = reserve(ring, 8)
    before = bytes(ring.data)
    with pytest.raises(ValueError, match="different structures"):
        record.write(b"too long", 1)
    assert bytes(ring.data) == before


class Kept(NamedTuple):
    position: int
    end: int
    payload: bytes


class Overwriting(RuleBasedStateMachine):
    """Producers that never wait: what is behind the overwrite position is whole, and always the newest."""

    @initialize(size=st.sampled_from([64, 256, 4096]))
    def begin(self, size: int) -> None:
        self.ring = ring_of(size)
        self.sent: list[Kept] = []
        self.open: dict[int, Reservation] = {}

    def reserved(self, length: int) -> int | None:
        """Where, by the rule: from the oldest busy record, or from itself, a record must leave a byte of the ring free."""
        end = words(self.ring)[0] + (length + 15) // 8 * 8
        oldest = min(self.open, default=words(self.ring)[0])
        return words(self.ring)[0] if end - oldest < self.ring.size else None

    @rule(payload=st.binary(max_size=80))
    def output(self, payload: bytes) -> None:
        position = self.reserved(len(payload))
        assert self.ring.output(payload) == (-EAGAIN if position is None else 0)
        if position is not None:
            self.sent.append(Kept(position, words(self.ring)[0], payload))

    @rule(payload=st.binary(max_size=80))
    def reserve(self, payload: bytes) -> None:
        position = self.reserved(len(payload))
        record = self.ring.reserve(len(payload))
        assert (record.position if record else None) == position
        if record:
            record.payload[:] = payload
            self.open[record.position] = record
            self.sent.append(Kept(record.position, words(self.ring)[0], payload))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def submit(self, data: st.DataObject) -> None:
        self.open.pop(data.draw(st.sampled_from(sorted(self.open)))).submit()

    @invariant()
    def the_newest_are_kept_as_far_as_they_find_room(self) -> None:
        producer, _pending, overwrite = words(self.ring)
        kept = [record for record in self.sent if record.position >= overwrite]
        assert producer - overwrite < self.ring.size
        assert overwrite in {0, *(record.end for record in self.sent)}
        if overwrite:  # one more would have been too many when the last record came
            newest_gone = next(record for record in self.sent if record.end == overwrite)
            assert producer - newest_gone.position >= self.ring.size
        committed = [record for record in kept if record.position < min(self.open, default=producer)]
        batch, end = records(self.ring.data, overwrite, producer)
        assert [bytes(record) for record in batch] == [record.payload for record in committed]
        assert end == min(self.open, default=producer)


Overwriting.TestCase.settings = settings(max_examples=60, deadline=None)
TestOverwriting = Overwriting.TestCase
