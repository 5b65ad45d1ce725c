"""Programs of ring calls, as instructions. What the kernel makes of them: tests/kernel/test_ring_producer.py."""

from __future__ import annotations

import sys

import pytest

from purebpf.errors import ObjectError
from purebpf.formats import insn
from purebpf.formats.abi import ProgType
from purebpf.formats.ring_program import COPY_FROM_USER, DISCARD, OUTPUT, QUERY, RESERVE, SUBMIT, RingProgram
from purebpf.formats.spec import Reference, ReferenceKind


def test_calls_come_in_their_order_and_each_answer_has_a_place_of_its_own() -> None:
    program = RingProgram(2)
    program.reserve(0, 8)
    program.reserve(1, 16)
    program.write(0, b"ab", at=3)
    program.read_memory(1 << 63)
    program.commit(1, DISCARD)
    program.commit(0, SUBMIT)
    program.output(5, 10)
    program.query(3)
    made = program.spec("made")
    slots = insn.decode(made.code, sys.byteorder)
    calls = [slots[at].imm for at in insn.helper_calls(made.code, sys.byteorder)]
    assert calls == [RESERVE, RESERVE, COPY_FROM_USER, DISCARD, SUBMIT, OUTPUT, QUERY]
    assert made.type == ProgType.SYSCALL
    assert program.answers == 4
    places = [found.addend for found in made.references if found.name == RingProgram.ANSWERS]
    assert places == [0, 8, 16, 24]
    assert [slot.imm for slot in slots if slot.opcode == 0x72] == list(b"ab")
    assert slots[-1].opcode == 0x95


def test_references_stand_at_wide_loads() -> None:
    program = RingProgram(1)
    program.output(5, 10)
    made = program.spec("made")
    slots = insn.decode(made.code, sys.byteorder)
    assert [slots[found.slot].opcode for found in made.references] == [insn.LD_IMM64] * 3
    assert Reference(made.references[1].slot, ReferenceKind.DATA, RingProgram.CONTENT, 5) in made.references


def test_the_stack_has_room_for_31_records() -> None:
    RingProgram(31)
    with pytest.raises(ObjectError, match="32 records"):
        RingProgram(32)
