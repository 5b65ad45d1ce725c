"""Programs and their functions, put together: order, calls, information that moves along, externs."""

from __future__ import annotations

from typing import Any

import pytest

import purebpf
from purebpf.formats import insn, link
from purebpf.formats.abi import ProgType, Pseudo, PseudoCall
from purebpf.formats.insn import Instruction
from purebpf.formats.link import Extern
from purebpf.formats.spec import FunctionSpec, Line, ObjectSpec, ProgramSpec, Reference, ReferenceKind

EXIT = Instruction(0x95, 0, 0, 0, 0)
CALL = Instruction(insn.CALL, 0, PseudoCall.CALL, 0, -1)
WIDE = (Instruction(insn.LD_IMM64, 1, 0, 0, 9), Instruction(0, 0, 0, 0, 9))


def function(name: str, code: list[Instruction], *references: Reference, order: str = "little") -> FunctionSpec:
    lines = [Line(slot, 1, 1, slot + 1 << 10) for slot in range(len(code))]
    return FunctionSpec(name, ".text", insn.encode(code, order), list(references), 1, lines)


def spec(code: list[Instruction], *references: Reference, functions: Any = (), order: str = "little") -> ObjectSpec:
    main = ProgramSpec(**vars(function("main", code, *references, order=order)), type=ProgType.TRACEPOINT)
    return ObjectSpec({}, {"main": main}, "GPL", order, {f.name: f for f in functions})


def never(*_arguments: Any) -> Any:
    raise AssertionError("not expected to be asked")


def assembled(obj: ObjectSpec) -> link.Code:
    return link.assemble(obj, obj.programs["main"], never)


def to(name: str, slot: int = 0, kind: ReferenceKind = ReferenceKind.CALL, addend: int = 0) -> Reference:
    return Reference(slot, kind, name, addend)


@pytest.mark.parametrize("order", ["little", "big"])
def test_functions_are_appended_once_and_calls_are_relative(order: str) -> None:
    inner = function("inner", [EXIT], order=order)
    outer = function("outer", [CALL, EXIT], to("inner"), order=order)
    code = assembled(spec([CALL, CALL, EXIT], to("outer"), to("inner", 1), functions=(inner, outer), order=order))
    assert [(start, f.name) for start, f in code.functions] == [(0, "main"), (3, "outer"), (5, "inner")]
    slots = insn.decode(bytes(code.code), order)
    assert [(i, slots[i].imm, slots[i].src) for i in (0, 1, 3)] == [(0, 2, 1), (1, 3, 1), (3, 1, 1)]


def test_a_function_may_call_itself_and_its_caller() -> None:
    loop = function("loop", [CALL, CALL, EXIT], to("loop"), to("main", 1))
    code = assembled(spec([CALL, EXIT], to("loop"), functions=(loop,)))
    assert [s.imm for s in insn.decode(bytes(code.code), "little") if s.opcode == insn.CALL] == [1, -1, -4]


def test_lines_and_their_slots_move_along() -> None:
    inner = function("inner", [EXIT, EXIT])
    code = assembled(spec([CALL, EXIT], to("inner"), functions=(inner,)))
    assert [line.slot for line in code.lines] == [0, 1, 2, 3]
    last = code.line(3)
    assert last is not None
    assert last.number == 2


def test_a_callback_is_an_address_relative_to_its_load() -> None:
    inner = function("inner", [EXIT])
    code = assembled(spec([*WIDE, EXIT], to("inner", 0, ReferenceKind.FUNCTION), functions=(inner,)))
    first, second, *_rest = insn.decode(bytes(code.code), "little")
    assert (first.src, first.imm, second.imm) == (Pseudo.FUNC, 2, 0)


def test_a_call_to_nothing_is_named() -> None:
    with pytest.raises(purebpf.RelocationError, match="calls 'gone'"):
        assembled(spec([CALL, EXIT], to("gone")))


@pytest.mark.parametrize("order", ["little", "big"])
def test_maps_and_variables_get_descriptors_and_offsets(order: str) -> None:
    references = (to("events", 0, ReferenceKind.MAP), to(".bss", 2, ReferenceKind.DATA, 24))
    code = assembled(spec([*WIDE, *WIDE, EXIT], *references, order=order))
    link.bind(code, {"events": 7, ".bss": 8}, never, never)
    slots = insn.decode(bytes(code.code), order)
    assert [(s.src, s.imm) for s in slots[:4]] == [(Pseudo.MAP_FD, 7), (0, 0), (Pseudo.MAP_VALUE, 8), (0, 24)]


def test_a_reference_to_no_map_or_on_no_wide_load_is_refused() -> None:
    code = assembled(spec([*WIDE, EXIT], to("gone", 0, ReferenceKind.MAP)))
    with pytest.raises(purebpf.RelocationError, match="'gone'"):
        link.bind(code, {}, never, never)
    code = assembled(spec([EXIT, EXIT], to("events", 0, ReferenceKind.MAP)))
    with pytest.raises(purebpf.RelocationError, match="ld_imm64"):
        link.bind(code, {"events": 7}, never, never)


def test_externs_become_addresses_types_calls_or_poison() -> None:
    extern = ReferenceKind.EXTERN
    kfunc = Instruction(insn.CALL, 0, PseudoCall.KFUNC, 0, -1)
    references = (to("symbol", 0, extern), to("typed", 2, extern), to("module", 4, extern), to("missing", 5, extern))
    code = assembled(spec([*WIDE, *WIDE, kfunc, kfunc, EXIT], *references))
    found = {
        "symbol": Extern(1 << 40 | 5),
        "typed": Extern(btf_id=77),
        "module": Extern(btf_id=8, btf_fd=9),
        "missing": Extern(),
    }
    link.bind(code, {}, found.__getitem__, lambda fd: fd + 1)
    slots = insn.decode(bytes(code.code), "little")
    assert (slots[0].imm, slots[1].imm) == (5, 1 << 8)
    assert (slots[2].src, slots[2].imm, slots[3].imm) == (Pseudo.BTF_ID, 77, 0)
    assert (slots[4].src, slots[4].imm, slots[4].offset) == (PseudoCall.KFUNC, 8, 10)
    assert (slots[5].src, slots[5].imm) == (PseudoCall.HELPER, link.POISONED_KFUNC)
    assert code.poisoned == {5: "the kernel has no function missing"}


def test_old_kernels_get_the_old_helpers() -> None:
    code = assembled(spec([Instruction(insn.CALL, 0, 0, 0, n) for n in (112, 115, 6)] + [EXIT]))
    assert link.calls(code, link.OLD_PROBE_READS)
    link.replace_helpers(code, link.OLD_PROBE_READS)
    assert [s.imm for s in insn.decode(bytes(code.code), "little")[:3]] == [4, 45, 6]
    assert not link.calls(code, link.OLD_PROBE_READS)
