"""How a command ends: by signals, which never tear a line.

Signals are let in only while a command waits; whatever has been taken off a ring is written first. So all that
happened before a Ctrl-C is printed, once, in whole lines. A second signal ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn


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


def pending() -> bool:
    """Has a signal come that is held?"""
    return bool(signal.sigpending() & _ending())


def _ending() -> set[signal.Signals]:
    return {signal.SIGINT, signal.SIGTERM}


def die_of(number: int) -> NoReturn:
    """End as if the signal had not been caught, so that the caller sees what happened (and a script's loop ends)."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    sys.exit(128 + number)
