"""`trace-exec --output FILE` and its readers, as its users run it: logrotate, full disks, folders that are not there."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from exec_tracing import attached, until

COMMAND = [sys.executable, "-m", "purebpf", "trace-exec"]
pytestmark = pytest.mark.kernel


@contextmanager
def tracing(*options: str, **keywords: Any) -> Iterator[subprocess.Popen[str]]:
    """trace-exec, attached, of what we execute. It is killed at the end if it still runs."""
    keywords = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, **keywords}
    process = subprocess.Popen([*COMMAND, "--ppid", str(os.getpid()), *options], **keywords)
    try:
        attached(process)
        yield process
    finally:
        process.kill()
        process.communicate()


def execute(count: int, *arguments: str) -> None:
    for i in range(count):
        subprocess.run(["/bin/true", str(i), *arguments], check=True)


def wait_for(path: Path) -> None:
    until(path.exists, f"file {path}")


def numbers(path: Path) -> list[int]:
    """Of the execs in a file of JSON lines, each of which is whole."""
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [int(json.loads(line)["argv"][1]) for line in text.splitlines()]


def test_a_file_gets_the_events_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with tracing("--json", "--output", str(path), "-n", "20") as process:
        execute(20)
        assert process.wait(60) == 0
    assert numbers(path) == list(range(20))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.volume
def test_rotation_loses_and_tears_nothing(tmp_path: Path) -> None:
    """What logrotate does, rename and SIGHUP, while processes are started."""
    path, count = tmp_path / "log", 6
    with tracing("--json", "--output", str(path), "-n", str(count * 200)) as process:
        for i in range(count):
            execute(100)
            path.rename(tmp_path / f"log.{i}")
            process.send_signal(signal.SIGHUP)
            execute(100)
            wait_for(path)
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    files = [*(tmp_path / f"log.{i}" for i in range(count)), path]
    assert [number for file in files for number in numbers(file)] == list(range(100)) * 2 * count


def test_the_new_file_is_there_soon_even_when_nothing_happens(tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    with tracing("--json", "--output", str(path)) as process:
        path.rename(old)
        begin = time.monotonic()
        process.send_signal(signal.SIGHUP)
        wait_for(path)
        assert time.monotonic() - begin < 5
        assert process.poll() is None


def test_each_file_of_comma_separated_values_begins_with_the_names(tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    with tracing("--csv", "--output", str(path), "-n", "2") as process:
        execute(1)
        path.rename(old)
        process.send_signal(signal.SIGHUP)
        wait_for(path)
        execute(1)
        assert process.wait(60) == 0
    assert [file.read_text().count("event,time,") for file in (old, path)] == [1, 1]
    assert path.read_text().startswith("event,time,")


@pytest.mark.needs("btf")
def test_a_hangup_while_it_starts_does_not_end_it(tmp_path: Path) -> None:
    """It reads the types slowly, from a FIFO. What logrotate has taken away is not open yet."""
    types, path = tmp_path / "types", tmp_path / "log"
    os.mkfifo(types)
    command = [*COMMAND, "--json", "--btf", str(types), "--output", str(path), "--", "sh", "-c", "kill -HUP $$"]
    with subprocess.Popen(command) as process:
        fifo = until(lambda: reader_of(types), "reader of the types")
        process.send_signal(signal.SIGHUP)
        os.set_blocking(fifo, True)
        with open(fifo, "wb") as writing, suppress(BrokenPipeError):
            writing.write(Path("/sys/kernel/btf/vmlinux").read_bytes())
        assert process.wait(60) == 128 + signal.SIGHUP  # the command's: a hangup ends that as ever
    assert json.loads(path.read_text())["filename"].endswith("/sh")


def reader_of(fifo: Path) -> int | None:
    """The FIFO, opened for writing once somebody reads it."""
    with suppress(OSError):
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    return None


def test_a_hangup_without_a_file_ends_it() -> None:
    with tracing("--json") as process:
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == -signal.SIGHUP


def test_nohup_is_respected() -> None:
    with tracing("--json", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None


def test_a_full_disk_ends_it_with_the_number_of_lost_lines(tmp_path: Path) -> None:
    where = tmp_path / "tiny"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tiny", str(where)], check=True)
    try:
        with tracing("--json", "--output", str(where / "log")) as process:
            execute(30, "x" * 4000)
            _, err = process.communicate(timeout=20)
        assert process.returncode == 1
        said = f"purebpf: {where}/log: No space left on device; "
        assert err.startswith(said)
        assert int(err[len(said) :].split()[0]) > 0
        assert "purebpf: hint: make room" in err
        found = numbers(where / "log")
        assert found == list(range(len(found)))
        assert found
    finally:
        subprocess.run(["umount", str(where)], check=True)


def test_a_file_that_cannot_be_opened_is_said_in_one_message() -> None:
    result = subprocess.run([*COMMAND, "--output", "/gone/log"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stderr.startswith("purebpf: cannot open '/gone/log': No such file or directory\n")
    assert "Traceback" not in result.stderr


def test_lines_of_the_traced_command_and_of_the_tracer_do_not_mix() -> None:
    """They share a pipe."""
    script = "for i in $(seq 300); do /bin/echo $i; done"
    result = subprocess.run(
        [*COMMAND, "--json", "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True, timeout=60
    )
    lines = result.stdout.splitlines()
    assert [int(line) for line in lines if line.isdigit()] == list(range(1, 301))
    rows = [json.loads(line) for line in lines if not line.isdigit()]
    assert [row["argv"][1] for row in rows if row["comm"] == "echo"] == [str(i) for i in range(1, 301)]


def test_a_signal_ends_it_when_output_and_messages_go_where_nobody_reads() -> None:
    """`2>&1 | READER`, which has stopped; and there are losses to be told of at the end."""
    options = ("--json", "--buffer-size", "64K", "--max-args", "1K")
    with tracing(*options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        execute(600, "x" * 900)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM


@pytest.mark.kernel
def test_a_file_that_is_appended_to_has_one_line_of_names(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    for _ in range(2):
        subprocess.run([*COMMAND, "--csv", "--output", str(path), "--", "true"], check=True, timeout=60)
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == ["event", "exec", "exec"]
