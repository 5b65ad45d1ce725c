"""What the command ring does with --map-id and --pinned: a ring that others use, line by line."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

from ..kernel.ring_watch import RingWatch, watch_id, watch_pinned
from ..lessons.progress import Movement, Progress
from ..lessons.state import RecordState, RingState
from ..lessons.view import Look
from ..tracing.ending import hold_signals, waiting
from ..tracing.output import Output
from ..tracing.text import escape
from . import screen

_ROW = "{:<12} {:>14} {:>14} {:>9} {:>5} {:>7}  {:<15} {:>11} {:>11}  {}"
_KEPT = 64  # bytes of a payload in the live view
_COLUMNS = ("TIME", "CONSUMER", "PRODUCER", "USED", "FULL", "RECORDS", "HEAD", "IN B/s", "OUT B/s", "")


def opened(options: argparse.Namespace) -> RingWatch:
    """The ring that the options name. Raises what watch_id and watch_pinned do."""
    return watch_id(options.map_id) if options.pinned is None else watch_pinned(options.pinned)


def run(options: argparse.Namespace) -> None:
    """On a terminal the live view; else, or if an end is set, a line for each state, one each --interval, until the count,
    the duration or a signal ends it."""
    with opened(options) as watch:
        if not options.json and options.count is None and options.duration is None and screen.usable():
            screen.watch(watch.name, _title(watch), partial(_look, watch, Progress()), 1 / _interval(options))
            return
        output, progress = Output(), Progress()
        show = partial(as_json, watch) if options.json else as_text
        if not options.json:
            output.write(f"{escape(watch.name)}: {_title(watch)}\n")
            output.write(_ROW.format(*_COLUMNS).rstrip() + "\n")
        hold_signals()
        _watch(
            watch, options, lambda now, state: output.write(show(time.time(), state, progress.see(now, state)) + "\n")
        )


def _interval(options: argparse.Namespace) -> float:
    return options.interval or 1.0


def _title(watch: RingWatch) -> str:
    return f"map {watch.id}, {watch.kind}, {watch.size} bytes"


def _look(watch: RingWatch, progress: Progress) -> Look:
    """For the live view, which keeps many and shows little of payloads."""
    state = watch.state()
    verdict = progress.see(time.monotonic(), state).verdict
    kept = replace(state, records=_shortened(state.records), past=_shortened(state.past))
    return Look((kept,), _clock(time.time()), verdict)


def _shortened(records: tuple[RecordState, ...]) -> tuple[RecordState, ...]:
    return tuple(replace(record, payload=record.payload[:_KEPT]) for record in records)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-3]


def _watch(watch: RingWatch, options: argparse.Namespace, each: Callable[[float, RingState], None]) -> None:
    begin = time.monotonic()
    end = math.inf if options.duration is None else begin + options.duration
    left = math.inf if options.count is None else options.count
    while True:
        now = time.monotonic()
        each(now, watch.state())
        left -= 1
        if left <= 0 or now >= end:
            return
        signalled = waiting(partial(_sleep_until, min(now + _interval(options), end)))
        if signalled:
            raise signalled


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))


def as_text(at: float, state: RingState, movement: Movement) -> str:
    """A row of the table."""
    return _ROW.format(
        _clock(at),
        state.consumer,
        state.producer,
        state.used,
        f"{100 * state.fill:.0f}%",
        f"{len(state.records)}{'+' if state.unlisted else ''}",
        _head(state, movement),
        _rate(movement.produced),
        _rate(movement.consumed),
        movement.verdict,
    ).rstrip()


def as_json(watch: RingWatch, at: float, state: RingState, movement: Movement) -> str:
    """The ring, the time, what happened since the state before, and the state as RingState.to_dict gives it, but for what a
    ring does not tell."""
    seen = {**state.to_dict(), "notifications": None, "losses": None, "overwritten": None}
    row = {"map": watch.name, "map_id": watch.id, "time": at, **movement.to_dict(), "state": seen}
    return json.dumps(row)


def _head(state: RingState, movement: Movement) -> str:
    if not state.records:
        return "-"
    waited = movement.head_busy or movement.stuck
    return state.records[0].state + (f" {waited:.1f}s" if waited else "")


def _rate(bytes_a_second: float | None) -> str:
    return "" if bytes_a_second is None else f"{bytes_a_second:.0f}"
