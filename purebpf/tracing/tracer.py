"""What runs a tool: its programs loaded and attached, its events read in batches, filtered and written.

Being woken costs the traced process ten times what writing a record does, so the programs wake us at the first event after
a pause, then not before the ring is a quarter full; meanwhile we sleep for a moment and take what has gathered
(wakeup() in bpf/tracer.h).
"""

from __future__ import annotations

import argparse
import math
import select
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial

from ..formats.spec import ObjectSpec
from ..kernel.ringbuf import RingBuffer
from ..kernel.sys import require_supported
from ..object import Object, load, prebuilt_path, read
from . import filters
from .clock import Clock
from .command import Command
from .ending import Signalled, hold_signals, outlive_hangup, waiting
from .event import Row
from .losses import Losses
from .output import Output, say
from .printer import Printer
from .tool import Tool

_RING = 2 << 20  # bytes: a second of execs at full speed on two CPUs, six times over
_GATHER = 0.05, 0.25  # seconds in which events gather: at first, and while many come
_MANY = 16  # events that are worth to wait longer for the next
_TICK = 1.0  # seconds: how soon losses and a closed pipe are noticed when nothing happens
_BATCH = 2048  # records that are taken at once: signals are let in between
_BUSY, _AT_ONCE, _WHEN_FULLER = range(3)  # of bpf/tracer.h


def run(tool: Tool, options: argparse.Namespace) -> int:
    """Trace until the count, the duration, the command's end or a signal. The exit status."""
    require_supported()
    if options.output is not None:
        outlive_hangup()
    with ExitStack() as stack:
        command = Command(options.command_line) if options.command_line else None
        chosen = filters.Filters(options, tool.patterns, command.pid if command else None)
        spec = _spec(tool, options, chosen)
        obj = stack.enter_context(load(spec, btf=options.btf))
        session = stack.enter_context(_Session(tool, options, obj, chosen, command))
        _attach(tool, obj)
        chosen.begin(obj)
        return session.run()


def _spec(tool: Tool, options: argparse.Namespace, chosen: filters.Filters) -> ObjectSpec:
    spec = read(options.object or prebuilt_path(tool.object))
    for name in tool.optional:
        spec.programs[name].required = False
    tool.prepare(options, spec)
    chosen.prepare(spec)
    size = options.buffer_size or _room_for(spec)
    spec.maps["events"].max_entries = size
    spec.variable("wake_at").value = size // 4
    return spec


def _room_for(spec: ObjectSpec) -> int:
    """A ring that survives storms, and holds several of the longest records: each is put together in a map's value."""
    longest = max(made.value_size for made in spec.maps.values())
    return max(_RING, 1 << (8 * longest).bit_length())


def _attach(tool: Tool, obj: Object) -> None:
    obj.attach()
    for name, error in obj.failures.items():
        say(f"{tool.optional[name]}: {str(error).splitlines()[0]}")


class _Session:
    """One trace, from the first event to the last."""

    def __init__(
        self, tool: Tool, options: argparse.Namespace, obj: Object, chosen: filters.Filters, command: Command | None
    ) -> None:
        self._obj, self._filters, self._command = obj, chosen, command
        self._owned = ExitStack()
        self._ring: RingBuffer[memoryview] = obj.ring("events", lost="lost")
        self._losses = Losses(obj, self._ring, tool)
        self._clock = Clock()
        self._decode = tool.decoder(options, self._clock)
        self._output = Output(options.output, self._stalled)
        self._printer = Printer(tool, options, self._output.fileno())
        self._left = math.inf if options.count is None else options.count
        self._deadline = math.inf if options.duration is None else time.monotonic() + options.duration
        self._owned.callback(self._output.close)
        self._told = 0  # lost events that a row has told of
        self._gather = 0.0  # the first event is shown at once
        self._epoll = select.epoll()
        self._owned.callback(self._epoll.close)
        # Edge-triggered: what is there already does not end a wait, only the program's wake-up does.
        self._epoll.register(self._ring.fileno(), select.EPOLLIN | select.EPOLLET)
        if command:
            self._epoll.register(command.pidfd, select.EPOLLIN)
        self._counts: Counter[tuple[str, str]] | None = None
        if options.metrics:
            self._serve_metrics(options.metrics)

    def _serve_metrics(self, address: str) -> None:
        from .. import metrics  # which needs prometheus_client

        # A counter that appears with its first event would hide it from increase().
        self._counts = Counter(dict.fromkeys((("exec", "ok"), ("truncated", ""), ("fault", ""), ("lost", "")), 0))
        collectors = (
            metrics.RingCollector(self._ring),
            metrics.ProgramCollector(self._obj),
            metrics.EventCollector(self._counts),
        )
        served = metrics.serve(address, *collectors)
        self._owned.callback(served.close)
        say(f"metrics at {served.url}")

    def run(self) -> int:
        hold_signals()
        try:
            return self._trace()
        finally:
            self._losses.sum_up()

    def _trace(self) -> int:
        if self._output.empty:
            self._output.write(self._printer.header())
        if self._command and not self._command.start():
            return self._command.wait()
        more = ended = False
        while self._left > 0:
            remaining = self._deadline - time.monotonic()
            signalled = waiting(partial(self._wait, 0.0 if more else max(0.0, remaining)))
            ended = ended or self._has_ended()
            more = self._take(signalled is not None)
            if signalled:
                self._pass_on(signalled)
            if (remaining <= 0 or ended) and not more:
                break
            self._output.check_reader()
        return self._command.wait() if self._command else 0

    def _wait(self, seconds: float) -> None:
        """Sleep until there are events, `seconds` at most, and then a moment longer."""
        self._wake(_AT_ONCE)
        if seconds and not self._ring.wait(0):
            self._epoll.poll(min(seconds, _TICK))
        self._wake(_WHEN_FULLER)
        if seconds and not self._has_ended():
            self._epoll.poll(min(seconds, self._gather))
        self._wake(_BUSY)

    def _wake(self, when: int) -> None:
        self._obj.globals.wanted_wakeup = when

    def _has_ended(self) -> bool:
        """Has the command ended? What it did is in the ring then."""
        return self._command is not None and bool(select.select([self._command.pidfd], [], [], 0)[0])

    def _take(self, ending: bool) -> bool:
        """Read and write a batch, all that there is when `ending`. True if more may be there."""
        self._clock.adjust()
        if self._output.reopen_if_asked():
            self._output.write(self._printer.header())
        while True:
            batch = self._ring.consume(_BATCH)
            if batch:
                self._gather = min(2 * self._gather, _GATHER[1]) if len(batch) > _MANY else _GATHER[0]
            rows = [row for row in map(self._decode, map(bytes, batch)) if row and self._filters.passes(row)]
            if len(rows) > self._left:
                del rows[int(self._left) :]
            self._left -= len(rows)
            self._write(rows, ending)
            if not (ending and batch):
                return len(batch) == _BATCH

    def _write(self, rows: list[Row], ending: bool) -> None:
        self._losses.report()
        lost, self._told = self._losses.total - self._told, self._losses.total
        if self._counts is not None:
            self._count(self._counts, rows, lost)
        text = self._printer.lines(rows) + (self._lost(lost) if lost else "")
        if text:
            self._output.write(text, ending)

    def _lost(self, count: int) -> str:
        now = time.monotonic_ns()
        return self._printer.lost({"event": "lost", "time": self._clock.iso(now), "monotonic_ns": now, "count": count})

    def _count(self, counts: Counter[tuple[str, str]], rows: list[Row], lost: int) -> None:
        counts.update((row["event"], "failed" if row.get("errno") else "ok") for row in rows)
        counts["truncated", ""] += sum("argv_truncated" in row for row in rows)
        counts["fault", ""] += sum("argv_fault" in row for row in rows)
        counts["lost", ""] += lost

    def _stalled(self, seconds: float, lines: int) -> None:
        """The reader of the output is slow."""
        behind = f"{lines} line{'s wait' if lines != 1 else ' waits'}"
        say(f"nobody has read the output for {seconds:.0f} s: {behind}, the ring is {self._ring.fill:.0%} full")
        self._losses.report()

    def _pass_on(self, signalled: Signalled) -> None:
        if self._command:
            self._command.pass_on(signalled.number)
        raise signalled

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._owned.close()
