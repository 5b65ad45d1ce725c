"""All ways to read a batch agree, for any ring, copied or leased."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import purebpf
from purebpf.testing import ValidRing, rings

LIKE = rings(st.binary(min_size=8, max_size=16)) | rings(st.binary(min_size=12, max_size=12))
PLACES = st.none() | st.integers(-150, 150)


@contextmanager
def read(ring: ValidRing, way: str) -> Iterator[purebpf.Batch[Any]]:
    if way == "records":
        yield ring.records()
    elif way == "consume":
        yield ring.ring().consume()
    else:
        with ring.ring().lease() as batch:
            yield batch


ways = pytest.mark.parametrize("way", ["records", "consume", "lease"])


@ways
@given(ring=rings())
def test_length_iteration_and_indexing_agree(way: str, ring: ValidRing) -> None:
    with read(ring, way) as batch:
        count = len(batch)
        assert count == len(ring.payloads)
        assert [bytes(record) for record in batch] == ring.payloads
        assert [bytes(batch[at]) for at in range(count)] == ring.payloads
        assert [bytes(batch[at - count]) for at in range(count)] == ring.payloads
        for outside in (count, -count - 1):
            with pytest.raises(IndexError):
                batch[outside]


@ways
@given(ring=rings(), first=PLACES, last=PLACES, inner=PLACES)
def test_slices_are_those_of_a_list(
    way: str, ring: ValidRing, first: int | None, last: int | None, inner: int | None
) -> None:
    expected = ring.payloads[first:last]
    with read(ring, way) as batch:
        part = batch[first:last]
        assert [bytes(record) for record in part] == expected
        assert [bytes(record) for record in part[inner:]] == expected[inner:]
        assert [bytes(part[at]) for at in range(len(part))] == expected
        assert sum(len(run) for run in part.runs) == len(part) == len(expected)
    assert list(ring.records()[first:last].copy()) == expected


@ways
@settings(max_examples=examples(200))
@given(ring=rings() | LIKE)
def test_runs_are_the_batch_cut_where_the_length_changes(way: str, ring: ValidRing) -> None:
    with read(ring, way) as batch:
        found = list[bytes]()
        for run in batch.runs:
            assert run.stride == -(-run.length // 8) * 8 + 8
            assert len(run.memory) == len(run) * run.stride > 0
            assert run.rows.shape == (len(run), run.stride)
            assert run.rows.tobytes() == run.memory.tobytes()
            found += [bytes(run.memory[at + 8 :][: run.length]) for at in range(0, len(run.memory), run.stride)]
        assert found == ring.payloads


@ways
@settings(max_examples=examples(200))
@given(ring=LIKE, format=st.sampled_from(["=Q", "<IHH", "II", "B", "@3s", ">Q", ""]))
def test_unpacking_is_that_of_struct_for_each_record(way: str, ring: ValidRing, format: str) -> None:
    with read(ring, way) as batch:
        assert list(batch.unpack(format)) == [struct.unpack_from(format, payload) for payload in ring.payloads]


@ways
@given(ring=rings(), size=st.integers(0, 70))
def test_unpacking_says_no_before_the_first_if_one_record_is_shorter(way: str, ring: ValidRing, size: int) -> None:
    with read(ring, way) as batch:
        if all(len(payload) >= size for payload in ring.payloads):
            assert list(batch.unpack(f"{size}s")) == [(payload[:size],) for payload in ring.payloads]
        else:
            with pytest.raises(purebpf.ObjectError, match="bytes"):
                batch.unpack(f"{size}s")


@ways
@settings(max_examples=examples(200))
@given(ring=LIKE, letter=st.sampled_from("BHIQbq"), number=st.integers(-1, 2))
def test_a_column_has_the_number_at_its_offset_of_each_record(
    way: str, ring: ValidRing, letter: str, number: int
) -> None:
    offset = number * struct.calcsize(letter)
    with read(ring, way) as batch:
        found = list[int]()
        for run in batch.runs:
            if 0 <= offset <= run.length - struct.calcsize(letter):
                found += run.column(letter, offset).tolist()
            else:
                with pytest.raises(purebpf.ObjectError):
                    run.column(letter, offset)
        fitting = [p for p in ring.payloads if 0 <= offset <= len(p) - struct.calcsize(letter)]
        assert found == [struct.unpack_from(letter, payload, offset)[0] for payload in fitting]
