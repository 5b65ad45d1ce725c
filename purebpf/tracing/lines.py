"""Rows as lines for programs: JSON, CSV, and text of a form that the user gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import Error
from .event import Row
from .shell import command, quote

_ENCODE = json.JSONEncoder().encode
_SURROGATE = (
    "\\udc"  # how JSON shows a byte that is not UTF-8; text that has a backslash there itself is taken for it, too
)


def json_line(row: Row) -> str:
    r"""An object, in ASCII. Text that is not UTF-8 has its odd bytes as \xNN, and all its bytes, in base64, in NAME_b64.

    For a list or an object NAME_b64 is the same with each text in base64.
    """
    line = _ENCODE(row)
    if _SURROGATE in line:
        line = _ENCODE(_unambiguous(row))
    return line + "\n"


def _unambiguous(row: Row) -> Row:
    out: Row = {}
    for name, value in row.items():
        shown = _mapped(_shown, value)
        out[name] = shown
        if shown != value:
            out[f"{name}_b64"] = _mapped(_base64, value)
    return out


def _mapped(change: Any, value: Any) -> Any:
    """`value` with each text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(change, item) for item in value]
    if isinstance(value, dict):
        return {_shown(name): _mapped(change, item) for name, item in value.items()}
    return value


def _shown(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _base64(text: str) -> str:
    from base64 import b64encode

    return b64encode(text.encode("utf-8", "surrogateescape")).decode()


class Csv:
    """Comma-separated values (RFC 4180), but with "\\n" at the end of lines. Arguments and environment are JSON; None is empty.

    Text that is not UTF-8 has its odd bytes as \\xNN: use JSON where every byte counts.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = fields

    def header(self) -> str:
        """The names of the fields."""
        return self._joined(self._fields)

    def line(self, row: Row) -> str:
        """Their values; what a row does not have is empty."""
        return self._joined([_cell(row.get(name)) for name in self._fields])

    def _joined(self, cells: Sequence[str]) -> str:
        return ",".join(map(_quoted, cells)) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _shown(value)
    return _ENCODE(_mapped(_shown, value))


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(special in cell for special in ',"\r\n') else cell


class Template:
    r"""A line for each row, of text with {field} in it; {command} is the command line, and \t and \n are understood.

    Text is quoted for the shell, a list is a command line; what a row does not have is "-". Raises Error for a form that
    cannot be.
    """

    def __init__(self, form: str, fields: Sequence[str]) -> None:
        from string import Formatter

        self._form = form.replace("\\t", "\t").replace("\\n", "\n") + "\n"
        try:
            wanted = [name for _text, name, _spec, _conversion in Formatter().parse(form) if name is not None]
            for name in wanted:
                _check(name, fields)
            self._names = wanted
            self.line({})
        except ValueError as error:
            raise Error(f"--format {form!r}: {error}", hint="for example: '{time} {pid:>8} {command}'") from None

    def line(self, row: Row) -> str:
        """With its newline."""
        return self._form.format_map({name: _word(row, name) for name in self._names})


def _check(name: str, fields: Sequence[str]) -> None:
    if name == "command" or name in fields:
        return
    from difflib import get_close_matches

    close = get_close_matches(name, fields, 3) or [*fields, "command"]
    raise Error(f"--format: events have no field {name!r}", hint=f"fields: {', '.join(close)}")


def _word(row: Row, name: str) -> Any:
    value = command(row) if name == "command" and row else row.get(name)
    if isinstance(value, list):
        return " ".join(map(quote, value))
    if isinstance(value, dict):
        return " ".join(f"{key}={quote(item)}" for key, item in value.items())
    if value is None:
        return "-"
    return value if name in ("command", "time") else quote(value) if isinstance(value, str) else value
