"""Instructions as text, each form as the kernel's disassembler writes it."""

from __future__ import annotations

import struct

import pytest
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from purebpf import ObjectError
from purebpf.formats.disasm import disassemble
from purebpf.formats.helpers import HELPERS, helper_name

Row = tuple[int, int, int, int, int, str]

# opcode, destination, source, offset, immediate, text
FORMS: list[Row] = [
    # ALU64 and ALU: + - * / | & << >> neg % ^ mov s>>
    (0x07, 1, 0, 0, 5, "r1 += 5"),
    (0x0F, 1, 2, 0, 0, "r1 += r2"),
    (0x04, 1, 0, 0, -5, "w1 += -5"),
    (0x0C, 1, 2, 0, 0, "w1 += w2"),
    (0x17, 1, 0, 0, 5, "r1 -= 5"),
    (0x2F, 1, 2, 0, 0, "r1 *= r2"),
    (0x37, 1, 0, 0, 5, "r1 /= 5"),
    (0x37, 1, 0, 1, 5, "r1 s/= 5"),
    (0x3F, 1, 2, 1, 0, "r1 s/= r2"),
    (0x3C, 1, 2, 1, 0, "w1 s/= w2"),
    (0x47, 1, 0, 0, 5, "r1 |= 5"),
    (0x57, 1, 0, 0, 5, "r1 &= 5"),
    (0x67, 1, 0, 0, 5, "r1 <<= 5"),
    (0x74, 1, 0, 0, 5, "w1 >>= 5"),
    (0x87, 1, 0, 0, 0, "r1 = -r1"),
    (0x84, 1, 0, 0, 0, "w1 = -w1"),
    (0x97, 1, 0, 0, 5, "r1 %= 5"),
    (0x97, 1, 0, 1, 5, "r1 s%= 5"),
    (0x9C, 1, 2, 1, 0, "w1 s%= w2"),
    (0xA7, 1, 0, 0, 5, "r1 ^= 5"),
    (0xB7, 1, 0, 0, -1, "r1 = -1"),
    (0xBF, 1, 2, 0, 0, "r1 = r2"),
    (0xBC, 1, 2, 0, 0, "w1 = w2"),
    (0xBF, 1, 2, 8, 0, "r1 = (s8)r2"),
    (0xBF, 1, 2, 32, 0, "r1 = (s32)r2"),
    (0xBC, 1, 2, 16, 0, "w1 = (s16)w2"),
    (0xBC, 1, 2, 32, 0, "w1 = w2"),
    (0xBF, 1, 2, 1, 0x10001, "r1 = addr_space_cast(r2, 1, 1)"),
    (0xBF, 1, 2, -1, 0, "r1 = &(void __percpu *)(r2)"),
    (0xC7, 1, 0, 0, 5, "r1 s>>= 5"),
    (0xCC, 1, 2, 0, 0, "w1 s>>= w2"),
    # byte order
    (0xD4, 1, 0, 0, 16, "r1 = le16 r1"),
    (0xDC, 1, 0, 0, 64, "r1 = be64 r1"),
    (0xD7, 1, 0, 0, 32, "r1 = bswap32 r1"),
    # loads and stores
    (0x79, 1, 2, 8, 0, "r1 = *(u64 *)(r2 +8)"),
    (0x61, 1, 2, -8, 0, "r1 = *(u32 *)(r2 -8)"),
    (0x69, 1, 2, 0, 0, "r1 = *(u16 *)(r2 +0)"),
    (0x71, 1, 2, 0, 0, "r1 = *(u8 *)(r2 +0)"),
    (0x81, 1, 2, 4, 0, "r1 = *(s32 *)(r2 +4)"),
    (0x89, 1, 2, 4, 0, "r1 = *(s16 *)(r2 +4)"),
    (0x91, 1, 2, 4, 0, "r1 = *(s8 *)(r2 +4)"),
    (0x7A, 10, 0, -8, 7, "*(u64 *)(r10 -8) = 7"),
    (0x72, 10, 0, -8, 7, "*(u8 *)(r10 -8) = 7"),
    (0x7B, 10, 1, -8, 0, "*(u64 *)(r10 -8) = r1"),
    (0x63, 10, 1, -8, 0, "*(u32 *)(r10 -8) = r1"),
    (0x20, 0, 0, 0, 12, "r0 = *(u32 *)skb[12]"),
    (0x48, 0, 3, 0, 12, "r0 = *(u16 *)skb[r3 + 12]"),
    # atomics
    (0xDB, 10, 1, -8, 0x00, "lock *(u64 *)(r10 -8) += r1"),
    (0xC3, 10, 1, -8, 0x40, "lock *(u32 *)(r10 -8) |= r1"),
    (0xDB, 10, 1, -8, 0x50, "lock *(u64 *)(r10 -8) &= r1"),
    (0xDB, 10, 1, -8, 0xA0, "lock *(u64 *)(r10 -8) ^= r1"),
    (0xDB, 10, 1, -8, 0x01, "r1 = atomic64_fetch_add((u64 *)(r10 -8), r1)"),
    (0xC3, 10, 1, -8, 0xA1, "r1 = atomic_fetch_xor((u32 *)(r10 -8), r1)"),
    (0xDB, 10, 1, -8, 0x51, "r1 = atomic64_fetch_and((u64 *)(r10 -8), r1)"),
    (0xC3, 10, 1, -8, 0x41, "r1 = atomic_fetch_or((u32 *)(r10 -8), r1)"),
    (0xDB, 10, 1, -8, 0xE1, "r1 = atomic64_xchg((u64 *)(r10 -8), r1)"),
    (0xC3, 10, 1, -8, 0xF1, "r0 = atomic_cmpxchg((u32 *)(r10 -8), r0, r1)"),
    (0xD3, 1, 10, -8, 0x100, "r1 = load_acquire((u8 *)(r10 -8))"),
    (0xDB, 10, 1, -8, 0x110, "store_release((u64 *)(r10 -8), r1)"),
    # jumps
    (0x05, 0, 0, -3, 0, "goto pc-3"),
    (0x06, 0, 0, 0, 70000, "gotol pc+70000"),
    (0x0D, 1, 0, 0, 0, "gotox r1"),
    (0xE5, 0, 0, 4, 0, "may_goto pc+4"),
    (0x15, 1, 0, 4, 0, "if r1 == 0x0 goto pc+4"),
    (0x1D, 1, 2, 4, 0, "if r1 == r2 goto pc+4"),
    (0x16, 1, 0, 4, -1, "if w1 == 0xffffffff goto pc+4"),
    (0x1E, 1, 2, 4, 0, "if w1 == w2 goto pc+4"),
    (0x25, 1, 0, 4, 1, "if r1 > 0x1 goto pc+4"),
    (0x35, 1, 0, 4, 1, "if r1 >= 0x1 goto pc+4"),
    (0x45, 1, 0, 4, 1, "if r1 & 0x1 goto pc+4"),
    (0x55, 1, 0, 4, 1, "if r1 != 0x1 goto pc+4"),
    (0x65, 1, 0, 4, 1, "if r1 s> 0x1 goto pc+4"),
    (0x75, 1, 0, 4, 1, "if r1 s>= 0x1 goto pc+4"),
    (0xA5, 1, 0, 4, 1, "if r1 < 0x1 goto pc+4"),
    (0xB5, 1, 0, 4, 1, "if r1 <= 0x1 goto pc+4"),
    (0xC5, 1, 0, 4, 1, "if r1 s< 0x1 goto pc+4"),
    (0xD6, 1, 0, 4, 1, "if w1 s<= 0x1 goto pc+4"),
    # calls
    (0x85, 0, 0, 0, 131, "call bpf_ringbuf_reserve#131"),
    (0x85, 0, 0, 0, 100000, "call unknown#100000"),
    (0x85, 0, 1, 0, 3, "call pc+3"),
    (0x85, 0, 2, 0, 77, "call kernel-function#77"),
    (0x8D, 3, 0, 0, 0, "callx r3"),
    (0x95, 0, 0, 0, 0, "exit"),
    # no instructions
    (0xFF, 1, 2, 0, 0, ""),
    (0xE7, 1, 0, 0, 0, ""),
    (0x86, 0, 0, 0, 0, ""),
    (0x96, 0, 0, 0, 0, ""),
    (0x0E, 0, 0, 0, 0, ""),
    (0xE6, 0, 0, 0, 0, ""),
    (0xE5, 0, 1, 0, 0, ""),
    (0x99, 1, 2, 0, 0, ""),
    (0x9A, 1, 2, 0, 0, ""),
    (0xA1, 1, 2, 0, 0, ""),
    (0xD3, 10, 1, 0, 0, ""),
    (0xDB, 10, 1, 0, 0x02, ""),
    (0x00, 0, 0, 0, 0, ""),
    (0x18, 1, 0, 0, 0, ""),
]


def encoded(row: Row, order: str) -> bytes:
    opcode, dst, src, offset, imm, _text = row
    registers = dst | src << 4 if order == "little" else src | dst << 4
    return struct.pack(("<" if order == "little" else ">") + "BBhi", opcode, registers, offset, imm)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("row", FORMS, ids=lambda row: f"{row[0]:02x} {row[5]}")
def test_each_form_has_its_text(row: Row, order: str) -> None:
    code = encoded(row, order)
    expected = row[5] or f"unknown: {code.hex(' ')}"
    assert disassemble(code, order) == [f"0: ({row[0]:02x}) {expected}"]


def test_a_wide_load_is_one_line_and_two_slots() -> None:
    code = struct.pack("<BBhiBBhi", 0x18, 1, 0, -2, 0, 0, 0, 1) + encoded((0x95, 0, 0, 0, 0, ""), "little")
    assert disassemble(code, "little") == ["0: (18) r1 = 0x1fffffffe", "2: (95) exit"]


def test_symbols_stand_where_code_refers_to_something() -> None:
    load, call = struct.pack("<BBhiBBhi", 0x18, 0x11, 0, 0, 0, 0, 0, 0), struct.pack("<BBhi", 0x85, 0x10, 0, -1)
    lines = disassemble(load + call, "little", {0: "map events", 2: "func handle"})
    assert lines == ["0: (18) r1 = map events", "2: (85) call func handle"]


def test_helpers_are_named_by_their_numbers() -> None:
    names = {1: "bpf_map_lookup_elem", 113: "bpf_probe_read_kernel", 211: "bpf_cgrp_storage_delete"}
    assert {number: helper_name(number) for number in names} == names
    assert [helper_name(number) for number in (0, 212, -1)] == ["unknown"] * 3
    assert len(HELPERS) == len(set(HELPERS)) == 212


@given(st.binary(max_size=200), st.sampled_from(["little", "big"]))
@settings(max_examples=examples(500), deadline=None)
def test_any_bytes_are_shown_or_refused(code: bytes, order: str) -> None:
    if len(code) % 8:
        with pytest.raises(ObjectError, match="not a multiple of 8"):
            disassemble(code, order)
    else:
        assert len(disassemble(code, order)) <= len(code) // 8
