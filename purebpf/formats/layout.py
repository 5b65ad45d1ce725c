"""BTF type -> codec: bytes to Python values and back.

A codec is compiled once for each type. A struct of plain numbers is one `struct.Struct`; only what that cannot say,
bit-fields, unions and members within members, is decoded piece by piece. Offsets and sizes come from BTF alone, so
packed and oddly aligned structs are read as the compiler laid them out.

    int, pointer          int               bool             bool
    float                 float             enum             a member of an IntEnum, int for an unnamed value
    char array            bytes up to its first NUL; str and shorter bytes are taken too
    array of bytes        bytes             other array      list
    struct, union         Value: its members as attributes, those of anonymous members among them
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum, IntEnum
from operator import itemgetter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from ..errors import BtfError, ObjectError
from .btf import COMPOSITES, ENUMS, MAX_DEPTH, Btf, Kind, Type, kind_name

_LARGEST = 1 << 26  # bytes of one value, elements of one array
_MOST_MEMBERS = 1 << 16
_INTEGERS = {1: "b", 2: "h", 4: "i", 8: "q"}
_FLOATS = {4: "f", 8: "d"}


class Codec:
    """Decodes and encodes values of one BTF type. `size` is in bytes; `code` is its letter in `struct`, if it has one."""

    def __init__(self, what: str, size: int, order: str) -> None:
        self.what, self.size, self.order = what, size, order
        self.code = ""

    def decode(self, data: bytes | memoryview) -> Any:
        """The value in the first `size` bytes. Raises ObjectError if there are fewer."""
        if len(data) < self.size:
            raise ObjectError(f"{self.what} has {self.size} bytes; there are {len(data)}")
        return self._read(bytes(data[: self.size]))

    def encode(self, value: Any) -> bytes:
        """`size` bytes. Bytes of that size are taken as they are. Raises ObjectError for what the type cannot hold."""
        if isinstance(value, (bytes, bytearray, memoryview)) and len(value) == self.size:
            return bytes(value)
        return self._write(value)

    @property
    def least(self) -> int:
        """What a record of variable size has at least, in bytes: all but the array that a struct ends with."""
        return self.size

    def _read(self, data: bytes) -> Any:
        return data

    def _write(self, value: Any) -> bytes:
        raise ObjectError(f"{self.what} cannot be {value!r}")


class _Number(Codec):
    """An int, bool or pointer."""

    def __init__(self, what: str, size: int, order: str, signed: bool, make: Callable[[int], Any] = int) -> None:
        super().__init__(what, size, order)
        self._signed, self._make = signed, make
        if size in _INTEGERS and make is int:
            self.code = _INTEGERS[size] if signed else _INTEGERS[size].upper()

    def _read(self, data: bytes) -> Any:
        return self._make(int.from_bytes(data, "little" if self.order == "<" else "big", signed=self._signed))

    def _write(self, value: Any) -> bytes:
        if not isinstance(value, int):
            return super()._write(value)
        try:
            return int(value).to_bytes(self.size, "little" if self.order == "<" else "big", signed=self._signed)
        except OverflowError:
            bits = self.size * 8
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if self._signed else (0, (1 << bits) - 1)
            raise ObjectError(f"{self.what} holds {low} to {high}, not {value}") from None


class _Float(Codec):
    def __init__(self, what: str, size: int, order: str) -> None:
        super().__init__(what, size, order)
        self.code = _FLOATS[size]

    def _read(self, data: bytes) -> Any:
        return struct.unpack(self.order + self.code, data)[0]

    def _write(self, value: Any) -> bytes:
        try:
            return struct.pack(self.order + self.code, value)
        except (struct.error, OverflowError):
            return super()._write(value)


class _Enumeration(_Number):
    """Names are taken for values too."""

    def __init__(self, what: str, size: int, order: str, name: str, rows: list[tuple[str, int]]) -> None:
        self._named = dict(rows)
        make: Any = IntEnum
        try:
            known = {int(member): member for member in make(name or "enum", self._named)}
        except (ValueError, TypeError):  # a name that Python's enums keep for themselves
            known = {}
        super().__init__(what, size, order, any(v < 0 for _n, v in rows), lambda number: known.get(number, number))

    def _write(self, value: Any) -> bytes:
        if isinstance(value, str):
            if value not in self._named:
                raise ObjectError(f"{self.what} has no {value!r}{_close(value, self._named)}")
            value = self._named[value]
        return super()._write(value)


class _Bytes(Codec):
    """An array of chars, or of other single bytes."""

    def __init__(self, what: str, size: int, order: str, is_text: bool) -> None:
        super().__init__(what, size, order)
        self._is_text = is_text

    def _read(self, data: bytes) -> Any:
        return data.split(b"\0", 1)[0] if self._is_text else data

    def _write(self, value: Any) -> bytes:
        try:
            content = value.encode() if isinstance(value, str) else bytes(value)
        except (TypeError, ValueError):
            return super()._write(value)
        if isinstance(value, int) or len(content) > self.size or (len(content) < self.size and not self._is_text):
            raise ObjectError(f"{self.what} has {self.size} bytes, not {len(content)}")
        return content.ljust(self.size, b"\0")


class _Array(Codec):
    def __init__(self, what: str, order: str, element: Codec, count: int) -> None:
        super().__init__(what, element.size * count, order)
        self._element, self._count = element, count

    def _read(self, data: bytes) -> Any:
        if self._element.code:
            return list(struct.unpack(f"{self.order}{self._count}{self._element.code}", data))
        step = self._element.size
        return [self._element.decode(data[i * step : (i + 1) * step]) for i in range(self._count)]

    def _write(self, value: Any) -> bytes:
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or len(value) != self._count:
            raise ObjectError(f"{self.what} takes a sequence of {self._count}, not {value!r}")
        return b"".join(map(self._element.encode, value))


class Value(tuple[Any, ...]):
    """A struct or union, decoded: a tuple of its members, which are attributes too."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    def _asdict(self) -> dict[str, Any]:
        """Member -> value."""
        return dict(zip(self._fields, self))

    def __repr__(self) -> str:
        shown = (v.name if isinstance(v, Enum) else repr(v) for v in self)
        return f"{type(self).__name__}({', '.join(f'{n}={v}' for n, v in zip(self._fields, shown))})"


class _Place(NamedTuple):
    """A member: its bytes from `start` to `end`, and in them, for a bit-field, `bits` at `shift`."""

    name: str
    start: int
    end: int
    codec: Codec
    shift: int = 0
    bits: int = 0


class _Composite(Codec):
    def __init__(self, what: str, name: str, size: int, order: str, places: list[_Place], is_union: bool) -> None:
        super().__init__(what, size, order)
        self._places, self._is_union = places, is_union
        self._by_name = {place.name: place for place in places}
        properties = {p.name: property(itemgetter(i)) for i, p in reversed(list(enumerate(places)))}
        names = tuple(place.name for place in places)
        self._class = type(name or ("union" if is_union else "struct"), (Value,), {**properties, "_fields": names})
        self._plain = self._compiled()

    @property
    def least(self) -> int:
        """See Codec."""
        last = max(self._places, key=lambda place: place.start, default=None)
        return last.start if last and isinstance(last.codec, (_Bytes, _Array)) else self.size

    def _compiled(self) -> struct.Struct | None:
        """One format for the whole, if its members are numbers behind one another."""
        layout, at = self.order, 0
        for place in self._places:
            if not place.codec.code or place.bits or place.start < at:
                return None
            layout += f"{place.start - at}x{place.codec.code}"
            at = place.end
        return struct.Struct(f"{layout}{self.size - at}x")

    def _read(self, data: bytes) -> Any:
        if self._plain:
            return self._class(self._plain.unpack(data))
        return self._class([self._read_member(place, data[place.start : place.end]) for place in self._places])

    def _read_member(self, place: _Place, data: bytes) -> Any:
        if not place.bits:
            return place.codec.decode(data)
        number = int.from_bytes(data, self._endian) >> place.shift & (1 << place.bits) - 1
        if _is_signed(place.codec) and number >> place.bits - 1:
            number -= 1 << place.bits
        return place.codec.decode(place.codec.encode(number))

    @property
    def _endian(self) -> Any:
        return "little" if self.order == "<" else "big"

    def _write(self, value: Any) -> bytes:
        if isinstance(value, Value):
            value = value._asdict()
        if not isinstance(value, Mapping):
            if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or len(value) != len(self._places):
                raise ObjectError(
                    f"{self.what} takes its members by name, all in order, or {self.size} bytes; not {value!r}"
                )
            value = dict(zip(self._by_name, value))
        memory = bytearray(self.size)
        for name, member in value.items():
            if name not in self._by_name:
                raise ObjectError(f"{self.what} has no member {name!r}{_close(name, self._by_name)}")
            self._write_member(memory, self._by_name[name], member)
        return bytes(memory)

    def _write_member(self, memory: bytearray, place: _Place, value: Any) -> None:
        if not place.bits:
            memory[place.start : place.end] = place.codec.encode(value)
            return
        mask = (1 << place.bits) - 1
        low, high = (-(1 << place.bits - 1), 1 << place.bits - 1) if _is_signed(place.codec) else (0, 1 << place.bits)
        if not isinstance(value, int) or not low <= value < high:
            raise ObjectError(f"{self.what}: {place.name!r} has {place.bits} bits, which cannot be {value!r}")
        whole = int.from_bytes(memory[place.start : place.end], self._endian)
        whole = whole & ~(mask << place.shift) | (int(value) & mask) << place.shift
        memory[place.start : place.end] = whole.to_bytes(place.end - place.start, self._endian)


def _is_signed(of: Codec) -> bool:
    return isinstance(of, _Number) and of._signed


def _close(name: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(name, known, 3)
    return f"; close: {', '.join(close)}" if close else ""


def plain(value: Any) -> Any:
    """A decoded value as JSON has it: dicts, lists, numbers; an enum by name, bytes as text with \\xNN for the rest."""
    if isinstance(value, Value):
        return {name: plain(member) for name, member in value._asdict().items()}
    if isinstance(value, list):
        return [plain(element) for element in value]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value


_compiled: WeakKeyDictionary[Btf, dict[int, Codec]] = WeakKeyDictionary()


def codec(btf: Btf, type_id: int) -> Codec:
    """The codec of a type, compiled at the first call. Raises BtfError for types without values: void, functions."""
    known = _compiled.setdefault(btf, {})
    if type_id not in known:
        known[type_id] = _Compiler(btf, known).compile(type_id, 0)
    return known[type_id]


class _Compiler:
    def __init__(self, btf: Btf, known: dict[int, Codec]) -> None:
        self._btf, self._known = btf, known
        self._order = "<" if btf.byte_order == "little" else ">"

    def compile(self, type_id: int, depth: int) -> Codec:
        """Types within types once each; `depth` ends loops."""
        type_ = self._btf.resolve(type_id)
        if type_.id not in self._known:
            if depth > MAX_DEPTH:
                raise BtfError(f".BTF: types nest deeper than {MAX_DEPTH} at type {type_id}")
            if type_.kind not in _COMPILERS:
                raise BtfError(f".BTF: a value of type {type_id} ({kind_name(type_.kind)} {type_.name!r}) has no bytes")
            if type_.kind not in (Kind.PTR, Kind.ARRAY) and type_.size_or_type > _LARGEST:
                raise BtfError(f".BTF: type {type_id} ({type_.name!r}) has {type_.size_or_type} bytes")
            self._known[type_.id] = _COMPILERS[Kind(type_.kind)](self, type_, depth)
        return self._known[type_.id]

    def pointer(self, _type: Type, _depth: int) -> Codec:
        return _Number("a pointer", 8, self._order, False)

    def integer(self, type_: Type, _depth: int) -> Codec:
        encoding = self._btf.integer(type_)
        size = type_.size_or_type
        make = bool if encoding.encoding & 4 else int
        return _Number(f"{type_.name}", size, self._order, encoding.signed, make)

    def floating(self, type_: Type, _depth: int) -> Codec:
        if type_.size_or_type not in _FLOATS:
            return Codec(type_.name, type_.size_or_type, self._order)
        return _Float(type_.name, type_.size_or_type, self._order)

    def enumeration(self, type_: Type, _depth: int) -> Codec:
        rows = self._btf.enumerators(type_)
        return _Enumeration(f"enum {type_.name}".strip(), type_.size_or_type, self._order, type_.name, rows)

    def array(self, type_: Type, depth: int) -> Codec:
        element_id, count = self._btf.array(type_)
        element = self.compile(element_id, depth + 1)
        what = f"an array of {count} {element.what}"
        if count > _LARGEST or element.size * count > _LARGEST:
            raise BtfError(f".BTF: {what} is larger than {_LARGEST} bytes")
        found = self._btf.resolve(element_id)
        if found.kind == Kind.INT and element.size == 1 and not self._btf.integer(found).encoding & 4:
            is_text = found.name == "char" or bool(self._btf.integer(found).encoding & 2)
            return _Bytes(what, count, self._order, is_text)
        return _Array(what, self._order, element, count)

    def composite(self, type_: Type, depth: int) -> Codec:
        is_union = type_.kind == Kind.UNION
        what = f"{'union' if is_union else 'struct'} {type_.name or '<anonymous>'}"
        places: list[_Place] = []
        self._place(type_, 0, places, depth)
        for place in places:
            if place.end > type_.size_or_type:
                raise BtfError(f".BTF: member {place.name!r} reaches beyond {what}")
        return _Composite(what, type_.name, type_.size_or_type, self._order, places, is_union)

    def _place(self, type_: Type, base: int, places: list[_Place], depth: int) -> None:
        """The members from bit `base` on; those of anonymous structs and unions in their place."""
        for member in self._btf.members(type_):
            inner = self._btf.resolve(member.type_id)
            at = base + member.bit_offset
            if not member.name and inner.kind in COMPOSITES and depth <= MAX_DEPTH:
                self._place(inner, at, places, depth + 1)
            elif member.name:
                places.append(self._member(member.name, inner, at, member.bit_size, depth))
            if len(places) > _MOST_MEMBERS:
                raise BtfError(f".BTF: type {type_.id} has more than {_MOST_MEMBERS} members")

    def _member(self, name: str, type_: Type, at: int, bits: int, depth: int) -> _Place:
        made = self.compile(type_.id, depth + 1)
        if type_.kind == Kind.INT and not bits:  # before kind_flag, the INT itself said that it is a bit-field
            integer = self._btf.integer(type_)
            if integer.offset or (integer.bits < made.size * 8 and not integer.encoding & 4):
                at, bits = at + integer.offset, integer.bits
        if not bits:
            if at % 8:
                raise BtfError(f".BTF: member {name!r} starts at bit {at}")
            return _Place(name, at // 8, at // 8 + made.size, made)
        if type_.kind not in {Kind.INT} | ENUMS or bits > made.size * 8:
            raise BtfError(f".BTF: bit-field {name!r} of {bits} bits in {made.what}")
        start, end = at // 8, (at + bits + 7) // 8
        shift = at - start * 8 if self._order == "<" else end * 8 - at - bits
        return _Place(name, start, end, made, shift, bits)


_COMPILERS: dict[Kind, Callable[[_Compiler, Type, int], Codec]] = {
    Kind.PTR: _Compiler.pointer,
    Kind.INT: _Compiler.integer,
    Kind.FLOAT: _Compiler.floating,
    Kind.ENUM: _Compiler.enumeration,
    Kind.ENUM64: _Compiler.enumeration,
    Kind.ARRAY: _Compiler.array,
    Kind.STRUCT: _Compiler.composite,
    Kind.UNION: _Compiler.composite,
}
