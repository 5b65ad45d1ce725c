"""Records of a ring as one object, read in bulk.

Most programs send records of one size. Their headers are then equal words at equal distances, so a run of them is found,
read and decoded by C code of Python's own: a strided memoryview, `struct.iter_unpack`. A batch is a list of such runs;
where sizes are mixed, its runs are short.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, chain
from typing import Any, TypeVar, overload

from ..errors import ObjectError, ViewInUse
from .values import Codec

HEADER = 8
_NATIVE = {letter: struct.calcsize(letter) for letter in "cbB?hHiIlLqQfd"}
Record = TypeVar("Record")


def stride(length: int) -> int:
    """Bytes from the header of a record to the next one's, which stands at a multiple of 8."""
    return (length + HEADER + 7) & ~7


# Records of equal length, one behind the other: where in the memory the first one's header stands, the bytes of each
# payload, and how many they are. A plain tuple, as there is one for each record where sizes are mixed.
Span = tuple[int, int, int]


class Run:
    """Records of one length, one behind the other. `length` is that of a payload, `stride` from header to header."""

    __slots__ = ("_batch", "_count", "_start", "length", "stride")

    def __init__(self, batch: Batch[Any], span: Span) -> None:
        self._batch = batch
        self._start, self.length, self._count = span
        self.stride = stride(self.length)

    def __len__(self) -> int:
        return self._count

    @property
    def memory(self) -> memoryview:
        """len(self) * stride bytes: header (8 bytes), payload, padding of each record."""
        return self._batch.lend(self._memory())

    @property
    def rows(self) -> memoryview:
        """The same as two dimensions, (len(self), stride), for `numpy.asarray(run.rows)[:, 8 : 8 + run.length]`."""
        return self._batch.lend(self._memory().cast("B", [self._count, self.stride]))

    def column(self, format: str, offset: int = 0) -> memoryview:
        """One number of each record, without a copy: a strided view with `format`, one of `struct`'s native letters.

        `offset` is the number's in the payload, a multiple of its size. `numpy.asarray` takes the view as it is;
        `.tolist()` makes ints. Raises ObjectError for numbers that are not aligned or not in the record.
        """
        size = _NATIVE.get(format, 0)
        if not size or offset % size or not 0 <= offset <= self.length - size:
            raise ObjectError(f"a record of {self.length} bytes has no number {format!r} at {offset}")
        memory: Any = self._memory()  # whose stub knows letters, and no strings
        numbers = memory.cast(format)
        return self._batch.lend(numbers[(HEADER + offset) // size :: self.stride // size])

    def _memory(self) -> memoryview:
        return self._batch.memory[self._start : self._start + self._count * self.stride]


class Batch(Sequence[Record]):
    """Committed records, in order; discarded ones are left out. Indexed and iterated, each is a memoryview of its
    payload or, with a codec, the value that this decodes.

    A batch that was copied (`copy`, and what `consume` returns) is yours for ever. The views of a leased one, those of
    its runs too, end with the lease, and those of its iteration already at the next step: used later, they raise
    ValueError.
    """

    def __init__(
        self,
        memory: memoryview,
        spans: list[Span],
        codec: Codec | None = None,
        endings: list[Callable[[], None]] | None = None,
    ) -> None:
        self.memory = memory
        self._spans, self._codec, self._endings = spans, codec, endings
        self._ends: list[int] | None = None

    def copy(self) -> Batch[Record]:
        """The same in memory of its own."""
        return Batch(memoryview(bytes(self.memory)), self._spans, self._codec)

    def lend(self, view: memoryview) -> memoryview:
        """Remember a view of leased memory, to be released with the lease."""
        if self._endings is not None:
            self._endings.append(partial(release, view))
        return view

    @property
    def runs(self) -> list[Run]:
        """The batch as runs of records of the same length: one, if all have it and none was discarded."""
        return [Run(self, span) for span in self._spans]

    def unpack(self, format: str) -> Iterator[tuple[Any, ...]]:
        """The start of each record by a format of `struct`, decoded in C as the iteration goes.

        Raises ObjectError, before any is decoded, for a record that is shorter than the format.
        """
        head, layouts = _struct(format), dict[int, struct.Struct]()
        for _start, length, _count in self._spans:
            if length < head.size:
                raise ObjectError(f"a record has {length} bytes; {format!r} takes {head.size}")
            if length not in layouts:
                layouts[length] = _layout(format, head.size, stride(length))

        def rows(span: Span) -> Iterator[tuple[Any, ...]]:
            start, length, count = span
            return layouts[length].iter_unpack(self.memory[start : start + count * stride(length)])

        return chain.from_iterable(map(rows, self._spans))

    def __len__(self) -> int:
        return sum([count for _start, _length, count in self._spans])

    def __iter__(self) -> Iterator[Record]:
        if self._codec:
            return chain.from_iterable(map(self._values, self._spans))
        if self._endings is None:
            return self._views()
        loans = self._loans()
        self._endings.append(loans.close)
        return loans

    def _views(self) -> Iterator[Any]:
        memory = self.memory
        for start, length, count in self._spans:
            first, step = start + HEADER, length + HEADER + 7 & ~7  # stride, without the call
            for at in range(first, first + count * step, step) if count > 1 else (first,):
                yield memory[at : at + length]

    def _loans(self) -> Generator[Any, None, None]:
        for view in self._views():
            try:
                yield view
            finally:
                release(view)

    def _values(self, span: Span) -> Iterable[Any]:
        assert self._codec is not None
        start, length, count = span
        if count == 1:
            return (self._codec.decode_at(self.memory, start + HEADER),)
        step = stride(length)
        return self._codec.decode_each(self.memory[start : start + count * step], step, HEADER)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> Batch[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | Batch[Record]:
        if isinstance(index, slice):
            return self._slice(*index.indices(len(self)))
        place = range(len(self))[index]
        at, before = self._find(place)
        start, length, _count = self._spans[at]
        start += HEADER + (place - before) * stride(length)
        found: Record = self._codec.decode_at(self.memory, start) if self._codec else self._view(start, length)
        return found

    def _view(self, start: int, length: int) -> Any:
        return self.lend(self.memory[start : start + length])

    def _slice(self, first: int, last: int, step: int) -> Batch[Record]:
        if step != 1:
            raise ValueError("a batch has no slices with steps")
        spans: list[Span] = []
        at = 0
        for start, length, count in self._spans:
            skipped, kept = max(0, first - at), min(count, last - at)
            if kept > skipped:
                spans.append((start + skipped * stride(length), length, kept - skipped))
            at += count
        return Batch(self.memory, spans, self._codec, self._endings)

    def _find(self, place: int) -> tuple[int, int]:
        """The span that has record number `place`, and how many records are before that span."""
        if self._ends is None:
            self._ends = list(accumulate(count for _start, _length, count in self._spans))
        at = bisect_right(self._ends, place)
        return at, self._ends[at - 1] if at else 0


def _struct(format: str) -> struct.Struct:
    try:
        return struct.Struct(format)
    except struct.error as error:
        raise ObjectError(f"format {format!r}: {error}") from error


def _layout(format: str, size: int, step: int) -> struct.Struct:
    """`format` for what stands behind a header, the rest of the `step` bytes skipped."""
    order, items = (format[0], format[1:]) if format[:1] in tuple("@=<>!") else ("@", format)
    return struct.Struct(f"{order}{HEADER}x{items}{step - HEADER - size}x")


def release(view: memoryview) -> None:
    """End a view. Raises ViewInUse if something else reads its memory through it."""
    try:
        view.release()
    except BufferError as error:
        raise ViewInUse(
            "memory of the ring is to be handed back, and an array or another buffer still refers to it",
            hint="delete it or copy it before the lease or the step ends",
        ) from error
