"""The live view on a terminal. The only place that knows curses, which is imported when there is a terminal.

What is on the screen, and what a key does to it, are plain values of purebpf.lessons. Here are the terminal, which is left
as it was found whatever happens; the names of its keys; the styles, as what this terminal has; and the clock.

Signals are let in only while a key is waited for, or a scenario performed (tracing/ending.py): none comes while the
terminal is being set up. The first that comes ends the view; others do not disturb what puts the terminal back.
"""

from __future__ import annotations

import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from ..errors import Error
from ..lessons.layout import BAR, lines
from ..lessons.render import ALARM, CHANGED, HEADING, MARK
from ..lessons.state import BUSY_RECORD, COMMITTED, CONSUMED, DISCARDED, LOST_RECORD, OVERWRITTEN
from ..lessons.view import Look, Reel, View, interval, looked, opened, press, refused, tick, watching
from ..tracing.ending import catch_once, hold_signals, waiting
from ..tracing.output import Output

if TYPE_CHECKING:
    import curses

_ESCAPE_DELAY = "100"  # milliseconds that curses waits for the rest of a key's sequence; its own second is long
_LONGEST_WAIT = 0.5  # seconds: a new size of the screen that comes as a wait begins is seen when the next one does


def usable() -> bool:
    """Are input and output a terminal that can move its cursor, and has this Python curses?"""
    if not (os.isatty(0) and os.isatty(1)):
        return False
    try:
        import curses
    except ImportError:
        return False
    try:
        curses.setupterm(os.environ.get("TERM") or "unknown", 1)
    except curses.error:  # not in the terminal database
        return False
    return curses.tigetstr("cup") is not None


def show(view: View, perform: Callable[[str], Reel]) -> View:
    """Show it until the user quits; the view as it was left. `perform` is asked for scenarios that the user chooses; what
    Error it raises is shown to the user.
    """
    with _terminal() as window:
        return _loop(window, view, tick, perform)


def watch(name: str, title: str, look: Callable[[], Look], speed: float) -> None:
    """Look at a ring that others use, `speed` times a second, until the user quits. What `look` raises ends it."""
    view = watching(name, title, look(), speed)
    with _terminal() as window:
        _loop(window, view, lambda view: looked(view, look()), None)


@contextmanager
def _terminal() -> Iterator[curses.window]:
    """The terminal in the hands of curses. Afterwards it is as before, with the cursor below what it shows."""
    import curses

    others = _others()
    hold_signals(others)
    catch_once((signal.SIGINT, signal.SIGTERM, *others))
    os.environ.setdefault("ESCDELAY", _ESCAPE_DELAY)
    sys.stdout.flush()
    window = curses.initscr()
    try:
        curses.noecho()
        curses.cbreak()
        window.keypad(True)
        with suppress(curses.error):  # not every terminal can hide its cursor
            curses.curs_set(0)
        yield window
    finally:
        with suppress(curses.error):  # the terminal may be gone
            window.keypad(False)
        with suppress(curses.error):
            curses.endwin()


def _others() -> tuple[int, ...]:
    """The signals beside SIGINT and SIGTERM that a terminal sends to have a command end (Ctrl-\\, and when it is closed)."""
    return signal.SIGHUP, signal.SIGQUIT


def _loop(
    window: curses.window, view: View, pass_time: Callable[[View], View], perform: Callable[[str], Reel] | None
) -> View:
    reader, attributes = _Keys(window), _attributes()
    due = _due(view)
    while not view.left:
        _draw(window, view, attributes)
        key = reader.key(due)
        new = press(view, key)
        if new.wanted and perform:
            new = _performed(new, perform)
        over = time.monotonic() >= due
        new = pass_time(new) if over else new
        if over or interval(new) != interval(view):
            due = _due(new)
        view = new
    return view


def _due(view: View) -> float:
    """When time has to be told to the view next."""
    pause = interval(view)
    return math.inf if pause is None else time.monotonic() + pause


def _performed(view: View, perform: Callable[[str], Reel]) -> View:
    found: list[Reel] = []
    try:
        signalled = waiting(lambda: found.append(perform(view.wanted)), _others())
    except Error as error:
        hold_signals(_others())
        return refused(view, f"{error}{f' ({error.hint})' if error.hint else ''}")
    if signalled:
        raise signalled
    return opened(view, found[0])


class _Keys:
    """What is typed, by the names that purebpf.lessons.view has for keys."""

    def __init__(self, window: curses.window) -> None:
        import curses

        self._window, self._output = window, Output()
        self._names = {
            10: "enter",
            13: "enter",
            9: "tab",
            27: "escape",
            8: "backspace",
            127: "backspace",
            curses.KEY_ENTER: "enter",
            curses.KEY_BACKSPACE: "backspace",
            curses.KEY_LEFT: "left",
            curses.KEY_RIGHT: "right",
            curses.KEY_UP: "up",
            curses.KEY_DOWN: "down",
            curses.KEY_HOME: "home",
            curses.KEY_END: "end",
            curses.KEY_PPAGE: "page up",
            curses.KEY_NPAGE: "page down",
            curses.KEY_F1: "f1",
        }

    def key(self, due: float) -> str:
        """The next one; "" if none came until then, or something else did, as another size of the screen.

        Raises Signalled for a signal, BrokenPipeError if the terminal is gone.
        """
        left = min(due - time.monotonic(), _LONGEST_WAIT)
        self._window.timeout(max(0, math.ceil(1000 * left)))
        typed: list[int] = []
        signalled = waiting(lambda: typed.append(self._window.getch()), _others())
        if signalled:
            raise signalled
        if typed[0] < 0:
            self._output.check_reader()
            self._check_keyboard()
        if typed[0] == ord("L") - 64:  # Ctrl-L: draw all of it anew
            self._window.redrawwin()
        return self._names.get(typed[0]) or (chr(typed[0]) if 32 <= typed[0] < 127 else "")

    def _check_keyboard(self) -> None:
        """Raise BrokenPipeError if nothing can be typed any more: the terminal of the input, which may be another one."""
        poll = select.poll()
        poll.register(0, 0)
        if poll.poll(0):  # POLLHUP or POLLERR, which need not be asked for
            raise BrokenPipeError


def _draw(window: curses.window, view: View, attributes: dict[str, int]) -> None:
    import curses

    rows, columns = window.getmaxyx()
    window.erase()
    for number, line in enumerate(lines(view, rows, columns)):
        column = 0
        for text, style in line:
            attribute = reduce(or_, (attributes.get(word, 0) for word in style.split()), 0)
            with suppress(curses.error):  # behind the last character of the screen there is no place for the cursor
                window.addstr(number, column, text, attribute)
            column += len(text)
    window.refresh()


def _attributes() -> dict[str, int]:
    """Words of styles -> attributes of curses. Where there are no colours, or none are wanted (no-color.org), bold and
    reverse tell what has to be told."""
    import curses

    found = {BAR: curses.A_REVERSE, CHANGED: curses.A_REVERSE}
    found |= dict.fromkeys((HEADING, MARK, ALARM, BUSY_RECORD), curses.A_BOLD)
    if os.environ.get("NO_COLOR") or not curses.has_colors():
        return found
    curses.start_color()
    background = curses.COLOR_BLACK
    with suppress(curses.error):
        curses.use_default_colors()
        background = -1
    colours = {
        COMMITTED: curses.COLOR_GREEN,
        BUSY_RECORD: curses.COLOR_YELLOW,
        DISCARDED: curses.COLOR_RED,
        CONSUMED: curses.COLOR_CYAN,
        OVERWRITTEN: curses.COLOR_MAGENTA,
        LOST_RECORD: curses.COLOR_RED,
        ALARM: curses.COLOR_RED,
    }
    for pair, (style, colour) in enumerate(colours.items(), start=1):
        curses.init_pair(pair, colour, background)
        found[style] = found.get(style, 0) | curses.color_pair(pair)
    return found
