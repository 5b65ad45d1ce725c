"""The ring of another process is watched: what is seen is what its owner sees, and the owner sees nothing of it."""

from __future__ import annotations

import json
import mmap
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ring_user

import purebpf
from purebpf.errors import KernelError, ObjectError
from purebpf.formats.abi import MapFlags, MapType
from purebpf.formats.spec import MapSpec
from purebpf.kernel import maps
from purebpf.kernel.ring_watch import MOST, RingWatch, watch_id, watch_pinned
from purebpf.lessons.progress import Progress
from purebpf.lessons.state import BUSY_RECORD, COMMITTED, CONSUMED, DISCARDED, OVERWRITE, RING, USER, RingState
from purebpf.tools import ring_watch

pytestmark = pytest.mark.kernel

EVENT = 16  # bytes that an event of ring_user takes up


class Owner:
    """A process with a ring: ring_user.py."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, ring_user.__file__, str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, command: str) -> Any:
        self.tell(command)
        return self.hear()

    def tell(self, command: str) -> None:
        assert self.process.stdin
        print(command, file=self.process.stdin, flush=True)

    def hear(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def is_asleep(self, thread: int) -> bool:
        stat = Path(f"/proc/{self.process.pid}/task/{thread}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "S"


@pytest.fixture
def owner(compiled: Callable[[str], Path]) -> Iterator[Owner]:
    made = Owner(compiled(ring_user.SOURCE))
    with made.process:
        yield made
        made.process.communicate(timeout=30)
    assert made.process.returncode == 0


@pytest.fixture
def watch(owner: Owner) -> Iterator[RingWatch]:
    with watch_id(owner("id")) as made:
        yield made


def positions(state: RingState) -> list[int]:
    return [state.consumer, state.producer]


def test_a_slow_consumer_is_seen_as_it_is_and_gets_all_its_records(owner: Owner, watch: RingWatch) -> None:
    assert (watch.name, watch.kind, watch.size, watch.id) == ("events", RING, 65536, owner("id"))
    got: list[int] = []
    for sent in (5, 0, 300, 1000, 7):
        owner(f"send {sent}")
        before = owner("positions")
        for _ in range(3):
            state = watch.state()
            assert (positions(state), state.torn, state.label) == (before, "", "events")
            assert state.used == before[1] - before[0]
            assert len(state.records) == min(MOST, state.used // EVENT)
            assert state.unlisted == state.used - EVENT * len(state.records)
            numbers = [int.from_bytes(record.payload, sys.byteorder) for record in state.records]
            assert numbers == [len(got) + number for number in range(len(numbers))]
        assert owner("positions") == before
        got += owner("take 40")
        assert positions(watch.state()) == owner("positions")
    while len(got) < 1312:
        got += owner("take 400")
    assert got == list(range(1312))
    assert owner("lost") == 0
    assert not watch.state().used


def test_a_wake_up_is_the_consumers_however_often_the_ring_is_looked_at(owner: Owner, watch: RingWatch) -> None:
    for number in range(5):
        thread = owner("sleep")
        while not owner.is_asleep(thread):
            time.sleep(0.001)
        for _ in range(20):
            watch.state()
        owner("send 1")
        state = watch.state()
        assert owner("woken") == [number]
        assert state.producer == EVENT * (number + 1)


def test_a_full_ring_of_a_stopped_consumer_stays_as_it_is(owner: Owner, watch: RingWatch) -> None:
    for _ in range(5):
        owner("send 1000")
    assert owner("lost") == 5000 - 4095  # size - 1 bytes at most
    for _ in range(3):
        state = watch.state()
        assert (positions(state), state.torn) == ([0, 65520], "")
    assert [record.state for record in state.records] == [COMMITTED] * MOST
    assert owner("take 9999") == list(range(4095))
    assert watch.state().past == () or watch.state().past[0].state == CONSUMED


def test_the_pages_cannot_be_written_through_a_watch(watch: RingWatch) -> None:
    for view in (watch._pages.consumer, watch._pages.producer, watch._pages.data):
        assert view.readonly
        with pytest.raises(TypeError):
            view[0] = 1


def test_states_are_sound_while_producer_and_consumer_are_at_work(owner: Owner, watch: RingWatch) -> None:
    rounds = 300
    owner.tell(f"churn {rounds}")
    consumer = producer = seen = 0
    deadline = time.monotonic() + 30
    while consumer < rounds * 1000 * EVENT and time.monotonic() < deadline:
        state = watch.state()
        if not state.torn:
            seen += 1
            assert consumer <= state.consumer <= state.producer
            assert producer <= state.producer
            consumer, producer = positions(state)
            numbers = [int.from_bytes(record.payload, sys.byteorder) for record in state.records if not record.busy]
            assert numbers == [record.position // EVENT for record in state.records if not record.busy]
    assert consumer == rounds * 1000 * EVENT
    assert seen > 1
    assert owner.hear() == rounds * 1000


def test_what_is_shown_of_the_past_is_what_was_there_while_a_full_ring_is_written_over(
    owner: Owner, watch: RingWatch
) -> None:
    for _ in range(5):
        owner("send 1000")
    for _ in range(200):
        watch.state()
        owner("take 100")
        owner.tell("send 100")
        state = watch.state()
        owner.hear()
        assert not any(record.busy for record in state.past)
        numbers = [int.from_bytes(record.payload, sys.byteorder) for record in state.past]
        assert numbers == [record.position // EVENT for record in state.past]


# What is no ring of another program's


def test_a_pinned_ring_is_watched_by_its_path(bpffs: Path) -> None:
    with purebpf.load(purebpf.prebuilt("ring_discard")) as obj, obj.ring("events") as ring:
        obj.maps["events"].pin(bpffs / "events")
        for program in obj.programs.values():
            program.test_run()
        with watch_pinned(bpffs / "events") as watch:
            state = watch.state()
            assert (watch.id, positions(state)) == (
                obj.maps["events"].info().id,
                [ring.consumer_position, ring.producer_position],
            )
            assert {record.state for record in state.records} <= {COMMITTED, DISCARDED}


def test_a_watch_lives_on_when_the_ring_is_let_go_of() -> None:
    with purebpf.load(purebpf.prebuilt("ring_output")) as obj:
        obj.programs["output"].test_run()
        watch = RingWatch(obj.maps["events"])
    with watch:
        assert watch.state().producer == 32
    watch.close()


@pytest.mark.needs("user_ringbuf")
def test_a_user_ring_is_watched_the_other_way_round() -> None:
    with purebpf.load(purebpf.prebuilt("user_drain")) as obj, obj.user_ring("messages") as ring:
        watch = obj.own(watch_id(obj.maps["messages"].info().id))
        assert (watch.kind, watch.size) == (USER, ring.size)
        record = ring.reserve(5)
        ring.output(b"second")
        state = watch.state()
        assert [found.state for found in state.records] == [BUSY_RECORD, COMMITTED]
        assert (state.records[1].payload, state.pending) == (b"second", None)
        assert record
        record.submit()
        obj.programs["drain"].test_run(context=bytes(8))
        state = watch.state()
        assert positions(state) == [ring.consumer_position, ring.producer_position] == [32, 32]
        assert [found.state for found in state.past] == [CONSUMED, CONSUMED]


@pytest.mark.needs("user_ringbuf")
def test_for_the_live_view_long_payloads_are_shortened() -> None:
    with purebpf.load(purebpf.prebuilt("user_drain")) as obj, obj.user_ring("messages") as ring:
        watch = obj.own(watch_id(obj.maps["messages"].info().id))
        ring.output(bytes(range(200)))
        for _ in range(2):
            (record,) = ring_watch._look(watch, Progress()).states[0].all_records
            assert (record.length, record.payload) == (200, bytes(range(64)))
            obj.programs["drain"].test_run(context=bytes(8))


@pytest.mark.needs("ring_overwrite")
def test_a_ring_that_overwrites_is_watched_from_its_overwrite_position() -> None:
    spec = purebpf.parse(purebpf.prebuilt("ring_output").read_bytes())
    spec.maps["events"].max_entries = mmap.PAGESIZE
    spec.maps["events"].flags |= MapFlags.RB_OVERWRITE
    with purebpf.load(spec) as obj, RingWatch(obj.maps["events"]) as watch:
        for _ in range(mmap.PAGESIZE // 16):
            obj.programs["output"].test_run()
        state = watch.state()
        assert (watch.kind, state.consumer, state.producer) == (OVERWRITE, 0, 2 * mmap.PAGESIZE)
        assert state.begin == state.overwrite == mmap.PAGESIZE + 32
        assert not state.torn


def test_maps_of_other_types_are_named() -> None:
    with (
        maps.create(MapSpec("counts", MapType.ARRAY, 4, 8, 1)) as counts,
        pytest.raises(ObjectError, match="'counts' is a ARRAY, no ring buffer"),
    ):
        watch_id(counts.info().id)
    with (
        maps.create(MapSpec("old", MapType.PERF_EVENT_ARRAY)) as old,
        pytest.raises(ObjectError, match="'old' is a PERF_EVENT_ARRAY") as caught,
    ):
        watch_id(old.info().id)
    assert "process that opened them" in caught.value.hint


def test_what_is_not_there_is_said(bpffs: Path) -> None:
    with pytest.raises(KernelError, match="opening map 4294967295: ENOENT") as caught:
        watch_id((1 << 32) - 1)
    assert "bpftool map list" in caught.value.hint
    with pytest.raises(KernelError, match="ENOENT"):
        watch_pinned(bpffs / "nothing")
    with purebpf.load(purebpf.prebuilt("ring_output")) as obj:
        obj.programs["output"].pin(bpffs / "program")
        with pytest.raises(ObjectError, match="'program' is no map, but anon_inode:bpf-prog"):
            watch_pinned(bpffs / "program")


# On the command line


def ring_command(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "purebpf", "ring", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **more)


def test_the_command_prints_a_line_for_each_look(owner: Owner) -> None:
    owner("send 300")
    result = ring_command("--map-id", str(owner("id")), "--interval", "0.05", "--count", "3")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"events: map {owner('id')}, ring, 65536 bytes"
    assert [line.split()[1:7] for line in lines[2:]] == [["0", "4800", "4800", "7%", "256+", "committed"]] * 3
    assert [line.endswith("and there is something to read") for line in lines[2:]] == [False, True, True]
    assert owner("positions") == [0, 4800]


def test_as_json_each_line_has_a_whole_state(owner: Owner) -> None:
    owner("send 2")
    result = ring_command("--map-id", str(owner("id")), "--duration", "0.05", "--interval", "0.01", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.returncode, result.stderr) == (0, "")
    assert len(rows) >= 2
    assert {row["map"] for row in rows} == {"events"}
    states = [RingState.from_dict(row["state"]) for row in rows]
    assert {tuple(record.payload[0] for record in state.records) for state in states} == {(0, 1)}
    assert (rows[0]["produced"], rows[-1]["produced"], rows[-1]["stuck"] > 0) == (None, 0.0, True)


def test_ctrl_c_ends_it_after_a_whole_line(owner: Owner) -> None:
    command = [sys.executable, "-m", "purebpf", "ring", "--map-id", str(owner("id")), "--interval", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
        assert process.wait(30) == -signal.SIGINT
    assert lines[2].split()[1:3] == ["0", "0"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--map-id", str((1 << 32) - 1)), 1, "no map has this id"),
        (("--map-id", "0"), 2, "invalid map id value"),
        (("--map-id", "1", "--pinned", "/x"), 2, "not allowed with"),
        (("--map-id", "1", "--kernel"), 2, "not allowed with"),
        (("busy", "--map-id", "1"), 2, "it is one or the other"),
        (("--interval", "0", "--map-id", "1"), 2, "invalid number of seconds"),
    ],
)
def test_what_cannot_be_is_a_message(arguments: tuple[str, ...], status: int, said: str) -> None:
    result = ring_command(*arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")
def test_by_its_id_a_ring_is_opened_with_cap_sys_admin_only(owner: Owner) -> None:
    command = ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-m", "purebpf", "ring"]
    result = subprocess.run([*command, "--map-id", str(owner("id"))], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (5, "")
    assert "takes CAP_SYS_ADMIN: run as root, or open one that is pinned" in result.stderr
