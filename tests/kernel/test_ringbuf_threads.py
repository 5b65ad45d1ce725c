"""The reader of a ring among threads, signals, children and whoever closes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ring_sender import SOURCE, Sender, numbers

import purebpf
from purebpf.kernel.ringbuf import RingGroup

pytestmark = pytest.mark.kernel


@pytest.mark.needs("numpy")
def test_a_kept_array_is_reported_and_closing_is_harmless(sender: Sender) -> None:
    import numpy as np

    sender.send(50)
    ring = sender.ring
    with pytest.raises(purebpf.ViewInUse), ring.lease() as batch:
        array = np.asarray(batch.runs[0].column("I"))
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


@pytest.mark.volume  # an emulated machine is slower than the alarms
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
