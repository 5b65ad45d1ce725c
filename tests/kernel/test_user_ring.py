"""The user ring on the running kernel: what Python produces is drained by a program, which sends it back through a ring."""

from __future__ import annotations

import os
import selectors
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from features import examples

import purebpf
from purebpf.formats.user_ring import UserRecord

pytestmark = [pytest.mark.kernel, pytest.mark.needs("user_ringbuf")]

PAGE = os.sysconf("SC_PAGESIZE")
NO_WAKEUP, FORCE_WAKEUP = 1, 2
SOURCE = """
struct {
    __uint(type, BPF_MAP_TYPE_USER_RINGBUF);
    __uint(max_entries, 4096);
} messages SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1024 * 1024);
} echo SEC(".maps");
char buffer[4096];
__u64 most = 1 << 20, unread;

extern __u32 bpf_dynptr_size(const struct bpf_dynptr *p) __ksym;

static long send_back(struct bpf_dynptr *message, void *context)
{
    __u64 size = bpf_dynptr_size(message), *count = context;

    if (size > sizeof(buffer) || bpf_dynptr_read(buffer, size, message, 0, 0) ||
        bpf_ringbuf_output(&echo, buffer, size, BPF_RB_NO_WAKEUP))
        unread++;
    return ++*count >= most;
}

SEC("raw_tp/task_rename") int drain(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 count = 0;
    return bpf_user_ringbuf_drain(&messages, send_back, &count, ctx->args[0]);
}
"""
Build = Callable[[str], purebpf.ObjectSpec]


class Pair:
    """An object, the user ring of which is `ring`."""

    def __init__(self, spec: purebpf.ObjectSpec) -> None:
        self.obj = purebpf.load(spec)
        self.ring = self.obj.user_ring("messages")
        self.echo = self.obj.ring("echo")

    def drain(self, flags: int = 0) -> int:
        """What the helper returned."""
        answer = self.obj.programs["drain"].test_run(context=struct.pack("=Q", flags)).return_value
        return answer - 2**32 if answer >> 31 else answer

    def drained(self, flags: int = 0) -> list[bytes]:
        """The payloads that the program found."""
        number = self.drain(flags)
        assert self.obj.globals.unread == 0
        found = [bytes(record) for record in self.echo.consume()]
        assert len(found) == number
        return found

    def reserved(self, length: int) -> UserRecord:
        record = self.ring.reserve(length)
        assert record is not None
        return record

    def fill(self) -> int:
        """Records of 8 bytes until no more fit. How many."""
        count = 0
        while self.ring.output(bytes(8)):
            count += 1
        return count


@pytest.fixture
def pair(build: Build) -> Iterator[Pair]:
    spec = build(SOURCE)
    spec.maps["messages"].max_entries = PAGE
    pair = Pair(spec)
    with pair.obj:
        yield pair


def later(action: Callable[[], Any], seconds: float = 0.1) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def test_every_length_arrives_whole_wherever_it_wraps(pair: Pair) -> None:
    """The ring is one page, so that these records go round it 91 times."""
    for length in range(600):
        payload = bytes((length + i) % 251 for i in range(length))
        with pair.reserved(length) as record:
            record.payload[:] = payload
        assert pair.ring.output(payload[::-1])
        assert pair.drained() == [payload, payload[::-1]]
    assert pair.ring.producer_position == pair.ring.consumer_position == sum(2 * ((n + 15) & ~7) for n in range(600))


def test_the_program_sees_records_in_the_order_of_reservation_and_none_behind_a_busy_one(pair: Pair) -> None:
    slow, quick = pair.reserved(4), pair.reserved(5)
    quick.payload[:] = b"quick"
    quick.submit()
    assert pair.drained() == []
    slow.payload[:] = b"slow"
    slow.submit()
    assert pair.drained() == [b"slow", b"quick"]


def test_discarded_records_are_passed_over_and_not_counted(pair: Pair) -> None:
    pair.reserved(9).discard()
    assert pair.ring.output(b"kept")
    pair.reserved(0).discard()
    assert pair.drained() == [b"kept"]
    assert pair.ring.available == 0


def test_a_full_ring_takes_nothing_until_it_is_drained(pair: Pair) -> None:
    assert pair.fill() == PAGE // 16
    assert pair.ring.available == pair.ring.size == PAGE
    assert pair.ring.reserve(0) is None
    pair.obj.globals.most = 3
    assert pair.drained() == [bytes(8)] * 3
    assert pair.ring.reserve(41) is None
    pair.reserved(40).discard()
    pair.obj.globals.most = 1 << 20
    assert len(pair.drained()) == PAGE // 16 - 3


def test_the_largest_record_fills_the_ring(pair: Pair) -> None:
    payload = bytes(i % 251 for i in range(pair.ring.largest))
    assert len(payload) == PAGE - 8
    assert pair.ring.output(b"moves the start, so that it wraps")
    assert len(pair.drained()) == 1
    assert pair.ring.output(payload)
    assert pair.drained() == [payload]


def test_the_kernel_refuses_what_is_larger_than_the_largest(build: Build) -> None:
    """Of large rings the largest record is what fits into a dynptr; one more byte, and no drain passes it again."""
    spec = build(SOURCE)
    spec.maps["messages"].max_entries = 1 << 25
    pair = Pair(spec)
    with pair.obj:
        assert pair.ring.output(bytes(pair.ring.largest))
        assert pair.drain() == 1
        with pytest.raises(purebpf.ObjectError, match="takes 0 to 16777215"):
            pair.ring.reserve(pair.ring.largest + 1)
        pair.ring._ring.largest += 1
        assert pair.ring.output(bytes(pair.ring.largest))
        assert [pair.drain(), pair.drain()] == [-7, -7]  # E2BIG


def test_a_drain_wakes_who_waits_for_room(pair: Pair) -> None:
    pair.fill()
    timer = later(pair.drain)
    start = time.monotonic()
    record = pair.ring.reserve(8, timeout=60)
    assert 0.05 < time.monotonic() - start < 30
    assert record is not None
    record.discard()
    pair.fill()
    timer.join()
    timer = later(pair.drain)
    assert pair.ring.output(b"x" * 8, timeout=None)
    timer.join()


def test_the_wait_goes_on_while_there_is_too_little_room(pair: Pair) -> None:
    """And sleeps meanwhile, though the descriptor is writable."""
    pair.fill()
    pair.obj.globals.most = 4
    used = time.thread_time()
    timers = [later(pair.drain, delay) for delay in (0.1, 0.3, 0.5)]
    start = time.monotonic()
    record = pair.ring.reserve(130, timeout=60)
    assert 0.45 < time.monotonic() - start < 30
    assert time.thread_time() - used < 0.1
    assert record is not None
    for timer in timers:
        timer.join()


@pytest.mark.parametrize("timeout", [0.1, 0, -1])
def test_a_wait_ends_by_its_time_out(pair: Pair, timeout: float) -> None:
    pair.fill()
    start = time.monotonic()
    assert pair.ring.reserve(8, timeout) is None
    assert not pair.ring.output(bytes(8), timeout)
    assert max(timeout, 0) * 2 <= time.monotonic() - start < 10


def test_a_drain_without_wakeup_makes_room_and_wakes_nobody(pair: Pair) -> None:
    pair.fill()
    timer = later(lambda: pair.drain(NO_WAKEUP))
    start = time.monotonic()
    assert pair.ring.output(bytes(8), timeout=0.5)
    assert time.monotonic() - start >= 0.5
    timer.join()


@contextmanager
def alarm(handler: Callable[[], object]) -> Iterator[None]:
    """Have a signal handler called in a tenth of a second."""
    before = signal.signal(signal.SIGALRM, lambda _number, _frame: handler())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_that_raises_ends_the_wait(pair: Pair) -> None:
    pair.fill()
    with alarm(lambda: 1 // 0), pytest.raises(ZeroDivisionError):
        pair.ring.reserve(8, timeout=None)
    pair.drain()
    assert pair.ring.output(b"goes on", timeout=None)


def test_a_signal_handler_can_drain_or_close(pair: Pair) -> None:
    pair.fill()
    with alarm(pair.drain):
        assert pair.ring.output(bytes(8), timeout=None)
    pair.fill()
    with alarm(pair.ring.close), pytest.raises(purebpf.ClosedError):
        pair.ring.output(bytes(8), timeout=None)


def test_a_signal_handler_can_close_in_the_middle_of_producing(pair: Pair) -> None:
    def produce() -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            pair.ring.output(b"")
            pair.drain()

    with alarm(pair.ring.close), pytest.raises(purebpf.ClosedError):
        produce()


def test_one_drain_serves_all_threads_that_wait(pair: Pair) -> None:
    pair.fill()
    done: list[bool] = []
    threads = [threading.Thread(target=lambda: done.append(pair.ring.output(bytes(8), timeout=60))) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    assert done == []
    pair.drain()
    for thread in threads:
        thread.join(10)
    assert done == [True] * 4


def test_a_selector_says_when_there_is_room(pair: Pair) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(pair.ring, selectors.EVENT_WRITE)
        assert selector.select(0)
        pair.fill()
        assert not selector.select(0)
        pair.drain()
        assert selector.select(10)


def test_threads_produce_while_the_program_drains(pair: Pair) -> None:
    each, threads = examples(2000), 3

    def produce(number: int) -> None:
        for index in range(each):
            payload = struct.pack("=II", number, index) * (1 + index % 5)
            if index % 3:
                assert pair.ring.output(payload, timeout=60)
                continue
            record = pair.ring.reserve(len(payload), timeout=60)
            assert record is not None
            with record:
                record.payload[:] = payload

    started = [threading.Thread(target=produce, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    found: list[bytes] = []
    deadline = time.monotonic() + 60
    while len(found) < each * threads and time.monotonic() < deadline:
        found += pair.drained()
    for thread in started:
        thread.join(10)
    for number in range(threads):
        mine = [payload for payload in found if payload[:4] == struct.pack("=I", number)]
        assert mine == [struct.pack("=II", number, index) * (1 + index % 5) for index in range(each)]


def test_closing_ends_the_wait_of_other_threads(pair: Pair) -> None:
    pair.fill()
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            pair.ring.reserve(8, timeout=None)
        except purebpf.ClosedError as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    pair.ring.close()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 2


def test_a_closed_ring_is_unmapped_and_refuses_everything(pair: Pair) -> None:
    def mappings() -> int:
        with open("/proc/self/maps") as file:
            return file.read().count("bpf-map")

    before = mappings()
    with pair.obj.user_ring("messages") as ring:
        assert mappings() == before + 2
        record = ring.reserve(4)
        assert record is not None
        payload = record.payload
    ring.close()
    assert mappings() == before
    payload[0] = 1  # the record's own memory
    for call in (
        record.submit,
        ring.fileno,
        lambda: ring.reserve(1),
        lambda: ring.output(b"", 1),
        lambda: ring.available,
    ):
        with pytest.raises(purebpf.ClosedError, match="is closed"):
            call()


def test_what_was_submitted_outlives_the_producer(pair: Pair) -> None:
    assert pair.ring.output(b"before")
    pair.ring.close()
    assert pair.drained() == [b"before"]
    with pair.obj.user_ring("messages") as ring:
        assert ring.output(b"after")
        assert pair.drained() == [b"after"]


def test_only_a_user_ring_can_be_produced_to(pair: Pair) -> None:
    with pytest.raises(purebpf.ObjectError, match="map 'echo' is no user ring buffer"):
        pair.obj.user_ring("echo")


def test_the_example_names_processes() -> None:
    with purebpf.load(purebpf.prebuilt("user_ring")) as obj, obj.user_ring("messages") as ring:
        for pid, name in ((1, b"first"), (2, b"second"), (1, b"init")):
            assert ring.output(struct.pack("=I16s", pid, name))
        assert ring.output(b"too short")
        assert obj.programs["drain"].test_run().return_value == 4
        assert obj.globals.refused == 1
        assert {pid: bytes(name).rstrip(b"\0") for pid, name in obj.maps["names"].items()} == {1: b"init", 2: b"second"}


def test_the_example_drains_whenever_a_process_ends() -> None:
    with purebpf.load(purebpf.prebuilt("user_ring")) as obj, obj.user_ring("messages") as ring:
        obj.attach()
        assert ring.output(struct.pack("=I16s", 7, b"seven"))
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        deadline = time.monotonic() + 10
        while ring.available and time.monotonic() < deadline:
            time.sleep(0.01)
        assert 7 in obj.maps["names"]
