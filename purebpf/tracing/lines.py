"""Rows as lines for programs: JSON, CSV, and text of a form that the user gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import Error
from .event import Row
from .shell import command as command_line
from .shell import escaped, quote

_ENCODE = json.JSONEncoder().encode
_SURROGATE = "\\udc"  # how JSON shows a byte that is not UTF-8; or a backslash in the text, which is looked at in vain
_MARK = "$'"
_EXAMPLE = "for example: '{time} {pid:>8} {command}'; braces that are meant are written {{ and }}"


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
    r"""Comma-separated values (RFC 4180), but with "\n" at the end of lines; one line for each row, fit for a terminal.

    Nothing is an empty cell, empty text is "". Arguments and environment are JSON. Text that is not printable, in JSON text
    that is not UTF-8, is a shell's $'…', and so is text that begins with $' itself: no two texts are shown alike.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = fields

    def header(self) -> str:
        """The names of the fields."""
        return ",".join(self._fields) + "\n"

    def line(self, row: Row) -> str:
        """Their values; what a row does not have is empty."""
        return ",".join([_cell(row.get(name)) for name in self._fields]) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _quoted(value if value.isprintable() and not value.startswith(_MARK) else escaped(value))
    if isinstance(value, (list, dict, bool)):
        return _quoted(_ENCODE(_mapped(_marked, value)))
    return str(value)


def _marked(text: str) -> str:
    return escaped(text) if text.startswith(_MARK) or _shown(text) != text else text


def _quoted(cell: str) -> str:
    plain = cell and "," not in cell and '"' not in cell
    return cell if plain else '"' + cell.replace('"', '""') + '"'


class Template:
    r"""A line for each row, of text with {field} in it; {command} is what `command` says; \t, \n and \\ are understood.

    Text is quoted for the shell, a list is a command line, what a row does not have is "-". A field may have a format
    specification: {pid:>8}. One for numbers only, as {cgroup_id:08x}, makes text as wide. Raises Error for a form that
    cannot be.
    """

    def __init__(self, form: str, fields: Sequence[str], command: Callable[[Row], str] = command_line) -> None:
        from string import Formatter

        known = [*fields, "command"]
        try:
            parsed = list(Formatter().parse(_unescaped(form)))
        except ValueError as error:
            raise Error(f"--format {form!r}: {error}", hint=_EXAMPLE) from None
        self._parts = [
            (text, None if name is None else _field(known, name, spec or "", conversion, command))
            for text, name, spec, conversion in parsed
        ]

    def line(self, row: Row) -> str:
        """With its newline."""
        return "".join([text + (field(row) if field else "") for text, field in self._parts]) + "\n"


def _unescaped(form: str) -> str:
    return "\\".join(part.replace("\\t", "\t").replace("\\n", "\n") for part in form.split("\\\\"))


def _field(
    known: Sequence[str], name: str, spec: str, conversion: str | None, command: Callable[[Row], str]
) -> Callable[[Row], str]:
    """What shows a field of a row."""
    if name not in known:
        raise _unknown(known, name)
    as_text, as_number = _shows("", spec), _shows(0, spec)
    # c would make control characters of numbers.
    if conversion or spec.endswith("c") or (as_text, as_number) == (None, None):
        shown = f"!{conversion}" if conversion else f":{spec}"
        raise Error(f"--format: {shown!r} cannot be applied to {name}", hint=_EXAMPLE)
    if as_text and "0" in as_text:  # Python 3.10 fills text with zeros, too
        as_text = None

    def show(row: Row) -> str:
        value = command(row) if name == "command" else _value(row.get(name))
        if isinstance(value, int) and as_number is not None:
            return format(value, spec)
        return str(value).rjust(len(as_number or "")) if as_text is None else format(str(value), spec)

    return show


def _shows(value: Any, spec: str) -> str | None:
    try:
        return format(value, spec)
    except ValueError:
        return None


def _unknown(known: Sequence[str], name: str) -> Error:
    from difflib import get_close_matches

    close = get_close_matches(name, known)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return Error(f"--format: events have no field {name!r}{meant}", hint=f"fields: {', '.join(known)}")


def _value(value: Any) -> int | str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, dict):
        value = [f"{name}={item}" for name, item in value.items()]
    if isinstance(value, list):
        value = " ".join(map(quote, value)) or None
    return "-" if value is None else value
