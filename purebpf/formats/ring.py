"""The BPF ring buffer as its consumer sees it (kernel/bpf/ringbuf.c, Documentation/bpf/ringbuf.rst).

Theory of operation. Three buffers: the consumer page and the producer page, whose first 8 bytes are a
position each, and the data area, visible twice back to back so that a record that wraps is contiguous.
Positions only grow (modulo 2**64); `position & (size - 1)` is the offset in the data. Each record starts
on a multiple of 8 with an 8-byte header: a length word, then a word that only the kernel uses. Bit 31 of
the length word is BUSY (reserved, not yet committed), bit 30 DISCARD (committed, to be skipped), the rest
the payload's length. A busy record holds up all that were reserved after it.

Single loads and stores. A position must be read and written in one access, or a half-written one is seen.
`memoryview.cast("Q")[0]` and `cast("I")[i]` are one native access in CPython; `struct` with "<" or ">"
reads byte by byte and tears.

Order. Python has no acquire load, so the caller passes `fence`, a full memory barrier, or a no-op where
the CPU keeps loads in order, and stores behind earlier loads (x86-64, s390x). It stands
 1. between the load of the producer position and the headers (pairs with smp_store_release of
    producer_pos in __bpf_ringbuf_reserve);
 2. between the headers and the payloads (pairs with the xchg of the length word in bpf_ringbuf_commit);
 3. between the payloads and the store of the consumer position: what is still being read must not be
    given back (pairs with smp_load_acquire of consumer_pos in __bpf_ringbuf_reserve).
A batch needs each of them once. The barrier before sleeping is the reader's (kernel/ringbuf.py).
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import RingCorrupt

BUSY = 1 << 31
DISCARD = 1 << 30
LENGTH = DISCARD - 1
HEADER = 8
_POSITIONS = (1 << 64) - 1


def no_fence() -> None:
    """For CPUs, and for buffers without a concurrent producer, that need no barrier."""


class Ring:
    """A ring in three buffers, of which `consumer` must be writable.

    `data` is the doubled data area: 2 * size bytes, size a power of two and at least 8.
    """

    def __init__(
        self, consumer: memoryview, producer: memoryview, data: memoryview, fence: Callable[[], None] = no_fence
    ) -> None:
        self.size = len(data) // 2
        if self.size < HEADER or self.size & (self.size - 1) or len(data) != 2 * self.size:
            raise RingCorrupt(f"a data area of {len(data)} bytes is not twice a power of two")
        self._consumer = consumer[:8].cast("Q")
        self._producer = producer[:8].cast("Q")
        self._data = data
        self._headers = data.cast("I")
        self._fence = fence

    @property
    def consumer_position(self) -> int:
        """Bytes consumed since the ring was made, modulo 2**64."""
        return self._consumer[0]

    @property
    def producer_position(self) -> int:
        """Bytes reserved since the ring was made, modulo 2**64."""
        return self._producer[0]

    def ready(self) -> bool:
        """Is there a committed or discarded record to take? Raises RingCorrupt as `drain` does."""
        consumer = self._consumer[0]
        if not self._available(consumer):
            return False
        self._fence()
        return not self._headers[(consumer & self.size - 1) >> 2] & BUSY

    def drain(self) -> list[bytes]:
        """Take all records up to the first busy one, as copies of their payloads, and hand their space back.

        Raises RingCorrupt when positions or headers contradict each other; the records before the bad
        header are then returned by this call, and the error raised by the next.
        """
        start = self._consumer[0]
        available = self._available(start)
        if not available:
            return []
        self._fence()
        spans, taken = self._walk(start, available)
        self._fence()
        data = self._data
        records = [bytes(data[begin:end]) for begin, end in spans]
        self._fence()
        self._consumer[0] = (start + taken) & _POSITIONS
        return records

    def _available(self, consumer: int) -> int:
        producer = self._producer[0]
        available = (producer - consumer) & _POSITIONS
        if available > self.size or consumer % HEADER or producer % HEADER:
            raise RingCorrupt(
                f"ring of {self.size} bytes: consumer position {consumer:#x} and producer position {producer:#x}"
                " cannot both be true"
            )
        return available

    def _walk(self, start: int, available: int) -> tuple[list[tuple[int, int]], int]:
        """Offsets (begin, end) of the payloads to take, and how many bytes to hand back."""
        spans: list[tuple[int, int]] = []
        mask, taken = self.size - 1, 0
        while taken < available:
            offset = (start + taken) & mask
            header = self._headers[offset >> 2]
            if header & BUSY:
                break
            length = header & LENGTH
            step = (length + HEADER + 7) & ~7
            if step > available - taken:
                if taken:
                    break  # hand over what is good; the next call starts here
                raise RingCorrupt(
                    f"ring of {self.size} bytes, position {start + taken:#x}: header {header:#010x} says"
                    f" {length} bytes, the producer position leaves {available - taken - HEADER}"
                )
            if not header & DISCARD:
                spans.append((offset + HEADER, offset + HEADER + length))
            taken += step
        return spans, taken

    def release(self) -> None:
        """Let go of the buffers, so that they can be unmapped."""
        for view in (self._consumer, self._producer, self._headers, self._data):
            view.release()
