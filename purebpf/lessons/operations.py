"""What a scenario does with a ring, as plain values that any stage can carry out, and how each reads in C.

A record is named when it is reserved, and by that name written, submitted and discarded. The same operations are done by
BPF programs and their consumer (kinds "ring" and "overwrite"), by user space and a program that drains (kind "user"), or
for each CPU's ring of a perf buffer (kind "perf").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Union

from ..formats.pieces import HEADER
from ..formats.ring_producer import FORCE_WAKEUP, NO_WAKEUP
from .state import PERF, USER

AVAIL_DATA, RING_SIZE, CONSUMER_POSITION, PRODUCER_POSITION, OVERWRITE_POSITION = range(5)
_QUERIES = ("BPF_RB_AVAIL_DATA", "BPF_RB_RING_SIZE", "BPF_RB_CONS_POS", "BPF_RB_PROD_POS", "BPF_RB_OVERWRITE_POS")
_SAMPLE_HEADER = HEADER + 4  # struct perf_event_header, and the length u32 of PERF_SAMPLE_RAW


class Share(NamedTuple):
    """The payload of a record that takes `part` of `of` parts of the ring, its header included, less `less` bytes."""

    part: int
    of: int
    less: int = 0


Size = Union[int, Share]


class Reserve(NamedTuple):
    """bpf_ringbuf_reserve. In a user ring, user space reserves."""

    name: str
    size: Size


class Write(NamedTuple):
    """Write `text` to the start of a reserved record's payload; what is behind it stays as it is."""

    name: str
    text: str


class Submit(NamedTuple):
    """bpf_ringbuf_submit. In a user ring, user space submits."""

    name: str
    flags: int = 0


class Discard(NamedTuple):
    """bpf_ringbuf_discard. In a user ring, user space discards."""

    name: str
    flags: int = 0


class Output(NamedTuple):
    """bpf_ringbuf_output, or bpf_perf_event_output on CPU number `cpu`. The payload is `text`, filled up with dots."""

    name: str
    size: Size
    text: str
    flags: int = 0
    cpu: int = 0


class Query(NamedTuple):
    """bpf_ringbuf_query: AVAIL_DATA and so on."""

    flag: int


class Consume(NamedTuple):
    """The consumer reads what is committed, at most `limit` records, and hands its position back."""

    limit: int | None = None


class Read(NamedTuple):
    """The consumer reads what is committed, and keeps to itself how far it got."""


class Sleep(NamedTuple):
    """The consumer waits for a notification: epoll_wait, edge-triggered. It returns at once if one has come since it waited
    last, and the ring is not empty."""


class Drain(NamedTuple):
    """A BPF program drains a user ring: bpf_user_ringbuf_drain."""

    flags: int = 0


class Forge(NamedTuple):
    """User space writes a header into a user ring that claims `size` bytes, and moves the producer position by 16."""

    name: str
    size: Size


Operation = Union[Reserve, Write, Submit, Discard, Output, Query, Consume, Read, Sleep, Drain, Forge]


class Answer(NamedTuple):
    """What an operation gave. `value` is what the call returned: for a reservation the record's position, None for NULL.

    `woken` says that the kernel sent a notification during the operation; of Sleep, that it returned at once. `records`
    are the payloads that the consumer, or the draining program, got; `lost` the events that a perf ring said were lost.
    """

    value: int | None = 0
    woken: bool = False
    records: tuple[bytes, ...] = ()
    lost: int = 0


def to_dict(operation: Operation) -> dict[str, Any]:
    """For JSON: the operation's name, and its values."""
    values = {name: list(value) if isinstance(value, Share) else value for name, value in operation._asdict().items()}
    return {"operation": type(operation).__name__.lower(), **values}


def length(size: Size, ring: int, kind: str) -> int:
    """Bytes of payload, in a ring of this size and kind."""
    if isinstance(size, int):
        return size
    return ring * size.part // size.of - (_SAMPLE_HEADER if kind == PERF else HEADER) - size.less


def payload(output: Output, ring: int, kind: str) -> bytes:
    """What is to be sent."""
    size = length(output.size, ring, kind)
    return output.text.encode("ascii").ljust(size, b".")[:size]


def in_c(operation: Operation, ring: int, kind: str) -> str:
    """The call as a program in C would make it."""
    return _IN_C[type(operation)](operation, ring, kind)


def _reserve(operation: Reserve, ring: int, kind: str) -> str:
    size, variable = length(operation.size, ring, kind), operation.name.lower()
    if kind == USER:
        return f"{variable} = user_ring_buffer__reserve(messages, {size});"
    return f"{variable} = bpf_ringbuf_reserve(&events, {size}, 0);"


def _write(operation: Write, _ring: int, _kind: str) -> str:
    return f'memcpy({operation.name.lower()}, "{operation.text}", {len(operation.text)});'


def _commit(operation: Submit | Discard, _ring: int, kind: str) -> str:
    verb = type(operation).__name__.lower()
    if kind == USER:
        return f"user_ring_buffer__{verb}(messages, {operation.name.lower()});"
    return f"bpf_ringbuf_{verb}({operation.name.lower()}, {_flags(operation.flags)});"


def _output(operation: Output, ring: int, kind: str) -> str:
    size, variable = length(operation.size, ring, kind), operation.name.lower()
    if kind == PERF:
        call = f"bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &{variable}, {size});"
        return f"{call} /* on CPU {operation.cpu} */"
    return f"bpf_ringbuf_output(&events, &{variable}, {size}, {_flags(operation.flags)});"


def _query(operation: Query, _ring: int, _kind: str) -> str:
    return f"bpf_ringbuf_query(&events, {_QUERIES[operation.flag]});"


def _consume(operation: Consume, _ring: int, kind: str) -> str:
    if kind == PERF:
        return "perf_buffer__consume(events);"
    return (
        "ring_buffer__consume(events);"
        if operation.limit is None
        else f"ring_buffer__consume_n(events, {operation.limit});"
    )


def _read(_operation: Read, _ring: int, _kind: str) -> str:
    return "while (at < *producer_pos) at += read_record(at); /* and *consumer_pos stays as it is */"


def _sleep(_operation: Sleep, _ring: int, _kind: str) -> str:
    return "epoll_wait(epoll_fd, &event, 1, -1);"


def _drain(operation: Drain, _ring: int, _kind: str) -> str:
    return f"bpf_user_ringbuf_drain(&messages, callback, NULL, {_flags(operation.flags)});"


def _forge(operation: Forge, ring: int, kind: str) -> str:
    return f"*(__u32 *)header = {length(operation.size, ring, kind)}; *producer_pos += 16;"


def _flags(flags: int) -> str:
    return {0: "0", NO_WAKEUP: "BPF_RB_NO_WAKEUP", FORCE_WAKEUP: "BPF_RB_FORCE_WAKEUP"}[flags]


_IN_C: dict[type, Callable[..., str]] = {
    Reserve: _reserve,
    Write: _write,
    Submit: _commit,
    Discard: _commit,
    Output: _output,
    Query: _query,
    Consume: _consume,
    Read: _read,
    Sleep: _sleep,
    Drain: _drain,
    Forge: _forge,
}
