"""BPF instructions: 8 bytes each, `ld_imm64` takes two (Documentation/bpf/standardization/instruction-set.rst).

byte 0    opcode
byte 1    destination register (low nibble), source register (high nibble) on a little-endian machine;
          the nibbles change places on a big-endian one
byte 2-3  signed offset
byte 4-7  signed immediate
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..errors import ObjectError
from .abi import PseudoCall

SIZE = 8
LD_IMM64 = 0x18
CALL = 0x85


class Instruction(NamedTuple):
    """One 8-byte slot. The second slot of an `ld_imm64` has opcode 0."""

    opcode: int
    dst: int
    src: int
    offset: int
    imm: int


def _order(byte_order: str) -> str:
    return "<" if byte_order == "little" else ">"


def decode(code: bytes, byte_order: str) -> list[Instruction]:
    """Split `code` into slots. Raises ObjectError when its length is no multiple of 8 bytes."""
    if len(code) % SIZE:
        raise ObjectError(f"BPF code of {len(code)} bytes: not a multiple of {SIZE}")
    slots = []
    for opcode, regs, offset, imm in struct.iter_unpack(_order(byte_order) + "BBhi", code):
        low, high = regs & 15, regs >> 4
        dst, src = (low, high) if byte_order == "little" else (high, low)
        slots.append(Instruction(opcode, dst, src, offset, imm))
    return slots


def encode(slots: list[Instruction], byte_order: str) -> bytes:
    """The inverse of `decode`."""
    pack = struct.Struct(_order(byte_order) + "BBhi").pack
    little = byte_order == "little"
    return b"".join(
        pack(i.opcode, i.dst | i.src << 4 if little else i.src | i.dst << 4, i.offset, i.imm) for i in slots
    )


def _calls(code: bytes, byte_order: str, source: int) -> list[int]:
    """The slots of calls with this source register (abi.PseudoCall). The second half of an ld_imm64 is none."""
    registers, opcodes, found = code[1::SIZE], code[::SIZE], []
    shift = 4 if byte_order == "little" else 0
    slot = opcodes.find(CALL)
    while slot >= 0:
        if registers[slot] >> shift & 15 == source:
            found.append(slot)
        slot = opcodes.find(CALL, slot + 1)
    return found


def local_calls(code: bytes, byte_order: str) -> list[int]:
    """The slots of calls to other BPF functions."""
    return _calls(code, byte_order, PseudoCall.CALL)


def helper_calls(code: bytes, byte_order: str) -> list[int]:
    """The slots of calls to the kernel's helpers."""
    return _calls(code, byte_order, PseudoCall.HELPER)
