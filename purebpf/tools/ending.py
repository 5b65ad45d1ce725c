"""How a command ends: by signals that never tear a line, and pipes whose reader has gone.

Signals are let in only while a command waits; whatever has been taken off a ring is written first. So all that
happened before a Ctrl-C is printed, once, in whole lines. A second signal ends at once.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

_PATIENCE = 2.0  # seconds that an ended command waits for a reader that has stopped reading
_CHUNK = 4096  # PIPE_BUF: what a pipe that polls writable takes without blocking (pipe(7))


class Signalled(BaseException):
    """A signal asked us to end. Not an Exception: nothing on the way may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _raise_signalled(number: int, _frame: FrameType | None) -> NoReturn:
    raise Signalled(number)


def catch_signals() -> None:
    """Make SIGINT and SIGTERM raise Signalled, unless they are ignored: nohup, and `&` in a script, mean that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _raise_signalled)


def hold_signals() -> None:
    """Keep signals pending from here on, but for `waiting`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ending())


def waiting(wait: Callable[[], object]) -> Signalled | None:
    """Call `wait` with signals let in. The signal that came, if one did; then they stay let in."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ending())
        wait()
        hold_signals()
    except Signalled as signalled:
        return signalled
    return None


def _ending() -> set[signal.Signals]:
    return {signal.SIGINT, signal.SIGTERM}


def write_lines(text: str, ending: bool = False) -> None:
    """Write to standard output at once. A character that its encoding lacks is escaped.

    Once the command is `ending`, or a signal is pending, a reader that has stopped reading is waited for a moment
    only, and what it did not get is reported. Raises BrokenPipeError, or OSError for a full disk.
    """
    content = memoryview(text.encode(getattr(sys.stdout, "encoding", "utf-8"), "backslashreplace"))
    poll = select.poll()
    poll.register(1, select.POLLOUT)
    moved = time.monotonic()
    while content:
        if poll.poll(100):
            content = content[os.write(1, content[:_CHUNK]) :]
            moved = time.monotonic()
        elif (ending or signal.sigpending() & _ending()) and time.monotonic() - moved > _PATIENCE:
            lines = bytes(content).count(b"\n")
            print(f"purebpf: {lines} lines not printed: nobody reads the output", file=sys.stderr)
            return


def check_reader() -> None:
    """Raise BrokenPipeError when standard output is a pipe without a reader, even if there is nothing to write."""
    poll = select.poll()
    poll.register(1, 0)
    if any(happened & select.POLLERR for _fd, happened in poll.poll(0)):
        raise BrokenPipeError


def die_of(number: int) -> NoReturn:
    """End as if the signal had not been caught, so that the caller sees what happened (and a script's loop ends)."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    sys.exit(128 + number)
