"""trace-open: each file that is opened on this machine, or was to be.

The BPF side is bpf/trace_open.bpf.c. It looks at open, openat, openat2 and creat when they return: the kernel has just read the
path, so it is in memory, and the result is known. Programs of 32 bits are seen, too. A path is as it was given; another thread
may have changed it between the kernel's look and ours.
"""

from __future__ import annotations

import argparse
import os
import struct
from functools import lru_cache

from ..errors import ObjectError
from ..formats.spec import ObjectSpec
from ..kernel.cpus import cpu_slots
from ..tracing import event, filters, printer, tracer
from ..tracing.clock import Clock
from ..tracing.event import HEAD, Row
from ..tracing.shell import quote
from ..tracing.table import Column
from ..tracing.tool import Tool
from .options import add_ending, add_ring, add_verifier_log

DESCRIPTION = """Print a line for each file that is opened on this machine (open, openat, openat2, creat), until Ctrl-C. It costs
each system call of the machine some 90 ns meanwhile. Opens by io_uring, by handle, and of x32 programs are not seen. With --
COMMAND: run the command, trace it and its descendants until it ends, and exit with its status."""
TAKES_COMMAND = True

_PATTERNS = ("comm", "path")
_OWN_FIELDS = ("path", "dirfd", "flags", "mode", "retval", "errno")
_FIELDS = (*event.HEAD_FIELDS, *_OWN_FIELDS, *event.PLACE_FIELDS)

_EVENT = struct.Struct(f"={HEAD}iiQIII4x")  # struct event
_FLAGS_FAULT, _PATH_FAULT = 1, 2  # enum fault
_PATH_MAX = 4096
_AT_FDCWD = -100

# include/uapi/asm-generic/fcntl.h. Four bits are dealt out otherwise on arm64 and powerpc (arch/*/include/uapi/asm/fcntl.h);
# Python knows three of them, and the fourth is O_LARGEFILE (which it has as 0).
_DIRECTORY = getattr(os, "O_DIRECTORY", 0o200000)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0o400000)
_DIRECT = getattr(os, "O_DIRECT", 0o40000)
_LARGEFILE = 0o740000 & ~(_DIRECTORY | _NOFOLLOW | _DIRECT)
_CREAT, _TMPFILE = 0o100, 0o20000000
_ACCESS = {0: "O_RDONLY", 1: "O_WRONLY", 2: "O_RDWR", 3: "0x3"}
_NAMES = {
    _CREAT: "O_CREAT",
    0o200: "O_EXCL",
    0o400: "O_NOCTTY",
    0o1000: "O_TRUNC",
    0o2000: "O_APPEND",
    0o4000: "O_NONBLOCK",
    0o4010000: "O_SYNC",  # has the bit of O_DSYNC: stands before it, as O_TMPFILE before O_DIRECTORY
    0o10000: "O_DSYNC",
    0o20000: "O_ASYNC",
    _DIRECT: "O_DIRECT",
    _LARGEFILE: "O_LARGEFILE",
    _TMPFILE | _DIRECTORY: "O_TMPFILE",
    _DIRECTORY: "O_DIRECTORY",
    _NOFOLLOW: "O_NOFOLLOW",
    0o1000000: "O_NOATIME",
    0o10000000: "O_PATH",
    0o2000000: "O_CLOEXEC",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of trace-open."""
    add = parser.add_argument_group("what is reported").add_argument
    add("--failed", action="store_true", help="only what could not be opened")
    add("-w", "--writes", action="store_true", help="only what is opened for writing, or created")
    filters.add_arguments(parser, _PATTERNS)
    printer.add_arguments(parser, schemas=False)
    add_ring(parser)
    add_ending(parser, "events")
    add_verifier_log(parser)


def run(options: argparse.Namespace) -> int:
    """Trace until the count, the duration, the command's end or a signal ends it."""
    return tracer.run(TOOL, options)


def prepare(options: argparse.Namespace, spec: ObjectSpec) -> None:
    """Set variables, and have a buffer for each CPU."""
    spec.variable("failed_only").value = int(options.failed)
    spec.variable("writes_only").value = int(options.writes)
    spec.maps["buffers"].max_entries = cpu_slots()


class Decoder:
    """Records into rows."""

    def __init__(self, _options: argparse.Namespace, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, record: bytes) -> Row:
        """Raises ObjectError if it is no record of trace_open.bpf.c."""
        if len(record) < _EVENT.size:
            raise ObjectError(f"a record of {len(record)} bytes is no open event: the object is not one for trace-open")
        head = _EVENT.unpack_from(record)
        retval, dirfd, flags, mode, faults, path_size = head[15:]
        path_end = _EVENT.size + path_size
        row = event.begin("open", head, self._clock)
        row["path"] = event.text(record[_EVENT.size : path_end - 1]) if path_size else ""
        row["dirfd"] = None if dirfd == _AT_FDCWD else dirfd
        row["flags"] = None if faults & _FLAGS_FAULT else list(flag_names(flags))
        row["mode"] = mode if flags & (_CREAT | _TMPFILE) else None
        row["retval"] = retval
        row["errno"] = event.errno_name(-retval) if retval < 0 else None
        event.place(row, head, record[path_end : path_end + event.cgroup_size(head)])
        if faults & _PATH_FAULT:
            row["path_fault"] = True
        if path_size > _PATH_MAX:
            row["path_truncated"] = True
        return row


@lru_cache(1024)
def flag_names(flags: int) -> tuple[str, ...]:
    """Those of open(2), the access mode first; bits that have none as one number in hex."""
    names, rest = [_ACCESS[flags & 3]], flags & ~3
    for bits, name in _NAMES.items():
        if rest & bits == bits:
            names.append(name)
            rest &= ~bits
    return (*names, hex(rest)) if rest else tuple(names)


def columns(_options: argparse.Namespace) -> list[Column]:
    """Of the table."""
    return [
        Column("TIME", lambda row: row["time"][11:23], 12, style="2"),
        Column("PID", lambda row: str(row["pid"]), 7, right=True),
        Column("COMM", lambda row: quote(row["comm"]), 15),
        Column("UID", lambda row: str(row["uid"]), 4, right=True),
        Column("FD/ERR", lambda row: row["errno"] or str(row["retval"]), 6, style=_style),
        Column("FLAGS", lambda row: "?" if row["flags"] is None else "|".join(row["flags"]), 18),
        Column("PATH", _path, 0),
    ]


def _style(row: Row) -> str:
    return "31" if row["errno"] else ""


def _path(row: Row) -> str:
    if row.get("path_fault"):
        return "#not in memory"
    return quote(row["path"]) + (" #and more" if row.get("path_truncated") else "")


def _command(row: Row) -> str:
    return f"{quote(row['comm'])}: {_path(row)}"


TOOL = Tool(
    object="trace_open",
    what="events",
    fields=_FIELDS,
    patterns=_PATTERNS,
    columns=columns,
    command=_command,
    prepare=prepare,
    decoder=Decoder,
    optional={},
)
