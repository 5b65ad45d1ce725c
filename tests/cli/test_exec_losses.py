"""What was executed is shown or counted as lost, to the last one; and in what order it is shown."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from exec_tracing import TRACE_EXEC, Row, Trace, compiled, trace

pytestmark = pytest.mark.kernel
WORKERS = ("first", "second")
EXECS = int(
    os.environ.get("PUREBPF_STORM", "20000")
)  # of each of two workers: some seconds; 100000 once before a release
STOPPED = int(os.environ.get("PUREBPF_STOPPED_MS", "2000"))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled(tmp_path_factory.mktemp("many"), "exec_many.c")


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled(tmp_path_factory.mktemp("nothing"), "exec_nothing.c", "-nostdlib")


def seen(done: Trace, program: str) -> list[tuple[str, int]]:
    """Worker and number of each exec of a storm, all of which are as they were made, and there once."""
    rows = done.execs(program)
    assert all(row["argv"][0] == program and row["argc"] == len(row["argv"]) == 3 for row in rows)
    numbers = [(row["argv"][1], int(row["argv"][2])) for row in rows]
    assert len(set(numbers)) == len(numbers)
    return numbers


def everything(count: int) -> set[tuple[str, int]]:
    return {(worker, number) for worker in WORKERS for number in range(count)}


def lost_rows(done: Trace) -> int:
    return sum(row["count"] for row in done.rows if row["event"] == "lost")


@pytest.mark.volume
def test_nothing_of_a_storm_is_lost(many: str, nothing: str) -> None:
    done = trace(command=[many, "storm", nothing, str(EXECS)])
    assert (done.status, done.err) == (0, "")
    assert set(seen(done, nothing)) == everything(EXECS)


def test_execs_and_exits_of_short_lived_processes_go_in_pairs(many: str, nothing: str) -> None:
    done = trace("--exits", command=[many, "storm", nothing, str(EXECS // 4)])
    assert done.err == ""
    lives = Counter((row["event"], row["pid"], row["start_ns"]) for row in done.rows if row["filename"] == nothing)
    assert set(lives.values()) == {1}
    assert {life[1:] for life in lives if life[0] == "exec"} == {life[1:] for life in lives if life[0] == "exit"}
    assert len(lives) == EXECS // 4 * 2 * 2


def test_what_a_stopped_tracer_with_a_small_ring_misses_is_counted(many: str, nothing: str) -> None:
    done = trace("--buffer-size", "4K", command=[many, "storm", nothing, "2000", "0"])
    captured = seen(done, nothing)
    assert done.status == 0
    assert done.lost > 0
    assert lost_rows(done) == done.lost
    assert set(captured) < everything(2000)
    others = 1  # exec_many itself, which may have found the ring empty
    assert len(captured) + len(done.execs(many)) + done.lost == 2 * 2000 + others


def test_exits_that_are_missed_are_counted_like_execs(many: str, nothing: str) -> None:
    done = trace("--exits", "--buffer-size", "4K", command=[many, "storm", nothing, "1000", "0"])
    events = sum(row["event"] != "lost" for row in done.rows)
    assert done.lost > 0
    assert lost_rows(done) == done.lost
    assert (
        events + done.lost == 2 * (2 * 1000) + 2 + 2
    )  # exec and exit of each; exec_many, too; two workers that only end


def test_failed_execs_that_are_missed_are_counted() -> None:
    """A storm of a script of sh: each loop tries a file that is not there."""
    loop = "kill -STOP $PPID; i=0; while [ $i -lt 300 ]; do /nonexistent/x $i; i=$((i+1)); done 2>/dev/null; kill -CONT $PPID"
    done = trace("-x", "--buffer-size", "4K", command=["/bin/sh", "-c", loop])
    events = sum(row["event"] != "lost" for row in done.rows)
    assert done.lost > 0
    assert events + done.lost == 300 + 1
    assert all(row["errno"] == "ENOENT" for row in done.execs("/nonexistent/x"))


def test_a_stop_of_some_seconds_loses_nothing_while_the_ring_has_room(many: str, nothing: str) -> None:
    count = 2000
    begin = time.monotonic()
    done = trace("--buffer-size", "4M", command=[many, "storm", nothing, str(count), str(STOPPED)])
    assert time.monotonic() - begin > STOPPED / 1000
    assert done.err == ""
    assert set(seen(done, nothing)) == everything(count)


def test_a_reader_that_stops_reading_costs_no_event(many: str, nothing: str, tmp_path: Path) -> None:
    """The pipe and the ring hold what it has not read; both together are what is waited for."""
    command = [*TRACE_EXEC, "--json", "--buffer-size", "8M", "--", many, "storm", nothing, "2000"]
    errors = tmp_path / "errors"
    with errors.open("wb") as stream, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(STOPPED / 1000)
        lines = [first, *process.stdout]
    assert process.returncode == 0
    assert len(lines) == 1 + 2 * 2000
    assert "lost" not in errors.read_text()


def inversions(rows: Iterable[Row]) -> list[int]:
    """Nanoseconds by which rows are older than the newest one above them."""
    newest, found = 0, []
    for row in rows:
        found.append(newest - row["monotonic_ns"])
        newest = max(newest, row["monotonic_ns"])
    return [late for late in found[1:] if late > 0]


def test_parents_come_before_their_children(many: str, nothing: str) -> None:
    """A parent's exec is over before the child is forked, so its record was written, and timed, first: on whatever CPU."""
    chains = f"{many} chain {nothing} 300 & {many} chain {nothing} 300 & wait"
    done = trace(command=["/bin/sh", "-c", chains])
    first = {row["pid"]: (index, row["monotonic_ns"]) for index, row in reversed(list(enumerate(done.rows)))}
    assert len(done.rows) == 1 + 2 * 302
    for index, row in enumerate(done.rows[1:], 1):
        above, before = first[row["ppid"]]
        assert above < index
        assert before < row["start_ns"] < row["monotonic_ns"]


def test_one_worker_s_execs_are_in_order_and_two_workers_differ_by_a_race_only(many: str, nothing: str) -> None:
    """The time is taken first, room in the ring later: another CPU may come between. So rows are sorted but for that moment."""
    done = trace(command=[many, "storm", nothing, "5000"])
    for worker in WORKERS:
        rows = [row for row in done.execs(nothing) if row["argv"][1] == worker]
        assert [int(row["argv"][2]) for row in rows] == list(range(5000))
        assert inversions(rows) == []
    assert (
        max(inversions(done.rows), default=0) < 1_000_000_000
    )  # a virtual CPU may pause; it is microseconds otherwise
