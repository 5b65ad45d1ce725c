"""Whether the kernel has notified whoever waits for a ring."""

from __future__ import annotations

import select

# Seconds. The kernel notifies in an interrupt that the CPU sends to itself (irq_work), mostly at once; where an
# architecture cannot do that, at the next tick of its clock, which is 10 ms away at most (CONFIG_HZ=100).
_GRACE = 0.02


class Notices:
    """An epoll instance of our own, edge-triggered: it says for each notification once that there was one.

    It says so only if the ring can then be read; or of a user ring, which is `produced` to, if it can be written to. A
    context manager.
    """

    def __init__(self, fd: int, *, produced: bool = False) -> None:
        self._epoll = select.epoll()
        self._epoll.register(fd, (select.EPOLLOUT if produced else select.EPOLLIN) | select.EPOLLET)
        self._epoll.poll(0)  # what is ready from the start is reported once, too

    def come(self) -> bool:
        """Has one come since the last call?"""
        return bool(self._epoll.poll(_GRACE))

    def close(self) -> None:
        """Twice is harmless."""
        self._epoll.close()

    def __enter__(self) -> Notices:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
