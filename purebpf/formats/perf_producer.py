"""The kernel's side of one CPU's perf ring, over plain memory: what bpf_perf_event_output does (kernel/events/ring_buffer.c,
kernel/events/core.c, kernel/trace/bpf_trace.c). formats/perf.py reads it.

    >>> ring = SimulatedPerfRing(64)
    >>> [ring.output(bytes(20)) for _ in range(2)]      # 32 bytes each, and one byte stays free
    [0, -28]
    >>> reader = ring.ring()
    >>> len(reader.drain().records), ring.output(b"after")
    (1, 0)
    >>> reader.drain()                                  # the padding is counted in: 4 + 12 bytes
    Drained(records=[b'after\\x00\\x00\\x00\\x00\\x00\\x00\\x00'], lost=1)

The program has its event in memory of its own, and the kernel copies it (__perf_output_begin, perf_output_sample):
 1. The record is a header of 8 bytes, the length u32 and the bytes, padded to a multiple of 8. The length counts the padding,
    which is what the ring held there before.
 2. If others were lost since the last record, a PERF_RECORD_LOST of 24 bytes that says how many goes in front of it.
 3. Both must find room: from data_tail to data_head there are at most size - 1 bytes. Otherwise the event is lost: -ENOSPC.
 4. data_head moves behind the record, which is complete by then: there is none that is reserved and not yet written.
 5. The reader is woken for each record, as perf buffers ask for (wakeup_events = 1 in perf_event_attr).
"""

from __future__ import annotations

import struct

from ..errors import ObjectError
from .perf import HEAD, LOST, SAMPLE, TAIL, PerfRing

ENOSPC = 28  # Linux's, wherever this runs
_HEADER = struct.Struct("=IHH")
_LARGEST = (1 << 16) - 8  # bytes of a record: its size is a u16 and a multiple of 8
_POSITIONS = (1 << 64) - 1
_MISC_KERNEL = 1  # PERF_RECORD_MISC_KERNEL: where the CPU was
_EVENT_ID = 1  # the kernel numbers perf events from 1


class SimulatedPerfRing:
    """One CPU's perf ring in memory of its own: `control`, the first page, and `data`, of `size` bytes, a power of two.

    `notifications` counts the wake-ups sent. Raises ObjectError for other sizes.
    """

    def __init__(self, size: int, *, page_size: int = 4096) -> None:
        if size < 8 or size & (size - 1):
            raise ObjectError(f"a perf ring of {size} bytes: it must be a power of two, and at least 8")
        self.size, self.page_size = size, page_size
        self.control, self.data = bytearray(page_size), bytearray(size)
        self.notifications = 0
        self._words = memoryview(self.control).cast("Q")
        self._lost = 0  # not yet told

    def ring(self) -> PerfRing:
        """The same memory as its reader sees it."""
        return PerfRing(memoryview(self.control), memoryview(self.data))

    def output(self, content: bytes) -> int:
        """bpf_perf_event_output on this CPU: 0, or -ENOSPC if there was no room. Raises ObjectError above 64 KiB."""
        length = -(-(len(content) + 4) // 8) * 8 - 4
        if _HEADER.size + 4 + length > _LARGEST:
            raise ObjectError(f"a perf record of {len(content)} bytes: its size must fit in 16 bits")
        head, tail = self._words[HEAD], self._words[TAIL]
        notice = _record(LOST, 0, struct.pack("=QQ", _EVENT_ID, self._lost)) if self._lost else b""
        padding = self._held(head + len(notice) + _HEADER.size + 4 + len(content), length - len(content))
        sample = _record(SAMPLE, _MISC_KERNEL, struct.pack("=I", length) + content + padding)
        if len(notice + sample) > (tail - head - 1) & self.size - 1:
            self._lost += 1
            return -ENOSPC
        self._write(head, notice + sample)
        self._lost = 0
        self.notifications += 1
        return 0

    def _held(self, position: int, count: int) -> bytes:
        """What the ring holds there, up to 7 bytes."""
        return bytes(self.data[(position + number) & self.size - 1] for number in range(count))

    def _write(self, head: int, content: bytes) -> None:
        at = head & self.size - 1
        room = self.size - at
        self.data[at : at + len(content[:room])] = content[:room]
        self.data[: len(content[room:])] = content[room:]
        self._words[HEAD] = (head + len(content)) & _POSITIONS


def _record(kind: int, misc: int, body: bytes) -> bytes:
    return _HEADER.pack(kind, misc, _HEADER.size + len(body)) + body
