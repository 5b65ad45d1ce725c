"""The reader of perf event arrays, on the running kernel: a program is run on a chosen CPU and writes what it is told."""

from __future__ import annotations

import os
import selectors
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import purebpf
from purebpf.kernel.cpus import online_cpus
from purebpf.kernel.perfbuf import PerfBuffer

pytestmark = pytest.mark.kernel

LARGEST = 32768
SOURCE = """
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 4);
} events SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} other SEC(".maps");
char content[32768];

SEC("raw_tp/task_rename") int emit(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 size = ctx->args[0];
    if (size > sizeof(content))
        return -1;
    *(__u64 *)content = ctx->args[1];
    return bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, content, size);
}
"""
ON_CPU = 1  # BPF_F_TEST_RUN_ON_CPU
Build = Callable[[str], purebpf.ObjectSpec]


@pytest.fixture
def obj(build: Build) -> Iterator[purebpf.Object]:
    with purebpf.load(build(SOURCE)) as loaded:
        loaded.globals.content = bytes(i % 251 for i in range(LARGEST))
        yield loaded


def emit(obj: purebpf.Object, number: int, size: int, cpu: int = 0) -> bool:
    """Write a record of `size` bytes that starts with `number`. False if it found no room."""
    answer = obj.programs["emit"].test_run(context=struct.pack("=QQ", size, number), flags=ON_CPU, cpu=cpu)
    assert answer.return_value in (0, 2**32 - 28), "ENOSPC or nothing"
    return answer.return_value == 0


def expected(number: int, size: int) -> bytes:
    """The record that `emit` writes."""
    return (struct.pack("=Q", number) + bytes(i % 251 for i in range(8, LARGEST)))[:size]


def unpadded(record: bytes) -> bytes:
    """Of a record with a number and at least 8 bytes what `emit` wrote: the kernel pads it with what lay in the ring."""
    return record[: 8 + struct.unpack_from("=Q", record)[0] % 700]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 7, 8, 12, 13, 100, 4084, 4085, 5000, LARGEST])
def test_records_of_every_size_are_whole(obj: purebpf.Object, size: int) -> None:
    buffer = obj.perf("events")
    assert emit(obj, 7, size)
    (record,) = buffer.drain()
    assert record[:size] == expected(7, size)
    assert len(record) == (size + 4 + 7) // 8 * 8 - 4  # its length and data fill multiples of 8


def test_records_of_each_cpu_come_in_their_order_many_times_round_the_ring(obj: purebpf.Object) -> None:
    sent: dict[int, list[bytes]] = {cpu: [] for cpu in online_cpus()}
    buffer = obj.perf("events", pages=1)
    seen: list[bytes] = []
    for number in range(600):
        cpu, size = online_cpus()[number % 3 % len(sent)], 8 + number % 700
        assert emit(obj, number, size, cpu)
        sent[cpu].append(expected(number, size))
        if number % 5 == 0:
            seen += map(unpadded, buffer.drain())
    seen += map(unpadded, buffer.drain())
    for ours in sent.values():
        assert [record for record in seen if record in set(ours)] == ours
    assert len(seen) == 600
    assert buffer.lost == 0


def test_seen_and_lost_add_up_when_the_ring_was_full(obj: purebpf.Object) -> None:
    buffer = obj.perf("events", pages=1)
    taken = [emit(obj, number, 500) for number in range(20)]
    assert taken == [True] * 7 + [False] * 13  # 512 bytes each, of 4096 one is never used
    assert buffer.drain() == [expected(number, 500) for number in range(7)]
    assert buffer.lost == 0  # the kernel tells with the next record
    assert emit(obj, 20, 500)
    assert buffer.drain() == [expected(20, 500)]
    assert buffer.lost == 13
    assert buffer.lost_on == {cpu: 0 if cpu else 13 for cpu in online_cpus()}


def test_wait_ends_at_the_first_record_or_the_timeout(obj: purebpf.Object) -> None:
    buffer = obj.perf("events")
    begin = time.monotonic()
    assert not buffer.wait(0.05)
    assert not buffer.wait(0)
    assert time.monotonic() - begin >= 0.05
    for cpu in online_cpus():
        thread = threading.Timer(0.1, emit, [obj, cpu, 20, cpu])
        thread.start()
        assert buffer.wait(20)
        thread.join()
        assert buffer.drain() == [expected(cpu, 20)]
        assert not buffer.wait(0)


def test_waiting_sleeps_also_when_records_were_drained_without_waiting(obj: purebpf.Object) -> None:
    buffer = obj.perf("events")
    for number in range(10):
        emit(obj, number, 20)
        buffer.drain()
    before = time.process_time()
    assert not buffer.wait(0.3)
    assert time.process_time() - before < 0.15


def test_its_descriptor_can_be_waited_for_with_others(obj: purebpf.Object) -> None:
    buffer = obj.perf("events")
    with selectors.DefaultSelector() as selector:
        selector.register(buffer, selectors.EVENT_READ)
        assert not selector.select(0.05)
        emit(obj, 1, 20)
        assert [key.fileobj for key, _events in selector.select(10)] == [buffer]


def test_what_a_break_leaves_behind_comes_next(obj: purebpf.Object) -> None:
    buffer = obj.perf("events")
    for number in range(3):
        emit(obj, number, 20)
    assert next(iter(buffer)) == expected(0, 20)
    assert buffer.wait(0)
    assert next(iter(buffer)) == expected(1, 20)
    assert buffer.drain() == [expected(2, 20)]


def test_use_after_close_is_our_error_and_closing_twice_is_harmless(obj: purebpf.Object) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    with PerfBuffer(obj.maps["events"]) as buffer:
        assert len(os.listdir("/proc/self/fd")) > descriptors
        emit(obj, 1, 20)
        left = iter(buffer)
        next(left)
    buffer.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    for use in (buffer.wait, buffer.drain, buffer.fileno, lambda: next(left), lambda: next(iter(buffer))):
        with pytest.raises(purebpf.ClosedError, match="'events' is closed"):
            use()


def test_a_second_reader_takes_over_where_the_first_was_closed(obj: purebpf.Object) -> None:
    with PerfBuffer(obj.maps["events"]):
        pass
    with PerfBuffer(obj.maps["events"]) as again:
        emit(obj, 2, 20)
        assert again.drain() == [expected(2, 20)]


def test_the_object_closes_it(obj: purebpf.Object) -> None:
    buffer = obj.perf("events")
    obj.close()
    with pytest.raises(purebpf.ClosedError):
        buffer.wait(0)


def test_a_map_without_a_slot_for_each_cpu_is_refused(build: Build) -> None:
    spec = build(SOURCE)
    spec.maps["events"].max_entries = online_cpus()[-1] or 1
    with purebpf.load(spec) as obj, pytest.raises(purebpf.ObjectError, match=r"slots?, too few for CPU"):
        obj.perf("events")


@pytest.mark.parametrize("pages", [0, -1, 3, 1 << 31, 1 << 70])
def test_a_size_that_no_ring_has_is_refused(obj: purebpf.Object, pages: int) -> None:
    with pytest.raises(purebpf.ObjectError, match=f"{pages} pages: it takes a power of two"):
        obj.perf("events", pages=pages)


def test_more_memory_than_there_is_is_refused_and_leaves_nothing(obj: purebpf.Object) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(purebpf.KernelError, match="perf buffer 'events': ENOMEM"):
        obj.perf("events", pages=1 << 30)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_other_maps_are_refused(obj: purebpf.Object) -> None:
    with pytest.raises(purebpf.ObjectError, match="'other' is no perf event array"):
        obj.perf("other")
    with pytest.raises(purebpf.ObjectError, match="no map 'evnets'"):
        obj.perf("evnets")
