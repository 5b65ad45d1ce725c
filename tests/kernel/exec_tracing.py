"""trace-exec around what a test does: shared by the tests of tests/cli/test_exec_*.py.

Nobody else's execs get in the way: each trace is of one command's descendants, or of the test's own children.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

TRACE_EXEC = [sys.executable, "-m", "purebpf", "trace-exec"]
SOURCES = Path(__file__).parents[1] / "cli"
PATIENCE = float(os.environ.get("PUREBPF_PATIENCE", "60"))  # seconds: for a machine that is busy, or emulated

ARGUMENTS = ["name", "one", "", "two words", "\n"]  # what exec_cases executes a program with

Row = dict[str, Any]


class Trace(NamedTuple):
    rows: list[Row]
    err: str
    status: int

    def execs(self, name: str) -> list[Row]:
        """Of a file whose name ends so."""
        return [row for row in self.rows if row["event"] == "exec" and row["filename"].endswith(name)]

    @property
    def lost(self) -> int:
        """What standard error says: the sum, which is also that of the single reports."""
        said = [line.split() for line in self.err.splitlines() if line.startswith("purebpf: lost ")]
        if not said:
            return 0
        assert said[-1][-2:] == ["in", "all"]
        assert sum(int(words[2]) for words in said[:-1]) == int(said[-1][2])
        return int(said[-1][2])


def compiled(folder: Path, source: str, *flags: str) -> str:
    """The program of a file of tests/cli/, statically linked where that is possible: it starts sooner."""
    path = folder / source.partition(".")[0]
    command = ["gcc", "-O2", "-pthread", "-o", str(path), str(SOURCES / source), *flags]
    if subprocess.run([*command, "-static"], capture_output=True).returncode:
        subprocess.run(command, check=True)
    return str(path)


def trace(*options: str, command: list[str], **keywords: Any) -> Trace:
    """`trace-exec --json OPTIONS -- COMMAND`, to its end."""
    done = subprocess.run(
        [*TRACE_EXEC, "--json", *options, "--", *command], capture_output=True, timeout=10 * PATIENCE, **keywords
    )
    return Trace([json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode(), done.returncode)


def exact(row: Row, name: str) -> list[bytes]:
    """The bytes of a list of texts."""
    if f"{name}_b64" in row:
        return [base64.b64decode(text) for text in row[f"{name}_b64"]]
    return [text.encode() for text in row[name]]


def until(condition: Callable[[], Any], what: str) -> Any:
    """What `condition` gives, once it is true."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"no {what} within {PATIENCE:.0f} s"
        time.sleep(0.01)


def attached(process: subprocess.Popen[Any]) -> None:
    """Wait until a tracer has links and sleeps on its ring; fails if it ends before."""

    def sleeps() -> bool:
        assert process.poll() is None, f"ended with status {process.returncode}"
        waits_in = Path(f"/proc/{process.pid}/wchan").read_text()  # the function that the compiler made of it
        return waits_in in ("ep_poll", "do_epoll_wait") and "link_id:" in descriptors()

    def descriptors() -> str:
        with suppress(FileNotFoundError):  # closed since it was listed
            return "".join(path.read_text() for path in Path(f"/proc/{process.pid}/fdinfo").iterdir())
        return ""

    until(sleeps, "link of the tracer")


class Tracer:
    """A trace-exec that runs, and writes to a file."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, errors: Path) -> None:
        self.process, self._output, self._errors = process, output, errors

    def text(self) -> str:
        """Whole lines so far. Fails if it has ended."""
        assert self.process.poll() is None, self._errors.read_text()
        return self._whole()

    def _whole(self) -> str:
        text = self._output.read_text(errors="surrogateescape")
        return text[: text.rfind("\n") + 1]

    def rows(self) -> list[Row]:
        """Those of --json."""
        return [json.loads(line) for line in self.text().splitlines()]

    def of(self, pid: int) -> list[Row]:
        """All of a process that has ended (with --exits): its exit is the last."""
        rows: list[Row] = until(lambda: self._of(pid), f"exit of {pid}")
        return rows

    def _of(self, pid: int) -> list[Row]:
        rows = [row for row in self.rows() if row.get("pid") == pid]
        return rows if rows and rows[-1]["event"] == "exit" else []

    def end(self) -> str:
        """All that it has written."""
        self.process.terminate()
        self.process.wait(PATIENCE)
        return self._whole()

    @property
    def errors(self) -> str:
        """What it has said on standard error."""
        return self._errors.read_text()


@contextmanager
def tracer(folder: Path, *options: str) -> Iterator[Tracer]:
    """One that has started; with --csv its programs are attached: the line of names is written then."""
    output, errors = folder / "rows", folder / "errors"
    output.write_bytes(b"")
    with errors.open("wb") as stream:
        process = subprocess.Popen([*TRACE_EXEC, *options, "--output", str(output)], stderr=stream)
    try:
        made = Tracer(process, output, errors)
        if "--csv" in options:
            until(made.text, "line of names")
        yield made
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
