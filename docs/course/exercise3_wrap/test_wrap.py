"""Exercise 3: a ring that has been filled many times over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from course import answer, ended, expect, shown
from hypothesis import given
from hypothesis import strategies as st

from purebpf.formats.ring_producer import SimulatedRing

wrap = answer("wrap", __file__)
SIZE = 64


def filled(start: int, *payloads: bytes, size: int = SIZE) -> SimulatedRing:
    """A ring whose first record stands at position `start`; old bytes everywhere else."""
    ring = SimulatedRing(size, start=start)
    ring.data[:] = b"\xee" * len(ring.data)
    for payload in payloads:
        assert ring.output(payload) == 0
    return ring


def twice(ring: SimulatedRing) -> Any:
    """What `walk` makes of it."""
    return ended(wrap.walk, bytes(ring.data), ring.query(2), ring.query(3))


def once(ring: SimulatedRing) -> Any:
    """What `walk_once` makes of it."""
    return ended(wrap.walk_once, bytes(ring.data[: ring.size]), ring.query(2), ring.query(3))


both = pytest.mark.parametrize("walked", [twice, once], ids=["walk", "walk_once"])


def check(walked: Callable[[SimulatedRing], Any], ring: SimulatedRing, *payloads: bytes) -> None:
    """The walk must give these payloads and the producer position."""
    got, expected = walked(ring), ([*payloads], ring.query(3))
    expect(shown(ring.data[: ring.size], ring.query(2), ring.query(3)), got, expected)


def test_offsets_begin_anew_at_the_end_of_the_data() -> None:
    for position, expected in [(0, 0), (8, 8), (56, 56), (64, 0), (72, 8), (6400 + 24, 24), (2**64 - 8, 56)]:
        got = wrap.offset(position, 64)
        expect(f"Position {position} of a ring of 64 bytes.", got, expected)


@given(st.integers(0, 2**61 - 1), st.integers(3, 20))
def test_positions_a_whole_ring_apart_have_the_same_offset(unit: int, exponent: int) -> None:
    position, size = 8 * unit, 1 << exponent
    got = [wrap.offset(position, size), wrap.offset(position + size, size)]
    expect(
        f"A ring of {size} bytes: the offsets of positions {position} and {position + size}.",
        got,
        2 * [position % size],
    )


@both
def test_equal_positions_mean_empty(walked: Callable[[SimulatedRing], Any]) -> None:
    check(walked, filled(640))


@both
def test_positions_are_no_offsets(walked: Callable[[SimulatedRing], Any]) -> None:
    check(walked, filled(64 * 999 + 8, b"after 999 rounds", b"later"), b"after 999 rounds", b"later")


@both
def test_a_payload_goes_on_at_the_start_of_the_data(walked: Callable[[SimulatedRing], Any]) -> None:
    check(walked, filled(64 + 48, b"at the end, and on"), b"at the end, and on")


@both
def test_a_header_at_the_very_end_has_its_payload_at_the_start(walked: Callable[[SimulatedRing], Any]) -> None:
    check(walked, filled(64 + 56, b"at the start"), b"at the start")


@both
def test_a_payload_that_ends_with_the_data(walked: Callable[[SimulatedRing], Any]) -> None:
    check(walked, filled(64 + 40, b"sixteen bytes..", b"next"), b"sixteen bytes..", b"next")


@both
def test_a_record_of_each_length_at_each_offset(walked: Callable[[SimulatedRing], Any]) -> None:
    for start in range(0, SIZE, 8):
        for length in range(48):
            payload = bytes(range(length))
            check(walked, filled(SIZE + start, payload), payload)


@both
def test_positions_begin_anew_after_64_bits(walked: Callable[[SimulatedRing], Any]) -> None:
    check(walked, filled(2**64 - 16, b"the last", b"the first"), b"the last", b"the first")


@both
@given(st.integers(0, 2**61 - 1), st.sampled_from([32, 64, 256]), st.lists(st.binary(max_size=48)))
def test_any_records(walked: Callable[[SimulatedRing], Any], unit: int, size: int, payloads: list[bytes]) -> None:
    ring = filled(8 * unit, size=size)
    check(walked, ring, *(payload for payload in payloads if ring.output(payload) == 0))
