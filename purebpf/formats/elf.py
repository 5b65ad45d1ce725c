"""ELF file -> its sections, symbols and relocations. The only importer of pyelftools, whose errors end here.

What is read is bounded by the file: a section that says it is larger, or compressed, is refused. DWARF sections
are listed, never read.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..errors import ElfError, ObjectError

if TYPE_CHECKING:
    from elftools.construct.lib.container import Container
    from elftools.elf.elffile import ELFFile

_T = TypeVar("_T")

SHF_EXECINSTR, SHF_COMPRESSED = 4, 0x800
_MOST_ZEROES = 1 << 26  # bytes of .bss in all, which a file of any size can ask for


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
    return _guarded(data, lambda: _Reader(data).read())


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
    from elftools.elf.elffile import ELFFile  # late, as it is slow to import

    return _guarded(data, lambda: use(ELFFile(io.BytesIO(data))))


def _guarded(data: bytes, read: Callable[[], _T]) -> _T:
    """What `read` gives; what pyelftools raises on the way becomes ElfError."""
    if data[:4] != b"\x7fELF":
        raise ElfError("not an ELF file", hint="give the .o that `clang -target bpf -g -O2 -c` wrote")
    from elftools.common.exceptions import ELFError as ForeignError
    from elftools.construct import ConstructError

    foreign = (ForeignError, ConstructError, ValueError, LookupError, TypeError, AttributeError)
    try:
        return read()
    except ObjectError:
        raise
    except (*foreign, ArithmeticError, AssertionError) as error:
        # pyelftools 0.33 lets all of these out on damaged files (found by mutating objects).
        raise ElfError(f"damaged ELF file: {error or type(error).__name__}") from error


class _Reader:
    """Reads with pyelftools's structures alone: its ELFFile imports a DWARF reader, twice as much work as all else."""

    def __init__(self, data: bytes) -> None:
        from elftools.elf.structs import ELFStructs

        self._data, self._left, self._zeroes = data, len(data), 0
        self._byte_order = "little" if data[5:6] == b"\1" else "big"
        self._structs = ELFStructs(self._byte_order == "little", 64)
        self._structs.create_basic_structs()
        self._structs.create_advanced_structs()
        self._header = self._structs.Elf_Ehdr.parse(data[:64])
        if self._header["e_machine"] != "EM_BPF":
            machine = self._header["e_machine"]
            raise ElfError(f"an ELF file for {machine}, not for BPF", hint="compile with `clang -target bpf`")
        if data[4] != 2:
            raise ElfError("a 32-bit ELF file; BPF objects are 64-bit")

    def read(self) -> ElfFile:
        """All sections, the symbols, and the relocations of what is loaded."""
        headers = [self._section_header(index) for index in range(self._header["e_shnum"])]
        names = self._content(headers[self._header["e_shstrndx"]], "of names")
        sections = [self._section(index, header, names) for index, header in enumerate(headers)]
        symbols: list[ElfSymbol] = []
        for section, header in zip(sections, headers):
            if section.type == "SHT_SYMTAB":
                symbols = self._symbols(section, sections[header["sh_link"]].data)
            elif section.type == "SHT_REL":
                if not 0 < header["sh_info"] < len(sections):
                    raise ElfError(f"relocations for section {header['sh_info']}; there are {len(sections)}")
                target = sections[header["sh_info"]]
                if target.executable or target.name == ".maps":  # those of BTF and DWARF are for linkers
                    target.relocations.extend(self._relocations(section))
        return ElfFile(self._byte_order, sections, symbols)

    def _section_header(self, index: int) -> Container:
        at = self._header["e_shoff"] + index * self._header["e_shentsize"]
        header: Container = self._structs.Elf_Shdr.parse(self._data[at : at + 64])
        return header

    def _section(self, index: int, header: Container, names: bytes) -> Section:
        name = _string(names, header["sh_name"])
        skipped = header["sh_type"] in ("SHT_NOBITS", "SHT_NULL")
        if header["sh_type"] == "SHT_NOBITS":
            self._zeroes += header["sh_size"]
            if self._zeroes > _MOST_ZEROES:
                raise ElfError(
                    f"section {name!r} has {header['sh_size']} bytes; variables may have {_MOST_ZEROES} in all"
                )
        if header["sh_flags"] & SHF_COMPRESSED:  # one could be inflated to any size
            raise ElfError(f"section {name!r} is compressed; BPF loaders take none such")
        data = b"" if skipped or name.startswith((".debug_", ".rel.debug_")) else self._content(header, name)
        return Section(index, name, str(header["sh_type"]), header["sh_flags"], data, header["sh_size"], [])

    def _content(self, header: Container, name: str) -> bytes:
        start, size = header["sh_offset"], header["sh_size"]
        self._left -= size
        if start + size > len(self._data) or self._left < -len(
            self._data
        ):  # overlapping, they could add up to anything
            raise ElfError(f"section {name!r} reaches beyond the file's {len(self._data)} bytes")
        return self._data[start : start + size]

    def _symbols(self, section: Section, names: bytes) -> list[ElfSymbol]:
        entries = (self._structs.Elf_Sym.parse(row) for row in _rows(section.data, 24))
        return [_symbol(entry, names) for entry in entries]

    def _relocations(self, section: Section) -> list[Relocation]:
        entries = (self._structs.Elf_Rel.parse(row) for row in _rows(section.data, 16))
        return [Relocation(e["r_offset"], e["r_info_type"], e["r_info_sym"]) for e in entries]


def _rows(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def _string(table: bytes, offset: int) -> str:
    end = table.find(b"\0", offset)
    if end < 0:
        raise ElfError(f"a name at offset {offset} of a string table of {len(table)} bytes")
    return table[offset:end].decode("utf-8", "backslashreplace")


def _symbol(entry: Container, names: bytes) -> ElfSymbol:
    index, info = entry["st_shndx"], entry["st_info"]
    section = index if isinstance(index, int) else 0  # pyelftools spells the reserved ones as strings
    hidden = entry["st_other"]["visibility"] in ("STV_HIDDEN", "STV_INTERNAL")
    name = _string(names, entry["st_name"])
    return ElfSymbol(name, section, entry["st_value"], entry["st_size"], str(info["type"]), str(info["bind"]), hidden)
