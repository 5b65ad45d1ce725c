"""The ring's format once more, as simply as it can be said, and what the parser must have in common with it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import purebpf
from purebpf.formats.ring import Ring, records
from purebpf.formats.values import Number

BUSY, DISCARD = 1 << 31, 1 << 30


class Sample(NamedTuple):
    """A data area, once; the positions; how many records are to be read at most."""

    area: bytes
    consumer: int
    producer: int
    limit: int | None


class Corrupt(Exception):
    """With position and header, None where it is the positions that are wrong."""


def walk(
    data: bytes, consumer: int, producer: int, limit: int | None = None, most: int | None = None
) -> tuple[list[bytes], int]:
    """The payloads, and the position behind what was taken. Record by record, no two rules in one line."""
    size = len(data) // 2
    if size < 8 or size & (size - 1) or len(data) % 2:
        raise Corrupt(None, None)
    available = (producer - consumer) % 2**64
    if consumer % 8 or producer % 8 or available > size:
        raise Corrupt(None, None)
    found: list[bytes] = []
    at = 0
    while at < available and (limit is None or len(found) < limit) and (most is None or at < most):
        start = consumer % size + at
        (word,) = struct.unpack_from("=I", data, start)
        if word & BUSY:
            break
        length = word % DISCARD
        after = at + (8 + length + 7) // 8 * 8
        if after > available:
            if at == 0:
                raise Corrupt(consumer, word)
            break
        if not word & DISCARD:
            found.append(data[start + 8 : start + 8 + length])
        at = after
    return found, (consumer + at) % 2**64


def check(sample: Sample) -> str:
    """Whether all ways to read a ring agree with the walk. Raises AssertionError if not; gives a word for the outcome."""
    data = sample.area * 2
    _check_reader(sample, sample.limit, None)
    _check_reader(sample, sample.limit, 64)
    _check_typed_reader(sample)
    expected, end, wrong = _walked(data, sample.consumer, sample.producer, sample.limit)
    if wrong:
        assert _refusal(lambda: records(data, sample.consumer, sample.producer, sample.limit)) == wrong
        return "positions" if wrong[0] is None else "header"
    batch, position = records(data, sample.consumer, sample.producer, sample.limit)
    assert position == end, f"the parser went to {position:#x}, the walk to {end:#x}"
    _check_batch(batch, expected)
    return "records" if expected else "nothing"


def _walked(
    data: bytes, consumer: int, producer: int, limit: int | None = None, most: int | None = None
) -> tuple[list[bytes], int, tuple[int | None, ...]]:
    """What the walk finds, and position and header of what it refuses, () where all is well."""
    try:
        return *walk(data, consumer, producer, limit, most), ()
    except Corrupt as corrupt:
        return [], consumer, corrupt.args


def _refusal(call: Callable[[], object]) -> tuple[int | None, ...] | None:
    """Position and header of a RingCorrupt; None if there is none."""
    try:
        call()
    except purebpf.RingCorrupt as error:
        return error.position, error.header
    return None


def _check_batch(batch: purebpf.Batch[memoryview], expected: list[bytes]) -> None:
    assert list(batch) == expected
    assert len(batch) == len(expected)
    assert [batch[at] for at in range(len(expected))] == expected
    assert list(batch[1:-1]) == expected[1:-1]
    assert [bytes(row[8 : 8 + run.length]) for run in batch.runs for row in _rows(run)] == expected
    least = min(map(len, expected), default=0)
    assert list(batch.unpack(f"{least}s")) == [(payload[:least],) for payload in expected]


def _rows(run: purebpf.Run) -> list[memoryview]:
    memory = run.memory
    return [memory[at : at + run.stride] for at in range(0, len(memory), run.stride)]


def _reader(sample: Sample, codec: Number | None = None) -> Ring:
    pages = [memoryview(bytearray(struct.pack("=Q", position))) for position in (sample.consumer, sample.producer)]
    return Ring(pages[0], pages[1], memoryview(sample.area * 2), codec=codec)


def _check_reader(sample: Sample, limit: int | None, most: int | None) -> None:
    """A consumer that comes back until nothing moves gets what the walk gets from each position, by turns as a copy and
    as a lease."""
    if _refusal(lambda: _reader(sample)):
        return
    ring, data = _reader(sample), sample.area * 2
    for turn in range(len(sample.area) // 8 + 1):
        start = ring.consumer_position
        expected, end, wrong = _walked(data, start, sample.producer, limit, most)
        if wrong:
            assert _refusal(lambda: ring.consume(limit)) == wrong
        elif most:
            assert list(ring.consume(limit, most)) == expected
        elif turn % 2:
            with ring.lease(limit) as batch:
                assert [bytes(record) for record in batch] == expected
        else:
            assert list(ring.consume(limit)) == expected
        assert ring.consumer_position == end
        if end == start:
            return
    raise AssertionError("the consumer moved more often than there are records")


def _check_typed_reader(sample: Sample) -> None:
    """With a type of 4 bytes: the values, and an error for each record that is shorter."""
    payloads, end, wrong = _walked(sample.area * 2, sample.consumer, sample.producer)
    if wrong:
        return
    ring, found = _reader(sample, Number("u32", 4, "=", False)), list[object]()
    while ring.consumer_position != end:
        try:
            found += ring.consume()
        except purebpf.ObjectError:
            found.append("short")
        except purebpf.RingCorrupt:
            break
        assert len(found) <= len(payloads)
    assert found == [struct.unpack_from("=I", p)[0] if len(p) >= 4 else "short" for p in payloads]
