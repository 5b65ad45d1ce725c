"""Text and command lines as a shell reads them: what is shown can be pasted, and never controls the terminal.

$'…' is of POSIX.1-2024, and older in bash, ksh, zsh and busybox. ksh takes as many digits after \\x as there are, so before
a digit the byte is octal, which has three digits everywhere. zsh looks for a command where a word begins with "=".
"""

from __future__ import annotations

import re

from .event import Row

_SAFE = re.compile(r"[A-Za-z0-9_@%+:,./-][A-Za-z0-9_@%+=:,./-]*").fullmatch
_SPECIAL = re.compile(r"([^ -&(-\[\]-~])(?=([0-9A-Fa-f])?)")  # in $'…'; all that is not ASCII is looked at, too
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "'": "\\'", "\\": "\\\\"}


def quote(text: str) -> str:
    r"""One word that a shell turns into exactly this text (surrogateescape: into exactly these bytes).

    The result is printable: control characters (C0, DEL, C1), bidirectional overrides, line separators and bytes that are
    not UTF-8 are escaped.

    >>> print(quote("plain"), quote(""), quote("two words"), quote("it's"), quote("a\x1b[2J\udcff"))
    plain '' 'two words' "it's" $'a\x1b[2J\xff'
    """
    if _SAFE(text):
        return text
    if not text.isprintable():
        return escaped(text)
    if "'" not in text:
        return f"'{text}'"
    if not any(special in text for special in '"$`\\!'):
        return f'"{text}"'
    return "'" + text.replace("'", "'\\''") + "'"


def escaped(text: str) -> str:
    """The text as $'…', whether it needs that or not."""
    return f"$'{_SPECIAL.sub(_escape, text)}'"


def _escape(found: re.Match[str]) -> str:
    character: str = found[1]
    if character in _NAMED:
        return _NAMED[character]
    if character.isprintable():
        return character
    form = "\\%03o" if found[2] else "\\x%02x"
    return "".join(form % byte for byte in character.encode("utf-8", "surrogateescape"))


def command(row: Row) -> str:
    """The command line of an event, with the file that was executed in place of a matching argv[0].

    Where argv[0] says something else, both are shown, as bash, ksh and zsh take it: (exec -a -bash /bin/bash). Where a
    script was executed, its interpreter's arguments are shown: the script is one of them. What was not captured is said in
    a comment behind it.
    """
    argv: list[str] = row.get("argv") or []
    filename: str | None = row["filename"]
    if not argv:
        return (quote(row["comm"]) if filename is None else _file(filename)) + _missing(row)
    if row.get("script"):
        first = _file(argv[0])
    elif filename is None or row.get("filename_fault"):
        first = quote(argv[0])
    elif _same(argv[0], filename):
        first = _file(filename)
    else:
        words = [quote(argv[0]), _file(filename), *map(quote, argv[1:])]
        return f"(exec -a {' '.join(words)})" + _missing(row)
    return " ".join([first, *map(quote, argv[1:])]) + _missing(row)


def _file(name: str) -> str:
    """As a command's first word: not looked for in PATH, and no assignment, keyword or option."""
    path = name if "/" in name or not name else f"./{name}"
    word = quote(path)
    return f"'{path}'" if "=" in path and word == path else word


def _same(name: str, filename: str) -> bool:
    base = filename.rpartition("/")[2]
    return name == filename or (base != "" and base == name.rpartition("/")[2])


def _missing(row: Row) -> str:
    said = ""
    if row.get("filename_fault"):
        said += " #the name of the file was not in memory"
    if row.get("argv_fault"):
        said += " #and arguments that were not in memory"
    if row.get("argv_truncated"):
        total = row["argv_bytes"]
        said += " #and more" if total is None else f" #and {total - row['argv_captured']} bytes more"
    return said
