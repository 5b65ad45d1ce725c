"""BTF, the type information of a BPF object (Documentation/bpf/btf.rst).

    header   magic u16 0xeb9f, version u8, flags u8, header length u32,
             type section offset and length u32, string section offset and length u32
    type     name offset u32, info u32 (vlen 0-15, kind 24-28, kind_flag 31), size or type u32,
             then what the kind adds

The sections' offsets count from the end of the header. Type 0 is void; ids count from 1 in file order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from ..errors import BtfError

MAGIC = 0xEB9F
_MAX_DEPTH = 32  # the kernel's own limit on nested types (kernel/bpf/btf.c, MAX_RESOLVE_DEPTH)


class Kind(IntEnum):
    """`BTF_KIND_*` (include/uapi/linux/btf.h)."""

    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


# Kind -> bytes that follow the 12 common ones: a fixed part and a part for each of the vlen members.
_TAIL = {
    Kind.INT: (4, 0),
    Kind.ARRAY: (12, 0),
    Kind.STRUCT: (0, 12),
    Kind.UNION: (0, 12),
    Kind.ENUM: (0, 8),
    Kind.FUNC_PROTO: (0, 8),
    Kind.VAR: (4, 0),
    Kind.DATASEC: (0, 12),
    Kind.DECL_TAG: (4, 0),
    Kind.ENUM64: (0, 12),
}
_SIZED = {Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.FLOAT, Kind.DATASEC, Kind.ENUM64}
_ALIASES = {Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG}


@dataclass(frozen=True)
class Type:
    """One type's common part. `size_or_type` is a size in bytes or a type id, by kind; `tail` is file offset."""

    id: int
    kind: Kind
    name: str
    vlen: int
    size_or_type: int
    tail: int


class Btf:
    """Typed access to a .BTF section. Any damage raises BtfError; offsets in messages are bytes in the section."""

    def __init__(self, data: bytes, byte_order: str) -> None:
        self._data = data
        self._order = "<" if byte_order == "little" else ">"
        magic, _version, _flags, header, type_off, type_len, str_off, str_len = self._unpack("HBBIIIII", 0)
        if magic != MAGIC:
            raise BtfError(f".BTF: magic is {magic:#x}, not {MAGIC:#x}")
        self._types_start, self._types_end = header + type_off, header + type_off + type_len
        self._strings = data[header + str_off : header + str_off + str_len]
        if self._types_end > len(data) or len(self._strings) != str_len:
            raise BtfError(f".BTF: its sections reach beyond its {len(data)} bytes")
        self._offsets = self._index()

    def _unpack(self, layout: str, offset: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(self._order + layout, self._data, offset)
        except struct.error:
            raise BtfError(f".BTF: cut off at offset {offset}") from None

    def _index(self) -> list[int]:
        offsets, offset = [0], self._types_start
        while offset < self._types_end:
            offsets.append(offset)
            kind, vlen = self._kind_and_vlen(offset)
            fixed, each = _TAIL.get(kind, (0, 0))
            offset += 12 + fixed + each * vlen
        if offset != self._types_end:
            raise BtfError(f".BTF: the last type reaches beyond the type section, to offset {offset}")
        return offsets

    def _kind_and_vlen(self, offset: int) -> tuple[Kind, int]:
        info = self._unpack("I", offset + 4)[0]
        number = info >> 24 & 0x1F
        try:
            return Kind(number), info & 0xFFFF
        except ValueError:
            raise BtfError(f".BTF: unknown kind {number} at offset {offset}") from None

    def string(self, offset: int) -> str:
        """The NUL-terminated string at `offset` of the string section."""
        end = self._strings.find(b"\0", offset)
        if offset >= len(self._strings) or end < 0:
            raise BtfError(f".BTF: no string at offset {offset} of the string section")
        return self._strings[offset:end].decode("utf-8", "backslashreplace")

    def type(self, type_id: int) -> Type:
        """The type with this id. Raises BtfError for void (0) and for ids beyond the last."""
        if not 0 < type_id < len(self._offsets):
            raise BtfError(f".BTF: no type {type_id}; there are {len(self._offsets) - 1}")
        offset = self._offsets[type_id]
        kind, vlen = self._kind_and_vlen(offset)
        name, _info, size_or_type = self._unpack("III", offset)
        return Type(type_id, kind, self.string(name), vlen, size_or_type, offset + 12)

    def find(self, kind: Kind, name: str) -> Type | None:
        """The first type of that kind and name."""
        for type_id in range(1, len(self._offsets)):
            if self._kind_and_vlen(self._offsets[type_id])[0] == kind:
                found = self.type(type_id)
                if found.name == name:
                    return found
        return None

    def resolve(self, type_id: int) -> Type:
        """The type behind typedefs and qualifiers. Raises BtfError where they form a loop."""
        for _ in range(_MAX_DEPTH):
            found = self.type(type_id)
            if found.kind not in _ALIASES:
                return found
            type_id = found.size_or_type
        raise BtfError(f".BTF: typedefs nest deeper than {_MAX_DEPTH} at type {type_id}")

    def members(self, struct_type: Type) -> list[tuple[str, int]]:
        """(name, type id) of each member of a STRUCT or UNION."""
        rows = (self._unpack("III", struct_type.tail + 12 * i) for i in range(struct_type.vlen))
        return [(self.string(name), type_id) for name, type_id, _offset in rows]

    def variables(self, datasec: Type) -> list[Type]:
        """The VARs of a DATASEC."""
        return [self.type(self._unpack("I", datasec.tail + 12 * i)[0]) for i in range(datasec.vlen)]

    def array(self, array_type: Type) -> tuple[int, int]:
        """(element type id, number of elements) of an ARRAY."""
        element, _index, count = self._unpack("III", array_type.tail)
        return element, count

    def size(self, type_id: int) -> int:
        """Size in bytes of a value. Pointers are 8: BPF is a 64-bit machine."""
        count = 1
        for _ in range(_MAX_DEPTH):
            found = self.resolve(type_id)
            if found.kind == Kind.PTR:
                return 8 * count
            if found.kind in _SIZED:
                return found.size_or_type * count
            if found.kind != Kind.ARRAY:
                raise BtfError(f".BTF: type {type_id} ({found.kind.name}) has no size")
            type_id, elements = self.array(found)
            count *= elements
        raise BtfError(f".BTF: arrays nest deeper than {_MAX_DEPTH} at type {type_id}")
