"""Text and command lines as a shell reads them: what is shown can be pasted, and never controls the terminal.

$'…' is of POSIX.1-2024, and older in bash, ksh and zsh; \\x takes two digits there, so any character may follow.
"""

from __future__ import annotations

import re

from .event import Row

_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./-]+").fullmatch
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\x1b": "\\e", "'": "\\'", "\\": "\\\\"}


def quote(text: str) -> str:
    r"""One word that a shell turns into exactly this text (surrogateescape: into exactly these bytes).

    The result is printable: control characters (C0, DEL, C1), bidirectional overrides, line separators and bytes that are
    not UTF-8 are escaped.

    >>> print(quote("plain"), quote(""), quote("two words"), quote("it's"), quote("a\x1b[2J\udcff"))
    plain '' 'two words' "it's" $'a\e[2J\xff'
    """
    if _SAFE(text):
        return text
    if not text.isprintable():
        return "$'" + "".join(map(_escaped, text)) + "'"
    if "'" not in text:
        return f"'{text}'"
    if not any(special in text for special in '"$`\\!'):
        return f'"{text}"'
    return "'" + text.replace("'", "'\\''") + "'"


def _escaped(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def command(row: Row) -> str:
    """The command line of an event, with the file that was executed in place of a matching argv[0].

    Where argv[0] says something else, both are shown, as bash, ksh and zsh take it: (exec -a -bash /bin/bash). What was not
    captured is said in a comment behind it.
    """
    argv: list[str] = row.get("argv") or []
    filename: str = row["filename"] or ""
    if not argv:
        return quote(filename or row["comm"])
    words = " ".join(map(quote, argv[1:]))
    space = " " if words else ""
    if row.get("script") or not filename:
        shown = f"{quote(argv[0])}{space}{words}"
    elif _same(argv[0], filename):
        shown = f"{quote(filename)}{space}{words}"
    else:
        shown = f"(exec -a {quote(argv[0])} {quote(filename)}{space}{words})"
    return shown + _missing(row)


def _same(name: str, filename: str) -> bool:
    return name == filename or name == filename.rpartition("/")[2] or filename.endswith("/" + name.rpartition("/")[2])


def _missing(row: Row) -> str:
    if row.get("argv_fault"):
        return " #and arguments that were not in memory"
    if not row.get("argv_truncated"):
        return ""
    total = row["argv_bytes"]
    return " #and more" if total is None else f" #and {total - row['argv_captured']} bytes more"
