"""A state as text: positions, the data area as a strip, the headers with their bits. ASCII only, and legible without colour.

Lines are tuples of spans, each a text and the name of a style (STYLES), for views that have colours; `plain` joins them.
What a step has changed is marked: the style has "changed" in front, and a record a "*" behind its name.
The strip shows the data area in cells of 8 bytes or more, the whole of it or the part in which records are. A record's
first cell has its name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from ..formats.pieces import HEADER, POSITIONS
from .moment import text
from .state import (
    BUSY_RECORD,
    COMMITTED,
    CONSUMED,
    DISCARDED,
    LOST_RECORD,
    OVERWRITE,
    OVERWRITTEN,
    PERF,
    USER,
    RecordState,
    RingState,
)

FREE, MARK, HEADING, ALARM, PLAIN = "free", "mark", "heading", "alarm", ""
UNLISTED = "unlisted"  # RingState.unlisted
CHANGED = "changed"  # in front of any of the others
SYMBOLS = {
    COMMITTED: "#",
    BUSY_RECORD: "~",
    DISCARDED: "x",
    CONSUMED: "-",
    OVERWRITTEN: "%",
    LOST_RECORD: "!",
    UNLISTED: "+",
    FREE: ".",
}
STYLES = (*SYMBOLS, MARK, HEADING, ALARM, PLAIN)
_TITLES = {PERF: "perf ring", USER: "user ring", OVERWRITE: "overwriting ring"}
_PERF_TYPES = {2: "LOST", 9: "SAMPLE"}
_BAR = 10  # characters of the bar that shows how full the ring is


class Span(NamedTuple):
    """Text in one style."""

    text: str
    style: str = PLAIN


Line = tuple[Span, ...]


class Column(NamedTuple):
    """Of a table of records: how a cell is laid out, its title, and what is in it."""

    layout: str
    title: str
    cell: Callable[[RecordState], object]


NAME = Column("{:<2}", "", lambda record: record.name[:1])
POSITION = Column("{:>10}", "position", lambda record: record.position)
_COLUMNS = (
    NAME,
    POSITION,
    Column("{:>8}", "offset", lambda record: record.offset),
    Column("  {:<11}", "length word", lambda record: f"{record.word:#010x}"),
    Column("{:>5}", "BUSY", lambda record: int(record.busy)),
    Column("{:>6}", "DISC", lambda record: int(record.discard)),
    Column("{:>7}", "length", lambda record: record.length),
    Column("{:>5}", "page", lambda record: record.second_word),
    Column("  {:<11}", "state", lambda record: record.state),
    Column(" {}", "payload", lambda record: text(record.payload)),
)
_PERF_COLUMNS = (
    NAME,
    POSITION,
    Column("{:>8}", "offset", lambda record: record.offset),
    Column("  {:<11}", "type", lambda record: _PERF_TYPES.get(record.word, str(record.word))),
    Column("{:>6}", "size", lambda record: record.second_word),
    Column("{:>7}", "length", lambda record: record.length),
    Column("  {:<11}", "state", lambda record: record.state),
    Column(" {}", "payload", lambda record: f"{record.lost} lost" if record.lost else text(record.payload)),
)


def picture(states: Sequence[RingState], width: int = 80) -> list[Line]:
    """The rings one below the other, in lines of at most `width` characters."""
    lines = [line for state in states for line in _ring(state, width)]
    return [cut(line, width) for line in [*lines, _legend(states)]]


def plain(lines: Iterable[Line]) -> str:
    """The text alone, each line ended by a newline."""
    return "".join("".join(span.text for span in line).rstrip() + "\n" for line in lines)


def _ring(state: RingState, width: int) -> list[Line]:
    window = Window(state, width)
    lines = [_head(state), _positions(state, window.unit), window.strip(state), window.marks(state)]
    if state.torn:
        where = "" if state.torn_at is None else f" at {state.torn_at}"
        lines.insert(2, (Span(f"torn or corrupt{where}: {state.torn}", ALARM),))
    return lines + _table(state)


def _head(state: RingState) -> Line:
    full = round(_BAR * state.fill)
    name = state.label or _TITLES.get(state.kind, "ring")
    counters = [f"wake-ups {state.notifications}", f"lost {state.losses}"]
    if state.kind == OVERWRITE:
        counters.append(f"overwritten {state.overwritten}")
    if state.asleep:
        counters.append("asleep")
    return (
        Span(f"{name}: {state.size} bytes ", HEADING),
        Span(f"[{SYMBOLS[COMMITTED] * full}{SYMBOLS[FREE] * (_BAR - full)}]"),
        Span(f" {state.used} in use, {100 * state.fill:.0f}%  "),
        Span("  ".join(counters), ALARM if state.losses or state.overwritten else PLAIN),
    )


def _positions(state: RingState, unit: int) -> Line:
    words = [f"consumer position {state.consumer}", f"producer position {state.producer}"]
    if state.pending is not None:
        words.append(f"pending {state.pending}")
    if state.overwrite is not None:
        words.append(f"overwrite {state.overwrite}")
    return (Span("  ".join(words)), Span(f"  (a cell is {unit} bytes)", HEADING))


class Window:
    """The part of the data area that is shown: `cells` of `unit` bytes, from offset `start` on. All are powers of two,
    except the start, which is a multiple of the unit."""

    def __init__(self, state: RingState, width: int) -> None:
        size = max(state.size, HEADER)
        self.cells = min(_power_below(max(1, width - 16)), max(1, size // HEADER))
        self.unit, self.start, self.size = HEADER, 0, size
        low, high = _span(state)
        while self.cells * self.unit < size:
            self.start = 0 if high <= self.cells * self.unit else low - low % self.unit
            if high - self.start <= self.cells * self.unit and self.start + self.cells * self.unit <= size:
                break
            self.unit *= 2
        else:
            self.start = 0

    def strip(self, state: RingState, changed: Collection[int] = ()) -> Line:
        """The cells, drawn record by record. A busy one shows however small it is. `changed` are positions of records."""
        painted = [Span(SYMBOLS[FREE], FREE)] * self.cells
        for record in sorted(_drawn(state), key=lambda record: record.busy):
            style = f"{CHANGED} {record.state}" if record.position in changed else record.state
            cells = self._cells_of(record)
            for number, cell in enumerate(cells):
                first = number == 0 and len(cells) > 1 and record.name
                painted[cell] = Span(record.name[:1] if first else SYMBOLS[record.state], style)
        end = self.start + self.cells * self.unit
        return (Span("|"), *_joined(painted), Span(f"| {self.start}-{end - 1}"))

    def marks(self, state: RingState, before: RingState | None = None) -> Line:
        """The positions, below their cells; in small letters where they were before, if nothing else is there."""
        at = self._places(state)
        for cell, letters in self._places(before).items() if before else ():
            at.setdefault(cell, [letter.lower() for letter in letters])
        line = ""
        for cell, letters in sorted(at.items()):
            line = f"{line:<{cell + 1}}" + "=".join(letters)
        return (Span(line, MARK),)

    def _places(self, state: RingState) -> dict[int, list[str]]:
        """Cell -> the positions in it."""
        at: dict[int, list[str]] = {}
        for letter, position in (("C", state.consumer), ("O", state.overwrite), ("P", state.producer)):
            if position is not None:
                cell = ((position & self.size - 1) - self.start) // self.unit
                if 0 <= cell < self.cells:
                    at.setdefault(cell, []).append(letter)
        return at

    def _cells_of(self, record: RecordState) -> list[int]:
        """In the order of the record's bytes, which may go on at the start of the area."""
        end = min(record.offset + record.stride, record.offset + self.size)
        cells = range(record.offset // self.unit, -(-end // self.unit))
        first = self.start // self.unit
        inside = [cell % (self.size // self.unit) - first for cell in cells]
        return [cell for cell in inside if 0 <= cell < self.cells]


def _drawn(state: RingState) -> tuple[RecordState, ...]:
    """What has a place in the strip. Records that are not listed are drawn as if they were a single one."""
    if not state.unlisted:
        return state.all_records
    position = state.producer - state.unlisted & POSITIONS
    offset = position & max(state.size, HEADER) - 1
    return (*state.all_records, RecordState(position, offset, state.unlisted, 0, UNLISTED, 0, 0, b""))


def _span(state: RingState) -> tuple[int, int]:
    """The offsets between which everything is that there is to see; all of them if there is nothing."""
    mask = max(state.size, HEADER) - 1
    if not _drawn(state):
        return 0, mask + 1
    low = high = state.producer & mask
    for record in _drawn(state):
        low, high = min(low, record.offset), max(high, record.offset + record.stride)
    return min(low, state.begin & mask), max(high, state.begin & mask, 1)


def _table(state: RingState) -> list[Line]:
    """A line for each record."""
    columns, records = columns_of(state.kind), state.all_records
    return [titles(columns), *(row(record, columns, record) for record in records)] if records else []


def columns_of(kind: str) -> tuple[Column, ...]:
    """What is shown of the records of a ring of this kind."""
    return _PERF_COLUMNS if kind == PERF else _COLUMNS


def titles(columns: Iterable[Column]) -> Line:
    """The line above a table."""
    return (Span("".join(column.layout.format(column.title) for column in columns), HEADING),)


def row(record: RecordState, columns: Iterable[Column], old: RecordState | None) -> Line:
    """A line of a table. `old` is the same record before a step, None if there was none: cells that differ are marked."""
    spans: list[Span] = []
    for column in columns:
        value = column.cell(record)
        cell = column.layout.format(value)
        if column is NAME:
            spans.append(Span(cell if record == old else f"{value}*".ljust(len(cell)), record.state))
        elif old and value == column.cell(old):
            spans.append(Span(cell, record.state))
        else:
            start = len(cell) - len(cell.lstrip())
            spans += [Span(cell[:start]), Span(cell.strip(), f"{CHANGED} {record.state}")]
            spans.append(Span(cell[start + len(cell.strip()) :]))
    return tuple(_joined(span for span in spans if span.text))


def _legend(states: Sequence[RingState]) -> Line:
    """The symbols that rings of this kind can have, and the letters."""
    kinds = {state.kind for state in states}
    left_out = {OVERWRITTEN} if OVERWRITE not in kinds else set()
    left_out |= {BUSY_RECORD, DISCARDED} if kinds == {PERF} else {LOST_RECORD}
    left_out |= set() if any(state.unlisted for state in states) else {UNLISTED}
    known = [f"{symbol} {name}" for name, symbol in SYMBOLS.items() if name not in left_out]
    letters = ["C consumer", *(["O overwrite"] if OVERWRITE in kinds else []), "P producer"]
    return (Span("  ".join(known + letters), HEADING),)


def _joined(cells: Iterable[Span]) -> list[Span]:
    """Neighbours of one style as one span."""
    found: list[Span] = []
    for cell in cells:
        if found and found[-1].style == cell.style:
            found[-1] = Span(found[-1].text + cell.text, cell.style)
        else:
            found.append(cell)
    return found


def cut(line: Line, width: int) -> Line:
    """The first `width` characters."""
    found: list[Span] = []
    for span in line:
        found.append(Span(span.text[: max(0, width)], span.style))
        width -= len(span.text)
    return tuple(span for span in found if span.text)


def _power_below(number: int) -> int:
    """The largest power of two that is not above."""
    return 1 << (number.bit_length() - 1)
