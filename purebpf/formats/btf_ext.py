""".BTF.ext: which function, source line and CO-RE relocation belongs to which instruction (Documentation/bpf/btf.rst).

    header    magic u16, version u8, flags u8, header length u32; offset and length u32 of function info, of line
              info and, in headers of 32 bytes and more, of CO-RE relocations
    each      record size u32; then for each ELF section: offset of its name, number of records, the records
    records   instruction offset in bytes, then type id | file, line text, line and column | type id, access, kind

A record may be longer than this list says; the rest is passed over.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..errors import BtfError
from .abi import CoreKind
from .btf import MAGIC, Btf
from .spec import CoreRelocation, Line

_CORE_KINDS = {int(kind): kind for kind in CoreKind}
_FIELDS = (2, 4, 4)  # 32-bit words in a record of function info, line info, CO-RE relocations


class SectionInfo(NamedTuple):
    """What .BTF.ext says of one ELF section. Slots count from the section's start; all in their order."""

    functions: dict[int, int]  # slot -> id of a FUNC
    lines: list[Line]
    relocations: list[CoreRelocation]


def parse(data: bytes, btf: Btf) -> dict[str, SectionInfo]:
    """By name of section. Raises BtfError where it is damaged."""
    found: dict[str, SectionInfo] = {}
    if not data:
        return found
    order = "<" if btf.byte_order == "little" else ">"
    header = _unpack(order + "HBBI", data, 0)
    if header[0] != MAGIC:
        raise BtfError(f".BTF.ext: magic is {header[0]:#x}, not {MAGIC:#x}")
    for part in range(3):
        if header[3] >= 16 + 8 * part:
            start, length = _unpack(order + "II", data, 8 + 8 * part)
            for name, rows in _records(data, btf, header[3] + start, length, _FIELDS[part]):
                _add(found.setdefault(name, SectionInfo({}, [], [])), part, rows, btf)
    for info in found.values():
        info.lines.sort()
        info.relocations.sort()
    return found


def _unpack(layout: str, data: bytes, offset: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, data, offset)
    except struct.error:
        raise BtfError(f".BTF.ext: cut off at offset {offset}") from None


def _records(
    data: bytes, btf: Btf, start: int, length: int, fields: int
) -> list[tuple[str, list[tuple[int, ...]]]]:  # fmt: skip
    if not length:
        return []
    order = "<" if btf.byte_order == "little" else ">"
    end, sections = start + length, []
    (size,) = _unpack(order + "I", data, start)
    if size < 4 * fields or size % 4 or end > len(data):
        raise BtfError(f".BTF.ext: records of {size} bytes at offset {start}, up to {end} of {len(data)}")
    layout = struct.Struct(f"{order}{fields}I{size - 4 * fields}x")
    at = start + 4
    while at < end:
        name, count = _unpack(order + "II", data, at)
        at += 8
        if not count or at + count * size > end:
            raise BtfError(f".BTF.ext: {count} records at offset {at} in a part that ends at {end}")
        sections.append((btf.string(name), list(layout.iter_unpack(data[at : at + count * size]))))
        at += count * size
    return sections


def _add(info: SectionInfo, part: int, rows: list[tuple[int, ...]], btf: Btf) -> None:
    if any(row[0] % 8 for row in rows):
        raise BtfError(".BTF.ext: a record for the middle of an instruction")
    if part == 0:
        info.functions.update((row[0] // 8, row[1]) for row in rows)
    elif part == 1:
        info.lines.extend(Line(row[0] // 8, *row[1:]) for row in rows)
    else:
        info.relocations.extend(
            CoreRelocation(at // 8, type_id, btf.string(access), _CORE_KINDS.get(kind, kind))
            for at, type_id, access, kind in rows
        )
