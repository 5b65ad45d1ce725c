"""User rings of the kernel's: this process produces, and a program drains when it is run (bpf/user_drain.bpf.c)."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from contextlib import ExitStack

from ..formats.user_ring import UserRing
from ..kernel import sys
from ..kernel.ring_pages import RingPages
from ..lessons.stage import Plan
from ..lessons.stages import UserStage
from ..object import load, prebuilt_path, read
from .notices import Notices


def open_stage(name: str, plan: Plan) -> UserStage:
    """A stage for this plan. Raises NotSupported on kernels without user rings (Linux 6.1)."""
    ring = KernelUserRing(plan.pages * mmap.PAGESIZE)
    return UserStage(name, ring, ring.close)


class KernelUserRing:
    """A user ring in the kernel, and the program that drains it: see SimulatedUserRing."""

    def __init__(self, size: int) -> None:
        self.size, self.notifications = size, 0
        self._owned = ExitStack()
        try:
            spec = read(prebuilt_path("user_drain"))
            spec.maps["messages"].max_entries = size
            self._obj = self._owned.enter_context(load(spec))
            ring_map = self._obj.maps["messages"]
            pages = self._owned.enter_context(RingPages(ring_map, writable=True))
            self._notices = self._owned.enter_context(Notices(ring_map.fileno(), produced=True))
        except BaseException:
            self._owned.close()
            raise
        self.consumer_page, self.producer_page, self.data = pages.consumer, pages.producer, pages.data

    def ring(self) -> UserRing:
        """The side of user space."""
        ring = UserRing(self.consumer_page, self.producer_page, self.data, sys.load_fence)
        self._owned.callback(ring.release)
        return ring

    def drain(self, callback: Callable[[bytes], int], flags: int = 0) -> int:
        """What the helper returned. `callback` gets what the program's had, afterwards: 16 messages at most, and of each the
        first 60 bytes."""
        taken = self._obj.globals
        taken.count = 0
        answer: int = struct.unpack("=i", struct.pack("=I", self._drain(flags)))[0]
        self.notifications += self._notices.come()
        for message in taken.taken[: taken.count]:
            callback(bytes(message.bytes[: message.size]))
        return answer

    def _drain(self, flags: int) -> int:
        return self._obj.programs["drain"].test_run(context=struct.pack("=Q", flags)).return_value

    def close(self) -> None:
        """Twice is harmless."""
        self._owned.close()
