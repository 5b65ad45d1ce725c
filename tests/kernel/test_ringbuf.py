"""The reader of a ring on the running kernel: its three ways of reading, typed events, threads and closing."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import purebpf
from purebpf.formats.abi import MapFlags
from purebpf.kernel.ringbuf import RingBuffer, RingGroup

pytestmark = pytest.mark.kernel

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


@pytest.fixture
def sender(build: Callable[[str], purebpf.ObjectSpec]) -> Iterator[Sender]:
    with purebpf.load(build(SOURCE)) as obj:
        yield Sender(obj)


def numbers(records: Any) -> list[int]:
    return [struct.unpack_from("=I", record)[0] for record in records]


def test_the_ways_of_reading_share_one_order(sender: Sender) -> None:
    """Each record comes once, whichever call takes it."""
    sender.send(100)
    ring, seen = sender.ring, []
    seen += numbers(ring.consume(3))
    for record in ring:
        seen += numbers([record])
        if len(seen) == 10:
            break
    seen += numbers(ring.consume(5))
    with ring.lease(5) as batch:
        seen += numbers(batch)
    for record in ring.drain():
        seen += numbers([record])
        if len(seen) == 50:
            break
    seen += numbers(ring.poll(1, limit=10))
    seen += numbers(ring.drain())
    assert seen == list(range(100))
    assert not ring.consume()
    assert not ring.poll(0)


def test_an_iterator_that_is_kept_gives_nothing_that_another_call_has_given(sender: Sender) -> None:
    sender.send(20)
    ring = sender.ring
    kept = iter(ring)
    seen = numbers([next(kept)])
    seen += numbers(ring.consume(5))
    seen += numbers([next(kept)])
    seen += numbers(ring.consume())
    sender.send(3)
    seen += numbers([next(kept)])
    for record in ring.drain():
        seen += numbers([record])
        seen += numbers(ring.consume(1))
    assert seen == list(range(23))


def test_a_final_consume_has_all_that_iterations_left(sender: Sender) -> None:
    sender.send(10)
    assert numbers([next(iter(sender.ring))]) == [0]
    sender.send(10)
    assert numbers(sender.ring.consume()) == list(range(1, 20))


@pytest.mark.parametrize("limit", [-1, -(2**40)])
def test_a_negative_number_of_records_is_refused(sender: Sender, limit: int) -> None:
    sender.send(3)
    for call in (sender.ring.consume, lambda n: sender.ring.poll(0, n), lambda n: sender.ring.lease(n).__enter__()):
        with pytest.raises(ValueError, match="at most"):
            call(limit)
    assert not sender.ring.consume(0)
    assert not sender.ring.poll(10, 0)
    assert len(sender.ring.consume()) == 3


def test_a_wait_may_be_endless_in_other_words(sender: Sender) -> None:
    timer = threading.Timer(0.05, sender.send, [1])
    timer.start()
    assert sender.ring.wait(math.inf)
    assert sender.ring.wait(-1)
    timer.join()


def test_a_poll_waits_for_the_first_record(sender: Sender) -> None:
    begin = time.monotonic()
    assert not sender.ring.poll(0.05)
    assert time.monotonic() - begin >= 0.05
    timer = threading.Timer(0.1, sender.send, [1])
    timer.start()
    assert numbers(sender.ring.poll(10)) == [0]
    assert time.monotonic() - begin < 5
    timer.join()


def test_events_are_decoded_by_the_type_of_this_name(sender: Sender) -> None:
    sender.send(2)
    events = sender.obj.events("events", "event")
    first, second = events.consume()
    assert (first.number, first.kind.name, second.kind.name) == (0, "QUIET", "LOUD")
    assert [(p.row, p.column) for p in second.at] == [(0, 0), (3, 4)]
    assert (second.name, bytes(second.raw)) == (b"tick", b"\0\0\x09")
    assert (second.low, second.high, second.negative) == (5, 17, -1)
    assert (second.whole, second.halves) == (0x00020001, [1, 2])
    assert second._asdict()["number"] == 1
    assert repr(second).startswith("event(number=1, kind=LOUD, at=[place(row=0, column=0), place(row=3, column=4)]")


def test_events_are_decoded_by_the_type_that_the_map_declares(sender: Sender) -> None:
    sender.send(30)
    assert [event.number for event in sender.obj.events("typed").drain()] == list(range(30))


def test_a_ring_without_a_declared_type_asks_for_one(sender: Sender) -> None:
    with pytest.raises(purebpf.ObjectError, match="'events' does not declare") as caught:
        sender.obj.events("events")
    assert 'events("events", "event")' in caught.value.hint.replace("'", '"')
    with pytest.raises(purebpf.ObjectError, match="no struct 'evnt'"):
        sender.obj.events("events", "evnt")


def test_a_record_that_is_too_short_for_its_type_is_reported_and_nothing_else_lost(sender: Sender) -> None:
    sender.obj.globals.with_short = 1
    sender.send(20)
    events = sender.obj.events("events", "event")
    seen: list[int] = []
    with pytest.raises(purebpf.ObjectError, match=f"struct event has {SIZE} bytes; there is a record of 1"):
        seen.extend(event.number for event in events)
    assert seen == [0]
    assert [event.number for event in events.consume()] == list(range(1, 20))


def test_a_full_ring_is_drained_and_takes_records_again(sender: Sender) -> None:
    sender.send(1000)
    sender.send(1000)
    lost, room = sender.obj.globals.lost, 65536 // (SIZE + 8)
    assert sender.ring.fill > 0.99
    first = numbers(sender.ring.consume())
    assert len(first) + lost == 2000
    assert abs(len(first) - room) <= 1
    sender.send(10)
    assert numbers(sender.ring.consume()) == list(range(len(first), len(first) + 10))


def test_a_kept_array_is_reported_and_closing_is_harmless(sender: Sender) -> None:
    numpy = pytest.importorskip("numpy")
    sender.send(50)
    ring = sender.ring
    with pytest.raises(purebpf.ViewInUse), ring.lease() as batch:
        array = numpy.asarray(batch.runs[0].column("I"))
    with pytest.raises(purebpf.ViewInUse):
        ring.consume()
    ring.close()
    assert array.sum() == sum(range(50))  # still mapped
    mapped = len(os.listdir("/proc/self/fd"))
    del array
    assert len(os.listdir("/proc/self/fd")) == mapped - 1


def test_closing_within_a_lease_ends_it_in_order(sender: Sender) -> None:
    sender.send(5)
    with sender.ring.lease() as batch:
        sender.ring.close()
        assert numbers(batch) == list(range(5))
    with pytest.raises(purebpf.ClosedError):
        sender.ring.consume()


@pytest.mark.parametrize("waiting", ["wait", "poll", "iterate", "group"])
def test_another_thread_ends_a_wait_by_closing(sender: Sender, waiting: str) -> None:
    ring, group = sender.ring, RingGroup()
    group.add(ring, print)
    calls: dict[str, Callable[[], object]] = {
        "wait": ring.wait,
        "poll": ring.poll,
        "iterate": lambda: next(iter(ring)),
        "group": group.poll,
    }
    timer = threading.Timer(0.1, group.close if waiting == "group" else ring.close)
    timer.start()
    begin = time.monotonic()
    with pytest.raises(purebpf.ClosedError, match="closed"):
        calls[waiting]()
    assert time.monotonic() - begin < 5
    timer.join()
    group.close()


def test_closing_ends_the_waits_of_all_threads(sender: Sender) -> None:
    ended: list[str] = []

    def wait() -> None:
        try:
            sender.ring.wait()
        except purebpf.ClosedError:
            ended.append("closed")

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    sender.ring.close()
    for thread in threads:
        thread.join(10)
    assert ended == ["closed"] * 4


def test_threads_that_share_a_reader_get_each_record_once(sender: Sender) -> None:
    seen: list[int] = []

    def take() -> None:
        with pytest.raises(purebpf.ClosedError):
            seen.extend(number for record in sender.ring for number in numbers([record]))

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        sender.send(20)
    deadline = time.monotonic() + 10
    while len(seen) + sender.obj.globals.lost < 4000 and time.monotonic() < deadline:
        time.sleep(0.01)
    sender.ring.close()
    for thread in threads:
        thread.join(10)
    assert sorted(seen) == list(range(4000 - sender.obj.globals.lost))


@pytest.mark.parametrize(
    "ways", [("consume", "iterate"), ("lease", "consume"), ("lease", "lease"), ("iterate", "iterate")]
)
def test_threads_that_read_in_different_ways_get_each_record_once(sender: Sender, ways: tuple[str, str]) -> None:
    seen: list[int] = []

    def take(way: str) -> None:
        while not done.is_set():
            try:
                if way == "lease":
                    with sender.ring.lease(7) as batch:
                        got = [n for (n,) in batch.unpack("=I")]
                elif way == "iterate":
                    got = numbers(sender.ring.drain())
                else:
                    got = numbers(sender.ring.consume(5))
            except purebpf.ViewInUse:
                continue  # the other one has a lease
            seen.extend(got)

    done = threading.Event()
    threads = [threading.Thread(target=take, args=[way]) for way in ways]
    for thread in threads:
        thread.start()
    for _ in range(300):
        sender.send(20)
    deadline = time.monotonic() + 10
    while len(seen) + sender.obj.globals.lost < 6000 and time.monotonic() < deadline:
        time.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join(10)
    assert sorted(seen) == list(range(6000 - sender.obj.globals.lost))


def test_each_of_several_waiting_threads_is_woken(sender: Sender) -> None:
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.extend(numbers(sender.ring.poll(10, 1)))) for _ in range(3)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    sender.send(3)
    for thread in threads:
        thread.join(20)
    assert sorted(seen) == [0, 1, 2]
    assert time.monotonic() - begin < 5


@pytest.fixture
def alarms() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Have a function called as the handler of a signal, again and again."""
    before = signal.getsignal(signal.SIGALRM)

    def start(handler: Callable[[], None]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: handler())
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.00013)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_that_reads_gets_no_record_twice(sender: Sender, alarms: Any) -> None:
    seen: list[int] = []
    refused: list[str] = []

    def handler() -> None:
        try:
            got = numbers(sender.ring.consume(3))
        except purebpf.Error as error:
            refused.append(str(error))
        else:
            seen.extend(got)

    alarms(handler)
    for _ in range(500):
        sender.send(20)
        seen.extend(numbers(sender.ring.consume(15)))
    signal.setitimer(signal.ITIMER_REAL, 0)
    seen.extend(numbers(sender.ring.consume()))
    assert all("signal handler" in error for error in refused)
    assert sorted(seen) == list(range(10_000 - sender.obj.globals.lost))


# In a process of its own: pytest, too, has code that does not take an exception at any place.
INTERRUPTED = """
import os, pickle, signal, sys
import purebpf
class Stop(BaseException): pass
def handler(*_): raise Stop
def lease():
    with ring.lease(1): pass
obj = purebpf.load(sys.argv[1])
ring = obj.ring("events")
read = {"wait": lambda: ring.wait(0), "consume": lambda: ring.consume(1), "lease": lease}[sys.argv[2]]
read()
signal.signal(signal.SIGALRM, handler)
before = len(os.listdir("/proc/self/fd"))
for number in range(300):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.00005 + number % 97 * 3e-6)
        for _ in range(10_000): read()
    except Stop: pass
obj.globals.count = 5
obj.programs["send"].test_run()
print(len(ring.consume()))
ring.close()
print(len(os.listdir("/proc/self/fd")) < before)
"""


@pytest.mark.parametrize("way", ["wait", "consume", "lease"])
def test_handlers_that_raise_leave_a_reader_that_works_and_closes(compiled: Callable[[str], Path], way: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(compiled(SOURCE)), way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["5", "True"], done.stderr


def test_a_child_that_closes_leaves_the_parent_asleep(sender: Sender) -> None:
    thread = threading.Thread(target=sender.ring.wait, args=[1.0])
    thread.start()
    time.sleep(0.1)
    spent = time.thread_time()
    child = os.fork()
    if child == 0:
        sender.ring.close()
        time.sleep(0.5)
        os._exit(0)
    begin = time.process_time()
    os.waitpid(child, 0)
    assert time.process_time() - begin < 0.2
    assert time.thread_time() - spent < 1
    thread.join()


class TestAsync:
    """On asyncio's loop."""

    def test_records_come_as_they_are_sent(self, sender: Sender) -> None:
        async def take(wanted: int) -> list[int]:
            seen: list[int] = []
            async for record in sender.ring:
                seen += numbers([record])
                if len(seen) == wanted:
                    break
            return seen

        async def both() -> list[int]:
            task = asyncio.create_task(take(30))
            for _ in range(30):
                await asyncio.sleep(0.002)
                sender.send(1)
            return await asyncio.wait_for(task, 10)

        assert asyncio.run(both()) == list(range(30))
        sender.send(5)
        assert asyncio.run(take(5)) == list(range(30, 35))

    def test_a_break_loses_nothing(self, sender: Sender) -> None:
        async def first() -> int:
            async for record in sender.ring:
                return numbers([record])[0]
            return -1

        sender.send(10)
        assert asyncio.run(first()) == 0
        assert numbers(sender.ring.consume()) == list(range(1, 10))

    def test_several_tasks_share_the_records(self, sender: Sender) -> None:
        seen: list[int] = []

        async def take() -> None:
            async for record in sender.ring:
                seen.extend(numbers([record]))

        async def all_of_them() -> None:
            first, second = asyncio.create_task(take()), asyncio.create_task(take())
            await asyncio.sleep(0.05)
            sender.send(10)
            await asyncio.sleep(0.05)
            second.cancel()
            await asyncio.sleep(0.05)
            sender.send(10)
            await asyncio.sleep(0.05)
            third = asyncio.create_task(take())
            await asyncio.sleep(0.05)
            sender.ring.close()
            ended = await asyncio.wait_for(asyncio.gather(first, second, third, return_exceptions=True), 10)
            assert [type(e) for e in ended] == [purebpf.ClosedError, asyncio.CancelledError, purebpf.ClosedError]

        asyncio.run(all_of_them())
        assert sorted(seen) == list(range(20))

    def test_another_read_takes_what_a_suspended_loop_has_not(self, sender: Sender) -> None:
        async def both() -> list[int]:
            seen: list[int] = []
            async for record in sender.ring:
                seen += numbers([record])
                seen += numbers(sender.ring.consume(2))
                if len(seen) >= 9:
                    break
            return seen

        sender.send(9)
        assert asyncio.run(both()) == list(range(9))

    def test_cancelling_and_closing_end_it(self, sender: Sender) -> None:
        async def take() -> None:
            async for _record in sender.ring:
                pass

        async def cancelled() -> None:
            await asyncio.wait_for(take(), 0.05)

        async def closed() -> None:
            asyncio.get_running_loop().call_later(0.05, sender.ring.close)
            await asyncio.wait_for(take(), 10)

        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(cancelled())
        with pytest.raises(purebpf.ClosedError):
            asyncio.run(closed())

    def test_other_tasks_get_their_turn_while_records_keep_coming(self, sender: Sender) -> None:
        async def take(stop: asyncio.Event) -> int:
            count = 0
            async for _record in sender.ring:
                count += 1
                if count % 20 == 0:
                    sender.send(20)  # there is always more
                if stop.is_set():
                    break
            return count

        async def both() -> int:
            stop = asyncio.Event()
            asyncio.get_running_loop().call_later(0.1, stop.set)
            return await asyncio.wait_for(take(stop), 20)

        sender.send(40)
        assert asyncio.run(both()) > 40


def test_a_group_hands_the_records_of_several_rings_to_their_callbacks(sender: Sender) -> None:
    plain: list[int] = []
    typed: list[int] = []
    with RingGroup() as group:
        group.add(sender.ring, lambda record: plain.extend(numbers([record])))
        group.add(sender.obj.events("typed"), lambda event: typed.append(event.number))
        assert group.poll(0.01) == 0
        threading.Timer(0.05, sender.send, [10]).start()
        assert group.poll(10) > 0
        deadline = time.monotonic() + 10
        while len(plain) + len(typed) < 20 and time.monotonic() < deadline:
            group.poll(0.1)
        assert (plain, typed) == (list(range(10)), list(range(10)))
        sender.send(10)
        assert group.consume(4) == 4
        assert group.consume() == 16


def test_a_callback_that_raises_loses_no_other_record(sender: Sender) -> None:
    seen: list[int] = []

    def callback(record: memoryview) -> None:
        seen.extend(numbers([record]))
        if seen[-1] == 3:
            raise KeyError

    sender.send(10)
    with RingGroup() as group:
        group.add(sender.ring, callback)
        with pytest.raises(KeyError):
            group.consume()
        group.consume()
    assert seen == list(range(10))


def test_a_ring_that_overwrites_is_refused_by_name(build: Callable[[str], purebpf.ObjectSpec]) -> None:
    spec = build(SOURCE)
    spec.maps["events"].flags |= MapFlags.RB_OVERWRITE
    with pytest.raises(purebpf.NotSupported, match=r"overwrite.*BPF_F_RB_OVERWRITE"), purebpf.load(spec) as obj:
        obj.ring("events")


def test_a_reader_leaves_no_descriptor_behind(sender: Sender) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        ring = RingBuffer(sender.obj.maps["events"])
        ring.wait(0)
        ring.close()
    assert os.listdir("/proc/self/fd") == before
