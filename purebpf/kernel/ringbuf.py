"""A ring buffer map, mapped into memory and waited for with epoll.

Offset 0 of the map's file is the consumer page (read and write), then come the producer page and the
doubled data area (read only; the kernel refuses to map them writable): kernel/bpf/ringbuf.c,
ringbuf_map_mmap_kern.

Waiting. The kernel wakes the consumer when a record is committed at the very position that the consumer
has handed back. So the position is stored before every wait; then a full barrier, or the store could
still be on its way while the ring is looked at, and the commit in between would wake nobody (Dekker's
pattern; the other side is the xchg and the load of consumer_pos in bpf_ringbuf_commit); then one more
look. epoll is edge-triggered: after a busy record at the head, the level would stay high and spin.
"""

from __future__ import annotations

import mmap
import select
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType

from ..errors import ClosedError, ObjectError
from ..formats.abi import MapType
from ..formats.ring import Ring
from . import sys
from .maps import Map


class RingBuffer:
    """The one consumer of a ring. Iterate it, or call `wait` and `drain`. Records are bytes, yours to keep.

    The kernel knows one consumer position for each ring: a second reader would steal records.
    """

    def __init__(self, ring_map: Map) -> None:
        if ring_map.spec.type != MapType.RINGBUF:
            raise ObjectError(f"map {ring_map.spec.name!r} is no ring buffer")
        self.name = ring_map.spec.name
        self._pending: deque[bytes] = deque()
        self._owned = ExitStack()
        self._ring: Ring | None = None
        try:
            self._ring = self._open(ring_map)
        except OSError as error:
            self._owned.close()
            raise sys.refusal(f"mapping ring {self.name!r}", error) from error

    def _open(self, ring_map: Map) -> Ring:
        page, fd = mmap.PAGESIZE, ring_map.fileno()
        length = page + 2 * ring_map.spec.max_entries
        consumer = self._owned.enter_context(mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE))
        rest = self._owned.enter_context(mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=page))
        self._epoll = self._owned.enter_context(select.epoll())
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        first, producer, data = memoryview(consumer), memoryview(rest)[:page], memoryview(rest)[page:]
        ring = Ring(first, producer, data, sys.load_fence)
        for view in (first, producer, ring):  # released before the memory below them is unmapped
            self._owned.callback(view.release)
        self._owned.callback(setattr, self, "_ring", None)
        return ring

    def _opened(self) -> Ring:
        if self._ring is None:
            raise ClosedError(f"ring {self.name!r} is closed")
        return self._ring

    def fileno(self) -> int:
        """A descriptor that becomes readable when records were committed (an epoll instance)."""
        self._opened()
        return self._epoll.fileno()

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until a record can be drained or `timeout` seconds have passed (None: for ever).

        True if there is one. Signals are handled as everywhere in Python: a handler that raises ends the wait.
        Records that were committed with BPF_RB_NO_WAKEUP do not end it, and are seen by the next call.
        """
        ring = self._opened()
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._pending:
            sys.full_barrier()
            if ring.ready():
                break
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._epoll.poll(left)
            ring = self._opened()
        return True

    def drain(self) -> list[bytes]:
        """All records that are committed now, without waiting. Their space is handed back. Raises RingCorrupt."""
        records = [*self._pending, *self._opened().drain()]
        self._pending.clear()
        return records

    def __iter__(self) -> Iterator[bytes]:
        """Records as they come, for ever. What a `break` leaves behind is kept for the next iteration or drain."""
        while True:
            self.wait()
            self._pending.extend(self._opened().drain())
            while self._pending:
                yield self._pending.popleft()

    def close(self) -> None:
        """Unmap the ring. Twice is harmless; records not yet drained stay in the kernel's map."""
        self._owned.close()

    def __enter__(self) -> RingBuffer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
