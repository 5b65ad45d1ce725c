"""How keys and values look in Python: a form turns a value into the bytes that the kernel takes, and back.

A map's class says which forms its keys and its values have (`KEY` and `VALUE`), by one of the functions at the
end. Every form but the per-CPU one takes bytes of the exact size as well, so that raw data can be put back.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from ...errors import ObjectError
from ...formats.btf import Btf
from ...formats.kinds import Kind
from ...formats.layout import Codec, codec
from ..cpus import possible_cpus


class Slot(NamedTuple):
    """The key or the value of a map: `what` names it in errors, `size` is in bytes, `type_id` is 0 without a type."""

    what: str
    size: int
    type_id: int = 0
    btf: Btf | None = None


class Form:
    """Bytes of one size. `size` is how many the kernel reads and writes."""

    def __init__(self, slot: Slot) -> None:
        self.what = slot.what
        self.size = slot.size

    def encode(self, value: Any) -> bytes:
        """`size` bytes. Raises ObjectError for what cannot be made into them."""
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise ObjectError(f"{self.what} is bytes ({self.size} of them), not {value!r}")
        if len(data := bytes(value)) != self.size:
            raise ObjectError(f"{self.what} has {self.size} bytes, not {len(data)}")
        return data

    def decode(self, data: bytes) -> Any:
        """The value in `size` bytes."""
        return data

    def _is_raw(self, value: Any) -> bool:
        return isinstance(value, (bytes, bytearray, memoryview)) and memoryview(value).nbytes == self.size


class Typed(Form):
    """A value of a BTF type."""

    def __init__(self, slot: Slot, types: Codec) -> None:
        super().__init__(slot)
        self._codec = types

    def encode(self, value: Any) -> bytes:
        """The value by its type. Raises ObjectError for one that the type cannot hold."""
        if self._is_raw(value):
            return bytes(value)
        try:
            return self._codec.encode(value)
        except ObjectError as error:
            raise type(error)(f"{self.what}: {error}", hint=error.hint) from error

    def decode(self, data: bytes) -> Any:
        """The value by its type."""
        return self._codec.decode(data)


class Number(Form):
    """An unsigned integer: an index, an interface's number."""

    def encode(self, value: Any) -> bytes:
        """The integer in native byte order. Raises ObjectError for others, and beyond the size."""
        if self._is_raw(value):
            return bytes(value)
        if not isinstance(value, int):
            raise ObjectError(f"{self.what} is an integer, not {value!r}")
        if value < 0 or value >> 8 * self.size:
            raise ObjectError(f"{self.what} is from 0 to {(1 << 8 * self.size) - 1}, not {value}")
        return value.to_bytes(self.size, sys.byteorder)

    def decode(self, data: bytes) -> int:
        """The integer."""
        return int.from_bytes(data, sys.byteorder)


class Reference(Number):
    """A descriptor going in: a number, or what has `fileno()`. What comes out, if anything does, is an id."""

    def encode(self, value: Any) -> bytes:
        """The descriptor. Raises ObjectError for what has none."""
        return super().encode(value.fileno() if hasattr(value, "fileno") else value)


class Addresses(Form):
    """A stack: a list of addresses, innermost first. The kernel fills what is left with zeros."""

    def decode(self, data: bytes) -> list[int]:
        """The addresses, without the zeros at the end."""
        addresses = list(memoryview(data).cast("Q"))
        while addresses and not addresses[-1]:
            addresses.pop()
        return addresses


class PerCpu(Form):
    """A list with a value for each possible CPU, in the order of their numbers.

    Each part takes its size rounded up to 8 bytes (kernel/bpf/hashtab.c, bpf_percpu_hash_copy).
    """

    def __init__(self, slot: Slot) -> None:
        self._one = plain(slot)
        self._stride = (slot.size + 7) & ~7
        self._count = possible_cpus()
        super().__init__(slot._replace(size=self._stride * self._count))

    def encode(self, value: Any) -> bytes:
        """The values one behind the other. Raises ObjectError for another number of them."""
        if not isinstance(value, (list, tuple)) or len(value) != self._count:
            raise ObjectError(f"{self.what} is a list of {self._count}, one for each possible CPU, not {value!r}")
        return b"".join(self._one.encode(part).ljust(self._stride, b"\0") for part in value)

    def decode(self, data: bytes) -> list[Any]:
        """The list."""
        starts = range(0, self.size, self._stride)
        return [self._one.decode(data[start : start + self._one.size]) for start in starts]


def plain(slot: Slot) -> Form:
    """By its BTF type; as bytes where it has none, or one of another size. A data section is bytes."""
    if slot.btf is None or not slot.type_id or slot.btf.kind(slot.type_id) == Kind.DATASEC:
        return Form(slot)
    types = codec(slot.btf, slot.type_id)
    return Typed(slot, types) if types.size == slot.size else Form(slot)


def number(slot: Slot) -> Form:
    """An integer, unless the slot has the size of something else: then as `plain`."""
    return Number(slot) if slot.size == 4 else plain(slot)


def stack(slot: Slot) -> Form:
    """A list of addresses."""
    return Addresses(slot) if slot.size % 8 == 0 else plain(slot)
