"""Exercise 2: the walk over the records."""

from __future__ import annotations

from course import answer, ended, expect, shown
from hypothesis import given
from hypothesis import strategies as st

from purebpf.formats.ring_producer import SimulatedRing

walk = answer("walk", __file__)
SIZE = 4096


def filled(*payloads: bytes) -> SimulatedRing:
    """A ring with these records. What has not been written yet is not 0."""
    ring = SimulatedRing(SIZE)
    ring.data[:] = b"\xee" * len(ring.data)
    for payload in payloads:
        assert ring.output(payload) == 0
    return ring


def check(ring: SimulatedRing, consumer: int, payloads: list[bytes]) -> None:
    """The walk from this position on must give these payloads, and the producer position."""
    producer = ring.query(3)
    got, expected = ended(walk.walk, bytes(ring.data), consumer, producer), (payloads, producer)
    expect(shown(ring.data[:SIZE], consumer, producer), got, expected)


def consumed(ring: SimulatedRing) -> list[bytes]:
    """What `consume` takes."""
    found: list[bytes] = ended(walk.consume, ring.consumer_page, bytes(ring.producer_page), bytes(ring.data))
    return found


def test_there_is_nothing_in_an_empty_ring() -> None:
    check(filled(), 0, [])


def test_one_record() -> None:
    check(filled(b"hello"), 0, [b"hello"])


def test_a_record_behind_one_of_each_length() -> None:
    for length in range(18):
        first = b"abcdefghijklmnopq"[:length]
        check(filled(first, b"the second"), 0, [first, b"the second"])


def test_records_without_payload_are_records() -> None:
    check(filled(b"", b"", b"x", b""), 0, [b"", b"", b"x", b""])


def test_the_walk_begins_at_the_consumer_position() -> None:
    check(filled(b"consumed before", b"new"), 24, [b"new"])


@given(st.lists(st.binary(max_size=40), max_size=60))
def test_any_records(payloads: list[bytes]) -> None:
    check(filled(*payloads), 0, payloads)


def test_payloads_are_copies() -> None:
    ring = filled(b"keep me")
    payloads, _position = ended(walk.walk, memoryview(ring.data), 0, 16)
    ring.data[:] = b"\xff" * len(ring.data)  # the producers have come round
    asked = "A record with the payload b'keep me' was taken. Then its place in the ring was written anew."
    expect(asked, payloads, [b"keep me"])


def test_consume_takes_each_record_once() -> None:
    ring = filled(b"one", b"two")
    taken = [consumed(ring)]
    ring.output(b"three")
    taken += [consumed(ring), consumed(ring)]
    expected = [[b"one", b"two"], [b"three"], []]
    expect("Records one, two; consume; record three; consume, consume.", taken, expected)


def test_consume_stores_the_position_in_the_consumer_page() -> None:
    ring = filled(b"one", b"two")
    consumed(ring)
    position = ring.query(2)
    expect("Two records, 32 bytes, were consumed: the consumer position.", position, 32)
    assert not any(ring.consumer_page[8:]), "consume has written more of the consumer page than its first 8 bytes"


def test_consumed_space_is_free_again() -> None:
    ring = SimulatedRing(64)
    ring.output(bytes(40))
    assert ring.reserve(16) is None  # 48 bytes of 64 are taken
    consumed(ring)
    assert ring.reserve(16), "a record of 40 bytes was consumed, and the producer finds no room: was it handed back?"


def test_the_producer_wakes_a_consumer_that_has_caught_up() -> None:
    ring = filled(b"one")
    consumed(ring)
    before = ring.notifications
    ring.output(b"two")
    assert ring.notifications == before + 1, (
        "all was consumed, and the next commit has woken nobody: the kernel wakes a consumer only whose position, as it"
        f" stands in the consumer page, is that of the record. It is {ring.query(2)}, the record's is 16."
    )
