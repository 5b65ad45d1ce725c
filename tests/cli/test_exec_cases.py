"""Execs made in unusual ways, and where a process is: each row says what really happened.

One trace-exec follows the test's children; the exit of a child is its last row, so then all of it has been seen.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from exec_tracing import ARGUMENTS, TRACE_EXEC, Row, Tracer

pytestmark = pytest.mark.kernel
TRUE = "/bin/true"
Run = Callable[..., list[Row]]
Case = Callable[..., Row]


def executable(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


# ---- ways to execute


@pytest.mark.parametrize("name", ["plain", "cold-path", "cold-arguments", "cold-vector"])
def test_memory_that_the_caller_never_touched_is_read_like_any_other(name: str, case: Case) -> None:
    row = case(name, TRUE)
    assert (row["filename"], row["argv"], row["argc"], row["retval"]) == (TRUE, ARGUMENTS, len(ARGUMENTS), 0)
    assert (row["syscall"], row["comm"], row.get("argv_fault")) == ("execve", "true", None)


def test_an_exec_by_another_thread_has_the_process_s_pid_and_the_thread_s_tid(case: Case) -> None:
    row = case("thread", TRUE)
    assert row["tid"] != row["pid"] == row["ns_pid"]
    assert (row["argv"], row["comm"], row["ppid"]) == (ARGUMENTS, "true", os.getpid())


def test_a_failed_exec_by_another_thread_has_its_tid(case: Case) -> None:
    row = case("thread", "/nonexistent")
    assert row["tid"] != row["pid"]
    assert (row["errno"], row["comm"]) == ("ENOENT", "a-thread")


def test_execveat_of_a_descriptor(case: Case) -> None:
    """The kernel makes up a name: /dev/fd/N."""
    row = case("empty-path", TRUE)
    assert row["filename"].startswith("/dev/fd/")
    assert (row["syscall"], row["argv"]) == ("execveat", ARGUMENTS)


def test_execveat_below_a_directory_s_descriptor(case: Case) -> None:
    row = case("in-directory", TRUE)
    assert row["filename"].endswith("/true")
    assert (row["syscall"], row["argv"]) == ("execveat", ARGUMENTS)


def test_a_file_in_memory_only(case: Case) -> None:
    row = case("memfd", TRUE)
    assert (row["syscall"], row["argv"], row["retval"]) == ("execveat", ARGUMENTS, 0)
    assert row["filename"].startswith("/dev/fd/")


if platform.machine() == "x86_64":  # int 0x80 is of x86

    @pytest.mark.parametrize("path", [TRUE, "/nonexistent"])
    def test_the_32_bit_way_into_the_kernel(path: str, case: Case) -> None:
        row = case("int80", path)
        expected = ("execve", path, ARGUMENTS, len(ARGUMENTS))
        assert (row["syscall"], row["filename"], row["argv"], row["argc"]) == expected
        assert row["errno"] == (None if path == TRUE else "ENOENT")


def test_a_deleted_file_is_still_executed(run: Run, tmp_path: Path) -> None:
    copy = shutil.copy(TRUE, tmp_path / "copy")
    fd = os.open(copy, os.O_RDONLY)
    os.unlink(copy)
    row = run([f"/proc/self/fd/{fd}", "gone"], pass_fds=[fd])[0]
    os.close(fd)
    assert (row["filename"], row["argv"]) == (f"/proc/self/fd/{fd}", [f"/proc/self/fd/{fd}", "gone"])


# ---- scripts


def test_a_script_has_its_interpreter_s_arguments_and_its_own_name(run: Run, tmp_path: Path) -> None:
    script = executable(tmp_path / "script", "#!/bin/sh -eu\n:\n")
    row = run([script, "a", "b c"])[0]
    assert (row["filename"], row["script"], row["comm"]) == (script, True, "script")
    assert (row["argv"], row["argc"]) == (["/bin/sh", "-eu", script, "a", "b c"], 5)


def test_a_script_of_a_script(run: Run, tmp_path: Path) -> None:
    inner = executable(tmp_path / "inner", "#!/bin/sh\n:\n")
    outer = executable(tmp_path / "outer", f"#!{inner} -x y\n:\n")
    row = run([outer, "a"])[0]
    assert (row["filename"], row["argv"]) == (outer, ["/bin/sh", inner, "-x y", outer, "a"])


def test_a_script_without_its_interpreter_fails(case: Case, tmp_path: Path) -> None:
    script = executable(tmp_path / "script", "#!/nonexistent/interpreter\n")
    row = case("plain", script)
    assert (row["errno"], row["filename"], row["argv"]) == ("ENOENT", script, ARGUMENTS)


# ---- failures


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "ENOEXEC", "ENOTDIR", "ELOOP"])
def test_a_failed_exec_says_why(name: str, case: Case, tmp_path: Path) -> None:
    (tmp_path / "EACCES").write_text("x")
    executable(tmp_path / "ENOEXEC", "no program\n")
    (tmp_path / "ELOOP").symlink_to("ELOOP")
    path = "/etc/passwd/x" if name == "ENOTDIR" else str(tmp_path / name)
    row = case("plain", path)
    assert (row["errno"], row["filename"], row["argv"], row["argc"]) == (name, path, ARGUMENTS, len(ARGUMENTS))
    assert (row["comm"], row["syscall"], row["retval"] < 0) == ("exec_cases", "execve", True)


def test_too_many_arguments_fail_with_e2big(run: Run) -> None:
    code = "import os\ntry: os.execv('/bin/true', ['true', 'x' * 140000, 'y'])\nexcept OSError: pass"
    row = run([sys.executable, "-c", code])[1]
    assert (row["errno"], row["argv"][0], row["argv_truncated"]) == ("E2BIG", "true", True)
    assert set(row["argv"][1]) == {"x"}


def test_a_failing_execveat_that_must_not_follow_links(case: Case, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(TRUE)
    row = case("no-follow", str(tmp_path / "link"))
    assert (row["errno"], row["syscall"], row["argv"]) == ("ELOOP", "execveat", ARGUMENTS)


def test_a_name_that_is_too_long_is_whole_or_said_to_be_cut(run: Run) -> None:
    code = "import os\ntry: os.execv('/' + 'd/' * 3000, ['x'])\nexcept OSError: pass"
    row = run([sys.executable, "-c", code])[1]
    assert row["errno"] == "ENAMETOOLONG"
    assert row["filename"] == "/" + "d/" * 3000 or row["filename_truncated"]


@pytest.mark.parametrize(("name", "arguments"), [("bad-vector", []), ("bad-argument", ARGUMENTS[:-1])])
def test_arguments_that_are_not_in_memory_are_said_to_be_missing(name: str, arguments: list[str], case: Case) -> None:
    row = case(name, TRUE)
    assert (row["errno"], row["filename"], row["argv"], row["argv_fault"]) == ("EFAULT", TRUE, arguments, True)


def test_a_name_that_is_not_in_memory_is_said_to_be_missing(case: Case) -> None:
    row = case("bad-path", TRUE)
    assert (row["errno"], row["filename"], row["filename_fault"], row["argv"]) == ("EFAULT", "", True, ARGUMENTS)


def test_arguments_that_a_failed_exec_never_touched_are_shown_or_said_to_be_missing(case: Case) -> None:
    """Nobody brings them into memory: the file is looked for first."""
    row = case("cold-arguments", "/nonexistent")
    assert row["argv"] == ARGUMENTS or (row["argv_fault"] and row["argc"] is None and row["argv"] == ARGUMENTS[:1])


@pytest.mark.parametrize("path", [TRUE, "/nonexistent"])
def test_no_vector_at_all_is_no_argument(path: str, case: Case) -> None:
    """Linux takes NULL for an empty vector. From 5.18 on it makes one empty argument of that."""
    row = case("null-vector", path)
    assert (row["argv"], row["argc"]) in (([], 0), ([""], 1))
    assert "argv_fault" not in row


# ---- who, and where


def test_user_and_group_are_those_after_setuid(run: Run) -> None:
    def become() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(12345)

    first, last = run([TRUE], preexec_fn=become)
    assert (first["uid"], first["gid"]) == (last["uid"], last["gid"]) == (12345, 65534)


@pytest.mark.needs("login_uid")
def test_the_login_uid_is_unknown_until_it_is_set(run: Run) -> None:
    unset = Path("/proc/self/loginuid")
    own = int(unset.read_text())
    assert run([TRUE])[0]["loginuid"] == (None if own == 0xFFFFFFFF else own)
    if own == 0xFFFFFFFF:
        assert [row["loginuid"] for row in run([TRUE], preexec_fn=lambda: unset.write_text("4711"))] == [4711, 4711]


def test_each_exec_says_who_the_parent_was(run: Run) -> None:
    own = Path("/proc/self/comm").read_text().rstrip("\n")
    first, last = run([TRUE])
    for row in (first, last):
        assert (row["ppid"], row["parent_comm"]) == (os.getpid(), own)
    assert first["start_ns"] == last["start_ns"] < first["monotonic_ns"] < last["monotonic_ns"]


def test_another_pid_namespace_has_its_own_numbers(run: Run, follower: Tracer) -> None:
    mark = "/bin/../bin/true"
    done = ["unshare", "--user", "--map-root-user", "--pid", "--mount", "--fork", "--mount-proc", mark]
    outer = run(done)
    inner = next(row for row in follower.rows() if row["event"] == "exec" and row["filename"] == mark)
    assert (inner["ns_pid"], inner["ppid"]) == (1, outer[0]["pid"])
    assert inner["pid"] > 1
    assert inner["pid_ns"] != outer[0]["pid_ns"] == os.stat("/proc/self/ns/pid").st_ino
    assert outer[0]["ns_pid"] == outer[0]["pid"]


@pytest.mark.parametrize("options", [(), ("--pid", "1"), ("--ppid", "1"), ("--tree", "1")])
def test_a_tracer_in_a_pid_namespace_finds_its_command_or_refuses(options: tuple[str, ...]) -> None:
    """In a container the numbers of processes are others than the kernel's own."""
    inside = ["unshare", "--pid", "--fork", "--mount-proc", *TRACE_EXEC, *options, "--json"]
    done = subprocess.run([*inside, "--", TRUE, "x"], capture_output=True, text=True, timeout=60)
    if done.returncode:
        assert "namespace" in done.stderr
    else:
        assert [json.loads(line)["argv"] for line in done.stdout.splitlines()] == [[TRUE, "x"]]


def test_the_environment_that_was_asked_for(run: Run) -> None:
    row = run([TRUE], env={"A": "1", "MARK": "a=b\n\udcff", "OTHER": "x"})[0]
    assert {name: base64.b64decode(value) for name, value in row["env_b64"].items()} == {"MARK": b"a=b\n\xff"}
    assert run([TRUE], env={})[0]["env"] == {}


def test_of_a_variable_that_is_there_twice_the_first_counts_as_for_getenv(run: Run) -> None:
    code = "import ctypes; c = ctypes.CDLL(None); t = lambda *v: (ctypes.c_char_p * (len(v) + 1))(*v, None)\n"
    code += "c.execve(b'/bin/true', t(b'true'), t(b'TWICE=first', b'TWICE=second'))"
    assert run([sys.executable, "-c", code])[1]["env"] == {"TWICE": "first"}


def test_an_environment_beyond_the_limit_is_said_to_be_cut(run: Run) -> None:
    filler = {f"A{i}": "x" * 100_000 for i in range(3)}
    row = run([TRUE], env={**filler, "MARK": "last"})[0]
    assert row["env"] == {}
    assert row["env_truncated"] is True
    assert "env_truncated" not in run([TRUE], env={"MARK": "first"})[0]


def test_the_environment_of_a_failed_exec_is_not_said_to_be_empty(run: Run) -> None:
    """It has not been looked at, or it is as it was."""
    code = "import os\ntry: os.execve('/nonexistent', ['x'], {'MARK': 'y'})\nexcept OSError: pass"
    assert run([sys.executable, "-c", code])[1].get("env") in (None, {"MARK": "y"})
