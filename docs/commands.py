"""Writes commands.md out of the parsers of the commands: python docs/commands.py"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from purebpf import cli
from purebpf.tools import COMMANDS, command

PAGE = Path(__file__).with_name("commands.md")
HEAD = """# Commands

What `purebpf COMMAND --help` says. This page is made by `python docs/commands.py`, and a test holds it to the parsers.
"""


def page() -> str:
    """The whole page, as it is committed."""
    sections = (line for name in COMMANDS for line in _section(name))
    return HEAD + "".join(f"\n{line}\n" for line in (*sections, *_statuses()))


def _section(name: str) -> Iterator[str]:
    module = command(name)
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    operands = [action.metavar for action in parser._get_positional_actions()]
    behind = ["[-- COMMAND …]"] if hasattr(module, "TAKES_COMMAND") else []
    yield f"## {name}"
    yield f"`{' '.join(['purebpf', name, '[options]', *operands, *behind])}`"
    yield " ".join(module.DESCRIPTION.split())
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
        if actions:
            title = f"**{group.title}**\n\n" if group not in parser._action_groups[:2] else ""
            yield title + "\n".join(["| | |", "| --- | --- |", *map(_row, actions)])


def _statuses() -> Iterator[str]:
    _title, _, text = (cli._parser([]).epilog or "").partition(": ")
    rows = re.findall(r"(\d[\d, ]*) ([^;]+)", text)
    yield "## Exit status"
    yield "\n".join(["| | |", "| --- | --- |", *(f"| {number} | {meaning} |" for number, meaning in rows)])


def _row(action: argparse.Action) -> str:
    value = action.metavar or (f"{{{','.join(action.choices)}}}" if action.choices else "")
    names = ", ".join(action.option_strings) or value
    shown = f"{names} {value}" if action.option_strings and value else names
    return f"| `{shown}` | {action.help} |"


if __name__ == "__main__":
    PAGE.write_text(page())
