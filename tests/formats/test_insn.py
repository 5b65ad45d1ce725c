"""Instructions: encoding is the inverse of decoding; map descriptors land where references point."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import purebpf
from purebpf.formats import insn
from purebpf.formats.insn import Instruction

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


def test_calls_are_found_by_what_they_call() -> None:
    code = insn.encode([Instruction(insn.CALL, 0, s, 0, 5) for s in (0, 1, 2, 1)], "little")
    assert insn.local_calls(code, "little") == [1, 3]
    assert insn.helper_calls(code, "little") == [0]
