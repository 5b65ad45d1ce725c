"""Object file -> ObjectSpec, by libbpf's conventions where they are strict and cilium/ebpf's where those accept more.

Programs are the global functions of executable sections other than .text; everything else that is code is a
function that they may call. A relocation of type R_BPF_64_64 ties an `ld_imm64` to a map, a variable, a function
or an extern, one of type R_BPF_64_32 a call to a function (Documentation/bpf/llvm_reloc.rst). Calls within a
section carry no relocation.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from typing import NamedTuple, TypeVar

from ..errors import BtfError, ElfError, RelocationError
from . import btf_ext, data_sections, elf, insn, map_decl
from .abi import PseudoCall
from .btf import Btf
from .btf_write import with_sections
from .elf import ElfFile, ElfSymbol, Relocation, Section
from .kinds import COMPOSITES, Kind
from .sections import HOOKS, classify
from .spec import (
    CoreRelocation,
    ExternSpec,
    FunctionSpec,
    Line,
    MapSpec,
    ObjectSpec,
    ProgramSpec,
    Reference,
    ReferenceKind,
)

_MOST_KCONFIG = 1 << 20  # bytes; a configuration's strings are short
_SlotRow = TypeVar("_SlotRow", Line, CoreRelocation)


def parse(data: bytes, name: str = "") -> ObjectSpec:
    """Read a BPF object compiled by clang. `name` is the file's, up to its first dot; data maps are named after it.

    Raises ElfError (not an ELF file, not for BPF, damaged), BtfError, RelocationError; all are ObjectError.
    """
    file = elf.read(data)
    raw = Btf(file.data(".BTF")) if file.section(".BTF") else None
    if raw and raw.byte_order != file.byte_order:
        raise BtfError(f"the object is {file.byte_order}-endian, its BTF {raw.byte_order}-endian")
    externs = _externs(file, raw)
    btf = _repaired(file, raw, externs) if raw else None
    maps, places = map_decl.collect(file, btf)
    data_maps, variables = data_sections.collect(file, btf, name, externs)
    maps.update(data_maps)
    functions = _functions(file)
    info = btf_ext.parse(file.data(".BTF.ext"), btf) if btf else {}
    code = _Code(file, btf, info, places, maps, externs, functions)
    built = [code.build(function) for function in functions]
    license = file.data("license").split(b"\0")[0].decode("utf-8", "backslashreplace")
    return ObjectSpec(
        maps,
        {spec.name: spec for spec in built if isinstance(spec, ProgramSpec)},
        license,
        file.byte_order,
        {spec.name: spec for spec in built if not isinstance(spec, ProgramSpec)},
        variables,
        externs,
        btf,
        name,
    )


def _repaired(file: ElfFile, btf: Btf, externs: dict[str, ExternSpec]) -> Btf:
    sizes = {s.name: s.size for s in file.sections if data_sections.is_data(s) or s.name == ".maps"}
    offsets = data_sections.offsets(file)
    for extern in externs.values():
        if extern.section == data_sections.KCONFIG:
            offsets[extern.section, extern.name] = extern.offset
            sizes[extern.section] = max(sizes.get(extern.section, 0), extern.offset + extern.size)
    for symbol in file.symbols:
        section = file.section_of(symbol)
        if section and section.name == ".maps" and symbol.value < section.size:
            offsets[section.name, symbol.name] = symbol.value
    hidden = {s.name for s in file.symbols if s.hidden and s.kind == "STT_FUNC"}
    return with_sections(btf, sizes, offsets, hidden)


def _externs(file: ElfFile, btf: Btf | None) -> dict[str, ExternSpec]:
    """What .ksyms and .kconfig ask for. Those of .kconfig are laid out by falling alignment, as libbpf does."""
    if btf is None:
        return {}
    undefined = {s.name: s for s in file.symbols if s.name and not s.section and s.binding != "STB_LOCAL"}
    found: dict[str, ExternSpec] = {}
    for section in (".ksyms", data_sections.KCONFIG):
        for datasec in btf.find(section, Kind.DATASEC):
            for placed in btf.variables(datasec):
                type_ = btf.type(placed.variable)
                if type_.name in undefined:
                    weak = undefined[type_.name].binding == "STB_WEAK"
                    found[type_.name] = ExternSpec(type_.name, section, weak, type_.id)
    offset = 0
    wanted = ((btf.type(e.type_id).size_or_type, e) for e in found.values() if e.section == data_sections.KCONFIG)
    rows = [(_alignment(btf, type_id), btf.size(type_id), extern) for type_id, extern in wanted]
    if sum(size for _alignment, size, _extern in rows) > _MOST_KCONFIG:
        raise BtfError(f"the externs of .kconfig have more than {_MOST_KCONFIG} bytes")
    for alignment, size, extern in sorted(rows, key=lambda row: (-row[0], row[1], row[2].name)):
        offset = -(-offset // alignment) * alignment
        found[extern.name] = ExternSpec(extern.name, extern.section, extern.weak, extern.type_id, offset, size)
        offset += size
    return found


def _alignment(btf: Btf, type_id: int) -> int:
    type_ = btf.resolve(type_id)
    if type_.kind == Kind.ARRAY:
        return _alignment(btf, btf.array(type_)[0])
    if type_.kind in COMPOSITES:
        raise BtfError(f"a .kconfig extern is a {type_.name!r}; it can be a number, a bool, a tristate or a char array")
    return max(1, min(btf.size(type_.id), 8))


class _Function(NamedTuple):
    """Where a function lies; `key` is its name, or its section and name where another has that name already."""

    key: str
    symbol: ElfSymbol
    section: Section
    end: int
    is_program: bool


def _functions(file: ElfFile) -> list[_Function]:
    found: dict[str, _Function] = {}
    code = [s for s in file.symbols if s.kind == "STT_FUNC" and s.name]
    starts = sorted((s.section, s.value) for s in code)
    for symbol in code:
        section = file.section_of(symbol)
        if section is None or not section.executable:
            continue
        end = symbol.value + symbol.size
        if not symbol.size:  # hand-written assembly: up to the next function
            following = bisect_left(starts, (symbol.section, symbol.value + 1))
            same = following < len(starts) and starts[following][0] == symbol.section
            end = starts[following][1] if same else section.size
        if end > len(section.data) or end <= symbol.value or symbol.value % insn.SIZE or end % insn.SIZE:
            raise ElfError(f"function {symbol.name!r} does not fit its section {section.name!r}")
        is_program = symbol.binding != "STB_LOCAL" and section.name != ".text"
        key = symbol.name if symbol.name not in found else f"{section.name}/{symbol.name}"
        found[key] = _Function(key, symbol, section, end, is_program)
    return list(found.values())


class _Code:
    """Functions -> FunctionSpec and ProgramSpec, with everything that their instructions refer to."""

    def __init__(
        self,
        file: ElfFile,
        btf: Btf | None,
        info: dict[str, btf_ext.SectionInfo],
        map_places: map_decl.Places,
        maps: dict[str, MapSpec],
        externs: dict[str, ExternSpec],
        functions: list[_Function],
    ) -> None:
        self._file, self._btf, self._info, self._maps, self._externs = file, btf, info, maps, externs
        self._map_places = map_places
        self._function_places = {(f.section.number, f.symbol.value): f.key for f in functions}
        self._order = "<" if file.byte_order == "little" else ">"
        sections = {f.section.number: f.section for f in functions}
        self._relocations = {n: sorted(s.relocations, key=lambda r: r.offset) for n, s in sections.items()}
        self._offsets = {n: [r.offset for r in rows] for n, rows in self._relocations.items()}

    def build(self, function: _Function) -> FunctionSpec:
        """The spec of one function."""
        start, section = function.symbol.value, function.section
        first, last = start // insn.SIZE, function.end // insn.SIZE
        info = self._info.get(section.name, btf_ext.SectionInfo({}, [], []))
        spec = FunctionSpec(
            function.key,
            section.name,
            section.data[start : function.end],
            self._references(function),
            info.functions.get(first, 0) or self._type_of(function),
            _between(info.lines, first, last),
            _between(info.relocations, first, last),
        )
        if not function.is_program:
            return spec
        place = classify(section.name)
        hook = HOOKS.get(place.hook)
        return ProgramSpec(
            **vars(spec),
            type=hook.type if hook else None,
            attach_type=hook.attach_type if hook else 0,
            attach_to=place.target,
            flags=hook.flags if hook else 0,
            autoload=place.autoload,
        )

    def _type_of(self, function: _Function) -> int:
        found = self._btf.find(function.symbol.name, Kind.FUNC) if self._btf else []
        return found[0].id if found else 0

    def _references(self, function: _Function) -> list[Reference]:
        start = function.symbol.value
        rows = self._relocations[function.section.number]
        offsets = self._offsets[function.section.number]
        references = {}
        for relocation in rows[bisect_left(offsets, start) : bisect_left(offsets, function.end)]:
            slot = (relocation.offset - start) // insn.SIZE
            references[slot] = self._reference(function, slot, relocation)
        for slot in insn.local_calls(function.section.data[start : function.end], self._file.byte_order):
            if slot not in references:
                imm = self._immediate(function.section, start + slot * insn.SIZE)
                target = start + (slot + 1 + imm) * insn.SIZE
                references[slot] = self._call(function, slot, function.section.number, target)
        return [references[slot] for slot in sorted(references)]

    def _immediate(self, section: Section, offset: int) -> int:
        number: int = struct.unpack_from(self._order + "i", section.data, offset + 4)[0]
        return number

    def _reference(self, function: _Function, slot: int, relocation: Relocation) -> Reference:
        where = f"function {function.key!r}, instruction {slot}"
        symbol = self._file.symbol(relocation, where)
        section = self._file.section_of(symbol)
        opcode = function.section.data[relocation.offset]
        if opcode not in (insn.LD_IMM64, insn.CALL) or relocation.offset % insn.SIZE:
            raise RelocationError(f"{where}: a relocation on what is neither an ld_imm64 nor a call")
        if section is None:
            return self._extern(where, slot, symbol)
        imm = self._immediate(function.section, relocation.offset)
        if opcode == insn.CALL:
            return self._call(function, slot, section.number, symbol.value + (imm + 1) * insn.SIZE)
        at = symbol.value + imm
        if (section.number, at) in self._map_places:
            return Reference(slot, ReferenceKind.MAP, self._map_places[section.number, at])
        if section.name in self._maps:
            return Reference(slot, ReferenceKind.DATA, section.name, at)
        if (section.number, at) in self._function_places:
            return Reference(slot, ReferenceKind.FUNCTION, self._function_places[section.number, at])
        raise RelocationError(
            f"{where}: refers to {symbol.name or section.name!r}, which is no map, variable or function",
            hint=f"it lies in section {section.name!r}; maps are declared in .maps, with clang -g",
        )

    def _call(self, function: _Function, slot: int, section: int, target: int) -> Reference:
        if (section, target) not in self._function_places:
            raise RelocationError(f"function {function.key!r}, instruction {slot}: a call to where no function starts")
        return Reference(slot, ReferenceKind.CALL, self._function_places[section, target], PseudoCall.CALL)

    def _extern(self, where: str, slot: int, symbol: ElfSymbol) -> Reference:
        extern = self._externs.get(symbol.name)
        if extern is None:
            raise RelocationError(
                f"{where}: refers to {symbol.name!r}, which is defined nowhere",
                hint="declare it in .ksyms or .kconfig, or link the object that defines it (bpftool gen object)",
            )
        if extern.section == data_sections.KCONFIG:
            return Reference(slot, ReferenceKind.DATA, extern.section, extern.offset)
        return Reference(slot, ReferenceKind.EXTERN, extern.name)


def _between(rows: list[_SlotRow], first: int, last: int) -> list[_SlotRow]:
    """Those of slots `first` up to `last`, counted from `first`."""
    start = bisect_left(rows, (first,))
    end = bisect_left(rows, (last,))
    return [row._replace(slot=row.slot - first) for row in rows[start:end]]
