"""Rows into lines, as the command line asks for them. A format is imported when it is asked for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .event import Row

if TYPE_CHECKING:
    from .tool import Tool


def add_arguments(parser: argparse.ArgumentParser, schemas: bool = True) -> None:
    """The options that choose a form; `schemas` if the events are ones that schemas.py knows."""
    parser.set_defaults(schema=None)
    group = parser.add_argument_group("output")
    forms = group.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="a JSON object a line, flat, lossless")
    if schemas:
        forms.add_argument("--schema", choices=("ecs", "ocsf", "otel"), help="JSON with the field names of this schema")
    forms.add_argument("--csv", action="store_true", help="comma-separated values, with a line of names")
    forms.add_argument("--format", metavar="TEXT", help="each event as this text, for example '{time} {pid} {command}'")
    forms.add_argument("--tree-view", action="store_true", help="each event below its ancestors")
    group.add_argument("--output", metavar="FILE", help="append to FILE, which SIGHUP opens anew (for logrotate)")


class Printer:
    """`header()` first, then `lines(rows)`, and `lost(row)` of losses, where the form has a place for them."""

    def __init__(self, tool: Tool, options: argparse.Namespace, fd: int) -> None:
        self.header: Callable[[], str] = str
        self.lost: Callable[[Row], str] = _no_place
        self.lines: Callable[[Sequence[Row]], str]
        if options.json or options.schema:
            self._as_json(options.schema)
        elif options.csv or options.format is not None:
            self._as_text(tool, options)
        else:
            self._for_people(tool, options, fd)

    def _as_json(self, schema: str | None) -> None:
        from .lines import json_line

        if schema:
            from .schemas import SCHEMAS

            convert = SCHEMAS[schema]
            self.lost = lambda row: json_line(convert(row))
        else:
            self.lost = json_line
        self._each(self.lost)

    def _as_text(self, tool: Tool, options: argparse.Namespace) -> None:
        from .lines import Csv, Template

        if options.csv:
            table = Csv(tool.fields)
            self.header = table.header
            self._each(table.line)
        else:
            self._each(Template(options.format, tool.fields, tool.command).line)

    def _each(self, line: Callable[[Row], str]) -> None:
        self.lines = lambda rows: "".join(map(line, rows))

    def _for_people(self, tool: Tool, options: argparse.Namespace, fd: int) -> None:
        from .table import Table, wants_colour

        colour = wants_colour(fd, os.environ)
        if options.tree_view:
            from .tree import Tree, parent_from_proc

            self.lines = Tree(tool.command, parent_from_proc, colour).draw
        else:
            table = Table(tool.columns(options), colour)
            self.header = lambda: table.header() + "\n"
            self._each(lambda row: table.line(row) + "\n")


def _no_place(_row: Row) -> str:
    return ""
