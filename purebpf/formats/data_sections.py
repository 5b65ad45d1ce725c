"""Data sections -> the maps that hold them, and the variables in them.

The compiler's .rodata, .data and .bss, and sections of their own that start so (.rodata.x), become arrays of one
value each; .rodata is read-only for programs too and is frozen, so that the verifier takes its values for
constants. Externs in .kconfig live in one more such map, whose layout the loader makes up.
"""

from __future__ import annotations

from ..errors import BtfError, ElfError
from .abi import MapFlags, MapType
from .btf import Btf
from .elf import ElfFile, Section
from .kinds import Kind
from .spec import ExternSpec, MapSpec, VariableSpec

KCONFIG = ".kconfig"
_NAME_LENGTH = 15  # BPF_OBJ_NAME_LEN without its NUL


def is_data(section: Section) -> bool:
    """Does it become a map?"""
    base = "." + section.name[1:].split(".")[0]
    return section.size > 0 and base in (".rodata", ".data", ".bss") and section.type in ("SHT_PROGBITS", "SHT_NOBITS")


def offsets(file: ElfFile) -> dict[tuple[str, str], int]:
    """(section, variable) -> offset in bytes, from the symbols: clang leaves it out of BTF."""
    found = {}
    for symbol in file.symbols:
        section = file.section_of(symbol)
        if section and is_data(section) and symbol.kind in ("STT_OBJECT", "STT_NOTYPE"):
            if symbol.value > section.size:
                raise ElfError(f"symbol {symbol.name!r} lies beyond its section {section.name!r}")
            found[section.name, symbol.name] = symbol.value
    return found


def collect(
    file: ElfFile, btf: Btf | None, name: str, externs: dict[str, ExternSpec]
) -> tuple[dict[str, MapSpec], dict[str, VariableSpec]]:  # fmt: skip
    """The maps by section, and the variables by name. `name` is the object's."""
    maps: dict[str, MapSpec] = {}
    variables: dict[str, VariableSpec] = {}
    for section in filter(is_data, file.sections):
        contents = bytearray(section.data) if section.data else bytearray(section.size)
        maps[section.name] = _map(section.name, contents, btf, name)
    kconfig = [e for e in externs.values() if e.section == KCONFIG]
    if kconfig:
        size = max(e.offset + e.size for e in kconfig)
        maps[KCONFIG] = _map(KCONFIG, bytearray(size), btf, name)
    for spec in maps.values():
        if spec.btf and spec.value_type and spec.name != KCONFIG:
            _add_variables(spec, spec.btf, variables)
    return maps, variables


def _map(section: str, contents: bytearray, btf: Btf | None, name: str) -> MapSpec:
    datasec = next(iter(btf.find(section, Kind.DATASEC)), None) if btf else None
    read_only = section.startswith((".rodata", KCONFIG))
    flags = MapFlags.RDONLY_PROG if read_only else MapFlags(0)
    if btf and datasec and any(btf.linkage(btf.type(p.variable)) for p in btf.variables(datasec)):
        flags |= MapFlags.MMAPABLE  # as libbpf: only if user space is meant to see a variable in it
    return MapSpec(
        section,
        MapType.ARRAY,
        key_size=4,
        value_size=len(contents),
        max_entries=1,
        flags=flags,
        value_type=datasec.id if datasec else 0,
        contents=contents,
        read_only=read_only,
        kernel_name=_kernel_name(section, name),
        btf=btf,
    )


def _kernel_name(section: str, name: str) -> str:
    """libbpf's: the object's name before .rodata, .data, .bss and .kconfig, as much of it as fits."""
    if "." in section[1:]:
        return section[:_NAME_LENGTH]
    return name[: _NAME_LENGTH - max(7, len(section))] + section


def _add_variables(spec: MapSpec, btf: Btf, variables: dict[str, VariableSpec]) -> None:
    for placed in btf.variables(btf.type(spec.value_type)):
        variable = btf.type(placed.variable)
        static = not btf.linkage(variable)
        if not static or variable.name not in variables:
            size = placed.size or btf.size(variable.size_or_type)
            if placed.offset + size > spec.value_size:
                raise BtfError(f"variable {variable.name!r} reaches beyond its section {spec.name!r}")
            found = VariableSpec(variable.name, spec, placed.offset, size, variable.size_or_type, static)
            variables[variable.name] = found
