"""trace-exec: a line for each execve(2) on this machine, as it is entered.

The BPF side is bpf/trace_exec.bpf.c; a record is pid u32, size s32, then the file name, `size` bytes with
its NUL, or `size` is the negative errno of reading it.
"""

from __future__ import annotations

import argparse
import base64
import errno
import math
import struct
import sys
import time
from functools import partial
from itertools import islice
from typing import NamedTuple

from ..errors import Error
from ..kernel.maps import Map
from ..kernel.ringbuf import RingBuffer
from ..object import load, prebuilt_path
from .ending import check_reader, hold_signals, waiting, write_lines
from .options import add_ending, add_verifier_log
from .text import escape

DESCRIPTION = "Print a line for each execve(2) on this machine as it is entered, until Ctrl-C."

_HEAD = struct.Struct("=Ii")
_TICK = 0.5  # seconds: how soon lost events and a closed pipe are noticed when nothing happens


class Exec(NamedTuple):
    """`filename` is as it was passed to execve; `error` is the errno of reading it, 0 if it could be read."""

    pid: int
    filename: bytes
    error: int


def decode(record: bytes | memoryview) -> Exec:
    """A record of the ring "events". Raises Error if it is none."""
    if len(record) >= _HEAD.size:
        pid, size = _HEAD.unpack_from(record)
        if size <= 0:
            return Exec(pid, b"", -size)
        if _HEAD.size + size <= len(record):
            return Exec(pid, bytes(record[_HEAD.size : _HEAD.size + size]).split(b"\0")[0], 0)
    raise Error(f"a record of {len(record)} bytes is no exec event: the object is not one for trace-exec")


def as_text(event: Exec) -> str:
    """PID and file name; a name that was not in memory when the program looked is shown as its errno."""
    name = f"<not readable: {errno.errorcode.get(event.error, event.error)}>" if event.error else escape(event.filename)
    return f"{event.pid:<8}{name}"


def as_json(event: Exec) -> str:
    r"""One object. A name that is not UTF-8 has its odd bytes as \xNN, and all its bytes in "filename_b64"."""
    import json  # which text does not wait for

    row: dict[str, object] = {"pid": event.pid, "filename": event.filename.decode("utf-8", "backslashreplace")}
    if event.error:
        row["filename_error"] = errno.errorcode.get(event.error, str(event.error))
    try:
        event.filename.decode()
    except UnicodeDecodeError:
        row["filename_b64"] = base64.b64encode(event.filename).decode()
    return json.dumps(row)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of trace-exec."""
    parser.add_argument("--json", action="store_true", help='a JSON object a line: {"pid": 1, "filename": "/bin/ls"}')
    add_ending(parser, "events")
    parser.add_argument("--object", metavar="FILE", help="use this object instead of the one that comes with purebpf")
    add_verifier_log(parser)


def run(options: argparse.Namespace) -> None:
    """Trace until the count, the duration or a signal ends it."""
    with load(options.object or prebuilt_path("trace_exec")) as obj:
        ring, lost = obj.ring("events"), LostEvents(obj.maps.get("lost"))
        obj.attach()
        hold_signals()
        try:
            _trace(ring, lost, options)
        finally:
            lost.report(final=True)


def _trace(ring: RingBuffer[memoryview], lost: LostEvents, options: argparse.Namespace) -> None:
    deadline = math.inf if options.duration is None else time.monotonic() + options.duration
    left: int | None = options.count
    show = as_json if options.json else as_text
    if not options.json:
        write_lines(f"{'PID':<8}FILENAME\n")
    while left is None or left > 0:
        remaining = deadline - time.monotonic()
        signalled = waiting(partial(ring.wait, max(0.0, min(_TICK, remaining))))
        events = [decode(record) for record in islice(ring.drain(), left)]
        write_lines("".join(show(event) + "\n" for event in events), ending=signalled is not None)
        lost.report()
        if signalled:
            raise signalled
        if remaining <= 0:
            break
        check_reader()
        left = None if left is None else left - len(events)


class LostEvents:
    """The per-CPU counts, in map "lost", of events that found the ring full."""

    def __init__(self, counts: Map | None) -> None:
        self._counts = counts
        self._reported = 0

    def total(self) -> int:
        """All CPUs together, since the start."""
        return sum(self._counts[0]) if self._counts is not None else 0

    def report(self, final: bool = False) -> None:
        """Say on stderr what has been lost since the last report; at the end, the sum, if there is one."""
        total = self.total()
        if total > self._reported:
            print(f"purebpf: lost {total - self._reported} events: the ring was full", file=sys.stderr)
            self._reported = total
        if final and total:
            print(f"purebpf: lost {total} events in all", file=sys.stderr)
