"""Exercise 1: the header of a record."""

from __future__ import annotations

import struct

from course import answer, expect, word
from hypothesis import given
from hypothesis import strategies as st

from purebpf.formats.ring_producer import SimulatedRing

header = answer("header", __file__)


def check(content: bytes, length: int, busy: bool, discard: bool, page_offset: int) -> None:
    """The 8 bytes must be decoded to this."""
    first, second = struct.unpack("=II", content)
    expected = header.Header(length, busy, discard, page_offset)
    ring = f"The header: {content.hex(' ')}\n  {word(first)}\n  page offset word {second}"
    got = header.decode(content)
    expect(ring, got, expected)


def test_a_committed_record_has_its_length_and_no_flag() -> None:
    ring = SimulatedRing(4096)
    ring.output(b"seven b")
    check(bytes(ring.data[:8]), length=7, busy=False, discard=False, page_offset=3)


def test_a_reserved_record_is_busy_and_has_its_length_already() -> None:
    ring = SimulatedRing(4096)
    ring.reserve(20)
    check(bytes(ring.data[:8]), length=20, busy=True, discard=False, page_offset=3)


def test_a_discarded_record_is_not_busy_and_keeps_its_length() -> None:
    ring = SimulatedRing(4096)
    record = ring.reserve(100)
    assert record
    record.discard()
    check(bytes(ring.data[:8]), length=100, busy=False, discard=True, page_offset=3)


def test_the_second_word_counts_pages_from_the_start_of_the_kernels_structure() -> None:
    """Of a ring of 8 pages. Three pages come before the data."""
    for page in (0, 1, 7):
        ring = SimulatedRing(8 * 4096, start=page * 4096)
        ring.output(b"x")
        check(bytes(ring.data[page * 4096 :][:8]), length=1, busy=False, discard=False, page_offset=3 + page)


@given(st.integers(0, 2**30 - 1), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_any_header_is_decoded(length: int, busy: bool, discard: bool, page_offset: int) -> None:
    content = struct.pack("=II", length | busy << 31 | discard << 30, page_offset)
    check(content, length, busy, discard, page_offset)


def test_the_next_record_stands_where_the_kernel_puts_it() -> None:
    for length in range(25):
        ring = SimulatedRing(4096)
        first, second = ring.reserve(length), ring.reserve(0)
        assert first
        assert second
        got = header.next_position(first.position, length)
        asked = f"A record of {length} bytes of payload at position {first.position}, another one behind it."
        expect(asked, got, second.position)


@given(st.integers(0, 2**40), st.integers(0, 2**30 - 1))
def test_the_next_record_stands_at_the_first_multiple_of_8_behind_the_payload(unit: int, length: int) -> None:
    position = 8 * unit
    got, end = header.next_position(position, length), position + 8 + length
    asked = f"A record of {length} bytes of payload at position {position}: its last byte stands at {end - 1}."
    expect(asked, got, next(place for place in range(end, end + 8) if place % 8 == 0))


def test_positions_begin_anew_after_64_bits() -> None:
    ring = SimulatedRing(4096, start=2**64 - 16)
    first, second = ring.reserve(8), ring.reserve(0)
    assert first
    assert second
    got = header.next_position(first.position, 8)
    expect("A record of 8 bytes at position 2**64 - 16.", got, second.position)
