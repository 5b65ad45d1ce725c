"""Waits for rings and what else goes on: signals, other threads, several rings, selectors, asyncio."""

from __future__ import annotations

import asyncio
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from ring_orders import LONG, NO_WAKEUP, SOURCE, emit, later, numbers, takes

import purebpf
from purebpf.kernel.ringbuf import RingBuffer, RingGroup

pytestmark = [pytest.mark.kernel, pytest.mark.needs("loop")]

Ring = RingBuffer[memoryview]


@pytest.fixture
def obj(build: Callable[[str], purebpf.ObjectSpec]) -> Iterator[purebpf.Object]:
    with purebpf.load(build(SOURCE)) as loaded:
        yield loaded


@pytest.fixture
def ring(obj: purebpf.Object) -> Ring:
    return obj.ring("events")


# Signals and other threads


@pytest.mark.parametrize("sleep", ["ring.wait()", "ring.wait(60)", "ring.poll()", "next(iter(ring))", "group.poll()"])
def test_ctrl_c_ends_a_wait(compiled: Callable[[str], Path], sleep: str) -> None:
    script = f"""if True:
        import sys, purebpf
        from purebpf.kernel.ringbuf import RingGroup
        spec = purebpf.parse(open(sys.argv[1], "rb").read(), "built")
        with purebpf.load(spec) as obj, RingGroup() as group:
            ring = obj.ring("events")
            group.add(ring, print)
            try:
                print("waiting", flush=True)
                {sleep}
            except KeyboardInterrupt:
                print("interrupted")
    """
    command = [sys.executable, "-c", script, str(compiled(SOURCE))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waiting\n"
        time.sleep(0.1)
        with takes(0):
            waiting.send_signal(signal.SIGINT)
            assert waiting.communicate(timeout=LONG)[0] == "interrupted\n"
        assert waiting.returncode == 0


@contextmanager
def interrupted(handler: Callable[[], object], interval: float) -> Iterator[None]:
    """Have a signal handled so often."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        handler()

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, interval, interval)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_signals_neither_end_a_wait_nor_put_it_off(obj: purebpf.Object, ring: Ring) -> None:
    handled: list[float] = []
    with interrupted(lambda: handled.append(time.monotonic()), 0.02):
        with takes(0.5, 2.5):
            assert not ring.wait(0.5)
        with takes(0.1), later(0.1, emit, obj, 1):
            assert ring.wait(LONG)
    assert len(handled) > 5


def test_a_handler_that_raises_ends_the_wait_and_the_ring_goes_on(obj: purebpf.Object, ring: Ring) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with takes(0.05), pytest.raises(ZeroDivisionError), interrupted(fail, 0.05):
        ring.wait(LONG)
    with takes(0.05), later(0.05, emit, obj, 1):
        assert numbers(ring.poll(LONG)) == [1]


def test_a_handler_may_take_the_records(obj: purebpf.Object, ring: Ring) -> None:
    taken: list[int] = []

    def take() -> None:
        emit(obj, len(taken))
        taken.extend(numbers(ring.consume()))

    with takes(0.4), interrupted(take, 0.1):
        assert not ring.wait(0.4)
    assert taken == [*range(len(taken))] != []


def test_a_handler_may_close_the_ring_that_is_waited_for(ring: Ring) -> None:
    with takes(0.05), pytest.raises(purebpf.ClosedError), interrupted(ring.close, 0.05):
        ring.wait(LONG)


@pytest.mark.parametrize(
    "sleep",
    [lambda ring: ring.wait(), lambda ring: ring.wait(LONG), lambda ring: ring.poll(), lambda ring: next(iter(ring))],
    ids=["wait", "wait with a time-out", "poll", "iteration"],
)
def test_another_threads_close_ends_a_wait(ring: Ring, sleep: Callable[[Ring], object]) -> None:
    with takes(0.05), pytest.raises(purebpf.ClosedError, match="'events' is closed"), later(0.05, ring.close):
        sleep(ring)
    with takes(0), pytest.raises(purebpf.ClosedError, match="'events' is closed"):
        sleep(ring)


def test_closing_the_object_ends_a_wait(obj: purebpf.Object, ring: Ring) -> None:
    with takes(0.05), pytest.raises(purebpf.ClosedError, match="'events' is closed"), later(0.05, obj.close):
        ring.wait()


def test_a_close_ends_the_waits_of_all_threads(ring: Ring) -> None:
    ended: list[str] = []

    def sleep() -> None:
        try:
            ring.wait()
        except purebpf.ClosedError as error:
            ended.append(str(error))

    threads = [threading.Thread(target=sleep) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    ring.close()
    for thread in threads:
        thread.join(LONG)
    assert ended == ["ring 'events' is closed"] * 4


# Several rings, other people's loops


def test_a_group_calls_back_for_the_records_of_each_ring(obj: purebpf.Object) -> None:
    events: list[int] = []
    others: list[int] = []
    with RingGroup() as group:
        group.add(obj.ring("events"), lambda record: events.extend(numbers([record])))
        group.add(obj.ring("others"), lambda record: others.extend(numbers([record])))
        with takes(0.1, 2):
            assert group.poll(0.1) == 0
        assert group.consume() == 0
        for number in range(3):
            emit(obj, number)
            emit(obj, 10 + number, program="emit_other")
        assert group.poll(LONG) == 6
        assert (events, others) == ([0, 1, 2], [10, 11, 12])
        for program in ("emit", "emit_other", "emit_other", "emit"):
            with takes(0.05), later(0.05, emit, obj, 20, 0, 8, program):
                assert group.poll(LONG) == 1
        assert (events[3:], others[3:]) == ([20, 20], [20, 20])
        for number in range(3):
            emit(obj, 30 + number, NO_WAKEUP)
        assert group.consume(2) == 2
        assert group.consume() == 1
        assert events[5:] == [30, 31, 32]


def test_a_group_goes_on_behind_the_record_whose_callback_raised(obj: purebpf.Object, ring: Ring) -> None:
    seen: list[int] = []

    def take(record: memoryview) -> None:
        seen.extend(numbers([record]))
        if seen[-1] == 1:
            raise ZeroDivisionError

    with RingGroup() as group:
        group.add(ring, take)
        for number in range(3):
            emit(obj, number)
        with pytest.raises(ZeroDivisionError):
            group.poll(LONG)
        assert group.poll(LONG) == 1
        assert seen == [0, 1, 2]


def test_another_threads_close_ends_the_poll_of_a_group_and_leaves_its_rings(obj: purebpf.Object, ring: Ring) -> None:
    group = RingGroup()
    group.add(ring, print)
    with takes(0.05), pytest.raises(purebpf.ClosedError), later(0.05, group.close):
        group.poll()
    with takes(0.05), later(0.05, emit, obj, 1):
        assert numbers(ring.poll(LONG)) == [1]


def test_its_descriptor_is_readable_while_there_are_records(obj: purebpf.Object, ring: Ring) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(ring, selectors.EVENT_READ)

        def readable(timeout: float = 0) -> bool:
            return [key.fileobj for key, _events in selector.select(timeout)] == [ring]

        for _ in range(3):
            assert not readable()
            with takes(0.05), later(0.05, emit, obj, 0):
                assert readable(LONG)
            emit(obj, 1)
            assert numbers(ring.consume(1)) == [0]
            assert readable(), "one is left"
            assert numbers(ring.consume()) == [1]
            assert not readable(0.05)


def test_a_selector_that_comes_late_finds_it_readable(obj: purebpf.Object, ring: Ring) -> None:
    emit(obj, 0, NO_WAKEUP)
    with selectors.DefaultSelector() as selector:
        selector.register(ring, selectors.EVENT_READ)
        assert selector.select(LONG)


# asyncio


def test_asyncio_iterates_while_other_tasks_run(obj: purebpf.Object, ring: Ring) -> None:
    async def take(count: int) -> list[int]:
        seen: list[int] = []
        async for record in ring:
            seen += numbers([record])
            if len(seen) == count:
                return seen
        return seen

    async def main() -> list[int]:
        taking = asyncio.ensure_future(take(6))
        for number in range(6):
            await asyncio.sleep(0.02)
            assert not taking.done()
            emit(obj, number)
        return await asyncio.wait_for(taking, LONG)

    assert asyncio.run(main()) == [0, 1, 2, 3, 4, 5]


def test_asyncio_is_woken_by_another_thread(obj: purebpf.Object, ring: Ring) -> None:
    async def first() -> list[int]:
        async for record in ring:
            return numbers([record])
        return []

    for number in range(3):
        with takes(0.1), later(0.1, emit, obj, number):
            assert asyncio.run(asyncio.wait_for(first(), LONG)) == [number]


def test_a_cancelled_iteration_loses_nothing(obj: purebpf.Object, ring: Ring) -> None:
    seen: list[int] = []

    async def take() -> None:
        async for record in ring:
            seen.extend(numbers([record]))
            if seen[-1] == 2:
                await asyncio.sleep(LONG)

    async def main(wanted: list[int]) -> None:
        taking = asyncio.ensure_future(take())
        while seen != wanted:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking

    asyncio.run(main([]))  # cancelled while it waits
    for number in range(5):
        emit(obj, number)
    asyncio.run(main([0, 1, 2]))  # and while there are more
    assert numbers(ring.consume()) == [3, 4]
    with takes(0.05), later(0.05, emit, obj, 5):
        assert numbers(ring.poll(LONG)) == [5]


def test_a_close_ends_an_asynchronous_iteration(ring: Ring) -> None:
    async def take() -> None:
        async for _record in ring:
            pass

    with takes(0.05), pytest.raises(purebpf.ClosedError), later(0.05, ring.close):
        asyncio.run(asyncio.wait_for(take(), LONG))
