"""The kernel's consumer of user rings, simulated: what it takes, what it refuses, and whom it wakes."""

from __future__ import annotations

import doctest
import struct
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

import purebpf
from purebpf.formats import user_ring_consumer
from purebpf.formats.ring import BUSY, DISCARD
from purebpf.formats.ring_producer import EINVAL, FORCE_WAKEUP, NO_WAKEUP
from purebpf.formats.user_ring import UserRecord
from purebpf.formats.user_ring_consumer import E2BIG, EBUSY, SimulatedUserRing

SIZE = 256


class Taken(list[bytes]):
    """A callback that wants so many."""

    def __init__(self, most: int = 1 << 30) -> None:
        super().__init__()
        self.most = most

    def __call__(self, payload: bytes) -> int:
        self.append(payload)
        return int(len(self) >= self.most)


def consumer(ring: SimulatedUserRing) -> int:
    return int(struct.unpack_from("=Q", ring.consumer_page)[0])


def forge(ring: SimulatedUserRing, word: int, producer: int) -> None:
    struct.pack_into("=II", ring.data, 0, word, 0)
    struct.pack_into("=Q", ring.producer_page, 0, producer)


def test_the_docstring_tells_the_truth() -> None:
    assert doctest.testmod(user_ring_consumer).failed == 0


def test_the_callback_ends_a_drain_with_a_record_that_counts() -> None:
    ring = SimulatedUserRing(SIZE)
    user = ring.ring()
    for text in (b"one", b"two", b"three"):
        assert user.output(text)
    first, rest = Taken(2), Taken()
    assert (ring.drain(first), ring.drain(rest), ring.drain(Taken())) == (2, 1, 0)
    assert (first, rest) == ([b"one", b"two"], [b"three"])


def test_discarded_records_are_skipped_and_do_not_count() -> None:
    ring = SimulatedUserRing(SIZE)
    user = ring.ring()
    record = user.reserve(20)
    assert record
    record.discard()
    assert user.output(b"kept")
    taken = Taken()
    assert ring.drain(taken) == 1
    assert taken == [b"kept"]
    assert consumer(ring) == user.producer_position == 32 + 16


@pytest.mark.parametrize(
    ("word", "producer", "error"),
    [
        (8, 12, -EINVAL),  # no multiple of 8
        (9, 16, -EINVAL),  # ends behind the producer position
        (DISCARD | 9, 16, -EINVAL),
        (BUSY | 9, 16, -EINVAL),
        (SIZE, SIZE + 8, -E2BIG),
        (1 << 24, 1 << 30, -E2BIG),
        (BUSY | 8, 16, 0),
        (0, 0, 0),
    ],
)
def test_nonsense_is_refused_again_and_again(word: int, producer: int, error: int) -> None:
    ring, taken = SimulatedUserRing(SIZE), Taken()
    forge(ring, word, producer)
    assert [ring.drain(taken) for _ in range(3)] == [error] * 3
    assert (taken, consumer(ring), ring.notifications) == ([], 0, 0)


def test_a_dynptr_takes_24_bits_less_one() -> None:
    ring = SimulatedUserRing(1 << 25)
    forge(ring, (1 << 24) - 1, 1 << 25)
    assert ring.drain(Taken(1)) == 1
    ring = SimulatedUserRing(1 << 25)
    forge(ring, 1 << 24, 1 << 25)
    assert ring.drain(Taken(1)) == -E2BIG


def test_a_discarded_record_is_skipped_even_if_it_is_busy() -> None:
    ring = SimulatedUserRing(SIZE)
    forge(ring, BUSY | DISCARD | 8, 16)
    assert (ring.drain(Taken()), consumer(ring)) == (0, 16)


def test_a_producer_position_behind_the_consumer_means_nothing_to_do() -> None:
    ring = SimulatedUserRing(SIZE)
    assert ring.ring().output(bytes(24))
    assert ring.drain(Taken()) == 1
    forge(ring, 0, 8)
    assert (ring.drain(Taken()), consumer(ring)) == (0, 32)


@pytest.mark.parametrize(
    ("flags", "with_records", "without"), [(0, 1, 0), (NO_WAKEUP, 0, 0), (FORCE_WAKEUP, 1, 1), (3, 1, 1)]
)
def test_writers_are_notified_if_there_was_something_or_by_force(flags: int, with_records: int, without: int) -> None:
    for full, expected in ((True, with_records), (False, without)):
        ring = SimulatedUserRing(SIZE)
        if full:
            ring.ring().output(b"x")
        ring.drain(Taken(), flags)
        assert ring.notifications == expected


def test_records_before_a_refused_one_are_gone_and_notified() -> None:
    ring = SimulatedUserRing(SIZE)
    ring.ring().output(b"good")
    struct.pack_into("=I", ring.data, 16, 100)
    struct.pack_into("=Q", ring.producer_page, 0, 32)
    taken = Taken()
    assert ring.drain(taken) == -EINVAL
    assert (taken, consumer(ring), ring.notifications) == ([b"good"], 16, 1)


def test_other_flags_are_refused() -> None:
    ring = SimulatedUserRing(SIZE)
    ring.ring().output(b"x")
    assert (ring.drain(Taken(), 4), consumer(ring)) == (-EINVAL, 0)


def test_a_second_drain_meanwhile_is_told_to_come_later() -> None:
    ring, answers = SimulatedUserRing(SIZE), list[int]()
    ring.ring().output(b"x")
    assert ring.drain(lambda _payload: bool(answers.append(ring.drain(Taken())))) == 1
    assert answers == [-EBUSY]
    assert ring.drain(Taken()) == 0


def test_a_drain_takes_131072_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_ring_consumer.MOST == 131072
    monkeypatch.setattr(user_ring_consumer, "MOST", 3)
    ring = SimulatedUserRing(SIZE)
    user = ring.ring()
    assert all(user.output(b"") for _ in range(5))
    assert [ring.drain(Taken()) for _ in range(3)] == [3, 2, 0]


@pytest.mark.parametrize("size", [0, 4, 24])
def test_the_size_must_be_a_power_of_two(size: int) -> None:
    with pytest.raises(purebpf.ObjectError, match=f"a ring of {size} bytes"):
        SimulatedUserRing(size)


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=128, max_size=128), st.integers(0, 20), st.integers(0, 2**64 - 1), st.integers(0, 3))
def test_whatever_user_space_wrote_the_kernel_stays_inside(data: bytes, at: int, producer: int, flags: int) -> None:
    ring, taken = SimulatedUserRing(64), Taken()
    ring.data[:] = data
    struct.pack_into("=Q", ring.consumer_page, 0, 8 * at)
    for position in (producer, 8 * at + producer % 128):
        struct.pack_into("=Q", ring.producer_page, 0, position)
        before, had = consumer(ring), len(taken)
        result = ring.drain(taken, flags)
        assert result in (-EINVAL, -E2BIG) or result == len(taken) - had
        assert before <= consumer(ring) <= max(before, position)


class Messages(RuleBasedStateMachine):
    """Any interleaving of writers and drains: each message comes out once, in the order of reservation."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = SimulatedUserRing(SIZE)
        self.user = self.ring.ring()
        self.open: dict[int, UserRecord] = {}
        self.sent: deque[tuple[int, bytes | None]] = deque()  # position and payload, None for discarded

    @rule(payload=st.binary(max_size=100))
    def reserve(self, payload: bytes) -> None:
        record = self.user.reserve(len(payload))
        if record:
            record.payload[:] = payload
            self.open[record.position] = record
            self.sent.append((record.position, payload))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), discard=st.booleans())
    def commit(self, data: st.DataObject, discard: bool) -> None:
        position = data.draw(st.sampled_from(sorted(self.open)))
        record = self.open.pop(position)
        if discard:
            record.discard()
            index = [at for at, _payload in self.sent].index(position)
            self.sent[index] = (position, None)
        else:
            record.submit()

    @rule(most=st.integers(1, 5))
    def drain(self, most: int) -> None:
        expected: list[bytes] = []
        while self.sent and self.sent[0][0] not in self.open and len(expected) < most:
            payload = self.sent.popleft()[1]
            expected += [] if payload is None else [payload]
        taken = Taken(most)
        assert self.ring.drain(taken) == len(expected)
        assert taken == expected


Messages.TestCase.settings = settings(max_examples=60, deadline=None)
TestMessages = Messages.TestCase
