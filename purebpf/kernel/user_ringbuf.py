"""A user ring buffer map (BPF_MAP_TYPE_USER_RINGBUF, Linux 6.1), mapped into memory: Python produces, a program drains.

Offset 0 of the map's file is the consumer page, which can be mapped read only, then come the producer page and the
doubled data area (read and write): kernel/bpf/ringbuf.c, ringbuf_map_mmap_user.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TypeVar

from ..errors import ObjectError
from ..formats.abi import MapType
from ..formats.user_ring import UserRecord, UserRing
from . import sys
from .fd import FileDescriptor, mapped
from .maps import Map
from .sleep import Sleeper

_Made = TypeVar("_Made")


class UserRingBuffer:
    """The producer of a user ring. The process must be the only one; its threads may share this object.

        if not ring.output(data): ...                a record of bytes that are there already
        record = ring.reserve(20)                    a record that is written in its place, and then submitted
        if record is not None:
            with record: struct.pack_into("=I16s", record.payload, 0, pid, name)

    Nothing runs the draining program for it: it must be attached to something that happens, or be run
    (Program.test_run). The kernel refuses a ring whose producer position or headers are damaged, for ever.
    """

    def __init__(self, ring_map: Map) -> None:
        spec = ring_map.spec
        if spec.type != MapType.USER_RINGBUF:
            raise ObjectError(f"map {spec.name!r} is no user ring buffer")
        self.name = spec.name
        self._sleeper = Sleeper(f"user ring {self.name!r}")
        try:
            self._ring = self._open(ring_map)
        except OSError as error:
            self._sleeper.close()
            raise sys.refusal(f"mapping user ring {self.name!r}", error) from error

    def _open(self, ring_map: Map) -> UserRing:
        owned = self._sleeper.owned
        self._fd = FileDescriptor(os.dup(ring_map.fileno()), f"user ring {self.name!r}")
        owned.callback(self._fd.close)
        page, fd = mmap.PAGESIZE, self._fd.fileno()
        length = page + 2 * ring_map.spec.max_entries
        consumer = mapped(fd, page, mmap.PROT_READ)
        owned.callback(_unmap, consumer)
        rest = mapped(fd, length, mmap.PROT_READ | mmap.PROT_WRITE, page)
        owned.callback(_unmap, rest)
        self._sleeper.watch(fd, produced=True)
        first, producer, data = memoryview(consumer), memoryview(rest)[:page], memoryview(rest)[page:]
        ring = UserRing(first, producer, data, sys.load_fence)
        for release in (first.release, producer.release, data.release, ring.release):
            owned.callback(release)
        return ring

    @property
    def size(self) -> int:
        """Of the data area, in bytes."""
        return self._ring.size

    @property
    def largest(self) -> int:
        """The most bytes that one record can have."""
        return self._ring.largest

    @property
    def consumer_position(self) -> int:
        """Bytes that the program has drained since the ring was made, modulo 2**64."""
        return self._ring.consumer_position

    @property
    def producer_position(self) -> int:
        """Bytes that have been reserved since the ring was made, modulo 2**64."""
        return self._ring.producer_position

    @property
    def available(self) -> int:
        """Bytes that are reserved or committed and not yet drained."""
        return self._ring.available

    def fileno(self) -> int:
        """A descriptor for selectors, poll and epoll: writable while the ring is not full to the last byte."""
        return self._fd.fileno()

    def reserve(self, length: int, timeout: float | None = 0) -> UserRecord | None:
        """A record with `length` bytes of payload, to be written and submitted: see UserRecord.

        None if there is no room for it after `timeout` seconds (None: wait for ever). It is a drain that makes room and
        ends the wait; one that was told BPF_RB_NO_WAKEUP makes room, but does not end it. Signal handlers may raise
        meanwhile.

        Raises ObjectError for a length that never fits, ClosedError, also when another thread closes, and RingCorrupt.
        """
        record = self._ring.reserve(length)
        if record is None and timeout != 0:
            record = self._waited(partial(self._ring.reserve, length), length, timeout)
        return record

    def output(self, data: bytes | bytearray | memoryview, timeout: float | None = 0) -> bool:
        """Submit a copy of `data` as one record. False if there is no room. Waits and raises as `reserve` does."""
        done = self._ring.output(data)
        if not done and timeout != 0:
            done = bool(self._waited(partial(self._ring.output, data), memoryview(data).nbytes, timeout))
        return done

    def _waited(self, attempt: Callable[[], _Made], length: int, timeout: float | None) -> _Made | None:
        """What `attempt` makes once there is room, unless another thread is faster: then it waits on."""
        deadline = None if timeout is None else time.monotonic() + timeout
        made, fits = None, partial(self._ring.fits, length)
        while not made and self._sleeper.wait(fits, None if deadline is None else deadline - time.monotonic()):
            made = attempt()
        return made

    def close(self) -> None:
        """Unmap the ring. Twice is harmless. What has been submitted stays in the kernel's map, to be drained.

        Records that are still reserved can no longer be committed, and hold up the ring if the map lives on.
        """
        self._ring.release()
        self._sleeper.close()

    def __enter__(self) -> UserRingBuffer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unmap(memory: mmap.mmap) -> None:
    with suppress(BufferError):  # a signal handler closes, and the call that it interrupted is still to end
        memory.close()
