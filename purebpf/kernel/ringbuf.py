"""A ring buffer map, mapped into memory, and several of them with callbacks.

Offset 0 of the map's file is the consumer page (read and write), then come the producer page and the
doubled data area (read only; the kernel refuses to map them writable): kernel/bpf/ringbuf.c,
ringbuf_map_mmap_kern.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import compress, islice, repeat
from operator import length_hint
from threading import RLock
from types import TracebackType
from typing import Any, Generic, TypeVar

from ..errors import NotSupported, ObjectError, ViewInUse
from ..formats.abi import MapFlags, MapType
from ..formats.batch import Batch
from ..formats.pieces import POSITIONS
from ..formats.ring import ENDLESS, Lease, Ring, at_most
from ..formats.values import Codec
from . import sys
from .fd import FileDescriptor, mapped
from .maps import Map
from .sleep import Sleeper

Record = TypeVar("Record")
_CHUNK = 1 << 16  # bytes that an iteration copies at once: what it makes of them stays in the CPU's cache


class RingBuffer(Generic[Record]):
    """The one consumer of a ring: the kernel knows one consumer position for each, a second one would steal records.

    Three ways to read it, which mix as you like, for each record comes once:

        for record in ring                record by record, for ever; `drain()` the same without waiting
        ring.poll(), ring.consume()       a Batch, copied out of the ring, whose space has been handed back
        with ring.lease() as batch        a Batch of views into the ring, handed back at the end

    Records are memoryviews of copies, and stay what they are as long as you keep them (a record keeps its batch, so keep
    `bytes(record)` of a few); those of a lease are released with it (see Batch). With a codec (`Object.events`) they are
    decoded values.

    Threads may share it. Each record goes to one of them, and in its own order to each. Any thread may close it: waits
    then end with ClosedError. A signal's handler may close it, too, but not read what it has interrupted.
    `bpf_ringbuf_query` has the same numbers as the properties.
    """

    def __init__(self, ring_map: Map, codec: Codec | None = None, lost: Callable[[], Any] | None = None) -> None:
        spec = ring_map.spec
        if spec.type != MapType.RINGBUF:
            raise ObjectError(f"map {spec.name!r} is no ring buffer")
        if spec.flags & MapFlags.RB_OVERWRITE:
            raise NotSupported(
                f"ring {spec.name!r} overwrites its oldest records (BPF_F_RB_OVERWRITE): they may change while they are read",
                hint="leave the flag out; reservations then fail when the ring is full, and the program can count them",
            )
        self.name, self._lost = spec.name, lost
        self.batches = self.records = 0  # times that records were taken out, and how many in all
        self._lock = RLock()
        self._chunk: _Chunk[Record] = _Chunk(Batch(memoryview(b""), []))
        self._sleeper = Sleeper(f"ring {self.name!r}")
        try:
            self._ring = self._open(ring_map, codec)
        except BaseException as error:
            self._sleeper.close()
            if isinstance(error, OSError):
                raise sys.refusal(f"mapping ring {self.name!r}", error) from error
            raise

    def _open(self, ring_map: Map, codec: Codec | None) -> Ring:
        owned = self._sleeper.owned
        self._fd = FileDescriptor(os.dup(ring_map.fileno()), f"ring {self.name!r}")
        owned.callback(self._fd.close)
        page, fd = mmap.PAGESIZE, self._fd.fileno()
        length = page + 2 * ring_map.spec.max_entries
        consumer = mapped(fd, page, mmap.PROT_READ | mmap.PROT_WRITE)
        owned.callback(_unmap, consumer)
        rest = mapped(fd, length, mmap.PROT_READ, page)
        owned.callback(_unmap, rest)
        self._sleeper.watch(fd)
        first, producer, data = memoryview(consumer), memoryview(rest)[:page], memoryview(rest)[page:]
        ring = Ring(first, producer, data, sys.load_fence, codec)
        for view in (first, producer, ring):  # released before the memory below them is unmapped
            owned.callback(view.release)
        return ring

    @property
    def size(self) -> int:
        """Of the data area, in bytes."""
        return self._ring.size

    @property
    def consumer_position(self) -> int:
        """Bytes consumed since the ring was made, modulo 2**64."""
        with self._sleeper.in_use():
            return self._ring.consumer_position

    @property
    def producer_position(self) -> int:
        """Bytes reserved since the ring was made, modulo 2**64."""
        with self._sleeper.in_use():
            return self._ring.producer_position

    @property
    def available(self) -> int:
        """Bytes that are reserved or committed and not yet handed back. Raises RingCorrupt."""
        with self._sleeper.in_use(), self._lock:
            return self._ring.available

    @property
    def fill(self) -> float:
        """`available` as a part of `size`, 0.0 to 1.0."""
        return self.available / self.size

    @property
    def lost(self) -> int:
        """Records that found the ring full, as the programs count them: the kernel does not. See Object.ring.

        Raises ObjectError if the reader was not told where they count.
        """
        if self._lost is None:
            raise ObjectError(
                f"ring {self.name!r}: only the programs know what is lost",
                hint=f'say where they count it: ring({self.name!r}, lost="lost")',
            )
        counts = self._lost()
        return sum(counts) if isinstance(counts, list) else int(counts)

    def fileno(self) -> int:
        """A descriptor for selectors, poll and epoll: readable, once the kernel has notified, while there are records.

        Before every sleep, take until `wait(0)` is False: only then will the next commit notify.
        """
        return self._fd.fileno()

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until a record can be had or `timeout` seconds have passed (None: for ever). True if there is one.

        Signals are handled as everywhere in Python: a handler that raises ends the wait. Records that were committed with
        BPF_RB_NO_WAKEUP do not end it, and are seen by the next call. Raises ClosedError when another thread closes.
        """
        return self._sleeper.wait(self._ready, timeout)

    def _ready(self) -> bool:
        with self._lock:
            return self._chunk.left > 0 or self._ring.ready()

    def consume(self, limit: int | None = None) -> Batch[Record]:
        """All that is committed now, or the first `limit` records, without waiting. Their space is handed back.

        Raises RingCorrupt, and ObjectError for a record that is too short for its type: both when it is the first; what
        comes before it is returned. ViewInUse if a lease has not ended.
        """
        wanted = ENDLESS if limit is None else at_most(limit)
        with self._sleeper.in_use(), self._lock:
            if not self._chunk.left:
                return self._counted(self._ring.consume(wanted))
            kept = self._chunk.claim()
            try:
                batch = (
                    kept.then(self._counted(self._ring.consume(wanted - len(kept))))
                    if wanted > len(kept)
                    else kept[:wanted]
                )
            except BaseException:
                self._chunk = _Chunk(kept)
                raise
            self._chunk = _Chunk(kept[wanted:])
            return batch

    def poll(self, timeout: float | None = None, limit: int | None = None) -> Batch[Record]:
        """Wait, at most `timeout` seconds, and consume. Empty if there was nothing."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            woken = self.wait(None if deadline is None else deadline - time.monotonic())
            batch = self.consume(limit)
            if batch or not woken or limit == 0:
                return batch

    @contextmanager
    def lease(self, limit: int | None = None) -> Iterator[Batch[Record]]:
        """What is committed now, as views into the ring, whose space is handed back at the end: see Ring.lease.

        What an iteration was left with comes first, alone, and as the copy that it is.
        """
        with self._sleeper.in_use():
            with self._lock:
                left = self._chunk.left
                kept = Lease(self.consume(left if limit is None else min(left, limit))) if left else None
                lease = kept or self._ring.begin_lease(limit)
                if not kept:
                    self._counted(lease.batch)
            try:
                yield lease.batch
            except BaseException:
                with suppress(ViewInUse):  # the traceback refers to the views
                    self._end(lease)
                raise
            self._end(lease)

    def _end(self, lease: Lease) -> None:
        with self._lock:
            self._ring.end_lease(lease)

    def drain(self) -> Iterator[Record]:
        """Record by record, without waiting, what is there now. What is not taken is there for the next call."""
        end = self.producer_position
        while True:
            chunk = self._fetch(end)
            if chunk is None:
                break
            yield from chunk.records

    def __iter__(self) -> Iterator[Record]:
        """Records as they come, for ever. What a `break` leaves is there for the next iteration, or call."""
        while True:
            chunk = self._fetch()
            if chunk is None:
                self.wait()
            else:
                yield from chunk.records

    async def __aiter__(self) -> AsyncIterator[Record]:
        """The same on asyncio's loop; after each chunk of records other tasks get their turn."""
        from asyncio import sleep  # which takes longer to import than purebpf

        while True:
            chunk = self._fetch()
            if chunk is None:
                await self._sleeper.wait_async(self._ready)
            else:
                for record in chunk.records:
                    yield record
            await sleep(0)

    def _counted(self, batch: Batch[Record]) -> Batch[Record]:
        count = len(batch)
        self.batches += count > 0
        self.records += count
        return batch

    def _fetch(self, end: int | None = None) -> _Chunk[Record] | None:
        """What an iteration was left with, or records from before position `end`. None if there are none, or the first is
        busy."""
        with self._sleeper.in_use(), self._lock:
            batch = self._chunk.claim()
            if not batch:
                start = self._ring.consumer_position
                if end is not None and not 0 < (end - start) & POSITIONS <= self.size:
                    return None
                batch = self._counted(self._ring.consume(most=_CHUNK))
                if self._ring.consumer_position == start:
                    return None
            self._chunk = _Chunk(batch)
            return self._chunk

    def close(self) -> None:
        """Unmap the ring. Twice is harmless; records not yet consumed stay in the kernel's map.

        Memory that an array still refers to, in spite of ViewInUse, is unmapped when that is gone.
        """
        self._sleeper.close()

    def __enter__(self) -> RingBuffer[Record]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Chunk(Generic[Record]):
    """A batch that an iteration gives record by record. Others may claim what is left of it at any time.

    For each record that is given, one of `_left` is taken, and who takes the last of them has the rest: each step is a
    single call of C code, which no other thread or signal comes between.
    """

    def __init__(self, batch: Batch[Record]) -> None:
        self._batch = batch
        self._left = repeat(True, len(batch))
        self.records = compress(batch, self._left)

    @property
    def left(self) -> int:
        """So many have not been given."""
        return length_hint(self._left)

    def claim(self) -> Batch[Record]:
        """Those; `records` ends."""
        left = len(list(self._left))
        return self._batch[len(self._batch) - left :]


def _unmap(memory: mmap.mmap) -> None:
    with suppress(BufferError):
        memory.close()


class RingGroup:
    """Several rings, each with a callback, and one wait for all: the form of libbpf's ring_buffer__new, __add, __poll.

    The rings stay yours, to be closed after the group.
    """

    def __init__(self) -> None:
        self._rings: list[tuple[RingBuffer[Any], Callable[[Any], object]]] = []
        self._sleeper = Sleeper("the group of rings")

    def add(self, ring: RingBuffer[Record], callback: Callable[[Record], object]) -> None:
        """Have `callback(record)` called for each record of `ring`. If it raises, the next call goes on behind it."""
        self._sleeper.check()
        self._sleeper.watch(ring.fileno())
        self._rings.append((ring, callback))

    def poll(self, timeout: float | None = None, limit: int | None = None) -> int:
        """Wait until one of the rings has a record, at most `timeout` seconds, and consume. How many there were."""
        self._sleeper.wait(lambda: any(ring.wait(0) for ring, _callback in self._rings), timeout)
        return self.consume(limit)

    def consume(self, limit: int | None = None) -> int:
        """Hand all records that are there now, or `limit` of them, to the callbacks, without waiting. How many."""
        count = 0
        for ring, callback in self._rings:
            for record in islice(ring.drain(), None if limit is None else limit - count):
                count += 1
                callback(record)
        return count

    def close(self) -> None:
        """End a poll that another thread is in. Twice is harmless."""
        self._sleeper.close()

    def __enter__(self) -> RingGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
