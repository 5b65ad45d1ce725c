"""Records of a ring as one object."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from itertools import accumulate, chain
from typing import Any, TypeVar, overload

from ..errors import ObjectError, ViewInUse
from .pieces import HEADER, Piece, Uniform
from .values import Codec

_NATIVE = {letter: struct.calcsize(letter) for letter in "cbB?hHiIlLqQfd"}
Record = TypeVar("Record")


class Run:
    """Records of one length, one behind the other. `length` is that of a payload, `stride` from header to header."""

    __slots__ = ("_batch", "_records", "length", "stride")

    def __init__(self, batch: Batch[Any], records: Uniform) -> None:
        self._batch, self._records = batch, records
        self.length, self.stride = records.length, records.stride

    def __len__(self) -> int:
        return self._records.count

    @property
    def memory(self) -> memoryview:
        """len(self) * stride bytes: header (8 bytes), payload, padding of each record."""
        return self._batch.lend(self._memory())

    @property
    def rows(self) -> memoryview:
        """The same as two dimensions, (len(self), stride), for `numpy.asarray(run.rows)[:, 8 : 8 + run.length]`."""
        return self._batch.lend(self._memory().cast("B", [len(self), self.stride]))

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
        return self._records.cut(self._batch.memory)


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
        pieces: list[Piece],
        codec: Codec | None = None,
        endings: list[Callable[[], None]] | None = None,
    ) -> None:
        self.memory = memory
        self._pieces, self._codec, self._endings = pieces, codec, endings
        self._ends = list(accumulate(piece.count for piece in pieces))

    def copy(self) -> Batch[Record]:
        """The same in memory of its own."""
        return Batch(memoryview(bytes(self.memory)), self._pieces, self._codec)

    def then(self, other: Batch[Record]) -> Batch[Record]:
        """A copy of both, one behind the other."""
        pieces = [*self._pieces, *(piece.behind(len(self.memory)) for piece in other._pieces)]
        return Batch(memoryview(bytes(self.memory) + bytes(other.memory)), pieces, self._codec)

    def lend(self, view: memoryview) -> memoryview:
        """Remember a view of leased memory, to be released with the lease."""
        if self._endings is not None:
            self._endings.append(partial(release, view))
        return view

    @property
    def runs(self) -> list[Run]:
        """The batch as runs of records of the same length: one, if all have it and none was discarded."""
        return [Run(self, records) for piece in self._pieces for records in piece.uniform()]

    def unpack(self, format: str) -> Iterator[tuple[Any, ...]]:
        """The start of each record by a format of `struct`, decoded in C as the iteration goes.

        Raises ObjectError, before any is decoded, for a record that is shorter than the format.
        """
        try:
            head = struct.Struct(format)
        except struct.error as error:
            raise ObjectError(f"format {format!r}: {error}") from error
        for piece in self._pieces:
            if piece.shortest < head.size:
                raise ObjectError(f"a record has {piece.shortest} bytes; {format!r} takes {head.size}")
        return chain.from_iterable(piece.rows(self.memory, head) for piece in self._pieces)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Record]:
        if self._endings is None:
            return self._read()
        loans = _given_in_turn(self._read())
        self._endings.append(loans.close)
        return loans

    def _read(self) -> Iterator[Any]:
        """Does not refer to the batch, which may be all that keeps a lease."""
        memory, codec = self.memory, self._codec
        if codec is None:
            return chain.from_iterable(piece.views(memory) for piece in self._pieces)
        return chain.from_iterable(piece.values(memory, codec) for piece in self._pieces)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> Batch[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | Batch[Record]:
        if isinstance(index, slice):
            return self._slice(*index.indices(len(self)))
        place = range(len(self))[index]
        at = bisect_right(self._ends, place)
        piece = self._pieces[at]
        place -= self._ends[at] - piece.count
        only: Record = self._only(piece.part(place, place + 1))
        return only

    def _only(self, piece: Piece) -> Any:
        if self._codec:
            return next(piece.values(self.memory, self._codec))
        return self.lend(next(piece.views(self.memory)))

    def _slice(self, first: int, last: int, step: int) -> Batch[Record]:
        if step != 1:
            raise ValueError("a batch has no slices with steps")
        parts: list[Piece] = []
        for piece, end in zip(self._pieces, self._ends):
            start = end - piece.count
            if max(first, start) < min(last, end):
                parts.append(piece.part(max(first, start) - start, min(last, end) - start))
        return Batch(self.memory, parts, self._codec, self._endings)


def _given_in_turn(records: Iterator[Any]) -> Generator[Any, None, None]:
    """What is a view is released at the next step. Closing it lets go of what `records` reads."""
    for record in records:
        try:
            yield record
        finally:
            if isinstance(record, memoryview):
                release(record)


def release(view: memoryview) -> None:
    """End a view. Raises ViewInUse if something else reads its memory through it."""
    try:
        view.release()
    except BufferError as error:
        raise ViewInUse(
            "memory of the ring is to be handed back, and an array or another buffer still refers to it",
            hint="delete it or copy it before the lease or the step ends",
        ) from error
