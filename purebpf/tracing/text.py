"""Bytes from strangers, made fit for a terminal."""

from __future__ import annotations


def escape(text: bytes | str) -> str:
    r"""Show printable UTF-8 as it is, everything else as \xNN, a backslash as \\.

    Control characters (C0, DEL, C1), bidirectional overrides, line separators and invalid UTF-8 thus never
    reach a terminal, and the result can be read back. Printable is what str.isprintable says.

    >>> print(escape(b"/bin/ls"), escape(b"a\x1b[2J\xff\\"), escape("b\u202e".encode()))
    /bin/ls a\x1b[2J\xff\\ b\xe2\x80\xae
    """
    decoded = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    if decoded.isprintable() and "\\" not in decoded:
        return decoded
    return "".join(c if c.isprintable() and c != "\\" else _escaped(c) for c in decoded)


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
