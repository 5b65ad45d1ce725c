"""run: load any object, attach what can be attached by itself, print what its ring and perf buffers bring.

A record is decoded by the type that the map declares, `__type(value, struct event)`, or by one that is named with
--type, or by a struct of the object that is called as the map is, in the singular, or "event". One that none of
these fits is shown as bytes.
"""

from __future__ import annotations

import argparse
import json
import math
import select
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Union

from ..errors import Error, ObjectError
from ..formats.abi import MapType
from ..formats.layout import Codec, codec, plain
from ..formats.spec import MapSpec, ObjectSpec
from ..kernel.perfbuf import PerfBuffer
from ..kernel.ringbuf import RingBuffer
from ..object import Object, load, read
from ..tracing.ending import hold_signals, waiting
from ..tracing.output import Output
from ..tracing.text import escape
from .options import add_ending, add_verifier_log

DESCRIPTION = "Load an object, attach its programs where their sections say, and print what comes out of its buffers."

_TICK = 0.5  # seconds: how soon lost records and a closed pipe are noticed when nothing happens
Reader = Union[RingBuffer[memoryview], PerfBuffer]


class Source(NamedTuple):
    """A buffer that is read, and what decodes its records, if anything does."""

    name: str
    reader: Reader
    codec: Codec | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of run."""
    parser.add_argument("object", metavar="OBJECT", help="the .o that clang -target bpf -g -O2 -c wrote")
    parser.add_argument("--json", action="store_true", help="a JSON object a line for each record")
    parser.add_argument(
        "--set", action="append", default=[], type=_assignment, metavar="NAME=VALUE", help="set a global variable first"
    )
    parser.add_argument("--type", metavar="STRUCT", help="what records are; by default found in the object's BTF")
    parser.add_argument("--btf", metavar="FILE", help="relocate against this BTF instead of the running kernel's")
    parser.add_argument("-k", "--keep-going", action="store_true", help="do without programs that fail, and say so")
    add_ending(parser, "records")
    add_verifier_log(parser)


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError
    try:
        return name, int(value, 0)
    except ValueError:
        pass
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


_assignment.__name__ = "NAME=VALUE"


def run(options: argparse.Namespace) -> None:
    """Run until the count, the duration or a signal ends it."""
    spec = read(options.object)
    for name, value in options.set:
        spec.variable(name).value = value
    for program in spec.programs.values():
        program.required = not options.keep_going
    with load(spec, btf=options.btf) as obj:
        sources = list(_sources(obj, options.type))
        attached = obj.attach()
        _report(obj, len(attached))
        if not attached:
            raise ObjectError("no program of this object could be attached by itself")
        hold_signals()
        _print_records(sources, options)


def _sources(obj: Object, wanted: str | None) -> Iterator[Source]:
    for name, made in obj.maps.items():
        if made.spec.type == MapType.RINGBUF:
            yield Source(name, obj.ring(name), record_codec(obj.spec, obj.spec.maps[name], wanted))
        elif made.spec.type == MapType.PERF_EVENT_ARRAY:
            yield Source(name, obj.perf(name), record_codec(obj.spec, obj.spec.maps[name], wanted))


def record_codec(spec: ObjectSpec, of: MapSpec, wanted: str | None) -> Codec | None:
    """What decodes a buffer's records. Raises ObjectError if the type that is `wanted` is not there."""
    if wanted:
        return spec.struct(wanted)
    if of.type == MapType.RINGBUF and of.value_type and spec.btf:
        return codec(spec.btf, of.value_type)
    for name in (of.name.rstrip("s"), f"{of.name}_t", "event", "event_t"):
        with suppress(ObjectError):
            return spec.struct(name)
    return None


def _report(obj: Object, attached: int) -> None:
    for name, error in obj.failures.items():
        print(f"purebpf: without {name}: {escape(str(error).splitlines()[0])}", file=sys.stderr)
    idle = [name for name, program in obj.programs.items() if not program.attachable]
    if idle:
        print(f"purebpf: not attached, as their sections do not say where: {', '.join(idle)}", file=sys.stderr)
    print(f"purebpf: {attached} program{'s' * (attached != 1)} attached; Ctrl-C ends", file=sys.stderr)


def _print_records(sources: list[Source], options: argparse.Namespace) -> None:
    deadline = math.inf if options.duration is None else time.monotonic() + options.duration
    left: int | None = options.count
    lost = {source.name: 0 for source in sources}
    output, poll = Output(), select.poll()
    for source in sources:
        poll.register(source.reader.fileno(), select.POLLIN)
    show = as_json if options.json else as_text
    while left is None or left > 0:
        remaining = deadline - time.monotonic()
        signalled = waiting(partial(_wait, sources, poll, max(0.0, min(_TICK, remaining))))
        lines = [show(source, bytes(record)) for source in sources for record in source.reader.drain()][:left]
        output.write("".join(line + "\n" for line in lines), ending=signalled is not None)
        _report_lost(sources, lost)
        if signalled:
            raise signalled
        if remaining <= 0:
            break
        output.check_reader()
        left = None if left is None else left - len(lines)


def _wait(sources: list[Source], poll: select.poll, seconds: float) -> None:
    if not any(source.reader.wait(0) for source in sources):
        poll.poll(seconds * 1000)


def _report_lost(sources: list[Source], reported: dict[str, int]) -> None:
    """A ring counts no losses: whoever gets NULL from reserve must, and only the object knows whether it does."""
    for source in sources:
        if isinstance(source.reader, PerfBuffer) and source.reader.lost > reported[source.name]:
            new = source.reader.lost - reported[source.name]
            print(f"purebpf: {source.name} lost {new} records: its buffer was full", file=sys.stderr)
            reported[source.name] = source.reader.lost


def _decoded(source: Source, record: bytes) -> tuple[Any, bytes]:
    """The value, None if the record is too short for its type or has none, and the bytes behind it.

    A program may send only as much of its last array as it has filled: the rest is then taken for zeros.
    """
    if source.codec is None or len(record) < source.codec.least:
        return None, record
    try:
        return source.codec.decode(record.ljust(source.codec.size, b"\0")), record[source.codec.size :]
    except Error:
        return None, record


def as_text(source: Source, record: bytes) -> str:
    """Name of the buffer, then the value as Python shows it, or the bytes."""
    value, rest = _decoded(source, record)
    if value is None:
        return f"{source.name}: {rest.hex(' ')}"
    # A perf record is padded: what follows the value means nothing there (perf_prepare_sample, kernel/events/core.c).
    tail = f" + {rest.hex(' ')}" if rest.strip(b"\0") and isinstance(source.reader, RingBuffer) else ""
    return f"{source.name}: {escape(repr(value))}{tail}"


def as_json(source: Source, record: bytes) -> str:
    """{"map": name, "value": …} or {"map": name, "hex": …}; bytes behind the value are in "rest"."""
    value, rest = _decoded(source, record)
    row: dict[str, Any] = {"map": source.name}
    if value is None:
        row["hex"] = rest.hex()
    else:
        row["value"] = plain(value)
        if rest.strip(b"\0"):
            row["rest"] = rest.hex()
    return json.dumps(row)
