"""Programs that write to a ring what they are told, and clocks: shared by the tests of the ring buffer."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import purebpf

SOURCE = """
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 8192); } others SEC(".maps");
char content[65536];

struct order { __u64 number, size, flags; };
SEC("syscall") int emit(struct order *order)
{
    if (order->size > sizeof(content))
        return -1;
    *(__u64 *)content = order->number;
    return bpf_ringbuf_output(&events, content, order->size, order->flags);
}

SEC("syscall") int emit_other(struct order *order)
{
    __u64 number = order->number;
    return bpf_ringbuf_output(&others, &number, sizeof(number), order->flags);
}

SEC("syscall") int discard(struct order *order)
{
    void *record = bpf_ringbuf_reserve(&events, 8, 0);
    if (!record)
        return -1;
    bpf_ringbuf_discard(record, order->flags);
    return 0;
}

static long until(__u32 i, __u64 *end) { return bpf_ktime_get_ns() >= *end; }

SEC("syscall") int dawdle(struct order *order) // commit after so many nanoseconds
{
    __u64 end = bpf_ktime_get_ns() + order->size, *record = bpf_ringbuf_reserve(&events, 8, 0);
    if (!record)
        return -1;
    *record = order->number;
    for (int i = 0; i < 64; i++)
        bpf_loop(1 << 23, until, &end, 0);
    bpf_ringbuf_submit(record, order->flags);
    return 0;
}

struct answers { __u64 available, size, consumer, producer; };
SEC("syscall") int ask(struct answers *answers)
{
    answers->available = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
    answers->size = bpf_ringbuf_query(&events, BPF_RB_RING_SIZE);
    answers->consumer = bpf_ringbuf_query(&events, BPF_RB_CONS_POS);
    answers->producer = bpf_ringbuf_query(&events, BPF_RB_PROD_POS);
    return 0;
}
"""
NO_WAKEUP, FORCE_WAKEUP = 1, 2  # BPF_RB_NO_WAKEUP, BPF_RB_FORCE_WAKEUP
LONG = 30.0  # seconds that no test waits


def emit(obj: purebpf.Object, number: int, flags: int = 0, size: int = 8, program: str = "emit") -> bool:
    """Write a record of `size` bytes that starts with `number`. False if it found no room."""
    answer = obj.programs[program].test_run(context=struct.pack("=QQQ", number, size, flags))
    return answer.return_value == 0


def numbers(records: Iterable[memoryview]) -> list[int]:
    return [struct.unpack_from("=Q", record)[0] for record in records]


@contextmanager
def later(seconds: float, work: Callable[..., object], *arguments: object) -> Iterator[None]:
    """Have another thread do it so much later."""
    timer = threading.Timer(seconds, work, arguments)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@contextmanager
def takes(least: float, most: float = LONG / 2) -> Iterator[None]:
    """Seconds; `most` allows for a machine that does other things."""
    begin = time.monotonic()
    yield
    assert least <= time.monotonic() - begin < most
