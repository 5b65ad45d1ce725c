"""What was not seen, by its number: a tracer never lies about that."""

from __future__ import annotations

import time

from ..kernel.ringbuf import RingBuffer
from ..object import Object
from .output import say
from .tool import Tool

_RARELY = 2.0  # seconds between looks at what takes long to ask for, and hardly ever happens


class Losses:
    """Events that found the ring full, and runs of a program that the kernel left out.

    The kernel does not run a program on a CPU where the same program runs already, and counts that
    (bpf_prog_info.recursion_misses, 5.12).
    """

    def __init__(self, obj: Object, ring: RingBuffer[memoryview], tool: Tool) -> None:
        self._obj, self._ring, self._what = obj, ring, tool.what
        self._counted = [program for name, program in obj.programs.items() if name not in tool.harmless]
        self._full = self._left_out = self._untracked = 0
        self._looked = 0.0

    @property
    def total(self) -> int:
        """Of all reports."""
        return self._full + self._left_out

    def report(self, final: bool = False) -> None:
        """Say on standard error what has been lost since the last report."""
        now = time.monotonic()
        full = self._ring.lost
        if full > self._full:
            say(f"lost {full - self._full} {self._what}: the ring was full")
            self._full = full
        if final or now - self._looked > _RARELY:
            self._looked = now
            self._report_rare()

    def _report_rare(self) -> None:
        left_out = sum(program.info().recursion_misses for program in self._counted)
        if left_out > self._left_out:
            say(f"lost {left_out - self._left_out} {self._what}: the kernel did not run the program within itself")
            self._left_out = left_out
        untracked = self._obj.globals.untracked
        if untracked > self._untracked:
            say(f"{untracked - self._untracked} processes are not followed: the tree has no room for more")
            self._untracked = untracked

    def sum_up(self) -> None:
        """At the end: the sum, if there is one."""
        self.report(final=True)
        if self.total:
            say(f"lost {self.total} {self._what} in all")
