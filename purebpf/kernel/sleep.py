"""Sleeping until rings have records, and being woken by the kernel, a signal or another thread's `close`.

The kernel wakes the consumer when a record is committed at the very position that the consumer has handed back
(kernel/bpf/ringbuf.c, bpf_ringbuf_commit). So the position is stored before every wait; then a full barrier, or the
store could still be on its way while the ring is looked at, and the commit in between would wake nobody (Dekker's
pattern; the other side is the xchg and the load of consumer_pos in bpf_ringbuf_commit); then one more look. epoll is
edge-triggered: after a busy record at the head, the level would stay high and spin.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from ..errors import ClosedError
from . import sys


class Sleeper:
    """An epoll instance and who uses it. What is `owned` is closed when it has been closed and the last user is gone, so
    that nothing is unmapped under a thread that reads it, or in a signal handler under the code that it interrupted."""

    def __init__(self, what: str) -> None:
        self.owned = ExitStack()
        self._what = what
        self._lock = threading.RLock()  # a signal handler may come back here
        self._users = 0
        self._closed = False
        self._epoll = self.owned.enter_context(select.epoll())

    def watch(self, fd: int, events: int = select.EPOLLIN) -> None:
        """Have the descriptor's notifications end a wait: EPOLLIN of a ring, EPOLLOUT of a user ring."""
        self._epoll.register(fd, events | select.EPOLLET)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep `owned` open meanwhile. Raises ClosedError."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._lock:
            self.check()
            self._users += 1

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._closed and not self._users:
                self.owned.close()

    def check(self) -> None:
        """Raises ClosedError."""
        if self._closed:
            raise ClosedError(f"{self._what} is closed")

    def wait(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        """Sleep until `ready` or until `timeout` seconds have passed (None: for ever); True if it is.

        A signal's handler runs meanwhile, and ends the wait if it raises. Raises ClosedError if another thread closes.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.in_use():
            while True:
                sys.full_barrier()
                if ready():
                    return True
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._epoll.poll(left)
                self.check()

    async def wait_async(self, ready: Callable[[], bool]) -> None:
        """The same for asyncio, without a time limit: cancel it, or use asyncio.wait_for."""
        with self.in_use():
            while True:
                sys.full_barrier()
                if ready():
                    return
                await self._notified()
                self._epoll.poll(0)  # takes the notification, or the descriptor would stay readable
                self.check()

    async def _notified(self) -> None:
        import asyncio  # which only its users have paid for

        loop = asyncio.get_running_loop()
        notified = asyncio.Event()
        loop.add_reader(self._epoll.fileno(), notified.set)
        try:
            await notified.wait()
        finally:
            loop.remove_reader(self._epoll.fileno())

    def close(self) -> None:
        """End all waits. Twice is harmless."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._users:
                self._wake()
            else:
                self.owned.close()

    def _wake(self) -> None:
        """Nothing else makes epoll_wait return in all threads: a pipe that can be written to."""
        for end in os.pipe():
            self.owned.callback(os.close, end)
        self._epoll.register(end, select.EPOLLOUT)
