"""Batches: what is read in bulk is what stands in the ring, and no view outlives its memory in silence."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from test_ring import Pages

import purebpf
from purebpf.formats.ring import BUSY, DISCARD, records

LARGE = 1 << 16
payloads = st.lists(st.binary(max_size=40), max_size=60)
# Long runs of equal lengths, with others between them.
runs = st.lists(st.tuples(st.sampled_from([0, 4, 8, 20]), st.sampled_from([0, 1, 2, 3, 4, 5, 17, 18, 90])), max_size=8)


def ring_of(contents: Sequence[bytes], start: int = 0, size: int = LARGE) -> Pages:
    pages = Pages(size, start)
    pages.fill(contents)
    return pages


def numbered(count: int, length: int = 20) -> list[bytes]:
    return [struct.pack("=I", i).ljust(length, b".") for i in range(count)]


def of_runs(rows: list[tuple[int, int]]) -> list[bytes]:
    return [bytes([at % 251] * length) for at, (length, count) in enumerate(rows) for _ in range(count)]


@given(rows=runs, start=st.integers(0, LARGE // 8 - 1).map(lambda n: 8 * n), limit=st.none() | st.integers(0, 99))
@example([(20, 5000)], 0, None)
@example([(20, 1400)], LARGE - 16, None)
@example([(8, 16), (20, 17)] * 9 + [(4, 300), (8, 1)], 8, None)
def test_a_batch_has_the_records_in_their_order(rows: list[tuple[int, int]], start: int, limit: int | None) -> None:
    contents = of_runs(rows)[: LARGE // 32 - 1]
    pages = ring_of(contents, start)
    batch = pages.ring.consume(limit)
    assert [bytes(r) for r in batch] == contents[:limit]
    assert len(batch) == len(contents[:limit])
    assert [bytes(r) for r in pages.ring.consume()] == contents[len(batch) :]


@given(payloads, st.data())
def test_a_batch_is_indexed_and_sliced_as_a_list(contents: list[bytes], data: st.DataObject) -> None:
    batch = ring_of(contents).ring.consume()
    index = data.draw(st.integers(-70, 70))
    part = slice(data.draw(st.none() | st.integers(-70, 70)), data.draw(st.none() | st.integers(-70, 70)))
    assert list(batch[part]) == contents[part]
    assert list(batch[part][1:]) == contents[part][1:]
    if -len(contents) <= index < len(contents):
        assert batch[index] == contents[index]
    else:
        with pytest.raises(IndexError):
            batch[index]


@given(st.lists(st.tuples(st.binary(min_size=8, max_size=24), st.sampled_from([0, 0, 0, DISCARD, BUSY]))))
def test_discarded_records_are_left_out_and_a_busy_one_ends_the_batch(rows: list[tuple[bytes, int]]) -> None:
    pages = Pages(LARGE)
    for payload, flag in rows:
        position = pages.reserve(len(payload))
        assert position is not None
        pages.commit(position, payload, flag)
    expected = []
    for payload, flag in rows:
        if flag == BUSY:
            break
        expected += [payload] * (flag == 0)
    batch = pages.ring.consume()
    assert list(batch) == expected
    assert list(batch.unpack("=Q")) == [struct.unpack_from("=Q", payload) for payload in expected]


def test_equal_records_are_one_run_of_any_number() -> None:
    for count in (1, 2, 3, 4, 5, 19, 20, 21, 1300):
        (run,) = ring_of(numbered(count)).ring.consume().runs
        assert (len(run), run.length, run.stride) == (count, 20, 32)


def test_a_discarded_record_parts_a_run() -> None:
    pages = ring_of(numbered(30))
    pages.header(32 * 10, 20 | DISCARD)
    assert [len(run) for run in pages.ring.consume().runs] == [10, 19]


@pytest.mark.parametrize("order", ["", "@", "=", "<", ">", "!"])
def test_unpack_reads_the_start_of_each_record(order: str) -> None:
    contents = [*numbered(50), *numbered(1, 24), *numbered(7, 28)]
    format = f"{order}IB2x3s"
    batch = ring_of(contents).ring.consume()
    assert list(batch.unpack(format)) == [struct.unpack_from(format, payload) for payload in contents]


def test_unpack_refuses_records_that_are_too_short_before_it_begins() -> None:
    batch = ring_of([*numbered(50), b"short"]).ring.consume()
    with pytest.raises(purebpf.ObjectError, match="a record has 5 bytes; '=IQ' takes 12"):
        batch.unpack("=IQ")
    with pytest.raises(purebpf.ObjectError, match="format"):
        batch.unpack("=z")


@pytest.mark.parametrize(("format", "offset"), [("I", 0), ("I", 16), ("Q", 8), ("B", 19), ("h", 6), ("d", 0), ("c", 3)])
def test_a_column_is_a_number_of_each_record_without_a_copy(format: str, offset: int) -> None:
    contents = numbered(40)
    (run,) = ring_of(contents).ring.consume().runs
    column = run.column(format, offset)
    assert column.format == format
    assert column.obj is run.memory.obj
    assert column.tolist() == [struct.unpack_from("=" + format, payload, offset)[0] for payload in contents]


@pytest.mark.parametrize(
    ("format", "offset"), [("I", 2), ("I", 20), ("Q", 16), ("B", -1), ("B", 20), ("16s", 0), ("z", 0)]
)
def test_a_column_that_is_not_in_the_record_is_refused(format: str, offset: int) -> None:
    (run,) = ring_of(numbered(5)).ring.consume().runs
    with pytest.raises(purebpf.ObjectError, match=r"a record of 20 bytes has no number"):
        run.column(format, offset)


def test_numpy_takes_columns_and_rows_without_a_copy() -> None:
    numpy = pytest.importorskip("numpy")
    (run,) = ring_of(numbered(1000)).ring.consume().runs
    column = numpy.asarray(run.column("I"))
    assert column.sum() == sum(range(1000))
    assert column.strides == (32,)
    rows = numpy.asarray(run.rows)
    assert rows.shape == (1000, 32)
    assert bytes(rows[7, 8:28]) == numbered(1000)[7]
    assert numpy.shares_memory(column, rows)


def test_records_of_a_batch_stay_when_the_ring_is_written_over() -> None:
    pages = ring_of([b"first"], size=256)
    (kept,) = pages.ring.consume()
    for _ in range(20):
        pages.fill([b"other"])
        pages.ring.consume()
    assert kept == b"first"


class TestLease:
    """Views into the ring, and how they end."""

    @pytest.fixture
    def pages(self) -> Pages:
        return ring_of(numbered(10))

    def test_space_is_handed_back_at_the_end_and_not_before(self, pages: Pages) -> None:
        with pages.ring.lease() as batch:
            assert list(batch.unpack("=I")) == [(i,) for i in range(10)]
            assert pages.ring.consumer_position == 0
            assert pages.ring.available == 320
        assert pages.ring.consumer_position == 320

    def test_nothing_is_copied(self, pages: Pages) -> None:
        with pages.ring.lease() as batch:
            pages.put(8, b"\xff\xff\xff\xff")
            assert batch.runs[0].column("I")[0] == 0xFFFFFFFF

    def test_at_most_so_many(self, pages: Pages) -> None:
        with pages.ring.lease(3) as batch:
            assert len(batch) == 3
        assert pages.ring.consumer_position == 96

    def test_a_record_that_is_kept_raises_at_the_next_step(self, pages: Pages) -> None:
        with pages.ring.lease() as batch:
            stale: memoryview | None = None
            for record in batch:
                if stale is not None:
                    with pytest.raises(ValueError, match="released"):
                        bytes(stale)
                stale = record
        assert stale is not None
        with pytest.raises(ValueError, match="released"):
            stale.tolist()

    @pytest.mark.parametrize(
        "make", ["batch[3]", "batch.runs[0].column('I')", "batch.runs[0].rows", "batch.runs[0].memory"]
    )
    def test_views_end_with_the_lease(self, pages: Pages, make: str) -> None:
        with pages.ring.lease() as batch:
            view = eval(make, {"batch": batch})
            assert view.nbytes
        with pytest.raises(ValueError, match="released"):
            view.tolist()
        with pytest.raises(ValueError, match="released"):
            list(batch)

    def test_copies_of_a_lease_stay(self, pages: Pages) -> None:
        with pages.ring.lease() as batch:
            kept = batch.copy()
        assert list(kept) == numbered(10)

    @pytest.mark.parametrize("step", [False, True])
    def test_a_slice_that_is_kept_is_reported_and_the_space_not_handed_back_before_it_is_gone(
        self, pages: Pages, step: bool
    ) -> None:
        kept: list[memoryview] = []

        def use() -> None:
            with pages.ring.lease() as batch:
                kept.append(next(iter(batch))[4:8] if step else batch[2][4:8])

        with pytest.raises(purebpf.ViewInUse, match="still refers") as caught:
            use()
        assert "copy" in caught.value.hint
        for call in (pages.ring.consume, lambda: pages.ring.lease().__enter__()):
            with pytest.raises(purebpf.ViewInUse):
                call()
        assert kept[0] == b"...."
        assert pages.ring.consumer_position == 0
        kept.clear()
        assert list(pages.ring.consume()) == []
        assert pages.ring.consumer_position == 320

    def test_an_array_that_is_kept_is_reported(self, pages: Pages) -> None:
        numpy = pytest.importorskip("numpy")
        with pytest.raises(purebpf.ViewInUse), pages.ring.lease() as batch:
            array = numpy.asarray(batch.runs[0].column("I"))
        assert array[9] == 9
        del array
        assert not pages.ring.consume()

    def test_an_array_of_a_record_is_reported_at_the_next_step(self, pages: Pages) -> None:
        def use() -> Iterator[Any]:
            with pages.ring.lease() as batch:
                for record in batch:
                    yield memoryview(struct.pack("I", 0)) if record is None else _exporting(record)

        steps = use()
        kept = next(steps)
        with pytest.raises(purebpf.ViewInUse):
            next(steps)
        del kept

    def test_a_body_that_raises_has_consumed_its_records(self, pages: Pages) -> None:
        def use() -> None:
            with pages.ring.lease() as batch:
                for _record in batch:
                    raise KeyError

        with pytest.raises(KeyError):
            use()
        assert not pages.ring.consume()
        assert pages.ring.consumer_position == 320

    def test_one_lease_at_a_time(self, pages: Pages) -> None:
        with pages.ring.lease(2):
            for call in (pages.ring.consume, lambda: pages.ring.lease().__enter__()):
                with pytest.raises(purebpf.ViewInUse, match="leased already"):
                    call()
        assert len(pages.ring.consume()) == 8


def _exporting(view: memoryview) -> Any:
    """Something that holds the buffer of `view` itself, as arrays do."""
    from pickle import PickleBuffer

    return memoryview(PickleBuffer(view))


def test_the_pure_parser_walks_a_dump_and_says_where_to_go_on() -> None:
    pages = ring_of([b"a", b"bb", b"ccc"], start=LARGE - 16)
    half = bytes(pages.data[:LARGE])
    first, position = records(half + half, LARGE - 16, LARGE - 16 + 48, limit=1)
    assert list(first) == [b"a"]
    rest, position = records(half + half, position, LARGE - 16 + 48)
    assert list(rest) == [b"bb", b"ccc"]
    assert position == LARGE - 16 + 48
