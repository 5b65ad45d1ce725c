"""From the kernel's monotonic time of an event to the time of day."""

from __future__ import annotations

import time

_STEP = 2.0  # seconds after which the time of day is looked at again: it is set, and it is slewed


class Clock:
    """ISO 8601 with microseconds and the local zone's offset."""

    def __init__(self) -> None:
        self._second, self._prefix, self._zone = -1, "", ""
        self._adjusted, self._offset = -_STEP, 0
        self.adjust()

    def adjust(self) -> None:
        """Compare the two clocks anew, if it is time to."""
        now = time.monotonic()
        if now - self._adjusted > _STEP:
            self._adjusted, self._offset = now, _offset()

    def iso(self, nanoseconds: int) -> str:
        """`nanoseconds` of CLOCK_MONOTONIC, as bpf_ktime_get_ns() has them."""
        second, rest = divmod(nanoseconds + self._offset, 1_000_000_000)
        if second != self._second:
            local = time.localtime(second)
            sign, minutes = "-" if local.tm_gmtoff < 0 else "+", abs(local.tm_gmtoff) // 60
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", local)
            self._second, self._zone = second, f"{sign}{minutes // 60:02}:{minutes % 60:02}"
        return f"{self._prefix}.{rest // 1000:06}{self._zone}"


def _offset() -> int:
    """The time of day minus monotonic time, from the quickest of a few looks."""
    best, offset = 1 << 62, 0
    for _ in range(5):
        before = time.monotonic_ns()
        wall = time.time_ns()
        took = time.monotonic_ns() - before
        if took < best:
            best, offset = took, wall - before - took // 2
    return offset
