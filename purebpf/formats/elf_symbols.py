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
from itertools import chain, repeat
from typing import TYPE_CHECKING

from ..errors import ElfError, ObjectError
from .elf import opened

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import Section

# elf(5), Elf32_Sym and Elf64_Sym, by class: the structure, and where name, info, section and address are in it.
_SYMBOL = {32: ("IIIBBH", (0, 3, 5, 1)), 64: ("IBBHQQ", (0, 1, 3, 4))}
_FUNCTIONS = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
_WEAK = 2  # STB_WEAK
_OLD = 0x8000  # of an entry in .gnu.version, "hidden": a version that only programs linked long ago ask for
_HEADER = 32  # bytes of an Elf32_Phdr, the smallest header
_LONGEST = 1 << 14  # bytes of a name; C++ makes them long
_CLOSE = 100_000  # names at most that are compared with a misspelt one


def function_offsets(data: bytes, pattern: str) -> list[int]:
    """The file offsets of the functions of that name, in which * and ? may stand for others.

    An exported function goes before a local one of its name, the version that is linked to by default before older
    ones, and a weak one after others of its kind. Several offsets under one name are functions of several source files.
    Raises ElfError for a damaged file, ObjectError, with close matches, if there is no such function.
    """
    return opened(data, lambda file: _offsets(file, data, pattern))


def _offsets(file: ELFFile, data: bytes, pattern: str) -> list[int]:
    headers = file.num_segments(), file.num_sections()
    if max(headers) > len(data) // _HEADER:  # the counts may be 32 and 64 bits wide, and the headers all the same one
        raise ElfError(f"{headers[0]} program and {headers[1]} section headers in a file of {len(data)} bytes")
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
    """The addresses under each name, of the best rank that it has."""
    found: dict[str, tuple[tuple[int, bool, bool], set[int]]] = {}
    for table, kind in enumerate(("SHT_DYNSYM", "SHT_SYMTAB")):
        for name, address, is_old, is_weak in _symbols(file, data, kind):
            rank = table, is_old, is_weak
            best = found.setdefault(name, (rank, set()))
            if rank < best[0]:
                best = found[name] = rank, set()
            if rank == best[0]:
                best[1].add(address)
    return {name: addresses for name, (_rank, addresses) in found.items()}


def _symbols(file: ELFFile, data: bytes, kind: str) -> Iterator[tuple[str, int, bool, bool]]:
    """(name, address, of an old version?, weak?) of the functions in the first table of this kind."""
    section = _section(file, kind)
    if section is None:
        return
    table, names = _content(section, data), _content(file.get_section(section["sh_link"]), data)
    versions = b""
    if kind == "SHT_DYNSYM":  # an entry of 16 bits for each symbol
        versions = _content(_section(file, "SHT_GNU_versym"), data)
    layout, (name, info, index, value) = _SYMBOL[file.elfclass]
    order = "<" if file.little_endian else ">"
    row = struct.Struct(order + layout)
    entries = struct.iter_unpack(order + "H", versions[: len(versions) & ~1])
    symbols = row.iter_unpack(table[: len(table) // row.size * row.size])
    for symbol, (version,) in zip(symbols, chain(entries, repeat((0,)))):
        if symbol[info] & 15 in _FUNCTIONS and symbol[index]:
            end = names.find(b"\0", symbol[name], symbol[name] + _LONGEST)
            if end > 0:
                text = names[symbol[name] : end].decode("utf-8", "replace")
                yield text, symbol[value], bool(version & _OLD), symbol[info] >> 4 == _WEAK


def _section(file: ELFFile, kind: str) -> Section | None:
    return next((s for s in file.iter_sections() if s["sh_type"] == kind), None)


def _content(section: Section | None, data: bytes) -> bytes:
    return data[section["sh_offset"] : section["sh_offset"] + section["sh_size"]] if section else b""
