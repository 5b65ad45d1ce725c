"""Rows as an aligned table, whose columns grow with what they have shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .event import Row

_HEADING = "1"  # SGR: bold


class Column(NamedTuple):
    """`text` must be fit for a terminal. `style` is an SGR parameter, or chooses one ("" for none)."""

    title: str
    text: Callable[[Row], str]
    width: int  # terminal cells at first; 0: the last one, which is as wide as it is
    right: bool = False
    style: str | Callable[[Row], str] = ""


class Table:
    """A header, and a line for each row."""

    def __init__(self, columns: Sequence[Column], colour: bool) -> None:
        self._columns, self._colour = columns, colour
        self._widths = [column.width for column in columns]

    def header(self) -> str:
        """The titles."""
        cells = [self._cell(index, column.title, "") for index, column in enumerate(self._columns)]
        return styled("  ".join(cells).rstrip(), _HEADING, self._colour)

    def line(self, row: Row) -> str:
        """The cells. A column that has been too narrow stays wider: lines do not jump to and fro."""
        cells = []
        for index, column in enumerate(self._columns):
            style = column.style if isinstance(column.style, str) else column.style(row)
            cells.append(self._cell(index, column.text(row), style))
        return "  ".join(cells).rstrip()

    def _cell(self, index: int, text: str, style: str) -> str:
        """The blanks have no style: at the end of a line they can go."""
        shown = styled(text, style, self._colour)
        if not self._widths[index]:  # the last: nothing stands behind it
            return shown
        cells = len(text) if text.isascii() else _cells(text)
        self._widths[index] = max(self._widths[index], cells)
        blanks = " " * (self._widths[index] - cells)
        return blanks + shown if self._columns[index].right else shown + blanks


def _cells(text: str) -> int:
    """How many cells of a terminal: East Asian wide characters take two, marks over others none (UAX 11)."""
    from unicodedata import category, east_asian_width

    return sum(
        0 if category(character) in ("Mn", "Me") else 1 + (east_asian_width(character) in "WF") for character in text
    )


def styled(text: str, style: str, colour: bool) -> str:
    """`text` in the style of an SGR parameter, if there is one and colour is wanted."""
    return f"\x1b[{style}m{text}\x1b[0m" if colour and style and text else text


def wants_colour(fd: int, environment: Mapping[str, str]) -> bool:
    """On a terminal that has colours, unless NO_COLOR is set and not empty (no-color.org)."""
    return os.isatty(fd) and not environment.get("NO_COLOR") and environment.get("TERM", "") not in ("", "dumb")
