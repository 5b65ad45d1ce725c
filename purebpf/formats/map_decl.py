"""Map declarations -> MapSpec: structs in .maps that BTF describes, and the older `struct bpf_map_def` in "maps".

In a BTF declaration each member says one thing by its type (libbpf's bpf_helpers.h): `__uint(name, n)` is
`int (*name)[n]`, `__type(name, t)` is `t *name`, `__array(name, t)` is `t *name[]`, and `__ulong(name, n)` an enum
with the one value n.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from ..errors import BtfError, ElfError, ObjectError
from .abi import MapType, Pinning
from .btf import Btf
from .elf import ElfFile, Relocation, Section
from .kinds import ENUMS, Kind, Member, Type, kind_name
from .spec import MapSpec

_U32 = (1 << 32) - 1
_KNOWN = {int(kind): kind for kind in MapType}

# Where a map lies: (section index, offset in bytes) -> its name.
Places = dict[tuple[int, int], str]


def collect(file: ElfFile, btf: Btf | None) -> tuple[dict[str, MapSpec], Places]:
    """All declared maps by name, and by place for what refers to them. Raises BtfError, ElfError, ObjectError."""
    maps: dict[str, MapSpec] = {}
    places: Places = {}
    for section in file.sections:
        if section.name == ".maps":
            found = _declared(file, btf, section)
        elif section.name == "maps" or section.name.startswith("maps/"):
            found = _legacy(file, section)
        else:
            continue
        for offset, spec in found:
            maps[spec.name] = spec
            places[section.number, offset] = spec.name
    return maps, places


def _declared(file: ElfFile, btf: Btf | None, section: Section) -> list[tuple[int, MapSpec]]:
    if btf is None:
        raise BtfError("the object declares maps in .maps but has no .BTF", hint="compile with `clang -g`")
    datasec = next(iter(btf.find(".maps", Kind.DATASEC)), None)
    if datasec is None:
        raise BtfError("the object has a section .maps that its BTF does not describe")
    offsets = {s.name: s.value for s in file.symbols if s.section == section.number and s.kind == "STT_OBJECT"}
    initialised = bytearray(section.data)
    for relocation in section.relocations:
        initialised[relocation.offset : relocation.offset + 8] = bytes(8)
    if any(initialised):
        raise ObjectError("the section .maps has contents that no member of a declaration explains")
    values = _Values(file, section)
    found = []
    for placed in btf.variables(datasec):
        variable = btf.type(placed.variable)
        offset = offsets.get(variable.name, placed.offset)
        spec, values_at = _declaration(btf, variable.name, btf.resolve(variable.size_or_type))
        if values_at is not None:
            spec.values = values.between(spec.name, offset + values_at, offset + btf.size(variable.size_or_type))
        found.append((offset, spec))
    return found


def _declaration(btf: Btf, name: str, definition: Type) -> tuple[MapSpec, int | None]:
    """The spec, and where in the struct, in bytes, its `values` start if it has any."""
    if definition.kind != Kind.STRUCT:
        raise BtfError(f"map {name!r} is not declared as a struct")
    fields: dict[str, Any] = {}
    values_at = None
    for member in btf.members(definition):
        if member.name == "values":
            values_at, fields["inner"] = member.bit_offset // 8, _inner(btf, name, member)
            continue
        if member.name not in _MEMBERS:
            raise ObjectError(f"map {name!r}: cannot handle its {member.name!r}")
        for field, value in _MEMBERS[member.name](btf, member.type_id).items():
            if fields.setdefault(field, value) != value:
                raise ObjectError(f"map {name!r}: {member.name!r} contradicts what else it says of its {field}")
    if "type" not in fields:
        raise ObjectError(f"map {name!r} declares no type")
    number = fields.pop("type")
    return MapSpec(name, _KNOWN.get(number, number), **fields, btf=btf), values_at


def _inner(btf: Btf, name: str, member: Member) -> MapSpec | None:
    """The template that `__array(values, struct {…})` gives; None for an array of programs."""
    array = btf.resolve(member.type_id)
    if array.kind != Kind.ARRAY:
        raise BtfError(f"map {name!r}: its values are no array but {kind_name(array.kind)}")
    definition = btf.resolve(_pointed_to(btf, btf.array(array)[0]))
    if definition.kind == Kind.FUNC_PROTO:
        return None
    spec, nested = _declaration(btf, f"{name}.inner", definition)
    if nested is not None:
        raise ObjectError(f"map {name!r}: maps nest one level deep only")
    return spec


class _Values:
    """The relocations in .maps: what `.values = { [slot] = &name }` puts into slots."""

    def __init__(self, file: ElfFile, section: Section) -> None:
        self._file, self._section = file, section
        self._rows = sorted(section.relocations, key=lambda r: r.offset)
        self._offsets = [r.offset for r in self._rows]
        self._starts = sorted(s.value for s in file.symbols if s.section == section.number)
        kinds = ("STT_OBJECT", "STT_FUNC")
        self._names = {(s.section, s.value): s.name for s in file.symbols if s.kind in kinds}

    def between(self, name: str, start: int, end: int) -> dict[int, str]:
        """Slot -> name. The declaration's size leaves out the slots: they go on up to the next map."""
        following = bisect_left(self._starts, max(end, start + 1))
        limit = self._starts[following] if following < len(self._starts) else self._section.size
        found = {}
        for relocation in self._rows[bisect_left(self._offsets, start) : bisect_left(self._offsets, limit)]:
            if (relocation.offset - start) % 8:
                raise ElfError(f"map {name!r}: a relocation in the middle of a value")
            found[(relocation.offset - start) // 8] = self._target(name, relocation)
        return found

    def _target(self, name: str, relocation: Relocation) -> str:
        """The object's or function's name, also where the relocation goes through the section's symbol."""
        symbol = self._file.symbol(relocation, f"map {name!r}")
        if symbol.kind != "STT_SECTION":
            return symbol.name
        there = self._section.data[relocation.offset : relocation.offset + 8]
        addend = int.from_bytes(there, "little" if self._file.byte_order == "little" else "big")
        return self._names.get((symbol.section, symbol.value + addend), "")


def _pointed_to(btf: Btf, type_id: int) -> int:
    pointer = btf.resolve(type_id)
    if pointer.kind != Kind.PTR:
        raise BtfError(f".BTF: type {type_id} in a map's declaration is no pointer")
    return pointer.size_or_type


def _number(btf: Btf, type_id: int) -> int:
    """What `__uint` or `__ulong` says."""
    found = btf.resolve(type_id)
    if found.kind in ENUMS and found.vlen == 1:
        return btf.enumerators(found)[0][1] & ((1 << 64) - 1)
    array = btf.resolve(_pointed_to(btf, type_id))
    if array.kind != Kind.ARRAY:
        raise BtfError(f".BTF: type {type_id} in a map's declaration points to no array")
    return btf.array(array)[1]


def _uint(field: str) -> Callable[[Btf, int], dict[str, Any]]:
    return lambda btf, type_id: {field: _number(btf, type_id)}


def _typed(what: str) -> Callable[[Btf, int], dict[str, Any]]:
    def read(btf: Btf, type_id: int) -> dict[str, Any]:
        target = _pointed_to(btf, type_id)
        return {f"{what}_type": target, f"{what}_size": btf.size(target)}

    return read


def _pinning(btf: Btf, type_id: int) -> dict[str, Any]:
    number = _number(btf, type_id)
    if number not in set(Pinning):
        raise ObjectError(f"a map's pinning is {number}; only LIBBPF_PIN_BY_NAME (1) is known")
    return {"pinning": Pinning(number)}


# Member of a declaration -> the fields of MapSpec that it sets.
_MEMBERS: dict[str, Callable[[Btf, int], dict[str, Any]]] = {
    "type": _uint("type"),
    "key": _typed("key"),
    "key_size": _uint("key_size"),
    "value": _typed("value"),
    "value_size": _uint("value_size"),
    "max_entries": _uint("max_entries"),
    "map_flags": _uint("flags"),
    "map_extra": _uint("extra"),
    "numa_node": _uint("numa_node"),
    "pinning": _pinning,
}


def _legacy(file: ElfFile, section: Section) -> list[tuple[int, MapSpec]]:
    """`struct bpf_map_def`: type, key_size, value_size, max_entries, map_flags, u32 each."""
    symbols = sorted(
        (s for s in file.symbols if s.section == section.number and s.kind != "STT_SECTION" and s.name),
        key=lambda s: s.value,
    )
    ends = [s.value for s in symbols[1:]] + [len(section.data)]
    found = []
    for symbol, end in zip(symbols, ends):
        declared = section.data[symbol.value : end]
        if len(declared) < 16 or any(declared[20:]):
            raise ObjectError(
                f"map {symbol.name!r}: its declaration in {section.name!r} has {len(declared)} bytes that are not the"
                " five numbers of struct bpf_map_def",
                hint="declare it in .maps",
            )
        order = "<" if file.byte_order == "little" else ">"
        number, key, value, entries, flags = struct.unpack(order + "5I", declared[:20].ljust(20, b"\0"))
        spec = MapSpec(symbol.name, _KNOWN.get(number, number), key, value, entries, flags)
        found.append((symbol.value, spec))
    return found
