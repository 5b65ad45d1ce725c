"""Codecs: the bytes of a value to Python and back, one class for each form that values have.

Each codec has an item in `struct`'s notation, so that a struct whose members do not share bytes is read by one
`struct.Struct`; its `convert` then makes what struct cannot: enums, text, inner structs. Unions and bit-fields are
read member by member. `layout` makes codecs from BTF.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum, IntEnum
from operator import index, itemgetter
from reprlib import repr as shortened
from typing import Any, Literal, NamedTuple, Optional

from ..errors import ObjectError

_MOST_NAMES = 1 << 12  # of an IntEnum; Python 3.9 takes quadratic time to make one
_INTEGERS = {1: "b", 2: "h", 4: "i", 8: "q"}
_FLOATS = {2: "e", 4: "f", 8: "d"}

_Convert = Optional[Callable[[Any], Any]]


class Codec:
    """Decodes and encodes values of one BTF type. `size` is in bytes, `what` its name for messages."""

    def __init__(self, what: str, size: int, order: str, item: str = "", convert: _Convert = None) -> None:
        self.what, self.size, self.order = what, size, order
        self.item = item or f"{size}s"
        self.convert = convert
        self.objects = 1 + size // 64
        self._struct = struct.Struct(order + self.item)

    def decode(self, data: bytes | memoryview) -> Any:
        """The value in the first `size` bytes. Raises ObjectError if there are fewer."""
        if len(data) < self.size:
            raise ObjectError(f"{self.what} has {self.size} bytes; there are {len(data)}")
        return self.decode_at(data, 0)

    def encode(self, value: Any) -> bytes:
        """`size` bytes. Bytes of that size are taken as they are. Raises ObjectError for what the type cannot hold."""
        if isinstance(value, (bytes, bytearray, memoryview)):
            content = bytes(value)
            return content if len(content) == self.size else self._write(content)
        return self._write(value)

    @property
    def least(self) -> int:
        """What a record of variable size has at least, in bytes: all but the array that a struct ends with."""
        return self.size

    def decode_at(self, data: bytes | memoryview, start: int) -> Any:
        """The value in the bytes from `start` on, which must be there."""
        (value,) = self._struct.unpack_from(data, start)
        return self.convert(value) if self.convert else value

    def decode_each(self, memory: bytes | memoryview, stride: int, skip: int = 0) -> Iterator[Any]:
        """A value for each `stride` bytes of `memory`, from their byte `skip` on."""
        return (self.decode_at(memory, at) for at in range(skip, len(memory), stride))

    def _write(self, value: Any) -> bytes:
        raise ObjectError(f"{self.what} cannot be {_shown(value)}")


class Number(Codec):
    """An int, bool or pointer. `wrap` makes the value of the number that a bit-field, too, holds."""

    def __init__(self, what: str, size: int, order: str, signed: bool, wrap: _Convert = None) -> None:
        letter = _INTEGERS.get(size, "")
        super().__init__(what, size, order, letter if signed else letter.upper(), wrap)
        self.signed, self.wrap = signed, wrap
        if not letter:  # __int128
            self.convert = lambda data: int.from_bytes(data, _endian(order), signed=signed)

    def fitting(self, what: str, value: Any, bits: int) -> int:
        """The number, if it fits into so many bits."""
        try:
            number = index(value)
        except TypeError:
            raise ObjectError(f"{what} cannot be {_shown(value)}") from None
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if self.signed else (0, (1 << bits) - 1)
        if not low <= number <= high:
            raise ObjectError(f"{what} holds {low} to {high}, not {_shown(number)}")
        return number

    def _write(self, value: Any) -> bytes:
        number = self.fitting(self.what, value, self.size * 8)
        return number.to_bytes(self.size, _endian(self.order), signed=self.signed)


class Bool(Number):
    """A C bool: one byte, of which encoding uses a bit."""

    def __init__(self, what: str, order: str) -> None:
        super().__init__(what, 1, order, signed=False, wrap=bool)

    def _write(self, value: Any) -> bytes:
        return bytes([self.fitting(self.what, value, 1)])


class Float(Codec):
    """A float or double; a long double, which Python lacks, is its bytes."""

    def __init__(self, what: str, size: int, order: str) -> None:
        super().__init__(what, size, order, _FLOATS.get(size, ""))

    def _write(self, value: Any) -> bytes:
        if self.size not in _FLOATS:
            return super()._write(value)
        try:
            return self._struct.pack(value)
        except (struct.error, OverflowError):
            return super()._write(value)


class Enumeration(Number):
    """An enum. Names are taken for values too."""

    def __init__(self, what: str, size: int, order: str, name: str, rows: list[tuple[str, int]]) -> None:
        self._named: dict[str, int] = {}
        for label, number in rows:
            self._named.setdefault(label, number)
        known = {int(member): member for member in _enum_class(name, self._named)}
        super().__init__(what, size, order, any(v < 0 for _n, v in rows), lambda number: known.get(number, number))

    def fitting(self, what: str, value: Any, bits: int) -> int:
        """See Number."""
        if isinstance(value, str):
            if value not in self._named:
                raise ObjectError(f"{what} has no {_shown(value)}{_close(value, self._named)}")
            value = self._named[value]
        return super().fitting(what, value, bits)


class Bytes(Codec):
    """An array of chars, or of other single bytes."""

    def __init__(self, what: str, size: int, order: str, is_text: bool) -> None:
        super().__init__(what, size, order, "", _up_to_nul if is_text else None)
        self._is_text = is_text

    def _write(self, value: Any) -> bytes:
        if isinstance(value, int):
            return super()._write(value)
        try:
            content = value.encode() if isinstance(value, str) else bytes(value)
        except (TypeError, ValueError):
            return super()._write(value)
        if len(content) > self.size or (len(content) < self.size and not self._is_text):
            raise ObjectError(f"{self.what} has {self.size} bytes, not {len(content)}")
        return content.ljust(self.size, b"\0")


class Array(Codec):
    """An array of anything but bytes."""

    def __init__(self, what: str, order: str, element: Codec, count: int) -> None:
        super().__init__(what, element.size * count, order, "", self._convert)
        self.objects = 1 + count * element.objects
        self._element, self._count = element, count
        self._each = struct.Struct(order + element.item)

    def _convert(self, data: bytes) -> list[Any]:
        if not self.size:  # which iter_unpack refuses
            return [self._element.decode(data) for _ in range(self._count)]
        values = [value for (value,) in self._each.iter_unpack(data)]
        convert = self._element.convert
        return [convert(value) for value in values] if convert else values

    def _write(self, value: Any) -> bytes:
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or len(value) != self._count:
            raise ObjectError(f"{self.what} takes a sequence of {self._count}, not {_shown(value)}")
        return b"".join(map(self._element.encode, value))


class Value(tuple[Any, ...]):
    """A struct or union, decoded: a tuple of its members, which are attributes too.

    A member that is named as something of Python's own (`__len__`) is in `_asdict()` only.
    """

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    def _asdict(self) -> dict[str, Any]:
        """Member -> value."""
        return dict(zip(self._fields, self))

    def __repr__(self) -> str:
        shown = (v.name if isinstance(v, Enum) else repr(v) for v in self)
        return f"{type(self).__name__}({', '.join(f'{n}={v}' for n, v in zip(self._fields, shown))})"


class Place(NamedTuple):
    """A member: from bit `first` to before bit `last`, as BTF counts them; a bit-field is `bits` at `shift`."""

    name: str
    first: int
    last: int
    codec: Codec
    shift: int = 0
    bits: int = 0

    @property
    def start(self) -> int:
        """Its first byte."""
        return self.first // 8

    @property
    def end(self) -> int:
        """Behind its last byte."""
        return (self.last + 7) // 8


class Composite(Codec):
    """A struct or union. No two `places` have the same name."""

    def __init__(self, what: str, name: str, size: int, order: str, places: list[Place]) -> None:
        super().__init__(what, size, order, "", lambda data: self.decode_at(data, 0))
        self.objects = 1 + sum(place.codec.objects for place in places)
        self._places, self._by_name = places, {place.name: place for place in places}
        self._endian = _endian(order)
        self._convert = [(i, p.codec.convert) for i, p in enumerate(places) if p.codec.convert]
        self._has_overlaps = _is_overlapping(places)
        self._class = _value_class(name, [place.name for place in places], has_memory=self._has_overlaps)
        if not self._has_overlaps:
            self._struct = struct.Struct(order + _items(places, size))

    @property
    def least(self) -> int:
        """See Codec."""
        last = max(self._places, key=lambda place: place.first, default=None)
        return last.start if last and isinstance(last.codec, (Bytes, Array)) else self.size

    def decode_at(self, data: bytes | memoryview, start: int) -> Any:
        """A value whose members share bytes keeps all of these, for no member may tell them all again."""
        if self._has_overlaps:
            memory = bytes(data[start : start + self.size])
            value = self._class([self._read(place, memory) for place in self._places])
            vars(value)[_MEMORY] = memory
            return value
        if not self._convert:
            return self._class(self._struct.unpack_from(data, start))
        values = list(self._struct.unpack_from(data, start))
        for i, convert in self._convert:
            values[i] = convert(values[i])
        return self._class(values)

    def _read(self, place: Place, memory: bytes) -> Any:
        if not place.bits or not isinstance(place.codec, Number):
            return place.codec.decode_at(memory, place.start)
        whole = int.from_bytes(memory[place.start : place.end], self._endian)
        number = whole >> place.shift & (1 << place.bits) - 1
        if place.codec.signed and number >> place.bits - 1:
            number -= 1 << place.bits
        return place.codec.wrap(number) if place.codec.wrap else number

    def _write(self, value: Any) -> bytes:
        if isinstance(value, Value) and value._fields == self._class._fields and hasattr(value, _MEMORY):
            return self.encode(getattr(value, _MEMORY))
        memory = bytearray(self.size)
        given = self._given(value)
        self._refuse_overlaps([place for place, _member in given])
        for place, member in given:
            self._put(memory, place, member)
        return bytes(memory)

    def _given(self, value: Any) -> list[tuple[Place, Any]]:
        if isinstance(value, Value):
            value = Value._asdict(value)
        if isinstance(value, Mapping):
            unknown = next((name for name in value if name not in self._by_name), None)
            if unknown is not None:
                raise ObjectError(f"{self.what} has no member {_shown(unknown)}{_close(str(unknown), self._by_name)}")
            return [(self._by_name[name], member) for name, member in value.items()]
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or len(value) != len(self._places):
            takes = f"its members by name, all {len(self._places)} in order, or {self.size} bytes"
            raise ObjectError(f"{self.what} takes {takes}; not {_shown(value)}")
        return list(zip(self._places, value))

    def _refuse_overlaps(self, places: list[Place]) -> None:
        if self._has_overlaps:
            ordered = sorted(places, key=lambda place: place.first)
            for one, other in zip(ordered, ordered[1:]):
                if other.first < one.last:
                    raise ObjectError(f"{self.what}: {one.name!r} and {other.name!r} share bytes; give one of them")

    def _put(self, memory: bytearray, place: Place, value: Any) -> None:
        if not place.bits or not isinstance(place.codec, Number):
            memory[place.start : place.end] = place.codec.encode(value)
            return
        number = place.codec.fitting(f"{self.what}: {place.name!r} of {place.bits} bits", value, place.bits)
        whole = int.from_bytes(memory[place.start : place.end], self._endian)
        whole |= (number & (1 << place.bits) - 1) << place.shift
        memory[place.start : place.end] = whole.to_bytes(place.end - place.start, self._endian)


_MEMORY = " memory"  # no member of a C struct can have this name


def _items(places: Iterable[Place], size: int) -> str:
    """One format for the whole struct, an item for each member; the gaps are `x`."""
    items, at = [], 0
    for place in places:
        items.append(f"{place.start - at}x{place.codec.item}")
        at = place.end
    return "".join([*items, f"{size - at}x"])


def _is_overlapping(places: list[Place]) -> bool:
    """Are there members that one struct.Struct cannot read, because they share bytes or come out of order?"""
    return any(p.bits for p in places) or any(b.first < a.last for a, b in zip(places, places[1:]))


def _endian(order: str) -> Literal["little", "big"]:
    return "little" if order == "<" else "big"


def _up_to_nul(data: bytes) -> bytes:
    return data.split(b"\0", 1)[0]


def _value_class(name: str, members: list[str], has_memory: bool) -> type[Value]:
    """With `has_memory` there is an instance dictionary, for the bytes."""
    own: dict[str, Any] = {
        member: property(itemgetter(i))
        for i, member in enumerate(members)
        if member not in ("_fields", "_asdict") and not (member.startswith("__") and member.endswith("__"))
    }
    own |= {"_fields": tuple(members), "__module__": __name__}
    return type(name, (Value,), own if has_memory else {**own, "__slots__": ()})


def _enum_class(name: str, named: dict[str, int]) -> Any:
    """An IntEnum of all names but those that Python's enums keep for themselves."""
    make: Any = IntEnum
    kept = {n: v for n, v in named.items() if n not in ("", "mro") and not (n.startswith("_") and n.endswith("_"))}
    return make(name, kept if len(kept) <= _MOST_NAMES else {}, module=__name__)


def _shown(value: Any) -> str:
    try:
        return shortened(value)
    except ValueError:
        return "a number of so many digits"  # more than Python prints


def _close(name: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(name, known, 3)
    return f"; close: {', '.join(close)}" if close else ""


def plain(value: Any) -> Any:
    """A decoded value as JSON has it: dicts, lists, numbers; an enum by name, bytes as text with \\xNN for the rest."""
    if isinstance(value, Value):
        return {name: plain(member) for name, member in zip(type(value)._fields, value)}
    if isinstance(value, list):
        return [plain(element) for element in value]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value
