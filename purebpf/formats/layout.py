"""BTF type -> codec: bytes to Python values and back.

    int, pointer          int               bool             bool
    float                 float             enum             a member of an IntEnum, int for an unnamed value
    char array            bytes up to its first NUL; str and shorter bytes are taken too
    array of bytes        bytes             other array      list
    struct, union         Value: its members as attributes, those of anonymous members among them

A codec is compiled once for each type. Offsets and sizes come from BTF alone, so packed and oddly aligned structs are
read as the compiler laid them out.

A stranger's BTF can describe, in a few bytes, a value that takes for ever to decode: arrays of arrays, unions of
unions. So each codec counts the Python objects that one `decode` makes, and none above a limit is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

from ..errors import BtfError
from .btf import Btf
from .composites import Composite, Place
from .kinds import COMPOSITES, ENUMS, MAX_DEPTH, QUALIFIERS, Kind, Member, Type, kind_name
from .values import Array, Bool, Bytes, Codec, Enumeration, Float, Number, Value, plain

__all__ = ["Codec", "Value", "codec", "plain"]

_LARGEST = 1 << 26  # bytes of one value
_MOST_OBJECTS = 1 << 24  # that decoding one value makes
_MOST_MEMBERS = 1 << 18  # of a struct and those within it
_LONGEST_NAME = 64  # in messages
_CHAR, _BOOL = 2, 4  # BTF_INT_* (Documentation/bpf/btf.rst, 2.2.1)
_SIZES = {
    Kind.INT: range(1, 17),  # BITS_PER_U128 (kernel/bpf/btf.c, btf_int_check_meta)
    Kind.ENUM: (1, 2, 4, 8),
    Kind.ENUM64: (1, 2, 4, 8),
    Kind.FLOAT: (2, 4, 8, 12, 16),
}

_compiled: WeakKeyDictionary[Btf, dict[int, Codec]] = WeakKeyDictionary()


def codec(btf: Btf, type_id: int) -> Codec:
    """The codec of a type, compiled at the first call.

    Raises BtfError for types without values, such as void and functions, and for what no compiler makes: loops,
    members beyond their struct, values that are larger than 64 MiB or decode to more than 16 million objects.
    """
    known = _compiled.setdefault(btf, {})
    if type_id not in known:
        known[type_id] = _Compiler(btf, known).compile(type_id, 0)
    return known[type_id]


class _Site(NamedTuple):
    """A member with a name, and at which bit of the outermost struct it starts."""

    member: Member
    first: int


class _Compiler:
    def __init__(self, btf: Btf, known: dict[int, Codec]) -> None:
        self._btf, self._known, self._members = btf, known, 0
        self._order = "<" if btf.byte_order == "little" else ">"

    def compile(self, type_id: int, depth: int) -> Codec:
        """Types within types once each; `depth` ends loops."""
        type_ = self._btf.resolve(type_id)
        if type_.id not in self._known:
            if depth > MAX_DEPTH:
                raise BtfError(f".BTF: types nest deeper than {MAX_DEPTH} at type {type_id}")
            self._check(type_)
            alias = self._btf.resolve(type_id, QUALIFIERS).name
            made = _COMPILERS[Kind(type_.kind)](self, type_, alias[:_LONGEST_NAME], depth)
            if made.size > _LARGEST or made.objects > _MOST_OBJECTS:
                raise BtfError(f".BTF: {made.what} has {made.size} bytes in {made.objects} parts, too much to decode")
            self._known[type_.id] = made
        return self._known[type_.id]

    def _check(self, type_: Type) -> None:
        what = f"{kind_name(type_.kind)} {type_.name[:_LONGEST_NAME]!r}"
        if type_.kind not in _COMPILERS:
            raise BtfError(f".BTF: type {type_.id} ({what}) has no values")
        sizes = _SIZES.get(Kind(type_.kind), range(_LARGEST + 1))
        if type_.kind not in (Kind.PTR, Kind.ARRAY) and type_.size_or_type not in sizes:
            raise BtfError(f".BTF: type {type_.id} ({what}) cannot have {type_.size_or_type} bytes")

    def pointer(self, _type: Type, _alias: str, _depth: int) -> Codec:
        return Number("a pointer", 8, self._order, signed=False)

    def integer(self, type_: Type, alias: str, _depth: int) -> Codec:
        integer = self._btf.integer(type_)
        if integer.encoding & _BOOL and type_.size_or_type == 1:
            return Bool(alias, self._order)
        return Number(alias, type_.size_or_type, self._order, integer.signed)

    def floating(self, type_: Type, alias: str, _depth: int) -> Codec:
        return Float(alias, type_.size_or_type, self._order)

    def enumeration(self, type_: Type, alias: str, _depth: int) -> Codec:
        rows = self._btf.enumerators(type_)
        return Enumeration(_titled("enum", type_, alias), type_.size_or_type, self._order, alias or "enum", rows)

    def array(self, type_: Type, _alias: str, depth: int) -> Codec:
        element_id, count = self._btf.array(type_)
        element = self.compile(element_id, depth + 1)
        what = f"an array of {count} {element.what}"
        if count * max(1, element.size) > _LARGEST:
            raise BtfError(f".BTF: {what} has {count * element.size} bytes, too much to decode")
        found = self._btf.resolve(element_id)
        if found.kind == Kind.INT and element.size == 1 and not self._btf.integer(found).encoding & _BOOL:
            is_text = found.name == "char" or bool(self._btf.integer(found).encoding & _CHAR)
            return Bytes(what, count, self._order, is_text)
        return Array(what, self._order, element, count)

    def composite(self, type_: Type, alias: str, depth: int) -> Codec:
        keyword = "union" if type_.kind == Kind.UNION else "struct"
        what = _titled(keyword, type_, alias)
        places: dict[str, Place] = {}
        repeated: dict[str, int] = {}
        for member, first in self._sites(type_, 0, depth):
            place = self._place(member, first, depth)
            if place.last > type_.size_or_type * 8:
                raise BtfError(f".BTF: member {place.name!r} reaches beyond {what}")
            name = place.name
            while name in places:  # no C compiler lets that happen
                repeated[place.name] = repeated.get(place.name, 1) + 1
                name = f"{place.name}___{repeated[place.name]}"
            places[name] = place._replace(name=name)
        return Composite(what, alias or keyword, type_.size_or_type, self._order, list(places.values()))

    def _sites(self, type_: Type, base: int, depth: int) -> Iterator[_Site]:
        """The members from bit `base` on; those of anonymous structs and unions in their place."""
        if depth > MAX_DEPTH:
            raise BtfError(f".BTF: types nest deeper than {MAX_DEPTH} at type {type_.id}")
        for member in self._btf.members(type_):
            self._members += 1
            if self._members > _MOST_MEMBERS:
                raise BtfError(f".BTF: more than {_MOST_MEMBERS} members within members, at type {type_.id}")
            first = base + member.bit_offset
            inner = self._btf.resolve(member.type_id)
            if member.name or inner.kind not in COMPOSITES:
                yield _Site(member, first)
                continue
            if member.bit_offset + inner.size_or_type * 8 > type_.size_or_type * 8:
                raise BtfError(f".BTF: type {inner.id}, without a name, reaches beyond type {type_.id}")
            yield from self._sites(inner, first, depth + 1)

    def _place(self, member: Member, first: int, depth: int) -> Place:
        type_, bits = self._btf.resolve(member.type_id), member.bit_size
        made = self.compile(member.type_id, depth + 1)
        if type_.kind == Kind.INT and not bits:  # before kind_flag, the INT itself said that it is a bit-field
            integer = self._btf.integer(type_)
            if integer.offset or integer.bits < made.size * 8:
                first, bits = first + integer.offset, integer.bits
        if not bits:
            if first % 8:
                raise BtfError(f".BTF: member {member.name!r} starts at bit {first}")
            return Place(member.name, first, first + made.size * 8, made)
        if type_.kind not in {Kind.INT} | ENUMS or bits > made.size * 8:
            raise BtfError(f".BTF: bit-field {member.name!r} of {bits} bits in {made.what}")
        start, last = first // 8, first + bits
        # Bits are counted from the lowest of the first byte, on a big-endian machine from its highest.
        shift = first - start * 8 if self._order == "<" else (last + 7) // 8 * 8 - last
        return Place(member.name, first, last, made, shift, bits)


def _titled(keyword: str, type_: Type, alias: str) -> str:
    """How messages call it: an anonymous type goes by its typedef."""
    if type_.name or not alias:
        return f"{keyword} {alias or '<anonymous>'}"
    return alias


_COMPILERS: dict[Kind, Callable[[_Compiler, Type, str, int], Codec]] = {
    Kind.PTR: _Compiler.pointer,
    Kind.INT: _Compiler.integer,
    Kind.FLOAT: _Compiler.floating,
    Kind.ENUM: _Compiler.enumeration,
    Kind.ENUM64: _Compiler.enumeration,
    Kind.ARRAY: _Compiler.array,
    Kind.STRUCT: _Compiler.composite,
    Kind.UNION: _Compiler.composite,
}
