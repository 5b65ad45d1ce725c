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
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING
from weakref import ref

from ..errors import ClosedError
from . import sys

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

_LONGEST = 86400.0  # seconds; epoll_wait takes no endless number


class Sleeper:
    """What threads sleep on, and who uses it. What is `owned` is closed when it has been closed and the last user is gone,
    so that nothing is unmapped under a thread that reads it, or in a signal handler under what it interrupted.

    Each thread has an epoll instance of its own: of several that wait for one, an edge wakes one only.
    """

    def __init__(self, what: str) -> None:
        self.owned = ExitStack()
        self._what = what
        self._lock = threading.RLock()  # a signal handler may come back here
        self._users: dict[int, ref[Use]] = {}
        self._closed = False
        self._pid = os.getpid()
        self._watched: list[tuple[int, int]] = []
        self._of_thread = threading.local()
        self._epolls: list[select.epoll] = []
        self._tasks: dict[asyncio.AbstractEventLoop, set[asyncio.Event]] = {}

    def watch(self, fd: int, *, produced: bool = False) -> None:
        """Have the descriptor's notifications end a wait: those for readers, or of what is `produced` to, for writers."""
        with self._lock:
            self._watched.append((fd, (select.EPOLLOUT if produced else select.EPOLLIN) | select.EPOLLET))
            for epoll in self._epolls:
                epoll.register(*self._watched[-1])

    def _epoll(self) -> select.epoll:
        """The thread's own."""
        if not hasattr(self._of_thread, "epoll"):
            with self._lock:
                made = select.epoll()
                self.owned.callback(made.close)
                for watched in self._watched:
                    made.register(*watched)
                self._epolls.append(made)
                self._of_thread.epoll = made
        found: select.epoll = self._of_thread.epoll
        return found

    def in_use(self) -> Use:
        """Keep `owned` open meanwhile: `with sleeper.in_use():`. Raises ClosedError."""
        return Use(self)

    def enter(self, user: Use) -> None:
        """Raises ClosedError."""
        self._users[id(user)] = ref(user)
        if self._closed:
            self.leave(user)
        self.check()

    def leave(self, user: Use) -> None:
        """Close what is owned, if that waits for this user."""
        self._users.pop(id(user), None)
        if self._closed:
            with self._lock:
                if not self._is_used():
                    self.owned.close()

    def _is_used(self) -> bool:
        """After a fork the users are the parent's. Some may be gone and never have left: see Use."""
        return self._pid == os.getpid() and any(user() is not None for user in self._users.values())

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
                left = _LONGEST if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return False
                self._epoll().poll(min(left, _LONGEST))
                self.check()

    async def wait_async(self, ready: Callable[[], bool]) -> None:
        """The same for asyncio, without a time limit: cancel it, or use asyncio.wait_for."""
        with self.in_use():
            while True:
                epoll = self._epoll()
                sys.full_barrier()
                if ready():
                    return
                await self._notified(epoll)
                epoll.poll(0)  # takes the notification, or the descriptor would stay readable
                self.check()

    async def _notified(self, epoll: select.epoll) -> None:
        """A loop has one reader for a descriptor, which is for all its tasks."""
        import asyncio  # which only its users have paid for

        loop, notified = asyncio.get_running_loop(), asyncio.Event()
        tasks = self._tasks.setdefault(loop, set())
        if not tasks:
            loop.add_reader(epoll.fileno(), _set_all, tasks)
        tasks.add(notified)
        try:
            await notified.wait()
        finally:
            tasks.remove(notified)
            if not tasks:
                loop.remove_reader(epoll.fileno())
                del self._tasks[loop]

    def close(self) -> None:
        """End all waits. Twice is harmless."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._is_used():
                self._wake()
            else:
                self.owned.close()

    def _wake(self) -> None:
        """What makes epoll_wait return in all threads: a pipe that can be written to."""
        for end in os.pipe():
            self.owned.callback(os.close, end)
        for epoll in self._epolls:
            epoll.register(end, select.EPOLLOUT)


def _set_all(tasks: set[asyncio.Event]) -> None:
    for task in tasks:
        task.set()


class Use:
    """One use of what a Sleeper owns. It ends with its `with` block; or with the object, where a signal's handler raises
    before that block is entered or left."""

    def __init__(self, sleeper: Sleeper) -> None:
        self._sleeper = sleeper
        sleeper.enter(self)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sleeper.leave(self)
