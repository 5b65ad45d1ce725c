"""ELF file -> its sections, symbols and relocations. The only importer of pyelftools, whose errors end here.

What is read is bounded by the file: a section that says it is larger, or compressed, is refused. DWARF sections
are listed, never read.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..errors import ElfError, ObjectError

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import Symbol

_T = TypeVar("_T")

SHF_EXECINSTR, SHF_COMPRESSED = 4, 0x800
_MAX_BSS = 1 << 30  # bytes; the kernel refuses array values of 2 GiB (kernel/bpf/arraymap.c)


class ElfSymbol(NamedTuple):
    """`section` is an index, or 0 where the symbol is not in a section; `value` an offset in it, in bytes."""

    name: str
    section: int
    value: int
    size: int
    kind: str  # "STT_FUNC", "STT_OBJECT", "STT_SECTION", "STT_NOTYPE"
    binding: str  # "STB_LOCAL", "STB_GLOBAL", "STB_WEAK"
    hidden: bool


class Relocation(NamedTuple):
    """At `offset` bytes in its section something refers to symbol number `symbol`, in the manner of `type`."""

    offset: int
    type: int
    symbol: int


class Section(NamedTuple):
    """`data` is empty for NOBITS (.bss), whose `size` counts all the same."""

    number: int
    name: str
    type: str
    flags: int
    data: bytes
    size: int
    relocations: list[Relocation]

    @property
    def executable(self) -> bool:
        """Does it hold code?"""
        return bool(self.flags & SHF_EXECINSTR) and self.type == "SHT_PROGBITS"


class ElfFile(NamedTuple):
    """What a BPF loader needs of an ELF file."""

    byte_order: str
    sections: list[Section]
    symbols: list[ElfSymbol]

    def section(self, name: str) -> Section | None:
        """The first section of this name."""
        return next((s for s in self.sections if s.name == name), None)

    def data(self, name: str) -> bytes:
        """The bytes of the first section of this name, b"" without one."""
        found = self.section(name)
        return found.data if found else b""

    def symbol(self, relocation: Relocation, where: str) -> ElfSymbol:
        """What a relocation refers to. Raises ElfError, which says `where`, if there is no such symbol."""
        if relocation.symbol >= len(self.symbols):
            raise ElfError(f"{where}: refers to symbol {relocation.symbol}; there are {len(self.symbols)}")
        return self.symbols[relocation.symbol]

    def section_of(self, symbol: ElfSymbol) -> Section | None:
        """The section that a symbol lies in, None for an extern."""
        return self.sections[symbol.section] if 0 < symbol.section < len(self.sections) else None


def read(data: bytes) -> ElfFile:
    """Read a relocatable ELF file for BPF. Raises ElfError: not an ELF file, not for BPF, damaged."""
    return opened(data, lambda file: _collect(file, len(data)))


def section_data(data: bytes, name: str) -> bytes:
    """The bytes of one section of any ELF file, such as a vmlinux. Raises ElfError also if it has none."""

    def find(file: ELFFile) -> bytes:
        section = file.get_section_by_name(name)
        if section is None:
            raise ElfError(f"the ELF file has no section {name}")
        content: bytes = section.data()
        return content

    return opened(data, find)


def opened(data: bytes, use: Callable[[ELFFile], _T]) -> _T:
    """What `use` makes of any ELF file. Raises ElfError where that is damaged."""
    if data[:4] != b"\x7fELF":
        raise ElfError("not an ELF file", hint="give the .o that `clang -target bpf -g -O2 -c` wrote")
    # Imported late: it takes longer than everything else here, and only reading an object needs it.
    from elftools.common.exceptions import ELFError as ForeignError
    from elftools.elf.elffile import ELFFile

    try:
        return use(ELFFile(io.BytesIO(data)))
    except ObjectError:
        raise
    except (ForeignError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        # pyelftools 0.33 lets all of these out on damaged files (found by mutating objects).
        raise ElfError(f"damaged ELF file: {error or type(error).__name__}") from error


def _collect(elf: ELFFile, length: int) -> ElfFile:
    from elftools.elf.relocation import RelocationSection
    from elftools.elf.sections import SymbolTableSection

    if elf["e_machine"] != "EM_BPF":
        raise ElfError(f"an ELF file for {elf['e_machine']}, not for BPF", hint="compile with `clang -target bpf`")
    if elf.elfclass != 64:
        raise ElfError("a 32-bit ELF file; BPF objects are 64-bit")
    sections: list[Section] = []
    relocations: list[tuple[int, list[Relocation]]] = []
    symbols: list[ElfSymbol] = []
    left = length
    for index, section in enumerate(elf.iter_sections()):
        name, kind, size = section.name, str(section["sh_type"]), section["sh_size"]
        left -= size if kind != "SHT_NOBITS" else 0
        if kind == "SHT_NOBITS":
            data = b""
            if size >= _MAX_BSS:
                raise ElfError(f"section {name!r} has {size} bytes, more than a map can hold")
        elif section["sh_offset"] + size > length or left < 0:  # sections that overlap could add up to anything
            raise ElfError(f"section {name!r} reaches beyond the file's {length} bytes")
        elif section["sh_flags"] & SHF_COMPRESSED:  # pyelftools would inflate it, to any size
            raise ElfError(f"section {name!r} is compressed; BPF loaders take none such")
        else:
            data = b"" if name.startswith((".debug_", ".rel.debug_")) else section.data()
        if isinstance(section, RelocationSection) and kind == "SHT_REL":
            if not name.startswith(".rel.debug_"):
                rows = [
                    Relocation(r["r_offset"], r["r_info_type"], r["r_info_sym"]) for r in section.iter_relocations()
                ]
                relocations.append((section["sh_info"], rows))
        elif isinstance(section, SymbolTableSection) and kind == "SHT_SYMTAB":
            symbols = [_symbol(s) for s in section.iter_symbols()]
        sections.append(Section(index, name, kind, section["sh_flags"], data, size, []))
    for target, rows in relocations:
        if not 0 < target < len(sections):
            raise ElfError(f"relocations for section {target}; there are {len(sections)}")
        sections[target].relocations.extend(rows)
    return ElfFile("little" if elf.little_endian else "big", sections, symbols)


def _symbol(symbol: Symbol) -> ElfSymbol:
    entry = symbol.entry
    index, info = entry["st_shndx"], entry["st_info"]
    section = index if isinstance(index, int) else 0  # pyelftools spells the reserved ones as strings
    hidden = entry["st_other"]["visibility"] in ("STV_HIDDEN", "STV_INTERNAL")
    return ElfSymbol(symbol.name, section, entry["st_value"], entry["st_size"], info["type"], info["bind"], hidden)
