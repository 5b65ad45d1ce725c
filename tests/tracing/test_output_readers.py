"""Readers of standard output: pipes, terminals and sockets, whose other end is slow, shared, stopped or gone."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from purebpf.tracing.output import Output

PIPE_BUF = 4096  # Linux: limits.h
LINE = "x" * 99 + "\n"


@pytest.fixture(autouse=True)
def _hangup() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@contextmanager
def pipe() -> Iterator[tuple[FileIO, FileIO]]:
    """The reader's and the writer's end."""
    reader, writer = os.pipe()
    with FileIO(reader) as read_from, FileIO(writer, "w") as written_to:
        yield read_from, written_to


def to(end: FileIO, *stalled: Any) -> Output:
    return Output(f"/proc/self/fd/{end.fileno()}", *stalled)


def waiting_in(end: FileIO) -> str:
    """What is in a pipe now."""
    os.set_blocking(end.fileno(), False)
    return b"".join(iter(lambda: end.read(1 << 16) or b"", b"")).decode()


class Reader(threading.Thread):
    """Reads once it `begins`, `chunk` bytes every `pause` seconds, until nobody writes. `text` is what it got."""

    def __init__(self, end: FileIO, chunk: int, begins: threading.Event | None = None, pause: float = 0.0) -> None:
        super().__init__()
        self._end, self._chunk, self._begins, self._pause = end, chunk, begins, pause
        self._found: list[bytes] = []
        self.start()

    def run(self) -> None:
        if self._begins:
            self._begins.wait(30)
        while piece := self._end.read(self._chunk):
            self._found.append(piece)
            time.sleep(self._pause)

    @property
    def text(self) -> str:
        self.join()
        return b"".join(self._found).decode()


def program(code: str) -> list[str]:
    prelude = (
        "import os, signal, sys, time; from purebpf.tracing.output import Output, say\n"
        "from purebpf.tracing.ending import Signalled, catch_signals, die_of, hold_signals, waiting\n"
    )
    return [sys.executable, "-c", prelude + code]


long_lines = st.lists(st.integers(0, 3 * PIPE_BUF), max_size=30).map(
    lambda sizes: [chr(97 + i % 26) * size + "\n" for i, size in enumerate(sizes)]
)


@given(st.lists(long_lines, max_size=4), st.integers(1, 20000))
@settings(max_examples=examples(40), deadline=None)
def test_a_reader_gets_each_line_whole_and_in_order(batches: list[list[str]], chunk: int) -> None:
    with pipe() as (reader, writer):
        got = Reader(reader, chunk)
        with to(writer) as output:
            writer.close()
            for batch in batches:
                output.write("".join(batch))
        assert got.text == "".join(line for batch in batches for line in batch)


def test_lines_of_several_writers_of_a_pipe_do_not_mix() -> None:
    """A traced command has the tracer's standard output."""
    count, sizes = 3000, (10, 700, 3000)
    code = "for i in range({}): Output().write(('{}' * {} + '\\n') * 3)"
    with pipe() as (reader, writer):
        writers = [
            subprocess.Popen(program(code.format(count // 3, i, size)), stdout=writer) for i, size in enumerate(sizes)
        ]
        writer.close()
        got = Reader(reader, PIPE_BUF).text.splitlines()
        assert [process.wait() for process in writers] == [0, 0, 0]
    for i, size in enumerate(sizes):
        assert got.count(str(i) * size) == count
    assert len(got) == count * len(sizes)


def test_it_speaks_of_a_reader_that_does_not_read_once_a_second() -> None:
    told: list[tuple[float, int]] = []
    begin = threading.Event()
    with pipe() as (reader, writer):

        def stalled(seconds: float, waiting: int) -> None:
            in_pipe = int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)), sys.byteorder)
            told.append((seconds, waiting + in_pipe // len(LINE)))
            if len(told) == 3:
                begin.set()

        got = Reader(reader, 10000, begin)
        with to(writer, stalled) as output:
            writer.close()
            output.write(LINE * 2000)
        assert got.text == LINE * 2000
    assert [lines for _seconds, lines in told] == [2000] * 3
    assert all(later - before > 0.9 for (before, _), (later, _) in zip([(0.0, 0), *told], told))


def test_an_ending_command_gives_up_after_two_seconds_and_knows_what_it_did_not_print(capfd: Any) -> None:
    with pipe() as (reader, writer):
        begin = time.monotonic()
        with to(writer) as output:
            output.write(LINE * 2000, ending=True)
            assert 2 <= time.monotonic() - begin < 4
            got = waiting_in(reader)
            lost = 2000 - got.count("\n")
            assert got == LINE * (2000 - lost)
            assert capfd.readouterr().err == f"purebpf: {lost} lines not printed: nobody reads the output\n"
            output.write(LINE * 3, ending=True)
            output.write(LINE * 4, ending=True)
            assert time.monotonic() - begin < 4
        assert waiting_in(reader) == ""
    assert capfd.readouterr().err == "purebpf: 7 lines more not printed\n"


def test_nothing_follows_a_line_that_was_written_in_part() -> None:
    """One that is longer than a pipe takes at once, and its reader has stopped."""
    text = "short\n" + "l" * 200000 + "\n"
    with pipe() as (reader, writer), to(writer) as output:
        output.write(text, ending=True)
        got = waiting_in(reader)
        output.write("next\n", ending=True)
        assert text.startswith(got)
        assert waiting_in(reader) == ""


def test_a_reader_that_reads_slowly_gets_everything_though_the_command_ends() -> None:
    with pipe() as (reader, writer):
        got = Reader(reader, 20000, pause=0.3)
        with to(writer) as output:
            writer.close()
            output.write(LINE * 2500, ending=True)
        assert got.text == LINE * 2500


def test_a_reader_that_has_gone_is_noticed_without_and_with_something_to_write() -> None:
    with pipe() as (reader, writer), to(writer) as output:
        output.check_reader()
        reader.close()
        with pytest.raises(BrokenPipeError):
            output.check_reader()
        with pytest.raises(BrokenPipeError):
            output.write("x\n")


def test_files_and_devices_always_have_a_reader(tmp_path: Path) -> None:
    for path in (str(tmp_path / "log"), os.devnull):
        with Output(path) as output:
            output.check_reader()


def test_a_socket_whose_peer_has_gone_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            program("time.sleep(0.5); Output().check_reader()"), stdout=ours, stderr=subprocess.PIPE
        )
        ours.close()
        theirs.close()
        _, err = process.communicate(timeout=20)
    assert b"BrokenPipeError" in err


# Standard output


@pytest.mark.parametrize(("action", "status"), [("SIG_DFL", -signal.SIGHUP), ("SIG_IGN", 0)])
def test_standard_output_leaves_the_hangup_as_it_was(action: str, status: int) -> None:
    code = f"signal.signal(signal.SIGHUP, signal.{action}); Output().write('x\\n'); os.kill(os.getpid(), signal.SIGHUP)"
    assert subprocess.run(program(code), stdout=subprocess.DEVNULL).returncode == status


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_who_shares_standard_output_goes_on_behind_the_last_whole_line(tmp_path: Path, mode: str) -> None:
    """As the next command of a script does, after `( … ) > FILE`."""
    path = tmp_path / "out"
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (7, 7)); Output().write('one\\ntwo is long\\n')"
    with path.open(mode) as file:
        result = subprocess.run(program(code), stdout=file, stderr=subprocess.PIPE, text=True)
        os.write(file.fileno(), b"next\n")
    assert "standard output: File too large; 1 line not written" in result.stderr
    assert path.read_text() == "one\nnext\n"


TRACER = f"""
catch_signals()
hold_signals()
Output(None, lambda seconds, lines: say(f"{{lines}} lines wait")).write({LINE!r} * 20000)
signalled = waiting(lambda: time.sleep(20))
die_of(signalled.number)
"""


def two_ends(kind: str) -> tuple[int, int]:
    """A reader, and what it reads."""
    if kind == "terminal":
        return pty.openpty()
    if kind == "socket":
        ours, theirs = socket.socketpair()
        return ours.detach(), theirs.detach()
    return os.pipe()


def test_a_signal_ends_it_whatever_its_reader_has_stopped_reading() -> None:
    """A pipe, a terminal, a socket; also where standard error goes the same way."""
    cases = [(kind, both) for kind in ("pipe", "terminal", "socket") for both in (False, True)]
    ends = [two_ends(kind) for kind, _ in cases]
    started = [
        subprocess.Popen(program(TRACER), stdout=writer, stderr=writer if both else subprocess.PIPE, text=True)
        for (_, both), (_, writer) in zip(cases, ends)
    ]
    try:
        for (reader, _), process in zip(ends, started):
            assert select.select([process.stderr or reader], [], [], 30)[0], "it has not begun to write"
            assert process.stderr is None or "lines wait" in process.stderr.readline()
        for process in started:
            process.send_signal(signal.SIGTERM)
        for (kind, both), process in zip(cases, started):
            _, err = process.communicate(timeout=15)
            assert process.returncode == -signal.SIGTERM, kind
            assert both or "lines not printed: nobody reads the output" in err
    finally:
        for process in started:
            process.kill()
            process.wait()
        for fd in (fd for pair in ends for fd in pair):
            os.close(fd)


def test_a_terminal_that_reads_late_gets_every_line() -> None:
    reader, writer = two_ends("terminal")
    process = subprocess.Popen(program(f"Output().write({LINE!r} * 5000)"), stdout=writer)
    os.close(writer)
    time.sleep(1)
    found = b""
    with suppress(OSError):  # EIO, once its last writer has gone
        while select.select([reader], [], [], 20)[0]:
            found += os.read(reader, 65536)
    os.close(reader)
    assert process.wait(20) == 0
    assert found.decode().replace("\r", "") == LINE * 5000


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_keeps_its_mode_and_gets_every_line_in_either(blocking: bool) -> None:
    with pipe() as (reader, writer):
        os.set_blocking(writer.fileno(), blocking)
        process = subprocess.Popen(program(f"Output().write({LINE!r} * 5000)"), stdout=writer)
        time.sleep(1)
        assert os.get_blocking(writer.fileno()) is blocking
        writer.close()
        assert Reader(reader, 5000).text == LINE * 5000
        assert process.wait(20) == 0


def test_a_character_that_the_encoding_of_standard_output_lacks_is_escaped() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(program(r"Output().write('\u20ac\udcff\n')"), env=environment, capture_output=True)
    assert result.stdout == b"\\u20ac\\udcff\n"


def test_a_standard_output_that_cannot_be_written_to_is_an_error_that_says_so() -> None:
    with open(os.devnull) as closed:
        result = subprocess.run(program("Output().write('x\\n')"), stdout=closed, stderr=subprocess.PIPE, text=True)
    assert "standard output: Bad file descriptor; 1 line not written" in result.stderr
