"""The programs under bpf/ that show the ring's helpers: each run on the running kernel, and its records read."""

from __future__ import annotations

import contextlib
import os
import selectors
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import purebpf

pytestmark = pytest.mark.kernel

NAMES = ["ring_output", "ring_reserve", "ring_discard", "ring_query", "ring_wakeup"]
ROUND = 32  # an event's 20 bytes, its header, and the rounding
Loaded = Callable[..., purebpf.Object]


@pytest.fixture
def loaded() -> Iterator[Loaded]:
    """Load a program by name, on request with a ring of one page or another threshold."""
    with contextlib.ExitStack() as stack:

        def load(name: str, *, small: bool = False, **constants: Any) -> purebpf.Object:
            spec = purebpf.parse(purebpf.prebuilt(name).read_bytes(), name)
            if small:
                spec.maps["events"].max_entries = os.sysconf("SC_PAGESIZE")
            for variable, value in constants.items():
                spec.variables[variable].value = value
            return stack.enter_context(purebpf.load(spec))

        yield load


def run(obj: purebpf.Object, times: int = 1) -> None:
    (program,) = obj.programs.values()
    for _ in range(times):
        assert program.test_run().return_value == 0


def lost(obj: purebpf.Object) -> int:
    total: int = sum(obj.maps["lost"][0]) if "lost" in obj.maps else obj.globals.lost
    return total


def my_name() -> bytes:
    """Of this thread, which is the one that runs the program."""
    return Path("/proc/thread-self/comm").read_bytes().rstrip(b"\n")


@pytest.mark.parametrize("name", NAMES)
def test_an_event_says_who_ran_the_program(loaded: Loaded, name: str) -> None:
    obj = loaded(name)
    run(obj, 2)
    events = list(obj.events("events", "event").consume())
    assert [(event.pid, event.comm) for event in events] == [(os.getpid(), my_name())] * 2


@pytest.mark.parametrize("name", NAMES)
def test_an_event_has_20_bytes(loaded: Loaded, name: str) -> None:
    obj = loaded(name)
    run(obj)
    records = [bytes(record) for record in obj.ring("events").consume()]
    assert records == [struct.pack("=I16s", os.getpid(), my_name())]


@pytest.mark.parametrize("name", NAMES)
def test_a_process_that_ends_is_reported(loaded: Loaded, name: str) -> None:
    obj = loaded(name, **({"threshold": 0} if name == "ring_wakeup" else {}))
    obj.attach()
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    ring = obj.events("events", "event")
    while ring.wait(10):
        if (pid, b"true") in [(event.pid, event.comm) for event in ring.consume()]:
            return
    pytest.fail("it was not")


@pytest.mark.parametrize("name", NAMES)
def test_what_found_no_room_is_counted(loaded: Loaded, name: str) -> None:
    """A ring is never filled to the last byte by the kernel (__bpf_ringbuf_reserve: more than the mask)."""
    obj = loaded(name, small=True)
    ring = obj.ring("events")
    fit = (ring.size - 1) // ROUND
    run(obj, fit + 3)
    assert lost(obj) == 3
    assert len(ring.consume()) == fit
    run(obj)
    assert (len(ring.consume()), lost(obj)) == (1, 3)


@pytest.mark.parametrize("name", [*NAMES, pytest.param("user_ring", marks=pytest.mark.needs("user_ringbuf"))])
def test_bpftool_loads_it(bpftool: Any, bpffs: Path, name: str) -> None:
    """The peer: libbpf, and its reading of the sections, maps and variables."""
    tool = "/usr/sbin/bpftool" if os.path.exists("/usr/sbin/bpftool") else "bpftool"
    subprocess.run([tool, "prog", "loadall", purebpf.prebuilt(name), bpffs / name], check=True)
    (pin,) = (bpffs / name).iterdir()
    assert bpftool("prog", "show", "pinned", str(pin))["type"] == "raw_tracepoint"


def test_discarded_events_are_not_seen_and_their_space_comes_back(loaded: Loaded) -> None:
    obj = loaded("ring_discard")
    ring = obj.ring("events")
    run(obj)
    obj.globals.ignored = my_name()
    run(obj, 2)
    obj.globals.ignored = "another"
    run(obj)
    assert ring.available == 4 * ROUND
    assert len(ring.consume()) == 2
    assert ring.available == 0


def test_a_discarded_event_ends_no_wait_for_long(loaded: Loaded) -> None:
    obj = loaded("ring_discard")
    obj.globals.ignored = my_name()
    ring = obj.ring("events")
    run(obj)
    assert list(ring.poll(0.05)) == []
    assert ring.consumer_position == ring.producer_position == ROUND


def test_query_has_the_numbers_of_the_mapped_ring(loaded: Loaded) -> None:
    obj = loaded("ring_query", small=True)
    ring = obj.ring("events")
    highest = 0
    for consume in (False, True, False, False, True, True) * 40:  # round the ring, more than once
        run(obj, 2)
        state = obj.globals.state
        assert (state.available, state.size) == (ring.available, ring.size)
        assert (state.consumer_position, state.producer_position) == (ring.consumer_position, ring.producer_position)
        highest = max(highest, ring.available)
        if consume:
            ring.consume()
    assert obj.globals.highest == highest
    assert ring.consumer_position > 2 * ring.size


def test_query_counts_a_full_ring_as_the_reader_does(loaded: Loaded) -> None:
    obj = loaded("ring_query", small=True)
    ring = obj.ring("events")
    run(obj, ring.size // ROUND)
    assert lost(obj) == 1
    assert obj.globals.state.available == ring.available == ring.size - ROUND
    assert ring.fill == 1 - ROUND / ring.size


def test_the_reader_is_woken_at_the_threshold_and_not_before(loaded: Loaded) -> None:
    obj = loaded("ring_wakeup", threshold=4 * ROUND)
    ring = obj.ring("events")
    with selectors.EpollSelector() as selector:
        selector.register(ring, selectors.EVENT_READ)
        for _ in range(3):
            for count in (1, 2, 3):
                run(obj)
                assert not selector.select(0.02), f"woken by {count} events"
            run(obj)
            assert selector.select(10)
            assert len(ring.consume()) == 4
            assert not selector.select(0)


def test_events_below_the_threshold_are_there_for_who_looks(loaded: Loaded) -> None:
    obj = loaded("ring_wakeup")
    assert obj.globals.threshold == 32 * 1024
    ring = obj.ring("events")
    run(obj, 3)
    assert len(ring.poll(0)) == 3


@pytest.mark.parametrize("name", ["ring_output", "ring_reserve", "ring_discard", "ring_query"])
def test_without_flags_only_a_reader_that_has_caught_up_is_woken(loaded: Loaded, name: str) -> None:
    obj = loaded(name)
    ring = obj.ring("events")
    with selectors.EpollSelector() as selector:
        run(obj)  # before anybody listens
        selector.register(ring, selectors.EVENT_READ)
        assert selector.select(0)  # epoll asks once when it is told of a descriptor
        assert len(ring.consume(1)) == 1
        assert not selector.select(0)
        run(obj)
        assert selector.select(10)
        assert len(ring.consume()) == 1
