"""trace-connect: each TCP connection that this machine asks for, to whom, how long it took, and how it ended.

The BPF side is bpf/trace_connect.bpf.c, on inet_sock_set_state: the process is the one that called connect, whoever
receives the answer. The time of a row is that of the answer: it began `latency_ns` before. `connected` is False without
an errno where the socket was closed before an answer came (or connect() found no free port), and None where more attempts
were waiting than the program has room for.

`family` is what is on the wire: a connection of an IPv6 socket to ::ffff:192.0.2.1 is one of IPv4, to 192.0.2.1.
"""

from __future__ import annotations

import argparse
import struct
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop

from ..errors import Error, ObjectError
from ..formats.spec import ObjectSpec
from ..kernel.cpus import cpu_slots
from ..tracing import event, filters, printer, tracer
from ..tracing.clock import Clock
from ..tracing.event import HEAD, Row
from ..tracing.shell import quote
from ..tracing.table import Column
from ..tracing.tool import Tool
from .options import add_ending, add_ring, add_verifier_log

DESCRIPTION = """Print a line for each TCP connection that is asked for on this machine, when it is established or has failed,
until Ctrl-C. What fails before a SYN is sent (no route) is not seen, nor are attempts that last longer than the trace. With --
COMMAND: run the command, trace it and its descendants until it ends, and exit with its status."""
TAKES_COMMAND = True

_PATTERNS = ("comm",)
_OWN_FIELDS = ("family", "source", "source_port", "destination", "destination_port", "connected", "errno", "latency_ns")
_FIELDS = (*event.HEAD_FIELDS, *_OWN_FIELDS, *event.PLACE_FIELDS)

_EVENT = struct.Struct(f"={HEAD}Q16s16sHHiI4x")  # struct event
_CONNECTED, _NOT_CONNECTED, _FORGOTTEN = range(3)  # enum result
_MAPPED = b"\0" * 10 + b"\xff\xff"  # RFC 4291, 2.5.5.2
_MAX_PORTS = 16  # MAX_PORTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of trace-connect."""
    add = parser.add_argument_group("what is reported").add_argument
    add("--failed", action="store_true", help="only what was not established")
    add("--port", action="append", type=_port, default=[], metavar="PORT", help="only to this port (several: any)")
    filters.add_arguments(parser, _PATTERNS)
    printer.add_arguments(parser, schemas=False)
    add_ring(parser)
    add_ending(parser, "events")
    add_verifier_log(parser)


def _port(text: str) -> int:
    value = int(text)
    if not 0 < value < 1 << 16:
        raise ValueError
    return value


_port.__name__ = "port"  # argparse puts it into "invalid … value"


def run(options: argparse.Namespace) -> int:
    """Trace until the count, the duration, the command's end or a signal ends it."""
    return tracer.run(TOOL, options)


def prepare(options: argparse.Namespace, spec: ObjectSpec) -> None:
    """Set variables, and have a buffer for each CPU."""
    ports: list[int] = options.port
    if len(ports) > _MAX_PORTS:
        raise Error(f"{len(ports)} ports are too many to look for: at most {_MAX_PORTS}", hint="leave --port out")
    spec.variable("ports").value = ports + [0] * (_MAX_PORTS - len(ports))
    spec.variable("port_count").value = len(ports)
    spec.variable("failed_only").value = int(options.failed)
    spec.maps["buffers"].max_entries = cpu_slots()


class Decoder:
    """Records into rows."""

    def __init__(self, _options: argparse.Namespace, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, record: bytes) -> Row:
        """Raises ObjectError if it is no record of trace_connect.bpf.c."""
        if len(record) < _EVENT.size:
            raise ObjectError(
                f"a record of {len(record)} bytes is no connect event: the object is not one for trace-connect"
            )
        head = _EVENT.unpack_from(record)
        latency, source, destination, source_port, destination_port, error, result = head[15:]
        row = event.begin("connect", head, self._clock)
        row["family"] = "ipv4" if destination.startswith(_MAPPED) else "ipv6"
        row["source"] = address(source)
        row["source_port"] = source_port or None
        row["destination"] = address(destination)
        row["destination_port"] = destination_port
        row["connected"] = None if result == _FORGOTTEN else result == _CONNECTED
        row["errno"] = event.errno_name(error) if result == _NOT_CONNECTED and error else None
        row["latency_ns"] = None if result == _FORGOTTEN else latency
        event.place(row, head, record[_EVENT.size : _EVENT.size + event.cgroup_size(head)])
        return row


@lru_cache(4096)
def address(packed: bytes) -> str:
    """The text of 16 bytes of IPv6, or of IPv4 mapped into them."""
    return inet_ntop(AF_INET, packed[12:]) if packed.startswith(_MAPPED) else inet_ntop(AF_INET6, packed)


def columns(_options: argparse.Namespace) -> list[Column]:
    """Of the table."""
    return [
        Column("TIME", lambda row: row["time"][11:23], 12, style="2"),
        Column("PID", lambda row: str(row["pid"]), 7, right=True),
        Column("COMM", lambda row: quote(row["comm"]), 15),
        Column("UID", lambda row: str(row["uid"]), 4, right=True),
        Column("LOCAL", lambda row: _endpoint(row["source"], row["source_port"]), 21),
        Column("REMOTE", _remote, 21),
        Column("LATENCY", _latency, 10, right=True),
        Column("RESULT", _result, 0, style=_style),
    ]


def _endpoint(address: str, port: int | None) -> str:
    shown = f"[{address}]" if ":" in address else address
    return f"{shown}:{port or '?'}"


def _remote(row: Row) -> str:
    return _endpoint(row["destination"], row["destination_port"])


def _latency(row: Row) -> str:
    nanoseconds: int | None = row["latency_ns"]
    return "?" if nanoseconds is None else f"{nanoseconds / 1e6:.3f}ms"


def _result(row: Row) -> str:
    """Without an error there was no answer before the socket was closed."""
    if row["connected"] is None:
        return "?"
    return "ok" if row["connected"] else row["errno"] or "closed"


def _style(row: Row) -> str:
    return "32" if row["connected"] else "31"


def _command(row: Row) -> str:
    return f"{quote(row['comm'])}: {_remote(row)}"


TOOL = Tool(
    object="trace_connect",
    what="events",
    fields=_FIELDS,
    patterns=_PATTERNS,
    columns=columns,
    command=_command,
    prepare=prepare,
    decoder=Decoder,
    optional={},
    harmless=frozenset(("connect_begins", "connect_ends", "connect_ends_too")),
)
