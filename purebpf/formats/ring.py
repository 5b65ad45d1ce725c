"""The BPF ring buffer as its consumer sees it (kernel/bpf/ringbuf.c, Documentation/bpf/ringbuf.rst).

Theory of operation. Three buffers: the consumer page and the producer page, whose first 8 bytes are a
position each, and the data area, visible twice back to back so that a record that wraps is contiguous.
Positions only grow (modulo 2**64); `position & (size - 1)` is the offset in the data. Each record starts
on a multiple of 8 with an 8-byte header: a length word, then a word that only the kernel uses. Bit 31 of
the length word is BUSY (reserved, not yet committed), bit 30 DISCARD (committed, to be skipped), the rest
the payload's length. A busy record holds up all that were reserved after it.

Single loads and stores. A position must be read and written in one access, or a half-written one is seen.
`memoryview.cast("Q")[0]` and `cast("I")[i]` are one native access in CPython; `struct` with "<" or ">"
reads byte by byte and tears. Headers that are compared in bulk may be copied byte by byte by some C library:
a commit changes bits 31 and 30 only, which are in one byte, so no torn word is another valid one.

Order. Python has no acquire load, so the caller passes `fence`, a full memory barrier, or a no-op where
the CPU keeps loads in order, and stores behind earlier loads (x86-64, s390x). It stands
 1. between the load of the producer position and the headers (pairs with smp_store_release of
    producer_pos in __bpf_ringbuf_reserve): a header behind that position is there to be read;
 2. between the headers and the payloads (pairs with the xchg of the length word in bpf_ringbuf_commit):
    who sees a header without BUSY sees the payload that was written before it;
 3. between the payloads and the store of the consumer position: what is still being read must not be
    given back (pairs with smp_load_acquire of consumer_pos in __bpf_ringbuf_reserve).
A batch needs each of them once. The barrier before sleeping is the reader's (kernel/ringbuf.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from operator import index
from types import TracebackType
from typing import Any
from weakref import ref

from ..errors import Error, ObjectError, RingCorrupt, ViewInUse
from .batch import Batch, release
from .pieces import HEADER, POSITIONS, occupied, stride
from .values import Codec
from .walk import BUSY, DISCARD, ENDLESS, LENGTH, Walk, Walked, unusable

__all__ = ["BUSY", "DISCARD", "ENDLESS", "HEADER", "LENGTH", "Lease", "Ring", "at_most", "no_fence", "records"]


def no_fence() -> None:
    """For CPUs, and for buffers without a concurrent producer, that need no barrier."""


def records(
    data: bytes | bytearray | memoryview, consumer: int, producer: int, limit: int | None = None
) -> tuple[Batch[memoryview], int]:
    """The committed records between two positions, as views of `data`, and the position where the next call goes on.

    `data` is the data area as the kernel maps it, twice back to back (of a dump of one: `dump + dump`): 2 * size bytes,
    size a power of two. At most `limit` records; less where one is busy. Nothing is written, nothing outside `data` read.

    Raises RingCorrupt, with position and header, for what no producer makes: a record that ends behind the producer
    position, positions that are no multiples of 8, run backwards or are further apart than the ring is large. Good
    records before a bad one are returned; the next call raises.
    """
    area = _Area(memoryview(data))
    start = consumer & area.size - 1
    most = ENDLESS if limit is None else at_most(limit)
    walked = area.walk(consumer, occupied(area.size, consumer, producer), most)
    return Batch(area.data[start : start + walked.taken], walked.pieces), (consumer + walked.taken) & POSITIONS


class _Area:
    """The doubled data area and the walk over its headers."""

    def __init__(self, data: memoryview) -> None:
        self.size = len(data) // 2
        if self.size < HEADER or self.size & (self.size - 1) or len(data) != 2 * self.size:
            raise RingCorrupt(f"a data area of {len(data)} bytes is not twice a power of two")
        self.data = data
        self.headers = data.cast("B").cast("I")

    def walk(self, consumer: int, available: int, limit: int, most: int = ENDLESS, least: int = 0) -> Walked:
        """From the consumer position on: see Walk. Raises RingCorrupt if there is nothing but a damaged record."""
        headers = self.headers[(consumer & self.size - 1) >> 2 :]
        walked = Walk(headers, available, limit, most, least).run()
        if not walked.taken and available:
            unusable(headers, consumer, available, self.size)
        return walked


class Ring:
    """A ring in three buffers, of which `consumer` must be writable.

    `data` is the doubled data area: 2 * size bytes, size a power of two and at least 8. With a `codec`, batches give the
    values that it decodes.
    """

    def __init__(
        self,
        consumer: memoryview,
        producer: memoryview,
        data: memoryview,
        fence: Callable[[], None] = no_fence,
        codec: Codec | None = None,
    ) -> None:
        self._area = _Area(data)
        self.size = self._area.size
        self._consumer = consumer[:8].cast("Q")
        self._producer = producer[:8].cast("Q")
        self._fence = fence
        self._codec = codec
        self._loan: _Loan | None = None
        self.turn: Callable[[], object] = _nobody

    @property
    def consumer_position(self) -> int:
        """Bytes consumed since the ring was made, modulo 2**64."""
        return self._consumer[0]

    @property
    def producer_position(self) -> int:
        """Bytes reserved since the ring was made, modulo 2**64."""
        return self._producer[0]

    @property
    def available(self) -> int:
        """Bytes that are reserved and not yet handed back, as bpf_ringbuf_query(BPF_RB_AVAIL_DATA) tells. RingCorrupt."""
        return occupied(self.size, self._consumer[0], self._producer[0])

    def ready(self) -> bool:
        """Is there a committed or discarded record to take? Raises RingCorrupt as `consume` does."""
        consumer = self._consumer[0]
        if not occupied(self.size, consumer, self._producer[0]):
            return False
        self._fence()
        return self._area.headers[(consumer & self.size - 1) >> 2] < BUSY

    def consume(self, limit: int | None = None, most: int = ENDLESS) -> Batch[Any]:
        """Copy what is committed, up to the first busy record, and hand its space back at once.

        At most `limit` records, and no more of them once they take up `most` bytes. Raises RingCorrupt when positions or
        headers contradict each other; the records before the bad header are then returned by this call, and the error
        raised by the next. In the same way raises ObjectError for a record that is shorter than its type, and skips it.
        Raises Error in a signal handler that has interrupted a call: between its steps the ring cannot be read.
        """
        with _Turn(self):
            start = self._settled()
            memory, walked = self._take(start, limit, most)
            batch: Batch[Any] = Batch(memory, walked.pieces, self._codec).copy()
            if walked.taken:
                self._hand_back(start + walked.taken)
            return batch

    @contextmanager
    def lease(self, limit: int | None = None) -> Iterator[Batch[Any]]:
        """What is committed, as views into the ring: nothing is copied, and the space is handed back at the end.

        At the end the views are released. Raises ViewInUse if something else refers to them still, an array of NumPy's
        or a slice that you made; the space is then handed back by the next call that finds them gone. Otherwise as
        `consume`. A body that raises has consumed its records, too.
        """
        lease = self.begin_lease(limit)
        try:
            yield lease.batch
        except BaseException:
            with suppress(ViewInUse):  # the traceback refers to the views
                self.end_lease(lease)
            raise
        self.end_lease(lease)

    def begin_lease(self, limit: int | None = None) -> Lease:
        """The first half of `lease`. It ends at the latest when nothing refers to the Lease."""
        with _Turn(self):
            start = self._settled()
            memory, walked = self._take(start, limit, ENDLESS)
            self._loan = _Loan(memory, start + walked.taken)
            lease = Lease(Batch(self._loan.memory, walked.pieces, self._codec, self._loan.endings))
            self._loan.lease = ref(lease)
            return lease

    def end_lease(self, lease: Lease) -> None:
        """The second half."""
        with _Turn(self):
            if self._loan and self._loan.lease() is lease:
                self._loan.lease = _nobody
                self._settled()

    def _take(self, start: int, limit: int | None, most: int) -> tuple[memoryview, Walked]:
        walked = self._walk(start, ENDLESS if limit is None else at_most(limit), most)
        begin = start & self.size - 1
        return self._area.data[begin : begin + walked.taken], walked

    def _walk(self, start: int, limit: int, most: int) -> Walked:
        available = occupied(self.size, start, self._producer[0])
        if not available:
            return Walked([], 0)
        self._fence()
        if self._codec is None:
            walked = self._area.walk(start, available, limit, most)
        else:
            walked = self._area.walk(start, available, limit, most, self._codec.size)
            if not walked.pieces and walked.taken < available:
                self._skip_if_short(self._codec, start + walked.taken, available - walked.taken)
        self._fence()
        return walked

    def _skip_if_short(self, codec: Codec, position: int, available: int) -> None:
        """Raise ObjectError if the record here is too short for its type."""
        headers = self._area.headers[(position & self.size - 1) >> 2 :]
        if headers[0] < DISCARD and headers[0] < codec.size:
            length = unusable(headers, position, available, self.size)
            self._hand_back(position + stride(length))
            raise ObjectError(f"{codec.what} has {codec.size} bytes; there is a record of {length}")

    def _settled(self) -> int:
        """The consumer position, after a lease that is over has been handed back."""
        loan = self._loan
        if loan:
            if loan.lease() is not None:
                raise ViewInUse("the ring's records are leased already")
            loan.release()
            self._loan = None
            self._hand_back(loan.end)
        return self._consumer[0]

    def _hand_back(self, position: int) -> None:
        self._fence()
        self._consumer[0] = position & POSITIONS

    def release(self) -> None:
        """Let go of the buffers, so that they can be unmapped when nothing of a lease is left."""
        with suppress(ViewInUse):
            self._settled()
        self._loan = None
        for view in (self._consumer, self._producer, self._area.headers, self._area.data):
            view.release()


class _Turn:
    """Held while positions move. It ends with its `with` block; or with the object, where a signal's handler raises just
    when that block is entered or left."""

    def __init__(self, ring: Ring) -> None:
        if ring.turn() is not None:
            raise Error(
                "the ring is being read already, by another thread or by the code that this signal handler interrupted",
                hint="have the handler set a flag, and read the ring where you otherwise do",
            )
        self._ring = ring
        ring.turn = ref(self)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ring.turn = _nobody


class Lease:
    """A batch of views into the ring, until `Ring.end_lease`, or until it is gone, should a signal's handler have kept
    that from being reached."""

    def __init__(self, batch: Batch[Any]) -> None:
        self.batch = batch


class _Loan:
    """Memory of a ring that is lent. `end` is the position to hand back.

    Slices of a memoryview outlive it and cannot be counted. But slices of one that was made of a PickleBuffer (PEP 574)
    keep what this was made of from being released: `_guard` knows whether any are left. (Not those that somebody makes
    of the guard itself, which is the `obj` of each view.)
    """

    def __init__(self, memory: memoryview, end: int) -> None:
        from pickle import PickleBuffer  # not for those who start in a hurry and copy

        self._guard, self.end = memory, end
        self.memory = memoryview(PickleBuffer(memory))
        self.endings: list[Callable[[], None]] = []  # what the batch has lent, each to be released
        self.lease: Callable[[], Lease | None] = _nobody

    def release(self) -> None:
        """Raises ViewInUse if something refers to the memory."""
        while self.endings:
            self.endings[-1]()
            self.endings.pop()
        release(self.memory)
        release(self._guard)


def _nobody() -> None:
    return None


def at_most(limit: int) -> int:
    """The number. Raises ValueError for a negative one, TypeError for what is no integer."""
    if index(limit) < 0:
        raise ValueError(f"at most {limit} records")
    return limit
