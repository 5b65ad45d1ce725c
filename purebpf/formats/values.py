"""Codecs: the bytes of a value to Python and back, one class for each form that values have.

Each codec writes, as Python, how its value is made of what `struct` reads; `decode` compiles that for the whole type,
once. `layout` makes codecs from BTF.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum, IntEnum
from functools import cached_property
from operator import index
from reprlib import repr as shortened
from typing import Any, Optional

from ..errors import ObjectError
from .decode import INTEGERS, Decoder, Source, endian

_MOST_NAMES = 1 << 12  # of an IntEnum; Python 3.9 takes quadratic time to make one
_LONG_ARRAY = 128  # parts of an array that is decoded by itself
_FLOATS = {2: "e", 4: "f", 8: "d"}

_Convert = Optional[Callable[[Any], Any]]


class Codec:
    """Decodes and encodes values of one BTF type. `size` is in bytes, `what` its name for messages."""

    parts = 1  # of the source that decodes it

    def __init__(self, what: str, size: int, order: str, letter: str = "") -> None:
        self.what, self.size, self.order = what, size, order
        self.letter = letter  # struct's own, if struct makes the value
        self.objects = 1 + size // 64

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
        return self._decoder.at(data, start)

    def decode_each(self, memory: bytes | memoryview, stride: int, skip: int = 0) -> Iterator[Any]:
        """One value for each `stride` bytes of `memory`, found `skip` bytes into them, decoded as the iteration goes.

        Raises ObjectError at once if `memory` is not so many times `stride` or a value does not fit.
        """
        return self._decoder.each(memory, stride, skip)

    def expression(self, source: Source, at: int) -> str:
        """Python for the value at byte `at` of what `source` reads."""
        return source.read(at, self.letter or f"{self.size}s")

    @cached_property
    def _decoder(self) -> Decoder:
        source = Source(self.order)
        return Decoder(source, self.expression(source, 0), self.size)

    def _write(self, value: Any) -> bytes:
        raise ObjectError(f"{self.what} cannot be {shown(value)}")


class Number(Codec):
    """An int, bool or pointer. `wrap` makes the value of the number that a bit-field, too, holds."""

    def __init__(self, what: str, size: int, order: str, signed: bool, wrap: _Convert = None) -> None:
        letter = "" if wrap else INTEGERS.get(size, "")
        super().__init__(what, size, order, letter if signed else letter.upper())
        self.signed, self.wrap = signed, wrap

    def expression(self, source: Source, at: int) -> str:
        """See Codec."""
        if self.letter:
            return super().expression(source, at)
        return self.wrapped(source, source.integer(at, self.size, self.signed))

    def wrapped(self, source: Source, number: str) -> str:
        """Python for the value that the number stands for."""
        return f"{source.use(self.wrap)}({number})" if self.wrap else number

    def fitting(self, what: str, value: Any, bits: int) -> int:
        """The number, if it fits into so many bits."""
        try:
            number = index(value)
        except TypeError:
            raise ObjectError(f"{what} cannot be {shown(value)}") from None
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if self.signed else (0, (1 << bits) - 1)
        if not low <= number <= high:
            raise ObjectError(f"{what} holds {low} to {high}, not {shown(number)}")
        return number

    def _write(self, value: Any) -> bytes:
        number = self.fitting(self.what, value, self.size * 8)
        return number.to_bytes(self.size, endian(self.order), signed=self.signed)


class Bool(Number):
    """A C bool: one byte, of which encoding uses a bit."""

    def __init__(self, what: str, order: str) -> None:
        super().__init__(what, 1, order, signed=False, wrap=bool)
        self.letter = "?"

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
            return struct.pack(self.order + self.letter, value)
        except (struct.error, OverflowError):
            return super()._write(value)


class Enumeration(Number):
    """An enum. Names are taken for values too."""

    def __init__(self, what: str, size: int, order: str, name: str, rows: list[tuple[str, int]]) -> None:
        self._named: dict[str, int] = {}
        for label, number in rows:
            self._named.setdefault(label, number)
        known = _Known((int(member), member) for member in _enum_class(name, self._named))
        super().__init__(what, size, order, any(v < 0 for _n, v in rows), known.__getitem__)

    def fitting(self, what: str, value: Any, bits: int) -> int:
        """See Number."""
        if isinstance(value, str):
            if value not in self._named:
                raise ObjectError(f"{what} has no {shown(value)}{close(value, self._named)}")
            value = self._named[value]
        return super().fitting(what, value, bits)


class _Known(dict[int, int]):
    """Number -> member of an enum, looked up in C; the number itself where there is none."""

    def __missing__(self, number: int) -> int:
        return number


class Bytes(Codec):
    """An array of chars, or of other single bytes."""

    def __init__(self, what: str, size: int, order: str, is_text: bool) -> None:
        super().__init__(what, size, order)
        self._is_text = is_text

    def expression(self, source: Source, at: int) -> str:
        """See Codec."""
        whole = super().expression(source, at)
        return f"{whole}.partition(b'\\0')[0]" if self._is_text else whole

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
        super().__init__(what, element.size * count, order)
        self.objects = 1 + count * element.objects
        self._element, self._count = element, count
        self._is_long = not self.size or count * element.parts > _LONG_ARRAY
        self.parts = 1 if self._is_long else 1 + count * element.parts

    def expression(self, source: Source, at: int) -> str:
        """See Codec."""
        if self._is_long:
            return f"{source.use(self._elements)}({super().expression(source, at)})"
        starts = range(at, at + self.size, self._element.size)
        return f"[{', '.join([self._element.expression(source, start) for start in starts])}]"

    def _elements(self, data: bytes) -> list[Any]:
        if self._element.letter:
            return list(self._layout.unpack(data))
        if not self.size:  # which decode_each refuses
            return [self._element.decode(data) for _ in range(self._count)]
        return list(self._element.decode_each(data, self._element.size))

    @cached_property
    def _layout(self) -> struct.Struct:
        return struct.Struct(f"{self.order}{self._count}{self._element.letter}")

    def _write(self, value: Any) -> bytes:
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or len(value) != self._count:
            raise ObjectError(f"{self.what} takes a sequence of {self._count}, not {shown(value)}")
        return b"".join(map(self._element.encode, value))


class Value(tuple[Any, ...]):
    """A struct or union, decoded: a tuple of its members, which are attributes too.

    The members of anonymous structs and unions are among them; those of others are in a Value of their own
    (`event.task.pid`), arrays are lists. A member that is named as something of Python's own (`__len__`) is in
    `_asdict()` only.
    """

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    def _asdict(self) -> dict[str, Any]:
        """Member -> value; structs and unions within it, and those in arrays, are dictionaries too.

        Bytes and enums stay what they are; `plain` gives what JSON can hold.
        """
        return {name: _as_dicts(member) for name, member in zip(self._fields, self)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={_told(v)}' for n, v in zip(self._fields, self))})"


def _as_dicts(member: Any) -> Any:
    if isinstance(member, Value):
        return Value._asdict(member)
    return [_as_dicts(element) for element in member] if isinstance(member, list) else member


def _told(member: Any) -> str:
    """Enums by name, as C writes them."""
    if isinstance(member, list):
        return f"[{', '.join(map(_told, member))}]"
    return member.name if isinstance(member, Enum) else repr(member)


def _enum_class(name: str, named: dict[str, int]) -> Any:
    """An IntEnum of all names but those that Python's enums keep for themselves."""
    make: Any = IntEnum
    kept = {n: v for n, v in named.items() if n not in ("", "mro") and not (n.startswith("_") and n.endswith("_"))}
    return make(name, kept if len(kept) <= _MOST_NAMES else {}, module=__name__)


def shown(value: Any) -> str:
    """What a message shows of a value that was given."""
    try:
        return shortened(value)
    except ValueError:
        return "a number of so many digits"  # more than Python prints


def close(name: str, known: Mapping[str, Any]) -> str:
    """The end of a message about a name that is not among those known."""
    found = get_close_matches(name, known, 3)
    return f"; close: {', '.join(found)}" if found else ""


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
