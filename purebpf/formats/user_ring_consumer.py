"""The kernel's consumer of a user ring buffer, over plain memory (bpf_user_ringbuf_drain, kernel/bpf/ringbuf.c, Linux 6.1).

formats/user_ring.py is the other side. The program that drains has a callback run for each record:

    >>> ring = SimulatedUserRing(4096)
    >>> user = ring.ring()
    >>> record = user.reserve(5)
    >>> ring.drain(lambda payload: 0)        # the record is busy
    0
    >>> record.payload[:] = b"hello"
    >>> record.submit()
    >>> found = []
    >>> ring.drain(lambda payload: bool(found.append(payload)))
    1
    >>> found
    [b'hello']

Drain takes records until one is busy, none is left, the callback returns 1, or 131,072 have been looked at. One program at
a time: another that comes meanwhile is told -EBUSY. For each record (__bpf_user_ringbuf_peek):
 1. A producer position that is no multiple of 8 is refused: -EINVAL. One that is not behind the consumer position means that
    there is nothing.
 2. The record must end before the producer position, or else -EINVAL; it must fit in the ring and in a dynptr, or else
    -E2BIG. The consumer position stays where it is, so that the next drain says the same.
 3. A discarded record is skipped, also one that is busy. A busy one ends the drain.
 4. The callback has the payload, and then the consumer position moves behind the record. It counts, if it was the last one
    that the callback wanted, too.
At the end, whoever waits for room is notified if a record has been looked at, or with FORCE_WAKEUP in any case; with
NO_WAKEUP not.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ObjectError
from .pieces import HEADER, stride
from .ring import BUSY, DISCARD, LENGTH
from .ring_producer import EINVAL, FORCE_WAKEUP, NO_WAKEUP
from .user_ring import UserRing

E2BIG, EBUSY = 7, 16  # Linux's, wherever this runs
MOST = 128 * 1024  # records of a drain: BPF_MAX_USER_RINGBUF_SAMPLES
_LARGEST_DYNPTR = (1 << 24) - 1  # DYNPTR_MAX_SIZE, kernel/bpf/helpers.c


class SimulatedUserRing:
    """A user ring in memory of its own, and what BPF programs can do with it.

    `consumer_page`, `producer_page` and `data` are what the kernel maps for user space: two pages of `page_size` bytes, and
    the data area of 2 * size bytes. Its halves are not kept equal: both sides look for a payload where it starts in the
    first. `notifications` counts the wake-ups sent. Raises ObjectError if `size` is no power of two, or below 8.
    """

    def __init__(self, size: int, *, page_size: int = 4096) -> None:
        if size < HEADER or size & (size - 1):
            raise ObjectError(f"a ring of {size} bytes: it must be a power of two, and at least {HEADER}")
        self.size, self.page_size = size, page_size
        self.consumer_page, self.producer_page = bytearray(page_size), bytearray(page_size)
        self.data = bytearray(2 * size)
        self.notifications = 0
        self._consumer = memoryview(self.consumer_page).cast("Q")
        self._producer = memoryview(self.producer_page).cast("Q")
        self._headers = memoryview(self.data).cast("I")
        self._draining = False

    def ring(self) -> UserRing:
        """The same memory as its producer sees it. A ring has one producing process; make it once."""
        pages = memoryview(self.consumer_page).toreadonly(), memoryview(self.producer_page), memoryview(self.data)
        return UserRing(*pages)

    def drain(self, callback: Callable[[bytes], int], flags: int = 0) -> int:
        """bpf_user_ringbuf_drain: how many records the callback has had, or -EINVAL, -E2BIG, -EBUSY.

        `callback` gets each payload and returns 0 for the next one, 1 to stop.
        """
        if flags & ~(NO_WAKEUP | FORCE_WAKEUP):
            return -EINVAL
        if self._draining:
            return -EBUSY
        self._draining = True
        try:
            result, looked_at = self._take(callback)
        finally:
            self._draining = False
        self.notifications += bool(flags & FORCE_WAKEUP or (looked_at and not flags & NO_WAKEUP))
        return result

    def _take(self, callback: Callable[[bytes], int]) -> tuple[int, int]:
        """What to return, and how many records were looked at."""
        looked_at = skipped = stop = 0
        while looked_at < MOST and not stop:
            consumer, producer = self._consumer[0], self._producer[0]
            if producer % HEADER:
                return -EINVAL, looked_at
            if consumer >= producer:
                break
            word = self._headers[(consumer & self.size - 1) // 4]
            length = word & LENGTH
            if stride(length) > producer - consumer:
                return -EINVAL, looked_at
            if stride(length) > self.size or length > _LARGEST_DYNPTR:
                return -E2BIG, looked_at
            if word & DISCARD:
                skipped += 1
            elif word & BUSY:
                break
            else:
                begin = consumer + HEADER & self.size - 1
                stop = callback(bytes(self.data[begin : begin + length]))
            self._consumer[0] = consumer + stride(length)
            looked_at += 1
        return looked_at - skipped, looked_at
