"""trace-exec: each exec on this machine, with its whole argument vector.

The BPF side is bpf/trace_exec.bpf.c. Programs on sched_process_exec see an exec after it has succeeded, when the kernel has
just written the arguments: they are in memory, in one block, as /proc/PID/cmdline has them.
"""

from __future__ import annotations

import argparse
import signal
import struct
import sys
from collections import OrderedDict, deque

from ..errors import NotSupported, ObjectError
from ..formats.spec import ObjectSpec
from ..kernel import vmlinux
from ..kernel.cpus import cpu_slots
from ..tracing import event, filters, printer, proc, shell, tracer
from ..tracing.clock import Clock
from ..tracing.containers import container_of
from ..tracing.event import HEAD, Row
from ..tracing.output import say
from ..tracing.table import Column
from ..tracing.tool import Tool
from .options import add_ending, add_ring, add_verifier_log, size

DESCRIPTION = """Print a line for each exec on this machine, until Ctrl-C. With -- COMMAND: run the command, trace it and its
descendants until it ends, and exit with its status."""
TAKES_COMMAND = True

_PATTERNS = ("comm", "filename")
_OWN_FIELDS = ("filename", "argv", "argc", "retval", "errno", "syscall")
_FIELDS = (*event.HEAD_FIELDS, *_OWN_FIELDS, *event.PLACE_FIELDS)
_EXIT_FIELDS = ("exit_code", "signal", "core_dumped", "lifetime_ns")

_EXEC = struct.Struct(f"={HEAD}iiIIIIIIIIII")  # struct event, and struct exit_event
_EXIT = struct.Struct(f"={HEAD}I4x")
_EXITED = (2).to_bytes(4, sys.byteorder)  # enum kind
_ARGS_FAULT, _CWD_CUT, _SCRIPT, _PLAIN, _NAME_FAULT, _ARGS_CUT = 1, 2, 4, 8, 16, 32  # enum flag
_PATH_MAX = 4096  # with the NUL
_PATHS = 2 * _PATH_MAX + 1024  # PATHS: room for the file name, the cgroup, the directory
_SPARE = 2 * 4096
_MAX_ENV = 128 * 1024
_KNOWN = 65536  # processes whose exec is remembered for their exit

_SYSCALLS = {1: "execve", 2: "execveat"}  # enum call


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of trace-exec."""
    add = parser.add_argument_group("what is reported").add_argument
    add(
        "-x",
        "--failures",
        action="store_true",
        help="execs that failed, too (costs each system call of the machine some 80 ns)",
    )
    add("--failed", action="store_true", help="only execs that failed")
    add("--exits", action="store_true", help="the ends of processes, too, with their status and lifetime")
    add(
        "--max-args",
        type=size,
        default=16384,
        metavar="SIZE",
        help="bytes of arguments that are captured of each exec (16K)",
    )
    add("--cwd", action="store_true", help="the working directory, too")
    add("--env", action="append", default=[], metavar="NAME", help="this environment variable, too")
    filters.add_arguments(parser, _PATTERNS)
    printer.add_arguments(parser)
    add_ring(parser)
    add_ending(parser, "events")
    add_verifier_log(parser)


def run(options: argparse.Namespace) -> int:
    """Trace until the count, the duration, the command's end or a signal ends it."""
    fields = [*_FIELDS, *(["cwd"] if options.cwd else []), *(["env"] if options.env else [])]
    tool = TOOL._replace(fields=(*fields, *(_EXIT_FIELDS if options.exits else ())))
    return tracer.run(tool, options)


def prepare(options: argparse.Namespace, spec: ObjectSpec) -> None:
    """Choose programs, set limits, and size the buffers accordingly."""
    slots = cpu_slots()  # first: without /sys this says so, and the types only seem to be missing
    plain = not options.btf and vmlinux.find() is None
    chosen = {
        "trace_exec": not plain and not options.failed,
        "trace_failed_exec": options.failures or options.failed,
        "trace_exit": options.exits,
        "trace_exec_plain": plain,
    }
    if plain:
        _refuse_without_btf(options)
        say("this kernel has no BTF: arguments and parents are looked up in /proc, too late for short-lived processes")
    for name, autoload in chosen.items():
        spec.programs[name].autoload = autoload
    spec.variable("max_args").value = options.max_args
    spec.variable("max_env").value = _MAX_ENV if options.env else 0
    spec.variable("want_cwd").value = int(options.cwd)
    for name, used in (
        ("buffers", "trace_exec"),
        ("failure_buffers", "trace_failed_exec"),
        ("exit_buffers", "trace_exit"),
    ):
        made = spec.maps[name]
        made.max_entries = slots if chosen[used] or plain else 1
        made.value_size = _EXEC.size + _PATHS + options.max_args + spec.variable("max_env").value + _SPARE


def _refuse_without_btf(options: argparse.Namespace) -> None:
    wanted = ("failures", "failed", "exits", "tree", "ppid", "cwd", "env", "command_line")
    for name in wanted:
        if getattr(options, name):
            shown = "-- COMMAND" if name == "command_line" else f"--{name}"
            raise NotSupported(
                f"{shown} needs the types of this kernel, and it has no BTF (CONFIG_DEBUG_INFO_BTF)",
                hint="name a file that has them: --btf FILE (for many kernels: the BTFHub archive)",
            )


class Decoder:
    """Records into rows. Remembers the execs of living processes for their exits."""

    def __init__(self, options: argparse.Namespace, clock: Clock) -> None:
        self._clock, self._env, self._cwd = clock, options.env, options.cwd
        self._execs: OrderedDict[tuple[int, int], Row] = OrderedDict()
        self._remember = options.exits
        self._gone: deque[tuple[int, int]] = deque(maxlen=64)

    def __call__(self, record: bytes) -> Row | None:
        """Raises ObjectError if it is no record of trace_exec.bpf.c."""
        exited = record[event.KIND] == _EXITED
        if len(record) < (_EXIT if exited else _EXEC).size:
            raise ObjectError(f"a record of {len(record)} bytes is no exec event: the object is not one for trace-exec")
        return self._exit(record) if exited else self._exec(record)

    def _exec(self, record: bytes) -> Row:
        head = _EXEC.unpack_from(record)
        retval, call, flags, argc, name_size, cwd_size, args_size, args_total, env_size, env_total, before, _ = head[
            15:
        ]
        row = event.begin("exec", head, self._clock)
        row["filename"] = event.text(record[_EXEC.size : _EXEC.size + name_size - 1])
        args_at = _EXEC.size + before
        row["argv"] = event.text(record[args_at : args_at + args_size]).split("\0")
        if not row["argv"][-1]:
            del row["argv"][-1]
        row["argc"] = argc
        row["retval"] = retval
        row["errno"] = event.errno_name(-retval) if retval else None
        row["syscall"] = _SYSCALLS.get(call)
        names_at = _EXEC.size + name_size
        event.place(row, head, record[names_at : names_at + event.cgroup_size(head)])
        if name_size == _PATH_MAX:
            row["filename_truncated"] = True
        if flags or args_size < args_total:
            _qualify(row, flags, args_size, args_total)
        if self._cwd:
            row["cwd"] = _path(record[args_at - cwd_size : args_at], flags)
        if self._env:
            self._add_env(row, record[args_at + args_size :], env_size < env_total)
        if self._remember and not retval:
            self._execs[row["pid"], row["start_ns"]] = row
            if len(self._execs) > _KNOWN:
                self._execs.popitem(last=False)
        return row

    def _add_env(self, row: Row, block: bytes, cut: bool) -> None:
        entries = event.text(block).split("\0")[:-1]  # what is behind the last NUL is a part of one
        found = dict(entry.split("=", 1) for entry in reversed(entries) if "=" in entry)  # getenv() takes the first
        row["env"] = None if row["retval"] else {name: found[name] for name in self._env if name in found}
        if cut:
            row["env_truncated"] = True

    def _exit(self, record: bytes) -> Row | None:
        head = _EXIT.unpack_from(record)
        row = event.begin("exit", head, self._clock)
        process = (row["pid"], row["start_ns"])
        if process in self._gone:
            return None  # two last threads that ended at once
        self._gone.append(process)
        seen = self._execs.pop(process, {})
        for name in ("filename", "argv", "argc"):
            row[name] = seen.get(name)
        status = head[15]
        number = status & 0x7F
        row["exit_code"] = None if number else status >> 8 & 0xFF
        row["signal"] = _signal(number) if number else None
        row["core_dumped"] = bool(status & 0x80)
        row["lifetime_ns"] = row["monotonic_ns"] - row["start_ns"]
        event.place(row, head, record[_EXIT.size : _EXIT.size + event.cgroup_size(head)])
        return row


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"  # a real-time signal


def _path(names: bytes, flags: int) -> str:
    """Of a directory; its names are as those of a cgroup."""
    found = event.text(names).split("\0")[:-1]
    return event.path_of([*found, ""] if flags & _CWD_CUT else found)


def _qualify(row: Row, flags: int, captured: int, total: int) -> None:
    """Say what is not whole."""
    if flags & _PLAIN:
        _look_up(row)
        return
    if flags & _SCRIPT:
        row["script"] = True
    failed = row["retval"] < 0
    if flags & _ARGS_CUT or (not failed and captured < total):
        row["argv_truncated"] = True
        row["argv_bytes"] = None if failed else total
        row["argv_captured"] = captured
    if flags & _ARGS_FAULT:
        row["argv_fault"] = True
    if failed and flags & (_ARGS_CUT | _ARGS_FAULT):
        row["argc"] = None  # there may have been more
    if flags & _NAME_FAULT:
        row["filename_fault"] = True


def _look_up(row: Row) -> None:
    """On a kernel without BTF: ask /proc, if the process still lives."""
    pid: int = row["pid"]
    row["ppid"] = proc.parent(pid)
    row["parent_comm"] = event.text(proc.read(row["ppid"], "comm").rstrip(b"\n"))
    block = event.text(proc.read(pid, "cmdline"))
    row["argv"] = block.split("\0")[:-1]
    row["argc"] = len(row["argv"]) or None
    row["args_source"] = "proc"
    if not block:
        row["argv_fault"] = True
    found = [line for line in event.text(proc.read(pid, "cgroup")).splitlines() if line.startswith("0::")]
    row["cgroup"] = found[0][3:] if found else None
    row["container_id"] = container_of(row["cgroup"]) if found else None


def columns(options: argparse.Namespace) -> list[Column]:
    """Of the table."""
    shown = [
        Column("TIME", lambda row: row["time"][11:23], 12, style="2"),
        Column("PID", lambda row: str(row["pid"]), 7, right=True),
        Column("PPID", lambda row: str(row["ppid"]), 7, right=True),
        Column("UID", lambda row: str(row["uid"]), 4, right=True),
        Column("PARENT", lambda row: shell.quote(row["parent_comm"]), 15),
    ]
    if options.failures or options.failed or options.exits:
        shown.append(Column("RESULT", _result, 6, style=_result_style))
    return [*shown, Column("COMMAND", shell.command, 0)]


def _result(row: Row) -> str:
    if row["event"] == "exec":
        return row["errno"] or "ok"
    lasted = f"{row['lifetime_ns'] / 1e9:.3f}s"
    return f"{row['signal'] or 'exit ' + str(row['exit_code'])} {lasted}"


def _result_style(row: Row) -> str:
    if row["event"] == "exec":
        return "31" if row["retval"] else "32"
    return "31" if row["signal"] or row["exit_code"] else "2"


TOOL = Tool(
    object="trace_exec",
    what="events",
    fields=_FIELDS,
    patterns=_PATTERNS,
    columns=columns,
    command=shell.command,
    prepare=prepare,
    decoder=Decoder,
    optional={
        "trace_failed_exec": "execs that failed are not shown",
        "trace_exit": "ends of processes are not shown",
    },
)
