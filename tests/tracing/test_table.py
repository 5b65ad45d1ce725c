"""The table: aligned whatever its cells hold, and coloured only for those who want that."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purebpf.tracing.table import Column, Table, styled, wants_colour


def column(name: str, width: int, **more: Any) -> Column:
    return Column(name.upper(), lambda row: str(row[name]), width, **more)


def table(colour: bool = False) -> Table:
    result = column("result", 6, style=lambda row: "31" if row["result"] == "EPERM" else "")
    return Table([column("pid", 5, right=True, style="2"), column("comm", 6), result, column("command", 0)], colour)


def row(pid: int = 7, comm: str = "sh", result: str = "ok", command: str = "/bin/ls -l") -> dict[str, Any]:
    return {"pid": pid, "comm": comm, "result": result, "command": command}


def uncoloured(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def test_titles_and_cells_stand_below_each_other() -> None:
    shown = table()
    assert shown.header() == "  PID  COMM    RESULT  COMMAND"
    assert shown.line(row()) == "    7  sh      ok      /bin/ls -l"


def test_a_column_that_was_too_narrow_stays_wider() -> None:
    shown = table()
    assert shown.line(row(comm="a-long-name")) == "    7  a-long-name  ok      /bin/ls -l"
    assert shown.line(row(pid=1234567)) == "1234567  sh           ok      /bin/ls -l"
    assert shown.line(row()) == "      7  sh           ok      /bin/ls -l"


def test_a_title_that_is_wider_than_its_column_makes_it_wider() -> None:
    shown = Table([column("pid", 1), column("command", 0)], colour=False)
    assert shown.header() == "PID  COMMAND"
    assert shown.line(row()) == "7    /bin/ls -l"


@pytest.mark.parametrize(
    ("name", "cells"), [("日本", 4), ("e\u0301te\u0301", 3), ("\u0928\u0940", 2), ("x\u0488", 1), ("ü", 1)]
)
def test_what_is_not_ascii_takes_the_cells_that_a_terminal_gives_it(name: str, cells: int) -> None:
    assert table().line(row(comm=name)) == f"    7  {name}{' ' * (6 - cells)}  ok      /bin/ls -l"


def test_there_are_no_blanks_at_the_end_even_in_colour() -> None:
    assert table().line(row(command="")) == "    7  sh      ok"
    last = Table([column("pid", 3), column("comm", 9, style="2")], colour=True)
    assert last.line(row()) == "7    \x1b[2msh\x1b[0m"
    assert last.line(row(comm="")) == "7"


def test_colour_is_around_the_text_alone() -> None:
    assert table(colour=True).header() == "\x1b[1m  PID  COMM    RESULT  COMMAND\x1b[0m"
    line = table(colour=True).line(row(result="EPERM"))
    assert line == "    \x1b[2m7\x1b[0m  sh      \x1b[31mEPERM\x1b[0m   /bin/ls -l"


names = st.text("ab日\u0301", max_size=9)


@given(
    st.lists(st.builds(row, pid=st.integers(0, 10**9), comm=names, result=st.sampled_from(["ok", "EPERM"])), min_size=1)
)
def test_colour_changes_nothing_but_the_colour(rows: list[dict[str, Any]]) -> None:
    plain, coloured = table(), table(colour=True)
    for event in rows:
        assert uncoloured(coloured.line(event)) == plain.line(event)


@pytest.mark.parametrize(("text", "style", "colour"), [("x", "", True), ("x", "31", False), ("", "31", True)])
def test_nothing_is_styled_without_need(text: str, style: str, colour: bool) -> None:
    assert styled(text, style, colour) == text


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "0"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": ""}, False),
        ({}, False),
    ],
)
def test_colour_is_for_terminals_that_have_it_and_people_that_want_it(
    environment: dict[str, str], wanted: bool
) -> None:
    terminal, other = os.openpty()
    reading, writing = os.pipe()
    try:
        assert wants_colour(other, environment) == wanted
        assert not wants_colour(writing, environment)
    finally:
        for fd in (terminal, other, reading, writing):
            os.close(fd)
