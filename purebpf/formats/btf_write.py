"""Changing BTF: the repairs that clang's output wants, and the upload for kernels of any age.

Type ids stay as they are, for code and CO-RE relocations refer to them: a type is replaced, never removed.
Replacements may be of another length, since ids count types and not bytes.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Collection, Mapping
from typing import Optional

from .btf import MAGIC, Btf
from .kinds import Kind, Type

# Given a type, the words to put in its place, or None to keep it.
Change = Callable[[Type], Optional["list[int]"]]


def rewritten(btf: Btf, change: Change, more_strings: bytes = b"") -> Btf:
    """The BTF with `change` applied to each type, and `more_strings` behind its strings."""
    words = array("I")
    for type_ in btf:
        new = change(type_)
        words.extend(btf.types[type_.at - 3 : btf.end(type_.id)] if new is None else array("I", new))
    if btf.byte_order != sys.byteorder:
        words.byteswap()
    strings = btf.strings + more_strings
    order = "<" if btf.byte_order == "little" else ">"
    length = 4 * len(words)
    header = struct.pack(order + "HBBIIIII", MAGIC, 1, 0, 24, 0, length, length, len(strings))
    return Btf(header + words.tobytes() + strings, btf.base)


def info(kind: Kind, vlen: int = 0, flag: bool = False) -> int:
    """A type's second word."""
    return int(flag) << 31 | kind << 24 | vlen


def with_sections(
    btf: Btf, sizes: Mapping[str, int], offsets: Mapping[tuple[str, str], int], hidden: Collection[str]
) -> Btf:
    """Fill in what clang leaves to the loader, as libbpf's btf_fixup_datasec does.

    `sizes` are the ELF sections' in bytes, `offsets` those of symbols by (section, name). `hidden` functions become
    static, so that the verifier checks them with their callers' values. Externs, which the kernel does not accept
    in an object's BTF, become typedefs, and their sections void.
    """
    kept, externs = _externs(btf, sizes)

    def change(type_: Type) -> list[int] | None:
        name = btf.types[type_.at - 3]
        if type_.kind == Kind.DATASEC:
            return _section(btf, type_, sizes, offsets) if type_.name in sizes else [0, info(Kind.CONST), 0]
        if type_.id in kept:
            return [name, info(Kind.VAR), type_.size_or_type, 1]
        if type_.id in externs:
            return [name, info(Kind.TYPEDEF), type_.size_or_type]
        if type_.kind == Kind.FUNC and type_.name in hidden:
            return [name, info(Kind.FUNC), type_.size_or_type]
        if type_.kind == Kind.DECL_TAG and type_.size_or_type in externs:
            return [0, info(Kind.CONST), 0]
        return None

    return rewritten(btf, change)


def _externs(btf: Btf, sizes: Mapping[str, int]) -> tuple[set[int], set[int]]:
    """Ids of the extern VARs in sections that have a size, and of all other externs."""
    externs = {t.id for t in btf if t.kind in (Kind.FUNC, Kind.VAR) and btf.linkage(t) == 2}
    sections = (t for t in btf if t.kind == Kind.DATASEC and t.name in sizes)
    kept = externs & {placed.variable for section in sections for placed in btf.variables(section)}
    return kept, externs - kept


def _section(
    btf: Btf, datasec: Type, sizes: Mapping[str, int], offsets: Mapping[tuple[str, str], int]
) -> list[int]:  # fmt: skip
    rows = []
    for placed in btf.variables(datasec):
        name = btf.type(placed.variable).name
        rows.append((offsets.get((datasec.name, name), placed.offset), placed.variable, placed.size))
    words = [btf.types[datasec.at - 3], info(Kind.DATASEC, len(rows)), sizes[datasec.name]]
    for offset, variable, size in sorted(rows):
        words += [variable, offset, size]
    return words


def sanitized(btf: Btf, lacks: Collection[str]) -> Btf:
    """The BTF without what this kernel `lacks`: keys of REPLACEMENTS. The same ids, and the same sizes."""
    applied = {kind: replace for feature, rules in REPLACEMENTS.items() if feature in lacks for kind, replace in rules}
    if not applied:
        return btf

    def change(type_: Type) -> list[int] | None:
        replace = applied.get(Kind(type_.kind))
        return replace(btf, type_) if replace else None

    return rewritten(btf, change)


_Rule = Callable[[Btf, Type], "list[int] | None"]


def _int1(btf: Btf, type_: Type) -> list[int]:
    return [btf.types[type_.at - 3], info(Kind.INT), 1, 8]


def _enum_of_parameters(btf: Btf, type_: Type) -> list[int]:
    names = btf.tail(type_, 2 * type_.vlen)[::2].tolist()
    # An enumerator must have a name; a parameter need not.
    rows = [word for index, name in enumerate(names) if name for word in (name, index)]
    return [0, info(Kind.ENUM, len(rows) // 2), 4, *rows]


def _typedef(btf: Btf, type_: Type) -> list[int]:
    return [btf.types[type_.at - 3], info(Kind.TYPEDEF), type_.size_or_type]


def _struct_of_section(btf: Btf, type_: Type) -> list[int]:
    words = [0, info(Kind.STRUCT, type_.vlen), type_.size_or_type]
    for placed in btf.variables(type_):
        variable = btf.home(placed.variable)
        words += [variable.types[variable.word(placed.variable)], placed.variable, placed.offset * 8]
    return words


def _static(btf: Btf, type_: Type) -> list[int] | None:
    return [btf.types[type_.at - 3], info(Kind.FUNC), type_.size_or_type] if type_.vlen else None


def _struct_of_float(_btf: Btf, type_: Type) -> list[int]:
    return [0, info(Kind.STRUCT), type_.size_or_type]


def _const(_btf: Btf, type_: Type) -> list[int]:
    return [0, info(Kind.CONST), type_.size_or_type]


def _unsigned(btf: Btf, type_: Type) -> list[int] | None:
    if not type_.flag:
        return None
    return [btf.types[type_.at - 3], info(Kind.ENUM, type_.vlen), type_.size_or_type, *btf.tail(type_, 2 * type_.vlen)]


def _union(btf: Btf, type_: Type) -> list[int]:
    """A union of as many members as there were enumerators, all of which have the enum's size."""
    return [btf.types[type_.at - 3], info(Kind.UNION), type_.size_or_type]


# What a kernel may lack -> kinds and their replacements (libbpf's bpf_object__sanitize_btf; kernel versions there).
REPLACEMENTS: dict[str, list[tuple[Kind, _Rule]]] = {
    "func_global": [(Kind.FUNC, _static)],  # 5.6
    "func": [(Kind.FUNC_PROTO, _enum_of_parameters), (Kind.FUNC, _typedef)],  # 5.0; after func_global, which it covers
    "datasec": [(Kind.VAR, _int1), (Kind.DATASEC, _struct_of_section)],  # 5.2
    "float": [(Kind.FLOAT, _struct_of_float)],  # 5.13
    "decl_tag": [(Kind.DECL_TAG, _int1)],  # 5.16
    "type_tag": [(Kind.TYPE_TAG, _const)],  # 5.17
    "enum64": [(Kind.ENUM64, _union), (Kind.ENUM, _unsigned)],  # 6.0
}
