"""How a command ends: by signals, which never tear a line.

Signals are let in only while a command waits; whatever has been taken off a ring is written first. So all that
happened before a Ctrl-C is printed, once, in whole lines. A second signal ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Collection
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


def catch_once(numbers: Collection[int]) -> None:
    """Make the first of these that comes raise Signalled, and the others do nothing, unless they are ignored: for who has
    much to put back, and must not be interrupted in that."""
    came = False

    def raise_once(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if not came:
            came = True
            _raise_signalled(number, frame)

    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, raise_once)


def outlive_hangup() -> None:
    """Let a SIGHUP pass until an Output takes it: what it asks to open anew has not been opened yet.

    It is caught, not ignored: a command that is started would inherit that.
    """
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)


def hold_signals(others: Collection[int] = ()) -> None:
    """Keep SIGINT and SIGTERM pending from here on, and `others`, but for `waiting`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ending().union(others))


def waiting(wait: Callable[[], object], others: Collection[int] = ()) -> Signalled | None:
    """Call `wait` with signals let in. The signal that came, if one did; then they stay let in."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ending().union(others))
        wait()
        hold_signals(others)
    except Signalled as signalled:
        return signalled
    return None


def pending() -> bool:
    """Has a signal come that is held?"""
    return bool(signal.sigpending() & _ending())


def _ending() -> set[int]:
    return {signal.SIGINT, signal.SIGTERM}


def die_of(number: int) -> NoReturn:
    """End as if the signal had not been caught, so that the caller sees what happened (and a script's loop ends)."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    sys.exit(128 + number)
