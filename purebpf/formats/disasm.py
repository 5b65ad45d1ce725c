"""BPF code as text, in the notation of the verifier's log and of bpftool.

The instructions are those of Documentation/bpf/standardization/instruction-set.rst, the words those of
kernel/bpf/disasm.c. The tests compare with what the running kernel writes into its log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .abi import PseudoCall
from .helpers import helper_name
from .insn import LD_IMM64, Instruction, decode

_LD, _LDX, _ST, _STX, _ALU, _JMP, _JMP32, _ALU64 = range(8)
_SIZES = {0x00: "u32", 0x08: "u16", 0x10: "u8", 0x18: "u64"}
_MODE_MEM, _MODE_MEMSX, _MODE_ATOMIC, _MODE_ABS, _MODE_IND = 0x60, 0x80, 0xC0, 0x20, 0x40
_ALU_OPS = {
    0x00: "+=",
    0x10: "-=",
    0x20: "*=",
    0x30: "/=",
    0x40: "|=",
    0x50: "&=",
    0x60: "<<=",
    0x70: ">>=",
    0x90: "%=",
    0xA0: "^=",
    0xB0: "=",
    0xC0: "s>>=",
}
_NEG, _END = 0x80, 0xD0
_SIGNED = {0x30: "s/=", 0x90: "s%="}
_JUMPS = {
    0x10: "==",
    0x20: ">",
    0x30: ">=",
    0x40: "&",
    0x50: "!=",
    0x60: "s>",
    0x70: "s>=",
    0xA0: "<",
    0xB0: "<=",
    0xC0: "s<",
    0xD0: "s<=",
}
_JA, _CALL, _EXIT, _MAY_GOTO = 0x00, 0x80, 0x90, 0xE0
_MOV, _REGISTER = 0xB0, 0x08  # the second is a bit: the operand is a register, not the immediate
_ADDRESS_SPACE, _PER_CPU = 1, -1  # the offsets of moves that cast (BPF_ADDR_SPACE_CAST, BPF_ADDR_PERCPU)
_ASSIGN = {0x00: "+=", 0x40: "|=", 0x50: "&=", 0xA0: "^="}
_FETCHES = {0x01: "fetch_add", 0x41: "fetch_or", 0x51: "fetch_and", 0xA1: "fetch_xor"}
_XCHG, _CMPXCHG = 0xE1, 0xF1
_LOAD_ACQ, _STORE_REL = 0x100, 0x110


def disassemble(code: bytes, byte_order: str, symbols: Mapping[int, str] | None = None) -> list[str]:
    """`slot: (opcode) text` for each instruction; an `ld_imm64` takes two slots and one line.

    `symbols` says by slot what an ld_imm64 or a call refers to, and stands in its place. What is no instruction is
    shown as its bytes. Raises ObjectError for code whose length is no multiple of 8.
    """
    slots = decode(code, byte_order)
    known = symbols or {}
    lines, slot = [], 0
    while slot < len(slots):
        wide = slots[slot].opcode == LD_IMM64 and slot + 1 < len(slots) and not slots[slot + 1].opcode
        following = slots[slot + 1] if wide else None
        text = _text(slots[slot], following, known.get(slot, ""))
        if not text:
            text = f"unknown: {code[8 * slot : 8 * slot + 8].hex(' ')}"
        lines.append(f"{slot}: ({slots[slot].opcode:02x}) {text}")
        slot += 2 if wide else 1
    return lines


def _text(i: Instruction, following: Instruction | None, symbol: str) -> str:
    if following is not None:
        low, high = i.imm & 0xFFFFFFFF, following.imm & 0xFFFFFFFF
        return f"r{i.dst} = {symbol or f'{low | high << 32:#x}'}"
    return _CLASSES[i.opcode & 7](i, symbol)


def _load(i: Instruction, _symbol: str) -> str:
    """The old ways to read a packet: BPF_ABS and BPF_IND."""
    size = _SIZES[i.opcode & 0x18]
    if i.opcode & 0xE0 == _MODE_ABS:
        return f"r0 = *({size} *)skb[{i.imm}]"
    return f"r0 = *({size} *)skb[r{i.src} + {i.imm}]" if i.opcode & 0xE0 == _MODE_IND else ""


def _load_memory(i: Instruction, _symbol: str) -> str:
    size, mode = _SIZES[i.opcode & 0x18], i.opcode & 0xE0
    if mode == _MODE_MEMSX and size != "u64":
        size = size.replace("u", "s")
    elif mode != _MODE_MEM:
        return ""
    return f"r{i.dst} = *({size} *)(r{i.src} {i.offset:+d})"


def _store_number(i: Instruction, _symbol: str) -> str:
    place = f"*({_SIZES[i.opcode & 0x18]} *)(r{i.dst} {i.offset:+d})"
    return f"{place} = {i.imm}" if i.opcode & 0xE0 == _MODE_MEM else ""


def _store(i: Instruction, _symbol: str) -> str:
    size = _SIZES[i.opcode & 0x18]
    place = f"*({size} *)(r{i.dst} {i.offset:+d})"
    if i.opcode & 0xE0 == _MODE_MEM:
        return f"{place} = r{i.src}"
    return _atomic(i, size, place) if i.opcode & 0xE0 == _MODE_ATOMIC else ""


def _atomic(i: Instruction, size: str, place: str) -> str:
    address = f"({size} *)(r{i.dst} {i.offset:+d})"
    if i.imm == _LOAD_ACQ:
        return f"r{i.dst} = load_acquire(({size} *)(r{i.src} {i.offset:+d}))"
    if i.imm == _STORE_REL:
        return f"store_release({address}, r{i.src})"
    if size not in ("u32", "u64"):
        return ""
    wide = "64" if size == "u64" else ""
    if i.imm in _ASSIGN:
        return f"lock {place} {_ASSIGN[i.imm]} r{i.src}"
    if i.imm == _CMPXCHG:
        return f"r0 = atomic{wide}_cmpxchg({address}, r0, r{i.src})"
    name = "xchg" if i.imm == _XCHG else _FETCHES.get(i.imm, "")
    return f"r{i.src} = atomic{wide}_{name}({address}, r{i.src})" if name else ""


def _arithmetic(i: Instruction, _symbol: str) -> str:
    letter = "r" if i.opcode & 7 == _ALU64 else "w"
    operation, target = i.opcode & 0xF0, f"{letter}{i.dst}"
    if operation == _NEG:
        return f"{target} = -{target}"
    if operation == _END:
        return _byte_swap(i)
    if operation not in _ALU_OPS:
        return ""
    if operation == _MOV and i.opcode & _REGISTER:
        return f"{target} = {_moved(i, f'{letter}{i.src}')}"
    sign = _SIGNED.get(operation) if i.offset == 1 else None
    return f"{target} {sign or _ALU_OPS[operation]} {f'{letter}{i.src}' if i.opcode & _REGISTER else i.imm}"


def _moved(i: Instruction, source: str) -> str:
    """A move may extend the sign, or make a pointer of another kind."""
    wide = i.opcode & 7 == _ALU64
    if wide and i.offset == _ADDRESS_SPACE:
        return f"addr_space_cast({source}, {i.imm >> 16 & 0xFFFF}, {i.imm & 0xFFFF})"
    if wide and i.offset == _PER_CPU:
        return f"&(void __percpu *)({source})"
    return f"(s{i.offset}){source}" if i.offset in (8, 16, 32)[: 2 + wide] else source


def _byte_swap(i: Instruction) -> str:
    if i.opcode & 7 == _ALU64:
        return f"r{i.dst} = bswap{i.imm} r{i.dst}"
    return f"r{i.dst} = {'be' if i.opcode & _REGISTER else 'le'}{i.imm} r{i.dst}"


def _jump(i: Instruction, symbol: str) -> str:
    operation, wide = i.opcode & 0xF0, i.opcode & 7 == _JMP
    if operation == _CALL and wide:
        return _call(i, symbol)
    if operation == _EXIT and wide:
        return "exit"
    if operation == _JA and i.opcode & _REGISTER:
        return f"gotox r{i.dst}" if wide else ""
    if operation == _JA:
        return f"goto pc{i.offset:+d}" if wide else f"gotol pc{i.imm:+d}"
    if operation == _MAY_GOTO and wide and not i.src:
        return f"may_goto pc{i.offset:+d}"
    if operation not in _JUMPS:
        return ""
    letter = "r" if wide else "w"
    source = f"{letter}{i.src}" if i.opcode & _REGISTER else f"{i.imm & 0xFFFFFFFF:#x}"
    return f"if {letter}{i.dst} {_JUMPS[operation]} {source} goto pc{i.offset:+d}"


def _call(i: Instruction, symbol: str) -> str:
    if i.opcode & _REGISTER:
        return f"callx r{i.dst}"
    if i.src == PseudoCall.HELPER and not symbol:
        return f"call {helper_name(i.imm)}#{i.imm}"
    if i.src == PseudoCall.CALL:
        return f"call {symbol or f'pc{i.imm:+d}'}"
    return f"call {symbol or f'kernel-function#{i.imm}'}"


_CLASSES: dict[int, Callable[[Instruction, str], str]] = {
    _LD: _load,
    _LDX: _load_memory,
    _ST: _store_number,
    _STX: _store,
    _ALU: _arithmetic,
    _JMP: _jump,
    _JMP32: _jump,
    _ALU64: _arithmetic,
}
