"""How processes ended (--exits): each once, with what its parent's wait() says."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from exec_tracing import ARGUMENTS, Row, Tracer, until

pytestmark = pytest.mark.kernel
TRUE = "/bin/true"
Run = Callable[..., list[Row]]


@pytest.mark.parametrize("code", [0, 1, 7, 127, 255])
def test_the_exit_code(code: int, run: Run) -> None:
    row = run(["/bin/sh", "-c", f"exit {code}"])[-1]
    assert (row["exit_code"], row["signal"], row["core_dumped"]) == (code, None, False)
    assert (row["argv"], row["filename"], row["argc"]) == (["/bin/sh", "-c", f"exit {code}"], "/bin/sh", 3)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGRTMIN])
def test_the_signal_that_killed_it(number: signal.Signals, run: Run) -> None:
    row = run(["/bin/sh", "-c", f"kill -{number.value} $$"])[-1]
    assert (row["exit_code"], row["signal"], row["core_dumped"]) == (None, number.name, False)


def test_a_core_dump_is_said_when_there_was_one(follower: Tracer, cases: str, tmp_path: Path) -> None:
    pid = os.fork()
    if not pid:
        os.chdir(tmp_path)
        resource.setrlimit(resource.RLIMIT_CORE, (1 << 26, 1 << 26))
        os.execv(cases, [cases, "fault", ""])
    status = os.waitpid(pid, 0)[1]
    row = follower.of(pid)[-1]
    assert (row["exit_code"], row["signal"]) == (None, "SIGSEGV")
    assert row["core_dumped"] == os.WCOREDUMP(status)


def test_without_room_for_a_core_there_is_none(run: Run, cases: str, tmp_path: Path) -> None:
    def forbid() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    row = run([cases, "fault", ""], cwd=tmp_path, preexec_fn=forbid)[-1]
    assert (row["signal"], row["core_dumped"]) == ("SIGSEGV", False)


def test_the_lifetime_is_since_the_fork(run: Run) -> None:
    begin = time.monotonic_ns()
    first, last = run(["/bin/sleep", "0.2"])
    took = time.monotonic_ns() - begin
    assert 200_000_000 < last["lifetime_ns"] < took
    assert last["lifetime_ns"] == last["monotonic_ns"] - last["start_ns"]
    assert begin < first["start_ns"] == last["start_ns"]


def test_a_process_that_executed_nothing_has_no_arguments(follower: Tracer) -> None:
    pid = os.fork()
    if not pid:
        os._exit(5)
    os.waitpid(pid, 0)
    (row,) = follower.of(pid)
    assert (row["event"], row["exit_code"], row["filename"], row["argv"], row["argc"]) == ("exit", 5, None, None, None)
    assert row["comm"] == Path("/proc/self/comm").read_text().rstrip("\n")


def test_an_exit_has_the_last_exec_of_the_process(run: Run) -> None:
    rows = run(["/bin/sh", "-c", "exec /bin/sh -c 'exec /bin/true last'"])
    assert [row["event"] for row in rows] == ["exec", "exec", "exec", "exit"]
    assert rows[-1]["argv"] == ["/bin/true", "last"]


def test_after_an_exec_by_another_thread_the_exit_knows_it(run: Run, cases: str) -> None:
    row = run([cases, "thread", TRUE, *ARGUMENTS])[-1]
    assert (row["argv"], row["exit_code"], row["comm"]) == (ARGUMENTS, 0, "true")


def ends(follower: Tracer, pid: int) -> list[Row]:
    return [row for row in follower.rows() if row.get("pid") == pid and row["event"] == "exit"]


def test_a_process_of_many_threads_ends_once(run: Run, cases: str, follower: Tracer) -> None:
    row = run([cases, "threads", ""])[-1]
    run([TRUE])
    assert ends(follower, row["pid"]) == [row]
    assert (row["exit_code"], row["comm"]) == (7, "exec_cases")


def test_threads_that_end_at_the_same_time_are_one_end(cases: str, follower: Tracer) -> None:
    pids = []
    for _ in range(100):
        with subprocess.Popen([cases, "all-at-once", ""]) as process:
            process.wait()
        pids.append(process.pid)
    follower.of(pids[-1])
    assert [len(ends(follower, pid)) for pid in pids] == [1] * len(pids)


def test_where_the_leader_ends_first_the_process_ends_with_its_last_thread(follower: Tracer, cases: str) -> None:
    """Whose status it is then depends on the kernel (the last one's from 5.17 on): the one that wait() has."""
    with subprocess.Popen([cases, "leader-first", ""]) as process:
        status = process.wait()
    row = follower.of(process.pid)[-1]
    assert status in (3, 5)
    assert (row["exit_code"], row["signal"]) == (status, None)
    assert row["lifetime_ns"] > 50_000_000
    assert row["comm"] == "exec_cases"


def test_a_process_that_was_killed_while_its_leader_was_gone_already(follower: Tracer, cases: str) -> None:
    with subprocess.Popen([cases, "leader-first", ""]) as process:
        until(lambda: state(process.pid) == "Z", "leader that has ended")
        process.kill()
    row = follower.of(process.pid)[-1]
    assert (row["exit_code"], row["signal"]) == (None, "SIGKILL")
    assert process.returncode == -signal.SIGKILL


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def test_an_orphan_s_end_has_its_new_parent(follower: Tracer) -> None:
    """The shell is gone when the sleeper ends."""
    done = subprocess.run(["/bin/sh", "-c", "sleep 0.3 >&- & sleep 0.1; echo $!"], stdout=subprocess.PIPE, check=True)
    rows = follower.of(int(done.stdout))
    assert rows[0]["ppid"] != rows[-1]["ppid"] != os.getpid()
    assert rows[-1]["argv"] == ["sleep", "0.3"]
