"""Structs and unions: their members' places, and the codec of them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from ..errors import ObjectError
from .decode import INTEGERS, Source, endian
from .values import Array, Bytes, Codec, Number, Value, close, shown

_MOST_PARTS = 256  # of a struct that is compiled as one; a larger one is read member by member


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
        super().__init__(what, size, order)
        self.objects = 1 + sum(place.codec.objects for place in places)
        parts = 1 + sum(place.codec.parts for place in places)
        self._is_large = parts > _MOST_PARTS
        self.parts = 1 if self._is_large else parts
        self._places, self._by_name = places, {place.name: place for place in places}
        self._has_overlaps = _is_overlapping(places)
        self._class = _value_class(name, [place.name for place in places], has_memory=self._has_overlaps)

    @property
    def least(self) -> int:
        """See Codec."""
        last = max(self._places, key=lambda place: place.first, default=None)
        return last.start if last and isinstance(last.codec, (Bytes, Array)) else self.size

    def expression(self, source: Source, at: int) -> str:
        """A value whose members share bytes keeps all of these, for no member may tell them all again."""
        if self._is_large:
            return f"{source.use(self._read_all)}({super().expression(source, at)})"
        units = _units(self._places, self.size)
        members = "".join([f"{self._member(source, at, place, units)}, " for place in self._places])
        if self._has_overlaps:
            return f"{source.use(_keep)}({source.use(self._class)}, ({members}), {super().expression(source, at)})"
        return f"{source.use(_new)}({source.use(self._class)}, ({members}))"

    def _member(self, source: Source, at: int, place: Place, units: Mapping[str, tuple[int, int]]) -> str:
        if not place.bits or not isinstance(place.codec, Number):
            return place.codec.expression(source, at + place.start)
        start, size = units[place.name]
        shift = place.first - start * 8 if self.order == "<" else (start + size) * 8 - place.last
        number = f"({source.integer(at + start, size, False)} >> {shift} & {(1 << place.bits) - 1})"
        if place.codec.signed:
            sign = 1 << place.bits - 1
            number = f"(({number} ^ {sign}) - {sign})"
        return place.codec.wrapped(source, number)

    def _read_all(self, memory: bytes) -> Value:
        members = tuple([self._read(place, memory) for place in self._places])
        return _keep(self._class, members, memory) if self._has_overlaps else _new(self._class, members)

    def _read(self, place: Place, memory: bytes) -> Any:
        if not place.bits or not isinstance(place.codec, Number):
            return place.codec.decode_at(memory, place.start)
        whole = int.from_bytes(memory[place.start : place.end], endian(self.order))
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
            value = dict(zip(value._fields, value))
        if isinstance(value, Mapping):
            unknown = next((name for name in value if name not in self._by_name), None)
            if unknown is not None:
                raise ObjectError(f"{self.what} has no member {shown(unknown)}{close(str(unknown), self._by_name)}")
            return [(self._by_name[name], member) for name, member in value.items()]
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or len(value) != len(self._places):
            takes = f"its members by name, all {len(self._places)} in order, or {self.size} bytes"
            raise ObjectError(f"{self.what} takes {takes}; not {shown(value)}")
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
        whole = int.from_bytes(memory[place.start : place.end], endian(self.order))
        whole |= (number & (1 << place.bits) - 1) << place.shift
        memory[place.start : place.end] = whole.to_bytes(place.end - place.start, endian(self.order))


_MEMORY = " memory"  # no member of a C struct can have this name
_new = tuple.__new__  # called directly: a call of the class takes longer


def _keep(made: type[Value], members: tuple[Any, ...], memory: bytes) -> Value:
    value = _new(made, members)
    vars(value)[_MEMORY] = memory
    return value


def _is_overlapping(places: list[Place]) -> bool:
    """Are there members that share bits?"""
    end = 0
    for place in sorted(places, key=lambda place: place.first):
        if place.first < end:
            return True
        end = max(end, place.last)
    return False


def _units(places: list[Place], size: int) -> dict[str, tuple[int, int]]:
    """Bit-field -> first byte and size of the integer that holds it, which is one for neighbours if it can be."""
    groups: list[list[Place]] = []
    end = 0
    for place in sorted((place for place in places if place.bits), key=lambda place: place.first):
        if not groups or place.start > end or max(end, place.end) - groups[-1][0].start > 8:
            groups.append([])
            end = 0
        groups[-1].append(place)
        end = max(end, place.end)
    units: dict[str, tuple[int, int]] = {}
    for group in groups:
        start, end = group[0].start, max(place.end for place in group)
        wide = next((wide for wide in INTEGERS if end - start <= wide <= size - start), end - start)
        units.update((place.name, (start, wide)) for place in group)
    return units


def _value_class(name: str, members: list[str], has_memory: bool) -> type[Value]:
    """With `has_memory` there is an instance dictionary, for the bytes."""
    own: dict[str, Any] = {
        member: property(itemgetter(i))
        for i, member in enumerate(members)
        if member not in ("_fields", "_asdict") and not (member.startswith("__") and member.endswith("__"))
    }
    own |= {"_fields": tuple(members), "__module__": __name__}
    return type(name, (Value,), own if has_memory else {**own, "__slots__": ()})
