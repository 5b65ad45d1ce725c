"""`python -m purebpf trace-exec` as its users run it: output, endings, errors and their exit statuses."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from exec_tracing import attached, until
from odd_machines import HIDE_BTF, UNMOUNT_TRACEFS, mounts, root
from seccomp_filter import filtered

import purebpf

COMMAND = [sys.executable, "-m", "purebpf", "trace-exec"]
HEADER = ["TIME", "PID", "PPID", "UID", "PARENT", "COMMAND"]
kernel = pytest.mark.kernel


@contextmanager
def tracing(*options: str, **keywords: Any) -> Iterator[subprocess.Popen[str]]:
    """trace-exec, attached. It is killed at the end if it still runs."""
    keywords = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **keywords}
    process = subprocess.Popen([*COMMAND, *options], text=True, errors="surrogateescape", **keywords)
    try:
        attached(process)
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def link(folder: Path, name: str) -> str:
    path = folder / name
    path.symlink_to("/bin/true")
    return str(path)


def finished(*options: str, prefix: tuple[str, ...] = (), **keywords: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*prefix, *COMMAND, *options], capture_output=True, text=True, timeout=60, **keywords)


@kernel
def test_a_thousand_execs_are_a_thousand_lines(tmp_path: Path) -> None:
    paths = [link(tmp_path, f"n{i:04}") for i in range(1000)]
    with tracing("--json") as process:
        for path in paths:
            assert subprocess.run([path]).returncode == 0
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["filename"] for row in rows if row["filename"].startswith(str(tmp_path))] == paths
    assert all(isinstance(row["pid"], int) for row in rows)
    assert "lost" not in err


@kernel
def test_the_text_has_a_header_and_each_line_comes_at_once(tmp_path: Path) -> None:
    path = link(tmp_path, "live")
    with tracing() as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == HEADER
        child = subprocess.Popen([path])
        child.wait()
        line = next(line for line in process.stdout if path in line)
        assert line.split()[1:4] + line.split()[5:] == [str(child.pid), str(os.getpid()), str(os.getuid()), path]
        assert process.poll() is None


@kernel
def test_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    path = link(tmp_path, "a\x1b[31m\n\r\x7f\u202eb")
    with tracing() as process:
        subprocess.run([path])
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert r"/a\x1b[31m\n\r\x7f\342\200\256b" in out
    assert not set(out) & set("\x1b\r\x7f\u202e")


@kernel
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_as_a_shell_expects(number: int) -> None:
    with tracing() as process:
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert process.returncode == -number  # the shell shows 128 + number
    assert err == ""


@kernel
def test_a_closed_pipe_ends_it_even_when_nothing_happens() -> None:
    with tracing() as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == -signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == ""


@kernel
def test_head_gets_its_lines_and_the_pipeline_ends(tmp_path: Path) -> None:
    path = link(tmp_path, "x")
    script = f"for i in 1 2 3 4 5 6 7 8 9; do sleep 0.3; {path}; done & {' '.join(COMMAND)} | head -3; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    lines = result.stdout.splitlines()
    assert lines[0].split() == HEADER
    assert lines[3] == "141"
    assert result.stderr == ""


@kernel
def test_count_and_duration_end_it_with_status_0(tmp_path: Path) -> None:
    path = link(tmp_path, "x")
    with tracing("--json", "-n", "3", "--filename", path) as process:
        for _ in range(5):
            subprocess.run([path])
        out, _ = process.communicate(timeout=20)
        assert (process.returncode, len(out.splitlines())) == (0, 3)
    begin = time.monotonic()
    assert finished("--duration", "1").returncode == 0
    assert time.monotonic() - begin >= 1


@kernel
def test_sigkill_leaves_nothing_attached(bpftool: Any) -> None:
    def present(wanted: set[tuple[str, int]]) -> set[tuple[str, int]]:
        return {(kind, row["id"]) for kind in ("prog", "link") for row in bpftool(kind, "show")} & wanted

    with tracing() as process:
        infos = "".join(path.read_text() for path in Path(f"/proc/{process.pid}/fdinfo").iterdir())
        # A link's fdinfo names its program as well (bpf_link_show_fdinfo).
        ours = {(kind, int(number)) for kind, number in re.findall(r"(?m)^(prog|link)_id:\t(\d+)$", infos)}
        assert {kind for kind, _number in ours} == {"prog", "link"}
        assert present(ours) == ours
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while present(ours):
            assert time.monotonic() < deadline, f"left in the kernel: {present(ours)}"
            time.sleep(0.05)


@kernel
def test_lost_events_are_reported_as_they_occur_and_at_the_end(tmp_path: Path) -> None:
    """A stopped tracer cannot empty its ring."""
    path = link(tmp_path, "lost")
    with tracing("--json", "--buffer-size", "64K", "--ppid", str(os.getpid())) as process:
        process.send_signal(signal.SIGSTOP)
        for _ in range(300):
            subprocess.run([path, "x" * 1000])
        process.send_signal(signal.SIGCONT)
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    lost = int(err.splitlines()[-1].split()[2])
    rows = [json.loads(line) for line in out.splitlines()]
    assert err.splitlines()[-1] == f"purebpf: lost {lost} events in all"
    assert "the ring was full" in err.splitlines()[0]
    assert lost > 0
    assert sum(row["event"] == "exec" for row in rows) + lost == 300
    assert sum(row["count"] for row in rows if row["event"] == "lost") == lost


@kernel
def test_what_happened_before_the_signal_is_printed_though_the_pipe_was_full(tmp_path: Path) -> None:
    path = link(tmp_path, "l" * 120)
    with tracing("--json") as process:
        for _ in range(300):  # more than the 64 KiB that a pipe holds
            subprocess.run([path])
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert sum(path in line for line in out.splitlines()) == 300
    assert process.returncode == -signal.SIGINT
    assert "lost" not in err


@kernel
def test_a_reader_that_does_not_read_cannot_keep_it_alive(tmp_path: Path) -> None:
    path = link(tmp_path, "l" * 120)
    with tracing("--json") as process:
        for _ in range(500):
            subprocess.run([path])
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM
        assert process.stderr is not None
        assert re.search(r"\d+ lines? not printed", process.stderr.read())


@kernel
def test_a_slow_reader_is_spoken_of_while_it_is_slow(tmp_path: Path) -> None:
    path = link(tmp_path, "l" * 120)
    with tracing("--json") as process:
        for _ in range(200):
            subprocess.run([path])
        assert process.stderr is not None
        assert select.select([process.stderr], [], [], 60)[0]
        assert "nobody has read the output for" in process.stderr.readline()


def test_version_and_help_need_no_privileges() -> None:
    top = [sys.executable, "-m", "purebpf"]
    version = subprocess.run([*top, "--version"], capture_output=True, text=True)
    assert (version.returncode, version.stdout) == (0, f"purebpf {purebpf.__version__}\n")
    for options in (["--help"], ["trace-exec", "--help"]):
        shown = subprocess.run([*top, *options], capture_output=True, text=True)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "exit status:" in shown.stdout


@pytest.mark.parametrize("options", [["-n", "0"], ["--duration", "-1"], ["--duration", "nan"], ["--what"]])
def test_a_wrong_command_line_is_status_2(options: list[str]) -> None:
    result = finished(*options)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def refused(result: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """One message that says it all, no traceback, the documented exit status."""
    assert result.returncode == status, result.stderr
    assert result.stderr.startswith("purebpf: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


@kernel
def test_a_command_has_its_status_where_ends_of_children_are_ignored() -> None:
    """As the parents of some daemons leave it; the command goes on ignoring them."""
    program = "import signal, sys; sys.exit(3 + (signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN))"
    done = finished(
        "--", sys.executable, "-c", program, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    )
    assert (done.returncode, done.stderr) == (4, "")


def test_not_linux_is_status_3() -> None:
    code = "import sys; sys.platform = 'darwin'; from purebpf.cli import main; main(['trace-exec'])"
    refused(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True), 3, "darwin")


@kernel
def test_without_perf_links_the_ioctl_attaches(tmp_path: Path) -> None:
    """BPF_LINK_CREATE answers EINVAL for perf events before 5.15."""
    path, output = link(tmp_path, "by-ioctl"), tmp_path / "out"
    command = [*filtered("bpf:28:22"), *COMMAND[:-1], "run", str(purebpf.prebuilt("execve"))]

    def seen() -> bool:
        assert process.poll() is None
        subprocess.run([path])
        rows = output.read_text().rpartition("\n")[0]  # the last may be half written
        return path.encode() in bytes.fromhex("".join(rows.split()).replace("events:", ""))

    with output.open("wb") as file, subprocess.Popen(command, stdout=file) as process:
        try:
            until(seen, "exec of ours")
        finally:
            process.terminate()
        assert process.wait(60) == -signal.SIGTERM


needs_setpriv = pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")


@kernel
@needs_setpriv
def test_without_privileges_it_is_status_5_and_names_the_capabilities() -> None:
    refused(
        finished(prefix=root()),
        5,
        "lacks CAP_BPF and CAP_PERFMON",
        "EPERM",
        "hint: this root has been restricted",
    )
    refused(finished(prefix=root("bpf")), 5, "lacks CAP_PERFMON")


CAPABLE = root("bpf", "perfmon")
WITHOUT_BTF = mounts(HIDE_BTF)


@kernel
@needs_setpriv
def test_two_capabilities_are_enough_and_no_tracefs_is_needed(tmp_path: Path) -> None:
    """Raw tracepoints are attached by name: no perf event, no file of tracefs."""
    path = link(tmp_path, "x")
    result = finished("-x", "--exits", "--json", "--", path, "a", prefix=(*mounts(UNMOUNT_TRACEFS), *CAPABLE))
    assert (result.returncode, result.stderr) == (0, "")
    assert [json.loads(line)["event"] for line in result.stdout.splitlines()] == ["exec", "exit"]


@kernel
def test_without_btf_a_lesser_program_runs_and_says_what_is_missing(tmp_path: Path) -> None:
    """Arguments then come from /proc, if the process lives long enough."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nsleep 1\n")
    script.chmod(0o755)
    options = ("--json", "--filename", str(script), "-n", "1")
    process = subprocess.Popen(
        [*WITHOUT_BTF, *COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: subprocess.run([str(script), "a b"]) and process.poll() is not None, "end of the tracer")
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    row = json.loads(out)
    assert err.startswith("purebpf: this kernel has no BTF: ")
    assert len(err.splitlines()) == 1
    assert row["argv"] == ["/bin/sh", str(script), "a b"]
    assert (row["ppid"], row["args_source"]) == (os.getpid(), "proc")


@kernel
def test_what_needs_btf_says_so_where_there_is_none() -> None:
    refused(finished("--exits", prefix=WITHOUT_BTF), 4, "--exits needs", "no BTF", "--btf FILE")
    refused(finished("--", "true", prefix=WITHOUT_BTF), 4, "-- COMMAND needs")


@kernel
def test_a_btf_file_stands_in_for_the_kernel_s_own(tmp_path: Path) -> None:
    copy = tmp_path / "vmlinux.btf"
    shutil.copy("/sys/kernel/btf/vmlinux", copy)
    result = finished("--btf", str(copy), "--exits", "--json", "--", "true", prefix=WITHOUT_BTF)
    assert (result.returncode, result.stderr) == (0, "")
    assert [json.loads(line)["event"] for line in result.stdout.splitlines()] == ["exec", "exit"]


@kernel
@needs_setpriv
def test_tracefs_not_mounted_is_status_6_where_it_is_needed() -> None:
    """A classic tracepoint has its number there: that of the lesser program."""
    result = finished(prefix=(*mounts(f"{HIDE_BTF} && {UNMOUNT_TRACEFS}"), *CAPABLE))
    assert result.returncode == 6
    assert "tracefs is not mounted" in result.stderr
    assert "mount -t tracefs" in result.stderr


@kernel
def test_a_missing_or_foreign_object_is_status_7(tmp_path: Path) -> None:
    refused(finished("--object", str(tmp_path / "gone.o")), 7, "gone.o", "No such file")
    (tmp_path / "text.o").write_text("hello")
    refused(finished("--object", str(tmp_path / "text.o")), 7, "not an ELF file")
    refused(finished("--object", os.path.realpath(sys.executable)), 7, "not for BPF")


@kernel
def test_a_rejected_program_is_status_8_and_the_log_is_there_on_request(tmp_path: Path) -> None:
    data = purebpf.prebuilt("trace_exec").read_bytes()
    code = purebpf.parse(data).programs["trace_exec"].code
    broken = tmp_path / "broken.o"
    broken.write_bytes(data.replace(code, bytes.fromhex("bf30000000000000") + code[8:]))  # r0 = r3
    short = finished("--object", str(broken))
    refused(short, 8, "R3 !read_ok", "--verifier-log")
    whole = finished("--object", str(broken), "--verifier-log")
    refused(whole, 8, "R3 !read_ok", "processed")
    assert "processed" not in short.stderr


@kernel
@pytest.mark.parametrize(
    ("closed", "status", "said"), [(">&-", 1, "Bad file descriptor"), ("<&-", 0, ""), ("2>&-", 0, "")]
)
def test_closed_standard_streams_are_no_trap(closed: str, status: int, said: str) -> None:
    script = f"{' '.join(COMMAND)} --duration 0.3 {closed}"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert result.returncode == status
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@kernel
def test_a_full_disk_is_said_in_one_line() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*COMMAND, "--duration", "1"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    refused(result, 1, "No space left")
