"""The user ring buffer as its producer sees it (kernel/bpf/ringbuf.c, bpf_user_ringbuf_drain; libbpf src/ringbuf.c).

Theory of operation. The buffers and the records are those of formats/ring.py, with the roles exchanged: this side writes
the producer page and the data and reads the consumer page, a BPF program drains. A record is reserved by writing its
header with BUSY and then moving the producer position behind it, and committed by storing the header without BUSY. The
program stops before a busy record, so that one holds up all behind it, and passes over one with DISCARD. The second word
of the header is 0. Unlike the kernel, user space may fill the ring to the last byte (libbpf, user_ring_buffer__reserve).

The kernel believes nothing (__bpf_user_ringbuf_peek): for a producer position that is no multiple of 8, for a record
that ends behind it (EINVAL), or is larger than the ring or than a dynptr (E2BIG: 2**24 - 1 bytes), it refuses to drain,
and as it does not step over the record, it refuses for ever. So nothing of the kind is written here.

Single stores. Header word and positions are stored in one access each, see formats/ring.py.

Order. `fence`, a full memory barrier, or a no-op where the CPU keeps stores in order, and behind earlier loads (x86-64,
s390x), stands
 1. between the load of the consumer position and the stores to the space in front of it (pairs with smp_store_release of
    consumer_pos in __bpf_user_ringbuf_sample_release): the program has read what is overwritten;
 2. between the header and the store of the producer position (pairs with smp_load_acquire of producer_pos in
    __bpf_user_ringbuf_peek): who sees the position sees BUSY, and not the header of a round before;
 3. between the payload and the store of the header without BUSY (pairs with smp_load_acquire of the header there, and is
    an exchange in libbpf's user_ringbuf_commit): who sees it committed sees the payload.
The kernel is not asleep waiting for a record, so there is no barrier for a wake-up as the consumer's side needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from types import TracebackType
from typing import Any, TypeVar

from ..errors import ClosedError, Error, ObjectError, RingCorrupt
from .pieces import HEADER, POSITIONS, occupied, stride
from .ring import BUSY, DISCARD, no_fence

_Made = TypeVar("_Made")
_LARGEST_DYNPTR = (1 << 24) - 1  # DYNPTR_MAX_SIZE, kernel/bpf/helpers.c


class UserRing:
    """The producer's side of a user ring over three buffers: the two pages, and the data area of 2 * size bytes.

    Any number of threads may use it, but no other process may produce to the same ring. A signal handler that interrupts
    a call may release the ring, but not produce: that raises Error. `largest` is the most bytes that a record can have.
    """

    def __init__(
        self, consumer: memoryview, producer: memoryview, data: memoryview, fence: Callable[[], None] = no_fence
    ) -> None:
        self.size = len(data) // 2
        if self.size < HEADER or self.size & (self.size - 1) or len(data) != 2 * self.size:
            raise RingCorrupt(f"a data area of {len(data)} bytes is not twice a power of two")
        self.largest = min(self.size - HEADER, _LARGEST_DYNPTR)
        self._consumer = consumer.cast("B").cast("Q")
        self._producer = producer.cast("B").cast("Q")
        self._data = data.cast("B")
        self._headers = self._data.cast("I")
        self._fence = fence
        self._lock = RLock()
        self._inside = self._closed = False

    @property
    def consumer_position(self) -> int:
        """Bytes that the program has drained since the ring was made, modulo 2**64. Raises ClosedError."""
        return self._alone(self._consumer.__getitem__, 0)

    @property
    def producer_position(self) -> int:
        """Bytes that have been reserved since the ring was made, modulo 2**64. Raises ClosedError."""
        return self._alone(self._producer.__getitem__, 0)

    @property
    def available(self) -> int:
        """Bytes that are reserved or committed and not yet drained. Raises ClosedError, RingCorrupt."""
        return self._alone(lambda: occupied(self.size, self._consumer[0], self._producer[0]))

    def fits(self, length: int) -> bool:
        """Is there room for a record of `length` bytes now? Raises as `reserve` does."""
        return self._alone(self._room, length) is not None

    def reserve(self, length: int) -> UserRecord | None:
        """Room for a record with `length` bytes of payload, or None while the ring is too full for it.

        Raises ObjectError for a length that never fits, ClosedError, and RingCorrupt if the positions contradict each
        other.
        """
        start = self._alone(self._reserve, length)
        return None if start is None else UserRecord(self, start, length)

    def output(self, data: bytes | bytearray | memoryview) -> bool:
        """Reserve, write and submit at once; False while the ring is too full. Raises as `reserve` does.

        The record is never busy: its header is committed already when the producer position makes it visible.
        """
        return self._alone(self._output, memoryview(data).cast("B"))

    def commit(self, position: int, word: int, payload: bytearray | None) -> None:
        """Store what UserRecord has: the payload, unless it is discarded, then the header. Raises ClosedError."""
        self._alone(self._commit, position, word, payload)

    def release(self) -> None:
        """Let go of the buffers, so that they can be unmapped; if a call was interrupted for this, at its end.

        Calls and records raise ClosedError from then on.
        """
        with self._lock:
            self._closed = True
            if not self._inside:
                self._let_go()

    def _alone(self, step: Callable[..., _Made], *arguments: Any) -> _Made:
        """The result of `step`, during which nobody else touches the ring: other threads wait."""
        with self._lock:
            if self._closed:
                raise ClosedError("the user ring is closed")
            if self._inside:
                raise Error("a signal handler may not use the user ring that it interrupted", hint="have it set a flag")
            self._inside = True
            try:
                return step(*arguments)
            finally:
                self._inside = False
                if self._closed:
                    self._let_go()

    def _let_go(self) -> None:
        for view in (self._consumer, self._producer, self._headers, self._data):
            view.release()

    def _reserve(self, length: int) -> int | None:
        start = self._room(length)
        if start is not None:
            self._publish(start, length, BUSY | length)
        return start

    def _output(self, content: memoryview) -> bool:
        start = self._room(len(content))
        if start is None:
            return False
        self._write(start, content)
        self._publish(start, len(content), len(content))
        return True

    def _commit(self, position: int, word: int, payload: bytearray | None) -> None:
        if payload is not None:
            self._write(position, payload)
            self._fence()
        self._headers[(position & self.size - 1) >> 2] = word

    def _room(self, length: int) -> int | None:
        """The producer position, if a record fits in behind it."""
        if not 0 <= length <= self.largest:
            raise ObjectError(f"a record of {length} bytes: this ring takes 0 to {self.largest}")
        start = self._producer[0]
        if occupied(self.size, self._consumer[0], start) + stride(length) > self.size:
            return None
        self._fence()
        return start

    def _publish(self, start: int, length: int, word: int) -> None:
        at = (start & self.size - 1) >> 2
        self._headers[at + 1] = 0
        self._headers[at] = word
        self._fence()
        self._producer[0] = (start + stride(length)) & POSITIONS

    def _write(self, position: int, payload: bytearray | memoryview) -> None:
        begin = (position + HEADER) & self.size - 1  # where the kernel looks, too; it may run into the second mapping
        self._data[begin : begin + len(payload)] = payload


class UserRecord:
    """A place in the ring, of `length` bytes at `position`. Submit or discard it: it holds up all that come behind it.

    `payload` is memory of the record's own, zeros at first, which is copied into the ring when it is submitted. So what
    still refers to it afterwards, a slice or an array, changes nothing that the program reads.

    In a `with` statement it is submitted at the end, and discarded if the body raises. It is for one thread at a time.
    """

    __slots__ = ("_content", "_ring", "_view", "length", "position")

    def __init__(self, ring: UserRing, position: int, length: int) -> None:
        self._ring: UserRing | None = ring
        self.position, self.length = position, length
        self._content = bytearray(length)
        self._view = memoryview(self._content)

    @property
    def payload(self) -> memoryview:
        """Its `length` bytes, to be written. Released when the record is committed; then this raises ClosedError."""
        self._pending()
        return self._view

    def submit(self) -> None:
        """Have the program read it. Raises ClosedError if it is submitted or discarded already, or the ring is closed."""
        self._commit(self.length, self._content)

    def discard(self) -> None:
        """Have the program pass over it; its room is free again when it has. Raises ClosedError as `submit` does."""
        self._commit(self.length | DISCARD, None)

    def _commit(self, word: int, payload: bytearray | None) -> None:
        ring, self._ring = self._pending(), None
        try:
            ring.commit(self.position, word, payload)
        except Error:  # nothing has been stored
            self._ring = ring
            raise
        with suppress(BufferError):  # an array refers to it, and keeps harmless memory
            self._view.release()

    def _pending(self) -> UserRing:
        if self._ring is None:
            raise ClosedError("the record has been submitted or discarded")
        return self._ring

    def __enter__(self) -> UserRecord:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ring is None:
            return
        if kind is None:
            self.submit()
        else:
            with suppress(ClosedError):  # the ring, by the body: its error is the one to be seen
                self.discard()
