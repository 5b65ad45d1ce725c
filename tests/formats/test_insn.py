"""Instructions: encoding is the inverse of decoding; map descriptors land where references point."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import purebpf
from purebpf.formats import insn, relocate
from purebpf.formats.abi import ProgType, Pseudo
from purebpf.formats.insn import Instruction
from purebpf.formats.spec import MapReference, ProgramSpec

slots = st.builds(
    Instruction,
    st.integers(0, 255),
    st.integers(0, 15),
    st.integers(0, 15),
    st.integers(-(2**15), 2**15 - 1),
    st.integers(-(2**31), 2**31 - 1),
)
orders = st.sampled_from(["little", "big"])


@given(st.lists(slots), orders)
def test_decode_undoes_encode(code: list[Instruction], order: str) -> None:
    assert insn.decode(insn.encode(code, order), order) == code


@given(st.binary(max_size=80), orders)
def test_encode_undoes_decode(code: bytes, order: str) -> None:
    whole = code[: len(code) // 8 * 8]
    assert insn.encode(insn.decode(whole, order), order) == whole


def test_bytes_are_as_the_specification_draws_them() -> None:
    # r1 = r10: opcode bf, destination in the low nibble on a little-endian machine.
    assert insn.encode([Instruction(0xBF, 1, 10, -8, 5)], "little") == bytes.fromhex("bfa1f8ff05000000")
    assert insn.encode([Instruction(0xBF, 1, 10, -8, 5)], "big") == bytes.fromhex("bf1afff800000005")


def test_code_that_is_no_multiple_of_eight_is_refused() -> None:
    with pytest.raises(purebpf.ObjectError, match="9 bytes"):
        insn.decode(bytes(9), "little")


def program(code: list[Instruction], *references: MapReference) -> ProgramSpec:
    return ProgramSpec("p", "tp/a/b", ProgType.TRACEPOINT, "a/b", insn.encode(code, "little"), list(references))


def test_link_puts_the_descriptor_into_both_halves() -> None:
    spec = program([Instruction(insn.LD_IMM64, 1, 0, 0, 99), Instruction(0, 0, 0, 0, 77)], MapReference(0, "m"))
    first, second = insn.decode(relocate.link(spec, {"m": 12}, "little"), "little")
    assert (first.src, first.imm, second.imm) == (Pseudo.MAP_FD, 12, 0)


def test_a_reference_to_no_map_or_no_ld_imm64_is_refused() -> None:
    load = [Instruction(insn.LD_IMM64, 1, 0, 0, 0), Instruction(0, 0, 0, 0, 0)]
    with pytest.raises(purebpf.RelocationError, match="'gone'"):
        relocate.link(program(load, MapReference(0, "gone")), {"m": 12}, "little")
    for slot in (1, 7):
        with pytest.raises(purebpf.RelocationError, match="ld_imm64"):
            relocate.link(program(load, MapReference(slot, "m")), {"m": 12}, "little")
