"""For the tests of single execs: one trace-exec that follows what a module's tests start, and a program that makes odd execs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from exec_tracing import ARGUMENTS, Row, Tracer, compiled, tracer, until


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> str:
    """exec_cases.c, compiled."""
    return compiled(tmp_path_factory.mktemp("cases"), "exec_cases.c")


@pytest.fixture(scope="module")
def follower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracer]:
    """Sees all that is executed, and fails to be, in our children, and their ends."""
    options = ("--json", "-x", "--exits", "--cwd", "--env", "MARK", "--env", "TWICE", "--tree", str(os.getpid()))
    with tracer(tmp_path_factory.mktemp("tracer"), *options) as made:
        until(lambda: subprocess.run(["/bin/true"]) and made.rows(), "exec of ours")
        yield made
        assert made.errors == ""


@pytest.fixture
def run(follower: Tracer) -> Callable[..., list[Row]]:
    """Start a command, wait for it, and return the rows of its process: the exit is the last."""

    def runs(command: list[Any], **keywords: Any) -> list[Row]:
        with subprocess.Popen(command, **keywords) as process:
            process.wait()
        return follower.of(process.pid)

    return runs


@pytest.fixture
def case(run: Callable[..., list[Row]], cases: str) -> Callable[..., Row]:
    """The exec that a case of exec_cases.c makes; not that of exec_cases itself, nor its exit."""

    def runs(name: str, path: str, **keywords: Any) -> Row:
        _itself, row, _exit = run([cases, name, path, *ARGUMENTS], **keywords)
        return row

    return runs
