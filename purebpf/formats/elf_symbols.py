"""Functions of programs and libraries -> offsets in their files, where uprobes go (Documentation/trace/uprobetracer.rst).

A uprobe is placed by file and offset. A symbol has an address; the segment that holds it tells where that is in the
file. Stripped files still have the symbols that they export, in .dynsym.
"""

from __future__ import annotations

import fnmatch
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ..errors import ObjectError
from .elf import opened

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile


def function_offsets(data: bytes, pattern: str) -> list[int]:
    """The file offsets of the functions of that name, in which * and ? may stand for others.

    Raises ElfError for a damaged file, ObjectError, with close matches, if there is no such function.
    """
    return opened(data, lambda file: _offsets(file, pattern))


def _offsets(file: ELFFile, pattern: str) -> list[int]:
    addresses = _functions(file)
    matches = re.compile(fnmatch.translate(pattern)).match
    found = {address for name, address in addresses.items() if matches(name)}
    if not found:
        close = get_close_matches(pattern, addresses, 3)
        hint = f"close to it: {', '.join(close)}" if close else "a stripped file has only the functions that it exports"
        raise ObjectError(f"no function {pattern!r}", hint=hint)
    return sorted({offset for address in found for offset in file.address_offsets(address)})


def _functions(file: ELFFile) -> dict[str, int]:
    from elftools.elf.sections import SymbolTableSection

    found: dict[str, int] = {}
    for section in file.iter_sections():
        if isinstance(section, SymbolTableSection):
            for symbol in section.iter_symbols():
                if symbol["st_info"]["type"] in ("STT_FUNC", "STT_GNU_IFUNC") and symbol["st_shndx"] != "SHN_UNDEF":
                    found.setdefault(symbol.name, symbol["st_value"])
    return found
