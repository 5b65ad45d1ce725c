"""The rings of one moment on a part of a screen, with what has changed since another moment marked.

What finds no room is left out: records that have not changed first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from ..formats.ring import LENGTH
from .render import (
    ALARM,
    CHANGED,
    FREE,
    HEADING,
    NAME,
    PLAIN,
    POSITION,
    SYMBOLS,
    UNLISTED,
    Column,
    Line,
    Span,
    Window,
    columns_of,
    cut,
    row,
    titles,
)
from .state import (
    BUSY_RECORD,
    COMMITTED,
    DISCARDED,
    LOST_RECORD,
    OVERWRITE,
    OVERWRITTEN,
    PERF,
    RING,
    USER,
    RecordState,
    RingState,
)

# What is shown of the records.
RECORDS, HEADERS, PAYLOADS = SHOWN = ("records", "header bits", "payloads")
_TITLES = {PERF: "perf ring", USER: "user ring", OVERWRITE: "overwriting"}
_LABEL = 15  # columns of what stands in front of a line
_BAR = 10  # characters of the bar that shows how full the ring is
_BYTES = 10  # of a payload


def _in_memory(word: int, size: int) -> str:
    """As the bytes lie in the ring, which is in the machine's own order."""
    return word.to_bytes(size, sys.byteorder).hex(" ")


def _printable(payload: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in payload)


_HEADERS = (
    NAME,
    POSITION,
    Column("  {:<11}", "length word", lambda r: _in_memory(r.word, 4)),
    Column("  {:<11}", "page", lambda r: _in_memory(r.second_word, 4)),
    Column("{:>5}", "BUSY", lambda r: r.word >> 31),
    Column("{:>5}", "DISC", lambda r: r.word >> 30 & 1),
    Column(" {:<30}", "29 .... length in binary ... 0", lambda r: f"{r.word & LENGTH:030b}"),
)
_PERF_HEADERS = (
    NAME,
    POSITION,
    Column("  {:<12}", "type, u32", lambda r: _in_memory(r.word, 4)),
    Column("{:>4}", "", lambda r: r.word),
    Column("  {:<9}", "size, u16", lambda r: _in_memory(r.second_word, 2)),
    Column("{:>6}", "", lambda r: r.second_word),
)
_PAYLOADS = (
    NAME,
    POSITION,
    Column("{:>7}", "length", lambda r: r.length),
    Column(f"  {{:<{3 * _BYTES}}}", f"payload, {_BYTES} bytes of it", lambda r: r.payload[:_BYTES].hex(" ")),
    Column(f" {{:<{_BYTES}}}", "as text", lambda r: _printable(r.payload[:_BYTES])),
    Column("  {}", "state", lambda r: r.state),
)
_COLUMNS = {  # of a ring, and of a perf ring
    RECORDS: (columns_of(RING), columns_of(PERF)),
    HEADERS: (_HEADERS, _PERF_HEADERS),
    PAYLOADS: (_PAYLOADS, _PAYLOADS),
}
_Word = tuple[str, int, Optional[int]]  # what a word on a page is called, what is there, what was
_MARKED, _UNREAD, _PAST = range(3)
_LABELLED = "{:<7.6}"


def pane(
    states: Sequence[RingState],
    before: Sequence[RingState],
    rows: int,
    columns: int,
    shown: str = RECORDS,
    *,
    counted: bool = True,
) -> list[Line]:
    """The rings, one below the other, then a table of their records, then what the symbols mean: `rows` lines of at most
    `columns` characters. `before` are the same rings at the other moment; the same values if nothing is to be marked. `counted`
    says whether wake-ups, losses and records that were overwritten unread are known.
    """
    olds = [*before, *states[len(before) :]]
    lines = [line for now, was in zip(states, olds) for line in _ring(now, was, columns, counted)]
    table = _table(states, olds, rows - len(lines), shown)
    left = rows - len(lines) - len(table)
    ending = [*[()] * (left - 1), _legend(states)] if left > 0 else []
    return [cut(line, columns) for line in (*lines, *table, *ending)][: max(0, rows)]


def _ring(now: RingState, was: RingState, columns: int, counted: bool) -> list[Line]:
    window = Window(now, columns)
    old = _by_position(was)
    changed = {record.position for record in now.all_records if record != old.get(record.position)}
    lines = [
        _head(now, was, counted),
        *_pages(now, was, columns, counted),
        window.strip(now, changed),
        _marks(window, now, was, columns),
    ]
    if now.torn:
        where = "" if now.torn_at is None else f" at position {now.torn_at}"
        lines.append((Span(f"torn or corrupt{where}: {now.torn}", ALARM),))
    return lines


def _head(now: RingState, was: RingState, counted: bool) -> Line:
    full = round(_BAR * now.fill)
    name = now.label or _TITLES.get(now.kind, "ring")
    counters = [Span("  wake-ups "), *_value(now.notifications, was.notifications)]
    counters += [Span("  lost "), *_value(now.losses, was.losses, ALARM if now.losses else PLAIN)]
    return (
        Span(f"{name[: _LABEL - 1]:<{_LABEL}}", HEADING),
        Span(f"[{SYMBOLS[COMMITTED] * full}{SYMBOLS[FREE] * (_BAR - full)}] "),
        *_value(now.used, was.used),
        Span(f" of {now.size} bytes in use, {100 * now.fill:.0f}%"),
        *(counters if counted else []),
    )


def _marks(window: Window, now: RingState, was: RingState, columns: int) -> Line:
    """With the size of a cell below the strip's end."""
    marks = window.marks(now, was)
    room = window.cells + 2 - sum(len(span.text) for span in marks)
    unit = f"{window.unit}-byte" if window.unit < 1024 else f"{window.unit >> 10}-KiB"
    same = window.unit == Window(was, columns).unit
    return (*marks, Span(" " * room), Span(f"{unit} cells", HEADING if same else f"{CHANGED} {HEADING}"))


def _pages(now: RingState, was: RingState, columns: int, counted: bool) -> list[Line]:
    """The words of the two position pages; of a perf ring, which has both on one page, that."""
    consumer, producer = (now.consumer, was.consumer), (now.producer, was.producer)
    if now.kind == PERF:
        return [_words("control page", [("C data_tail", *consumer), ("P data_head", *producer)], columns)]
    words: list[_Word] = [("P producer position", *producer)]
    if now.pending is not None:
        words.append(("pending", now.pending, was.pending))
    if now.overwrite is not None:
        words.append(("O overwrite", now.overwrite, was.overwrite))
    reader = _words("consumer page", [("C consumer position", *consumer)], columns)
    return [(*reader, *_reader(now, was, counted)), _words("producer page", words, columns)]


def _words(page: str, words: Sequence[_Word], columns: int) -> Line:
    """Each word of a page, and what was there before if there is room for that."""
    for arrow in (True, False):
        spans = [Span(f"{page:<{_LABEL}}", HEADING)]
        for number, (label, now, was) in enumerate(words):
            spans.append(Span(f"{'  ' if number else ''}{label} "))
            if arrow and was is not None and now != was:
                spans.append(Span(f"{was} -> "))
            spans += _value(now, was)
        if sum(len(span.text) for span in spans) <= columns:
            break
    return tuple(spans)


def _reader(now: RingState, was: RingState, counted: bool) -> Iterator[Span]:
    """What the ring's pages do not say of the consumer."""
    if now.asleep or was.asleep:
        yield Span("  ")
        word = "asleep" if now.asleep else "awake"
        yield Span(word) if now.asleep == was.asleep else Span(f"{word}*", CHANGED)
    if counted and now.kind == OVERWRITE:
        yield Span("  overwritten unread ")
        yield from _value(now.overwritten, was.overwritten, ALARM if now.overwritten else PLAIN)


def _value(now: int, was: int | None, style: str = PLAIN) -> list[Span]:
    return [Span(str(now), style)] if now == was else [Span(f"{now}*", f"{CHANGED} {style}".rstrip())]


class _Entry(NamedTuple):
    """A record for the table: in which ring, whether it has been read already, and how it was before."""

    label: str
    past: bool
    record: RecordState
    old: RecordState | None

    @property
    def rank(self) -> int:
        """Whose right to a line comes first."""
        if self.record != self.old:
            return _MARKED
        return _PAST if self.past else _UNREAD


def _table(states: Sequence[RingState], olds: Sequence[RingState], room: int, shown: str) -> list[Line]:
    """Changed records have the first right to a line, then those that are to be read, then the newest of the past. It is said
    how many of the first two are left out."""
    entries: list[_Entry] = []
    for state, was in zip(states, olds):
        old = _by_position(was)
        for number, record in enumerate(state.all_records):
            entries.append(_Entry(state.label, number < len(state.past), record, old.get(record.position)))
    if not entries or room < 2:
        return []
    wanted = sum(1 for entry in entries if entry.rank < _PAST)
    unlisted = sum(state.unlisted for state in states)
    fits = room - 1 if wanted < room and not unlisted else max(1, room - 2)
    order = sorted(range(len(entries)), key=lambda at: _right(at, entries[at]))
    kept = [entries[at] for at in sorted(order[:fits])]
    columns = _COLUMNS[shown][states[0].kind == PERF]
    labelled = len(states) > 1
    lines: list[Line] = [(Span(_LABELLED.format("") if labelled else ""), *titles(columns))]
    for entry in kept:
        label = Span(_LABELLED.format(entry.label) if labelled else "")
        lines.append((label, *row(entry.record, columns, entry.old)))
    more = [f"{wanted - len(kept)} more"] if wanted > len(kept) else []
    more += [f"{unlisted} bytes of records that are not listed"] if unlisted else []
    return [*lines, (Span(f"  and {', '.join(more)}"),)][:room] if more else lines


def _right(at: int, entry: _Entry) -> tuple[int, int]:
    return entry.rank, -at if entry.rank == _PAST else at


def _by_position(state: RingState) -> dict[int, RecordState]:
    return {record.position: record for record in state.all_records}


def _legend(states: Sequence[RingState]) -> Line:
    """The symbols that rings of these kinds can have."""
    kinds = {state.kind for state in states}
    left_out = {BUSY_RECORD, DISCARDED} if kinds == {PERF} else {LOST_RECORD}
    left_out |= set() if OVERWRITE in kinds else {OVERWRITTEN}
    left_out |= set() if any(state.unlisted for state in states) else {UNLISTED}
    known = [f"{symbol} {name}" for name, symbol in SYMBOLS.items() if name not in left_out]
    return (Span("  ".join([*known, "* changed"]), HEADING),)
