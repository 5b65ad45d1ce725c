"""A PERF_EVENT_ARRAY map and the perf rings of all CPUs behind it: for objects from before there were ring buffers.

Each CPU that is online gets a perf event and a ring, and the map's slot of that number the event; a program
writes with bpf_perf_event_output(…, BPF_F_CURRENT_CPU). Records of one CPU come in their order; between CPUs there is
none. A perf ring counts what it lost.
"""

from __future__ import annotations

import mmap
import select
import struct
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType

from ..errors import ClosedError, Error, ObjectError
from ..formats import attr
from ..formats.abi import MapType
from ..formats.perf import PerfRing
from . import sys
from .cpus import online_cpus
from .fd import FileDescriptor, mapped
from .maps import Map

_PERF_COUNT_SW_BPF_OUTPUT = 10


class PerfBuffer:
    """The one reader of a PERF_EVENT_ARRAY. Iterate it, or call `wait` and `drain`. Records are bytes, yours to keep.

    `lost_on` counts for each CPU the records that found its ring full, as far as the kernel has told: it tells with
    the next record that finds room. `pages` is the size of each CPU's ring in memory pages, a power of two.
    """

    def __init__(self, array: Map, pages: int = 64) -> None:
        if array.spec.type != MapType.PERF_EVENT_ARRAY:
            raise ObjectError(f"map {array.spec.name!r} is no perf event array")
        if not 0 < pages < 1 << 31 or pages & (pages - 1):  # an int in kernel/events/core.c, perf_mmap
            raise ObjectError(f"a perf ring of {pages} pages: it takes a power of two")
        cpus = online_cpus()
        if cpus[-1] >= array.spec.max_entries:
            raise ObjectError(
                f"map {array.spec.name!r} has {array.spec.max_entries} slots, too few for CPU {cpus[-1]}",
                hint="with max_entries 0 in its spec it gets one for each CPU",
            )
        self.name = array.spec.name
        self.lost_on: dict[int, int] = {}
        self._pending: deque[bytes] = deque()
        self._rings: dict[int, PerfRing] = {}
        self._memory: dict[int, tuple[memoryview, memoryview]] = {}
        self._owned = ExitStack()
        self._epoll = self._owned.enter_context(select.epoll())
        try:
            for cpu in cpus:
                self._open(array, cpu, pages)
        except Error:
            self._owned.close()
            raise
        except OSError as error:
            self._owned.close()
            raise sys.refusal(f"opening perf buffer {self.name!r}", error) from error

    @property
    def lost(self) -> int:
        """Lost records of all CPUs together."""
        return sum(self.lost_on.values())

    def _open(self, array: Map, cpu: int, pages: int) -> None:
        output = attr.perf_event(
            attr.PERF_TYPE_SOFTWARE, _PERF_COUNT_SW_BPF_OUTPUT, sample=1, sample_type=attr.PERF_SAMPLE_RAW, wakeup=1
        )
        event = FileDescriptor(
            sys.perf_event_open(output, -1, cpu, attr.PERF_FLAG_FD_CLOEXEC), f"perf event of {self.name!r}"
        )
        self._owned.callback(event.close)
        memory = self._owned.enter_context(self._map(event, (1 + pages) * mmap.PAGESIZE))
        control, data = memoryview(memory)[: mmap.PAGESIZE], memoryview(memory)[mmap.PAGESIZE :]
        ring = PerfRing(control, data, sys.load_fence)
        for view in (control, ring):  # released before the memory below them is unmapped
            self._owned.callback(view.release)
        array.put(struct.pack("=I", cpu), event)
        self._epoll.register(event.fileno(), select.EPOLLIN)
        self._rings[cpu], self._memory[cpu], self.lost_on[cpu] = ring, (control, data), 0

    def _map(self, event: FileDescriptor, length: int) -> mmap.mmap:
        try:
            return mapped(event.fileno(), length, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:  # EPERM without CAP_IPC_LOCK beyond the limit (kernel/events/core.c, perf_mmap)
            hint = "try fewer pages, or raise kernel.perf_event_mlock_kb"
            raise sys.refusal(f"mapping {length} bytes of perf buffer {self.name!r}", error, hint) from error

    def _opened(self) -> dict[int, PerfRing]:
        if self._epoll.closed:
            raise ClosedError(f"perf buffer {self.name!r} is closed")
        return self._rings

    def memory(self, cpu: int) -> tuple[memoryview, memoryview]:
        """The first page of a CPU's ring, and its data area: see formats/perf.py. Views of it must be released before the
        buffer is closed. Raises KeyError for a CPU that was not online."""
        self._opened()
        return self._memory[cpu]

    def fileno(self) -> int:
        """A descriptor that becomes readable when there are records (an epoll instance)."""
        self._opened()
        return self._epoll.fileno()

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until a record can be drained or `timeout` seconds have passed (None: for ever). True if there is one."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._pending and not any(ring.ready() for ring in self._opened().values()):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._epoll.poll(left)
        return True

    def drain(self) -> list[bytes]:
        """All records that are there now, CPU by CPU, without waiting. Raises RingCorrupt."""
        for cpu, ring in self._opened().items():
            drained = ring.drain()
            self._pending += drained.records
            self.lost_on[cpu] += drained.lost
        records = list(self._pending)
        self._pending.clear()
        return records

    def __iter__(self) -> Iterator[bytes]:
        """Records as they come, for ever. What a `break` leaves behind is kept for the next iteration or drain."""
        while True:
            self.wait()
            self._pending.extend(self.drain())
            while self._pending:
                yield self._pending.popleft()

    def close(self) -> None:
        """Unmap the rings and close their events. Twice is harmless."""
        self._owned.close()

    def __enter__(self) -> PerfBuffer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
