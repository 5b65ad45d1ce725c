"""What is said of a ring that moves, or does not: by states that are made for it, at times that are made up."""

from __future__ import annotations

import doctest

import pytest

from purebpf.formats.ring_producer import NO_WAKEUP, SimulatedRing
from purebpf.formats.user_ring_consumer import SimulatedUserRing
from purebpf.lessons import progress as module
from purebpf.lessons.progress import Movement, Progress
from purebpf.lessons.state import OVERWRITE, RING, USER, Recorder, ring_state


class Watched:
    """A simulated ring, and what is said of it."""

    def __init__(self, kind: str = RING) -> None:
        self.kind = kind
        self.ring = SimulatedUserRing(4096) if kind == USER else SimulatedRing(4096, overwrite=kind == OVERWRITE)
        self.progress = Progress()

    def see(self, now: float) -> Movement:
        pages = self.ring.consumer_page, self.ring.producer_page, self.ring.data
        return self.progress.see(now, ring_state(*pages, self.kind))


@pytest.fixture
def watched() -> Watched:
    return Watched()


def fill(ring: SimulatedRing, length: int, count: int) -> None:
    for _ in range(count):
        ring.output(bytes(length), NO_WAKEUP)


def test_the_docstring_tells_the_truth() -> None:
    assert doctest.testmod(module).failed == 0


def test_rates_are_bytes_a_second_since_the_state_before(watched: Watched) -> None:
    assert watched.see(5.0) == Movement(None, None, 0.0, 0.0, "")
    fill(watched.ring, 24, 10)
    watched.ring.ring().consume(4)
    found = watched.see(7.0)
    assert (found.produced, found.consumed) == (160.0, 64.0)
    assert watched.see(7.0).produced is None  # no time has passed


def test_a_ring_that_is_read_as_it_is_written_needs_no_word(watched: Watched) -> None:
    consumer = watched.ring.ring()
    for second in range(50):
        fill(watched.ring, 100, 7)
        assert watched.see(second).verdict == ""
        consumer.consume()


def test_a_busy_head_is_timed_from_when_it_was_first_seen(watched: Watched) -> None:
    first, second = watched.ring.reserve(8), watched.ring.reserve(8)
    fill(watched.ring, 8, 1)
    assert [watched.see(now).head_busy for now in (1.0, 2.0, 4.5)] == [0.0, 1.0, 3.5]
    assert "busy for 4.0 s" in watched.see(5.0).verdict
    first.submit()
    assert (watched.see(6.0).head_busy, watched.see(6.0).stuck) == (0.0, 0.0)
    watched.ring.ring().consume()
    assert (watched.see(7.0).head_busy, watched.see(8.0).head_busy) == (0.0, 1.0)  # the second one now
    second.submit()


def test_a_consumer_that_does_not_move_is_timed_and_one_without_work_is_not(watched: Watched) -> None:
    assert [watched.see(now).stuck for now in (1.0, 2.0)] == [0.0, 0.0]
    fill(watched.ring, 8, 2)
    assert [watched.see(now).stuck for now in (3.0, 5.0)] == [0.0, 2.0]
    assert watched.see(6.0).verdict == "the consumer has not moved for 3.0 s, and there is something to read"
    watched.ring.ring().consume(1)
    assert [watched.see(now).stuck for now in (7.0, 8.0)] == [0.0, 1.0]


def test_a_full_ring_says_what_is_lost_and_why(watched: Watched) -> None:
    fill(watched.ring, 1000, 9)
    full = "the ring is full: a record of 1008 bytes finds no room, and is lost"
    assert watched.see(0.0).verdict == full  # nobody knows yet who moves
    assert watched.see(1.0).verdict == f"the consumer has not moved for 1.0 s, and there is something to read; {full}"
    watched.ring.ring().consume(1)
    fill(watched.ring, 1000, 1)
    assert watched.see(2.0).verdict == f"the producers are faster than the consumer; {full}"


def test_a_ring_that_fills_up_says_when_it_is_full(watched: Watched) -> None:
    watched.see(0.0)
    fill(watched.ring, 1000, 2)
    assert watched.see(1.0).verdict == ""  # not yet half full
    watched.ring.ring().consume(1)
    fill(watched.ring, 500, 3)
    assert watched.see(2.0).verdict == (
        "the producers are faster than the consumer; the ring is full in 3 s if it goes on so"
    )


def test_in_overwrite_mode_nothing_is_full_and_what_went_unread_is_counted() -> None:
    watched = Watched(OVERWRITE)
    fill(watched.ring, 1000, 4)
    assert watched.see(0.0).verdict == ""
    fill(watched.ring, 1000, 2)
    assert watched.see(0.5).verdict == "2016 bytes were overwritten unread"
    assert watched.see(1.5).verdict == (
        "the consumer has not moved for 1.0 s, and there is something to read; 2016 bytes were overwritten unread"
    )


def test_of_a_user_ring_it_is_the_program_that_drains_and_writers_wait() -> None:
    watched = Watched(USER)
    user = watched.ring.ring()
    while user.output(bytes(1000)):
        pass
    watched.see(0.0)
    assert watched.see(2.0).verdict == (
        "no program has drained for 2.0 s, and there is something to read;"
        " the ring is full: a record of 1008 bytes finds no room, and must wait"
    )


def test_a_torn_state_is_said_and_does_not_stop_the_clock(watched: Watched) -> None:
    watched.ring.reserve(8)
    watched.see(0.0)
    whole = bytes(watched.ring.consumer_page)
    watched.ring.consumer_page[0] = 64  # beyond the producer
    assert watched.see(1.0).verdict.startswith("torn or corrupt: consumer position 64")
    watched.ring.consumer_page[:] = whole
    assert watched.see(2.0).head_busy == 2.0


def test_a_limit_lists_the_first_records_and_counts_the_bytes_of_the_others() -> None:
    ring, recorder = SimulatedRing(4096), Recorder(most=3)
    fill(ring, 8, 10)

    def look() -> tuple[list[int], list[int], int, int]:
        state = recorder.state(ring.consumer_page, ring.producer_page, ring.data)
        assert not state.torn
        return (
            [record.position for record in state.past],
            [record.position for record in state.records],
            state.used,
            state.unlisted,
        )

    assert look() == ([], [0, 16, 32], 160, 112)
    consumer = ring.ring()
    consumer.consume(2)
    assert look() == ([0, 16], [32, 48, 64], 128, 80)
    consumer.consume(6)
    assert look() == ([], [128, 144], 32, 0)  # where the last three began, nobody has seen
    consumer.consume()
    assert look() == ([128, 144], [], 0, 0)
