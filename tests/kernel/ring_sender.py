"""A program that sends numbered events to two rings, for the tests of their reader."""

from __future__ import annotations

import struct
from typing import Any

import purebpf

# Each run sends `count` events; `with_short` puts a record of one byte behind the first.
SOURCE = """
enum kind { QUIET, LOUD = 7 };
struct place { __u16 row, column; };
struct event {
    __u32 number;
    enum kind kind;
    struct place at[2];
    char name[8];
    __u8 raw[3];
    __u8 low : 3, high : 5;
    union { __u32 whole; __u16 halves[2]; };
    __s64 negative;
};
const struct event *event_type;
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 65536);
} events SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
    __type(value, struct event);
} typed SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} per_cpu SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} plain SEC(".maps");
int count, sent, lost;
char with_short;
SEC("raw_tp/sched_process_exec")
int send(void *ctx)
{
    struct event *event;
    int i;
    for (i = 0; i < 1000 && i < count; i++) {
        event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
        if (!event) {
            lost++;
            continue;
        }
        __builtin_memset(event, 0, sizeof(*event));
        event->number = sent++;
        event->kind = i & 1 ? LOUD : QUIET;
        event->at[1].row = 3;
        event->at[1].column = 4;
        __builtin_memcpy(event->name, "tick", 4);
        event->raw[2] = 9;
        event->low = 5;
        event->high = 17;
        event->whole = 0x00020001;
        event->negative = -(__s64)event->number;
        bpf_ringbuf_output(&typed, event, sizeof(*event), 0);
        bpf_ringbuf_submit(event, 0);
        if (with_short && !i)
            bpf_ringbuf_output(&events, &with_short, 1, 0);
    }
    return 0;
}
"""
SIZE = 40


class Sender:
    """The object above, and its ring."""

    def __init__(self, obj: purebpf.Object) -> None:
        self.obj = obj
        self.ring = obj.ring("events")

    def send(self, count: int) -> None:
        self.obj.globals.count = count
        self.obj.programs["send"].test_run()


def numbers(records: Any) -> list[int]:
    return [struct.unpack_from("=I", record)[0] for record in records]
