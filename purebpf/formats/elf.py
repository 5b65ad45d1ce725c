"""Object file -> ObjectSpec. The only importer of pyelftools, whose errors end here.

The conventions are libbpf's: programs are the functions of executable sections, named by the section;
maps are the variables of the section .maps, described by BTF; "license" holds the licence; a relocation
of type R_BPF_64_64 ties an `ld_imm64` to a map (Documentation/bpf/llvm_reloc.rst).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..errors import BtfError, ElfError, ObjectError, RelocationError
from . import insn
from .abi import MapType
from .btf import Btf, Kind, Type
from .sections import classify
from .spec import MapReference, MapSpec, ObjectSpec, ProgramSpec

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import Symbol

EM_BPF = 247
SHF_EXECINSTR = 4
SHF_COMPRESSED = 0x800
R_BPF_64_64 = 1


class _Symbol(NamedTuple):
    name: str
    section: int  # index, or 0 where the symbol is not in a section
    value: int
    size: int
    kind: str


class _Section(NamedTuple):
    name: str
    type: str
    executable: bool
    data: bytes
    relocations: list[tuple[int, int, int]]  # offset, type, symbol index


class _File(NamedTuple):
    byte_order: str
    sections: list[_Section]
    symbols: list[_Symbol]

    def named(self, name: str) -> bytes | None:
        return next((s.data for s in self.sections if s.name == name), None)


def parse(data: bytes) -> ObjectSpec:
    """Read a BPF object compiled by clang.

    Raises ElfError (not an ELF file, not for BPF, damaged), BtfError, RelocationError; all are ObjectError.
    """
    file = _read(data)
    btf_data = file.named(".BTF")
    btf = Btf(btf_data, file.byte_order) if btf_data is not None else None
    maps = _maps(file, btf)
    license = (file.named("license") or b"").split(b"\0")[0].decode("utf-8", "backslashreplace")
    return ObjectSpec(maps, _programs(file, maps), license, file.byte_order)


def _read(data: bytes) -> _File:
    if data[:4] != b"\x7fELF":
        raise ElfError("not an ELF file", hint="give the .o that `clang -target bpf -g -O2 -c` wrote")
    # Imported late: it takes longer than everything else here, and only reading an object needs it.
    from elftools.common.exceptions import ELFError as ForeignError
    from elftools.elf.elffile import ELFFile

    try:
        return _collect(ELFFile(io.BytesIO(data)), len(data))
    except ObjectError:
        raise
    except (ForeignError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        # pyelftools 0.33 lets all of these out on damaged files (found by mutating objects).
        raise ElfError(f"damaged ELF file: {error or type(error).__name__}") from error


def _collect(elf: ELFFile, length: int) -> _File:
    from elftools.elf.relocation import RelocationSection
    from elftools.elf.sections import SymbolTableSection

    if elf["e_machine"] != "EM_BPF":
        raise ElfError(f"an ELF file for {elf['e_machine']}, not for BPF", hint="compile with `clang -target bpf`")
    if elf.elfclass != 64:
        raise ElfError("a 32-bit ELF file; BPF objects are 64-bit")
    sections: list[_Section] = []
    relocations: dict[int, list[tuple[int, int, int]]] = {}
    symbols: list[_Symbol] = []
    for section in elf.iter_sections():
        kind = section["sh_type"]
        if kind != "SHT_NOBITS" and section["sh_offset"] + section["sh_size"] > length:
            raise ElfError(f"section {section.name!r} reaches beyond the file's {length} bytes")
        if section["sh_flags"] & SHF_COMPRESSED:  # pyelftools would inflate it, to any size
            raise ElfError(f"section {section.name!r} is compressed; BPF loaders take none such")
        if isinstance(section, RelocationSection) and kind == "SHT_REL":
            relocations[section["sh_info"]] = [
                (r["r_offset"], r["r_info_type"], r["r_info_sym"]) for r in section.iter_relocations()
            ]
        elif isinstance(section, SymbolTableSection) and kind == "SHT_SYMTAB":
            symbols = [_symbol(s) for s in section.iter_symbols()]
        data = b"" if kind == "SHT_NOBITS" else section.data()
        sections.append(_Section(section.name, kind, bool(section["sh_flags"] & SHF_EXECINSTR), data, []))
    for index, rows in relocations.items():
        if not 0 < index < len(sections):
            raise ElfError(f"relocations for section {index}; there are {len(sections)}")
        sections[index].relocations.extend(rows)
    return _File("little" if elf.little_endian else "big", sections, symbols)


def _symbol(symbol: Symbol) -> _Symbol:
    entry = symbol.entry
    index = entry["st_shndx"]
    section = index if isinstance(index, int) else 0  # pyelftools spells the reserved ones as strings
    return _Symbol(symbol.name, section, entry["st_value"], entry["st_size"], entry["st_info"]["type"])


def _maps(file: _File, btf: Btf | None) -> dict[str, MapSpec]:
    if file.named(".maps") is None:
        return {}
    if btf is None:
        raise BtfError("the object declares maps in .maps but has no .BTF", hint="compile with `clang -g`")
    datasec = btf.find(Kind.DATASEC, ".maps")
    if datasec is None:
        raise BtfError("the object has a section .maps that its BTF does not describe")
    return {variable.name: _map(btf, variable) for variable in btf.variables(datasec)}


def _map(btf: Btf, variable: Type) -> MapSpec:
    definition = btf.resolve(variable.size_or_type)
    if definition.kind != Kind.STRUCT:
        raise BtfError(f"map {variable.name!r} is not declared as a struct")
    values: dict[str, int] = {}
    for member, type_id in btf.members(definition):
        if member not in _MAP_MEMBERS:
            raise ObjectError(f"map {variable.name!r}: cannot handle its {member!r}")
        field, read = _MAP_MEMBERS[member]
        value = read(btf, type_id)
        if values.setdefault(field, value) != value:
            raise ObjectError(f"map {variable.name!r}: {member!r} contradicts what else it says of its {field}")
    if "type" not in values:
        raise ObjectError(f"map {variable.name!r} declares no type")
    number = values.pop("type")
    known = MapType(number) if number in set(MapType) else number
    return MapSpec(variable.name, known, **values)


def _pointed_to(btf: Btf, type_id: int) -> int:
    pointer = btf.resolve(type_id)
    if pointer.kind != Kind.PTR:
        raise BtfError(f".BTF: type {type_id} in a map's declaration is no pointer")
    return pointer.size_or_type


def _uint(btf: Btf, type_id: int) -> int:
    """`__uint(name, value)` is `int (*name)[value]`."""
    array = btf.resolve(_pointed_to(btf, type_id))
    if array.kind != Kind.ARRAY:
        raise BtfError(f".BTF: type {type_id} in a map's declaration points to no array")
    return btf.array(array)[1]


def _type_size(btf: Btf, type_id: int) -> int:
    """`__type(name, type)` is `type *name`."""
    return btf.size(_pointed_to(btf, type_id))


# Member of a map's declaration -> field of MapSpec, and how the member says its value.
_MAP_MEMBERS: dict[str, tuple[str, Callable[[Btf, int], int]]] = {
    "type": ("type", _uint),
    "key": ("key_size", _type_size),
    "key_size": ("key_size", _uint),
    "value": ("value_size", _type_size),
    "value_size": ("value_size", _uint),
    "max_entries": ("max_entries", _uint),
    "map_flags": ("flags", _uint),
}


def _programs(file: _File, maps: dict[str, MapSpec]) -> dict[str, ProgramSpec]:
    programs = {}
    for symbol in file.symbols:
        if symbol.kind != "STT_FUNC" or not 0 < symbol.section < len(file.sections):
            continue
        section = file.sections[symbol.section]
        if not section.executable:
            continue
        end = symbol.value + symbol.size
        if end > len(section.data) or symbol.size == 0 or symbol.value % insn.SIZE or symbol.size % insn.SIZE:
            raise ElfError(f"function {symbol.name!r} does not fit its section {section.name!r}")
        type_, target = classify(section.name)
        references = [
            _reference(file, maps, symbol, relocation)
            for relocation in section.relocations
            if symbol.value <= relocation[0] < end
        ]
        code = section.data[symbol.value : end]
        programs[symbol.name] = ProgramSpec(symbol.name, section.name, type_, target, code, references)
    return programs


def _reference(
    file: _File, maps: dict[str, MapSpec], program: _Symbol, relocation: tuple[int, int, int]
) -> MapReference:
    offset, kind, index = relocation
    where = f"program {program.name!r}, instruction {(offset - program.value) // insn.SIZE}"
    if index >= len(file.symbols):
        raise RelocationError(f"{where}: refers to symbol {index}; there are {len(file.symbols)}")
    name = file.symbols[index].name
    if kind != R_BPF_64_64 or name not in maps:
        what = repr(name) if name else "an unnamed symbol"
        raise RelocationError(f"{where}: refers to {what}, which is not a map (relocation type {kind})")
    return MapReference((offset - program.value) // insn.SIZE, name)
