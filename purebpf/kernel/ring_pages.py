"""The pages of a ring buffer map, or of a user ring buffer map, mapped into memory to be looked at.

Offset 0 of the map's file is the consumer page, then come the producer page and the doubled data area. In a ring user
space may write the first, in a user ring the others (kernel/bpf/ringbuf.c, ringbuf_map_mmap_kern and _user). All may be
mapped to be read alone, by any number of processes: nothing that reads is seen by the others.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import NamedTuple

from ..formats.abi import MapType
from . import sys
from .fd import mapped
from .maps import Map


class Pages(NamedTuple):
    """A copy of the three buffers. The consumer page and the producer page are whole, the data area is there twice."""

    consumer: bytes
    producer: bytes
    data: bytes


class RingPages:
    """The three buffers of a ring. What user space may write of them is writable if `writable`; else nothing is.

    A context manager, which unmaps them. Raises KernelError, NotPermitted.
    """

    def __init__(self, ring_map: Map, *, writable: bool = False) -> None:
        self._owned = ExitStack()
        user = ring_map.spec.type == MapType.USER_RINGBUF
        page, size, fd = mmap.PAGESIZE, ring_map.spec.max_entries, ring_map.fileno()
        both = mmap.PROT_READ | mmap.PROT_WRITE
        try:
            first = self._map(fd, page, both if writable and not user else mmap.PROT_READ, 0)
            rest = self._map(fd, page + 2 * size, both if writable and user else mmap.PROT_READ, page)
        except OSError as error:
            self._owned.close()
            raise sys.refusal(f"mapping ring {ring_map.spec.name!r}", error) from error
        self.consumer, self.producer, self.data = memoryview(first), memoryview(rest)[:page], memoryview(rest)[page:]
        for view in (self.consumer, self.producer, self.data):
            self._owned.callback(_let_go, view.release)

    def _map(self, fd: int, length: int, protection: int, offset: int) -> mmap.mmap:
        memory = mapped(fd, length, protection, offset)
        self._owned.callback(_let_go, memory.close)
        return memory

    def copy(self) -> Pages:
        """What is in them now. Of a ring in use the consumer page is the first to be copied: see lessons.state.ring_state."""
        return Pages(bytes(self.consumer), bytes(self.producer), bytes(self.data))

    def close(self) -> None:
        """Twice is harmless. What still refers to the memory, such as the traceback of an error, keeps it until it is gone."""
        self._owned.close()

    def __enter__(self) -> RingPages:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _let_go(release: Callable[[], object]) -> None:
    with suppress(BufferError):
        release()
