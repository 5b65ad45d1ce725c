"""The kinds of BTF types, what each adds, and how types read (include/uapi/linux/btf.h; Documentation/bpf/btf.rst)."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple

MAX_DEPTH = 32  # the kernel's own limit on nested types (kernel/bpf/btf.c, MAX_RESOLVE_DEPTH)


class Kind(IntEnum):
    """`BTF_KIND_*` (include/uapi/linux/btf.h)."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


# Kind -> 32-bit words that follow the three common ones: a fixed part, and a part for each of the vlen members.
TAIL: dict[int, tuple[int, int]] = {
    **dict.fromkeys(Kind, (0, 0)),
    Kind.INT: (1, 0),
    Kind.ARRAY: (3, 0),
    Kind.STRUCT: (0, 3),
    Kind.UNION: (0, 3),
    Kind.ENUM: (0, 2),
    Kind.FUNC_PROTO: (0, 2),
    Kind.VAR: (1, 0),
    Kind.DATASEC: (0, 3),
    Kind.DECL_TAG: (1, 0),
    Kind.ENUM64: (0, 3),
}
SIZED = frozenset({Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.FLOAT, Kind.DATASEC, Kind.ENUM64})
QUALIFIERS = frozenset({Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})
ALIASES = QUALIFIERS | {Kind.TYPEDEF}
COMPOSITES = frozenset({Kind.STRUCT, Kind.UNION})
ENUMS = frozenset({Kind.ENUM, Kind.ENUM64})


class Type(NamedTuple):
    """A type's common part. `size_or_type` is a size in bytes or a type id, by kind; `flag` is the kind_flag.

    `kind` is a bare number for a kind newer than this list; `at` is where its tail starts, in words.
    """

    id: int
    kind: Kind | int
    name: str
    vlen: int
    flag: bool
    size_or_type: int
    at: int


VOID = Type(0, Kind.VOID, "void", 0, False, 0, 0)


class Member(NamedTuple):
    """A member of a STRUCT or UNION. `bit_size` is 0 unless it is a bit-field that says its width itself."""

    name: str
    type_id: int
    bit_offset: int
    bit_size: int


class Integer(NamedTuple):
    """What an INT adds: signed, char and bool by `encoding`; `bits` at `offset` in its bytes."""

    encoding: int
    offset: int
    bits: int

    @property
    def signed(self) -> bool:
        """Is the sign bit set?"""
        return bool(self.encoding & 1)


class Placed(NamedTuple):
    """A variable of a DATASEC: its VAR, and where it lies, in bytes."""

    variable: int
    offset: int
    size: int


_FLAVOUR = re.compile(r"(.*[^_])___[^_]")


def essential(name: str) -> str:
    """The name without its flavour: task_struct for task_struct___old (libbpf's bpf_core_essential_name_len)."""
    found = _FLAVOUR.match(name) if "___" in name else None
    return found[1] if found else name


KINDS = {int(kind): kind for kind in Kind}


def kind_name(kind: int) -> str:
    """The kind in words, also for one that is newer than this list."""
    return KINDS[kind].name if kind in KINDS else f"kind {kind}"
