"""Functions of programs and libraries -> offsets in their files, where uprobes go (Documentation/trace/uprobetracer.rst).

A uprobe is placed by file and offset. A symbol has an address; the segment that holds it tells where that is in the
file. Stripped files still have the symbols that they export, in .dynsym. The tables are read with `struct`: pyelftools
takes minutes for the 100,000 symbols of a large library.
"""

from __future__ import annotations

import fnmatch
import re
import struct
from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ..errors import ElfError, ObjectError
from .elf import opened

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

# elf(5), Elf32_Sym and Elf64_Sym, by class: the structure, and where name, info, section and address are in it.
_SYMBOL = {32: ("IIIBBH", (0, 3, 5, 1)), 64: ("IBBHQQ", (0, 1, 3, 4))}
_FUNCTIONS = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
_WEAK = 2  # STB_WEAK
_LONGEST = 1 << 14  # bytes of a name; C++ makes them long
_CLOSE = 100_000  # names at most that are compared with a misspelt one


def function_offsets(data: bytes, pattern: str) -> list[int]:
    """The file offsets of the functions of that name, in which * and ? may stand for others.

    An exported function goes before a local one of its name, and a weak one after all. Several offsets under one name
    are functions of several source files, or versions. Raises ElfError for a damaged file, ObjectError, with close
    matches, if there is no such function.
    """
    return opened(data, lambda file: _offsets(file, data, pattern))


def _offsets(file: ELFFile, data: bytes, pattern: str) -> list[int]:
    functions = _functions(file, data)
    matches = re.compile(fnmatch.translate(pattern)).match
    addresses = {address for name, found in functions.items() if matches(name) for address in found}
    if not addresses:
        close = get_close_matches(pattern, list(functions)[:_CLOSE], 3)
        hint = f"close to it: {', '.join(close)}" if close else "a stripped file has only the functions that it exports"
        raise ObjectError(f"no function {pattern!r}", hint=hint)
    segments = sorted((s["p_vaddr"], s["p_offset"]) for s in file.iter_segments() if s["p_type"] == "PT_LOAD")
    return sorted({_in_file(address, segments, len(data)) for address in addresses})


def _in_file(address: int, segments: list[tuple[int, int]], length: int) -> int:
    start, offset = max((s for s in segments if s[0] <= address), default=(0, length))
    if not 0 <= offset + address - start < length:
        raise ElfError(f"a function at address {address:#x}, which is not in the file")
    return int(offset + address - start)


def _functions(file: ELFFile, data: bytes) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for kind in ("SHT_DYNSYM", "SHT_SYMTAB"):
        strong: dict[str, set[int]] = {}
        weak: dict[str, set[int]] = {}
        for name, address, binding in _symbols(file, data, kind):
            (weak if binding == _WEAK else strong).setdefault(name, set()).add(address)
        found = {**weak, **strong, **found}
    return found


def _symbols(file: ELFFile, data: bytes, kind: str) -> Iterator[tuple[str, int, int]]:
    """(name, address, binding) of the functions in the first table of this kind."""
    section = next((s for s in file.iter_sections() if s["sh_type"] == kind), None)
    if section is None:
        return
    table, names = (
        data[s["sh_offset"] : s["sh_offset"] + s["sh_size"]] for s in (section, file.get_section(section["sh_link"]))
    )
    layout, (name, info, index, value) = _SYMBOL[file.elfclass]
    row = struct.Struct(("<" if file.little_endian else ">") + layout)
    for symbol in row.iter_unpack(table[: len(table) // row.size * row.size]):
        if symbol[info] & 15 in _FUNCTIONS and symbol[index]:
            end = names.find(b"\0", symbol[name], symbol[name] + _LONGEST)
            if end > 0:
                yield names[symbol[name] : end].decode("utf-8", "replace"), symbol[value], symbol[info] >> 4
