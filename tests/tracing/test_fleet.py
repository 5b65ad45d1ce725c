"""What docs/ shows stays true to the tool."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from types import ModuleType

from purebpf.tools import trace_connect, trace_exec, trace_open

DOCS = Path(__file__).parents[2] / "docs"
ALWAYS = {"argv_truncated", "count"}  # of some rows


def options(tool: ModuleType) -> set[str]:
    parser = argparse.ArgumentParser()
    tool.add_arguments(parser)
    return {name for action in parser._actions for name in action.option_strings}


def test_options_that_are_written_about_exist() -> None:
    for page in ("trace-exec.md", "fleet.md"):
        named = set(re.findall(r"`(--[a-z-]+)", (DOCS / page).read_text())) - {"--query"}
        assert len(named) > 3
        assert named <= options(trace_exec) | options(trace_open) | options(trace_connect), page


def test_each_option_is_written_about() -> None:
    text = (DOCS / "trace-exec.md").read_text() + (DOCS / "metrics.md").read_text()
    said_by_help = {"-h", "--help", "--object", "--verifier-log", "--failures", "-n"}
    assert {name for name in options(trace_exec) - said_by_help if name not in text} == set()


def test_the_unit_s_command_line_is_one() -> None:
    unit = (DOCS / "deploying" / "purebpf-trace-exec.service").read_text()
    words = shlex.split(re.findall("^ExecStart=(.*)", unit, re.MULTILINE)[0])
    parser = argparse.ArgumentParser()
    trace_exec.add_arguments(parser)
    parsed = parser.parse_args(words[words.index("trace-exec") + 1 :])
    assert parsed.json
    assert parsed.output == "/var/log/purebpf/exec.jsonl"


def test_columns_of_the_table_are_fields_of_rows() -> None:
    sql = (DOCS / "fleet" / "clickhouse.sql").read_text()
    columns = set(re.findall(r"^    ([a-z_]+) [A-Z]", sql, re.MULTILINE))
    fields = {*trace_exec.TOOL.fields, "exit_code", "signal", "core_dumped", "lifetime_ns"}
    assert columns - ALWAYS <= fields
    assert fields - columns == {"core_dumped"}


def test_fields_are_written_about() -> None:
    text = (DOCS / "trace-exec.md").read_text()
    assert [name for name in trace_exec.TOOL.fields if f"`{name}`" not in text] == []


def test_files_that_are_linked_to_are_there() -> None:
    for page in DOCS.glob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (DOCS / link).exists(), f"{page.name}: {link}"
