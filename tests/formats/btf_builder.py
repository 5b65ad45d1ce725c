"""Writes BTF: what the tests read. Written from Documentation/bpf/btf.rst, apart from the code under test.

Each method adds a type and gives its id. Nothing is checked, so that tests can write nonsense.

    b = Builder("little")
    i = b.int("int", 4, signed=True)
    s = b.struct("pair", 8, [("a", i, 0), ("b", i, 32)])
    btf = Btf(b.bytes())
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Union

from purebpf.formats.btf import Btf
from purebpf.formats.kinds import Kind

# (name, type id, bit offset) or, for a bit-field, (name, type id, bit offset, bits)
Row = Union["tuple[str, int, int]", "tuple[str, int, int, int]"]


class Builder:
    """BTF of one byte order. With `base`, a split BTF that goes on where that one ends."""

    def __init__(self, order: str = "little", base: Btf | None = None) -> None:
        self.order = "<" if order == "little" else ">"
        self.types = bytearray()
        self.strings = bytearray(b"" if base else b"\0")
        self.count = base.count if base else 0
        self._first_string = base._end_of_strings if base else 0
        self._known: dict[str, int] = {"": 0}

    def bytes(self) -> bytes:
        sizes = (0, len(self.types), len(self.types), len(self.strings))
        return struct.pack(self.order + "HBBI4I", 0xEB9F, 1, 0, 24, *sizes) + self.types + self.strings

    def string(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = self._first_string + len(self.strings)
            self.strings += text.encode() + b"\0"
        return self._known[text]

    def add(
        self, kind: int, name: str = "", size: int = 0, tail: Sequence[int] = (), vlen: int = 0, flag: bool = False
    ) -> int:
        """Any type: `size` is its third word, `tail` what follows it."""
        info = int(flag) << 31 | kind << 24 | vlen
        words = [self.string(name), info, size & 0xFFFFFFFF, *(word & 0xFFFFFFFF for word in tail)]
        self.types += struct.pack(f"{self.order}{len(words)}I", *words)
        self.count += 1
        return self.count

    def int(
        self, name: str, size: int, signed: bool = False, encoding: int = 0, offset: int = 0, bits: int = -1
    ) -> int:
        bits = size * 8 if bits < 0 else bits
        return self.add(Kind.INT, name, size, [(encoding | signed) << 24 | offset << 16 | bits])

    def float(self, name: str, size: int) -> int:
        return self.add(Kind.FLOAT, name, size)

    def ptr(self, to: int) -> int:
        return self.add(Kind.PTR, "", to)

    def typedef(self, name: str, to: int) -> int:
        return self.add(Kind.TYPEDEF, name, to)

    def const(self, to: int) -> int:
        return self.add(Kind.CONST, "", to)

    def volatile(self, to: int) -> int:
        return self.add(Kind.VOLATILE, "", to)

    def restrict(self, to: int) -> int:
        return self.add(Kind.RESTRICT, "", to)

    def type_tag(self, name: str, to: int) -> int:
        return self.add(Kind.TYPE_TAG, name, to)

    def decl_tag(self, name: str, to: int, component: int = -1) -> int:
        return self.add(Kind.DECL_TAG, name, to, [component])

    def fwd(self, name: str, union: bool = False) -> int:
        return self.add(Kind.FWD, name, flag=union)

    def array(self, element: int, count: int, index: int = 0) -> int:
        return self.add(Kind.ARRAY, "", 0, [element, index or element, count])

    def struct(self, name: str, size: int, members: Sequence[Row], kind: Kind = Kind.STRUCT) -> int:
        """With the kind_flag if a member says its bits."""
        flag = any(len(member) == 4 for member in members)
        tail = [
            word
            for label, type_id, offset, *bits in members
            for word in (self.string(label), type_id, offset | (bits[0] if bits else 0) << 24)
        ]
        return self.add(kind, name, size, tail, len(members), flag)

    def union(self, name: str, size: int, members: Sequence[Row]) -> int:
        return self.struct(name, size, members, Kind.UNION)

    def enum(self, name: str, rows: Sequence[tuple[str, int]], size: int = 4, signed: bool = False) -> int:
        tail = [word for label, value in rows for word in (self.string(label), value)]
        return self.add(Kind.ENUM, name, size, tail, len(rows), signed)

    def enum64(self, name: str, rows: Sequence[tuple[str, int]], size: int = 8, signed: bool = False) -> int:
        tail = [word for label, value in rows for word in (self.string(label), value, value >> 32)]
        return self.add(Kind.ENUM64, name, size, tail, len(rows), signed)

    def func_proto(self, result: int, parameters: Sequence[tuple[str, int]]) -> int:
        tail = [word for label, type_id in parameters for word in (self.string(label), type_id)]
        return self.add(Kind.FUNC_PROTO, "", result, tail, len(parameters))

    def func(self, name: str, prototype: int, linkage: int = 1) -> int:
        return self.add(Kind.FUNC, name, prototype, vlen=linkage)

    def var(self, name: str, to: int, linkage: int = 1) -> int:
        return self.add(Kind.VAR, name, to, [linkage])

    def datasec(self, name: str, size: int, rows: Sequence[tuple[int, int, int]]) -> int:
        return self.add(Kind.DATASEC, name, size, [word for row in rows for word in row], len(rows))
