"""The perf ring as its consumer sees it (include/uapi/linux/perf_event.h; kernel/events/ring_buffer.c).

Each CPU has one. Its first page has the positions data_head, which the kernel moves, and data_tail, which we move;
the data area follows, a power of two of bytes. Records stand one behind the other, each with a header: type u32, misc
u16, size u16 of the whole, a multiple of 8. A record may go on at the area's start. A BPF program's output is a
PERF_RECORD_SAMPLE whose body is a length u32 and the bytes; what found no room is counted and told by a
PERF_RECORD_LOST.

Order: a barrier between the load of data_head and the records, and one between the records and the store of
data_tail; the comment in kernel/events/ring_buffer.c (perf_output_put_handle) shows what they pair with.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import NamedTuple

from ..errors import RingCorrupt
from .ring import no_fence

HEAD, TAIL = 1024 // 8, 1032 // 8  # in 64-bit words of the first page
LOST, SAMPLE = 2, 9
_HEADER = struct.Struct("=IHH")
_POSITIONS = (1 << 64) - 1


class Drained(NamedTuple):
    """Payloads in their order, and how many records were lost before or among them."""

    records: list[bytes]
    lost: int


class PerfRing:
    """One CPU's ring. `control` is its first page, writable; `data` the data area."""

    def __init__(self, control: memoryview, data: memoryview, fence: Callable[[], None] = no_fence) -> None:
        self.size = len(data)
        if self.size < 8 or self.size & (self.size - 1):
            raise RingCorrupt(f"a perf data area of {self.size} bytes is no power of two")
        self._positions = control[: 8 * (TAIL + 1)].cast("Q")
        self._data = data
        self._fence = fence

    def ready(self) -> bool:
        """Is there anything to take?"""
        return self._positions[HEAD] != self._positions[TAIL]

    def drain(self) -> Drained:
        """Take everything that is there. The payloads are copies; a sample's padding is among them: up to 7 bytes, and
        whatever the ring held there before.

        Raises RingCorrupt when positions or headers contradict each other. All that was there is then given up.
        """
        head, tail = self._positions[HEAD], self._positions[TAIL]
        available = (head - tail) & _POSITIONS
        if not available:
            return Drained([], 0)
        if available > self.size:
            self._positions[TAIL] = head
            raise RingCorrupt(f"perf ring of {self.size} bytes: data_head {head:#x} and data_tail {tail:#x}")
        self._fence()
        content = self._copy(tail & self.size - 1, available)
        self._fence()
        self._positions[TAIL] = head
        return _parse(content)

    def _copy(self, start: int, length: int) -> bytes:
        first = bytes(self._data[start : start + length])
        return first + bytes(self._data[: length - len(first)])

    def release(self) -> None:
        """Let go of the buffers, so that they can be unmapped."""
        self._positions.release()
        self._data.release()


def _parse(content: bytes) -> Drained:
    records: list[bytes] = []
    lost = at = 0
    while at < len(content):
        kind, _misc, size = _HEADER.unpack_from(content, at) if len(content) - at >= 8 else (0, 0, 0)
        body = content[at + 8 : at + size]
        if size < 8 or size % 8 or at + size > len(content):
            raise RingCorrupt(f"a perf record says {size} bytes where {len(content) - at} are left")
        if kind == SAMPLE:
            length = int.from_bytes(body[:4], sys.byteorder)
            if len(body) < 4 or length > len(body) - 4:
                raise RingCorrupt(f"a perf sample of {len(body)} bytes says that {length} of them are data")
            records.append(body[4 : 4 + length])
        elif kind == LOST:
            if len(body) < 16:
                raise RingCorrupt(f"a perf record of lost ones of {len(body)} bytes")
            lost += struct.unpack_from("=QQ", body)[1]
        at += size
    return Drained(records, lost)
