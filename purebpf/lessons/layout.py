"""A view as lines of a screen: the scenario's words above, the rings below them, and the keys in the last line.

Never more lines than there are rows, never more characters than there are columns, whatever the view is. The words have
as much room as the longest of the scenario needs, so that the rings stay where they are from step to step.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import lru_cache

from .pane import pane
from .render import ALARM, CHANGED, HEADING, PLAIN, Line, Span, cut
from .view import BINDINGS, HELP, LIST, Reel, Text, View

BAR = "bar"  # the style of the first line and of the last
STYLES = (BAR, CHANGED)  # beside those of render.py; a span may have one in front of one of those
COLUMNS, ROWS = 60, 16  # less is not enough
_LABEL = 9  # columns
_WIDEST = 110  # columns of a paragraph that can be read
_LEAST = 3  # rows for the words
_PANE = 7  # rows that the rings have in any case: with their table and its titles
_ROOMY = 16  # rows of rings below which there is room for the lesson, too
_DOTS = "..."
# In the last line, the least wanted first.
_RING_KEYS = (("g", "first"), ("G", "last"), ("+-", "speed"), ("v", "show"), ("s", "list"), ("r", "run"), ("?", "help"))
_SIGNS = (
    ("*", "changed in this step"),
    ("A B C", "records, where they start"),
    ("# ~ x - %", "committed, busy, discarded, consumed, overwritten"),
    ("C P O", "consumer, producer, overwrite position"),
    ("c p o", "where they were before this step"),
    ("BUSY DISC", "bits 31 and 30 of the length word"),
    ("page", "pages from the start of the ring to the record"),
)


def lines(view: View, rows: int, columns: int) -> list[Line]:
    """At most `rows` lines of at most `columns` characters, all of them ASCII."""
    if rows < ROWS or columns < COLUMNS:
        drawn: list[Line] = [(Span(f"needs {COLUMNS}x{ROWS}, has {columns}x{rows}; q quits"),)]
    elif view.page == HELP:
        drawn = _help(rows, columns)
    elif view.page == LIST or view.reel is None:
        drawn = _list(view, rows, columns)
    else:
        drawn = _ring(view, view.reel, rows, columns)
    return [cut(tuple(map(_ascii, line)), columns) for line in drawn[: max(0, rows)]]


def _ascii(span: Span) -> Span:
    """What a kernel or a file calls its own may be in a title or a message."""
    if span.text.isascii() and span.text.isprintable():
        return span
    return Span("".join(c if " " <= c <= "~" else "?" for c in span.text), span.style)


def _ring(view: View, reel: Reel, rows: int, columns: int) -> list[Line]:
    room = rows - 3  # bars and rule
    texts = view.frame.texts
    if view.note and view.at == view.last:
        texts = (*texts, Text("Now", view.note, ALARM))
    measured = (texts,) if reel.watched else tuple(frame.texts for frame in reel.frames)
    needed = max(_LEAST, _height(measured, columns))
    words = _fitted(_paragraphs(texts, columns), min(needed, room - _PANE))
    lesson = _paragraphs((Text("Lesson", reel.lesson),), columns) if reel.lesson else []
    room -= len(words)
    roomy = view.at and room - len(lesson) - 1 >= _ROOMY
    lesson = [_rule("", "", columns), *lesson] if lesson and roomy else []
    frame = view.frame
    rings = pane(frame.states, frame.before, room - len(lesson), columns, view.shown, counted=not reel.watched)
    return [
        _bar(f"{reel.name}: {reel.title}", view.frame.place, columns),
        *words,
        _rule(view.shown, _state(view, reel), columns),
        *rings,
        *lesson,
        _keys(view, columns),
    ]


@lru_cache(maxsize=4)
def _height(each: tuple[tuple[Text, ...], ...], columns: int) -> int:
    """Lines that the longest takes."""
    return max(len(_paragraphs(texts, columns)) for texts in each)


def _state(view: View, reel: Reel) -> str:
    """Where it is performed, and whether it runs by itself or has come to its end."""
    if reel.watched:
        return f"{reel.stage}, {view.speed:g} looks/s" if view.running else "paused"
    if view.running:
        return f"{reel.stage}, running, {view.speed:g} steps/s"
    return f"{reel.stage}, the end" if view.at == view.last else reel.stage


def _paragraphs(texts: Sequence[Text], columns: int) -> list[Line]:
    width = max(1, min(columns - 1, _WIDEST) - _LABEL)
    found: list[Line] = []
    for label, text, style in texts:
        for number, part in enumerate(textwrap.wrap(text, width, break_on_hyphens=False)):
            found.append((Span(f"{'' if number else label:<{_LABEL}}", HEADING), Span(part, style)))
    return found


def _fitted(paragraphs: list[Line], rows: int) -> list[Line]:
    """Just so many lines. If some are left out, it is to be seen."""
    if len(paragraphs) <= rows:
        return paragraphs + [()] * (rows - len(paragraphs))
    label, text = paragraphs[rows - 1]
    return [*paragraphs[: rows - 1], (label, Span(text.text[: -len(_DOTS)] + _DOTS, text.style))]


def _help(rows: int, columns: int) -> list[Line]:
    """What the keys do, then what the signs mean."""
    keys: list[Line] = [(Span(f"{b.words:<20}", HEADING), Span(b.does)) for b in BINDINGS]
    signs: list[Line] = [(Span(f"{sign:<10} ", HEADING), Span(means)) for sign, means in _SIGNS]
    found = [*keys, (), *signs][: rows - 2]
    found += [()] * (rows - 2 - len(found))
    return [_bar("Keys", "", columns), *found, _bar("any key goes back, q quits", "", columns)]


def _list(view: View, rows: int, columns: int) -> list[Line]:
    found: list[Line] = [()]
    for number, (name, title) in enumerate(view.scenarios):
        arrow, style = (">", CHANGED) if number == view.chosen else (" ", PLAIN)
        found.append((Span(f" {arrow} "), Span(f"{name:<10} {title}", style)))
    first = max(0, view.chosen + 1 - (rows - 5))
    found = found[first : first + rows - 4]
    message = textwrap.wrap(view.message, columns - 1)[:4]
    found = [*found, *[()] * (rows - 2 - len(message) - len(found)), *((Span(part, ALARM),) for part in message)]
    keys = f"up down:choose space:open {'s:close ' if view.reel else ''}?:help q:quit"
    return [_bar("The BPF ring buffer: scenarios", "", columns), *found, _bar(keys, "", columns)]


def _keys(view: View, columns: int) -> Line:
    """As many as there is room for."""
    others = [("r", "pause") if view.running and key == "r" else (key, does) for key, does in _RING_KEYS]
    others = [(key, does) for key, does in others if key != "s" or view.scenarios]
    line = _joined(others)
    while len(others) > 1 and len(line) > columns - 3:
        others = others[1:]
        line = _joined(others)
    return _bar(line, "", columns)


def _joined(others: Sequence[tuple[str, str]]) -> str:
    return " ".join(f"{key}:{does}" for key, does in (("space", "on"), ("b", "back"), *others, ("q", "quit")))


def _bar(left: str, right: str, columns: int) -> Line:
    """A line over the whole width. What is at the right end is never cut off for what is at the left."""
    room = columns - len(right) - 2
    left = left if len(left) < room else left[: max(0, room - 1 - len(_DOTS))] + _DOTS
    return (Span(f" {left:<{max(0, room)}}{right} ", BAR),)


def _rule(left: str, right: str, columns: int) -> Line:
    left, right = f"-- {left} " if left else "", f" {right} --" if right else ""
    return (Span(left + "-" * max(0, columns - len(left) - len(right)) + right, HEADING),)
