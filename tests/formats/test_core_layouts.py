"""CO-RE between layouts: against its own BTF an object stays as it is; against another, loads find what they look for."""

from __future__ import annotations

import struct
import time
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from btf_builder import Builder
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import purebpf
from purebpf.formats import insn
from purebpf.formats.abi import CoreKind
from purebpf.formats.btf import Btf
from purebpf.formats.core_relo import POISON, Resolver, Target, patch
from purebpf.formats.insn import LD_IMM64, Instruction
from purebpf.formats.layout import codec
from purebpf.formats.spec import CoreRelocation

LOADS = {1: 0x71, 2: 0x69, 4: 0x61, 8: 0x79}
MOV_IMM = 0xB7


class Field(NamedTuple):
    """A member, and its widths in the two layouts; `signed` ones have the same in both."""

    name: str
    local: int
    there: int
    signed: bool


widths = st.sampled_from([1, 2, 4, 8])
fields = st.lists(st.tuples(widths, widths, st.booleans()), min_size=1, max_size=8).map(
    lambda rows: [Field(f"m{i}", a, a if s else b, s) for i, (a, b, s) in enumerate(rows)]
)


def built(order: str, rows: list[tuple[str, int, bool]], nested: int, fill: list[int]) -> tuple[Btf, int, Builder]:
    b = Builder(order)
    types = {(w, s): b.int(f"{'s' if s else 'u'}{w * 8}", w, signed=s) for w in (1, 2, 4, 8) for s in (False, True)}
    at = 0
    placed: list[list[tuple[str, int, int]]] = [[], []]
    sizes = [0, 0]
    for index, ((name, width, signed), gap) in enumerate(zip(rows, fill)):
        part = int(index >= len(rows) - nested)
        at = -(-(sizes[part] + gap) // width) * width
        placed[part].append((name, types[width, signed], at * 8))
        sizes[part] = at + width
    sizes = [-(-size // 8) * 8 for size in sizes]
    if nested:
        inner = b.struct("", sizes[1], placed[1])
        placed[0].append(("", inner, sizes[0] * 8))
    root = b.struct("s", sum(sizes), placed[0])
    return Btf(b.bytes()), root, b


def access_of(btf: Btf, root: int, name: str) -> tuple[str, int]:
    """ "0:i:j" and the byte offset of a member."""
    for i, member in enumerate(btf.members(btf.type(root))):
        if member.name == name:
            return f"0:{i}", member.bit_offset // 8
        if not member.name:
            for j, inner in enumerate(btf.members(btf.type(member.type_id))):
                if inner.name == name:
                    return f"0:{i}:{j}", (member.bit_offset + inner.bit_offset) // 8
    raise AssertionError(name)


def run(code: bytes, memory: bytes, order: str) -> int:
    """What a load or an immediate gives: an interpreter of three instructions."""
    (slot, *_rest) = insn.decode(code, order)
    if slot.opcode == MOV_IMM:
        return slot.imm
    width = {opcode: size for size, opcode in LOADS.items()}[slot.opcode]
    return int.from_bytes(memory[slot.offset : slot.offset + width], order)


@settings(max_examples=examples(300), deadline=None)
@given(
    fields, st.randoms(use_true_random=False), st.sampled_from(["little", "big"]), st.integers(0, 3), st.integers(0, 3)
)
def test_a_load_finds_the_member_wherever_it_is(
    members: list[Field], chance: Any, order: str, nested: int, nested_there: int
) -> None:
    rows = [(f.name, f.local, f.signed) for f in members]
    there = [(f.name, f.there, f.signed) for f in members] + [("other", 8, False), ("more", 2, True)]
    chance.shuffle(there)
    gaps = [chance.randrange(12) for _ in range(20)]
    local, root, _b = built(order, rows, min(nested, len(rows) - 1), [0] * 20)
    target, target_root, _b = built(order, there, min(nested_there, len(there) - 1), gaps)
    memory = bytes(chance.randrange(256) for _ in range(target.size(target_root)))
    expected = codec(target, target_root).decode(memory)
    resolver = Resolver(local, Target(target))
    for field in members:
        access, offset = access_of(local, root, field.name)
        relocation = CoreRelocation(0, root, access, CoreKind.FIELD_BYTE_OFFSET)
        code = bytearray(insn.encode([Instruction(LOADS[field.local], 1, 2, offset, 0)], order))
        assert not patch(code, resolver.resolve(relocation), order, "test")
        value = getattr(expected, field.name) & (1 << field.there * 8) - 1
        assert run(bytes(code), memory, order) == value
        for kind, number in ((CoreKind.FIELD_EXISTS, 1), (CoreKind.FIELD_BYTE_SIZE, field.there)):
            outcome = resolver.resolve(CoreRelocation(0, root, access, kind))
            assert outcome.after is not None
            assert outcome.after.number == number


@settings(max_examples=examples(200), deadline=None)
@given(fields, st.sampled_from(["little", "big"]), st.integers(0, 3))
def test_against_its_own_types_nothing_changes(members: list[Field], order: str, nested: int) -> None:
    rows = [(f.name, f.local, f.signed) for f in members]
    local, root, _b = built(order, rows, min(nested, len(rows) - 1), [0] * 20)
    resolver = Resolver(local, Target(local))
    for field in members:
        access, offset = access_of(local, root, field.name)
        code = bytearray(insn.encode([Instruction(LOADS[field.local], 1, 2, offset, 0)], order))
        before = bytes(code)
        outcome = resolver.resolve(CoreRelocation(0, root, access, CoreKind.FIELD_BYTE_OFFSET))
        assert patch(code, outcome, order, "test") == ""
        assert code == before


@settings(max_examples=examples(200), deadline=None)
@given(
    st.integers(1, 31), st.integers(0, 31), st.booleans(), st.sampled_from(["little", "big"]), st.integers(0, 2**64 - 1)
)
def test_bit_fields_are_read_by_load_and_shifts(bits: int, start: int, signed: bool, order: str, content: int) -> None:
    """The five relocations behind BPF_CORE_READ_BITFIELD, put together as that macro does."""
    start = min(start, 32 - bits)
    b = Builder(order)
    i = b.int("int", 4, signed=signed)
    root = b.struct("s", 8, [("pad", i, 0, 0), ("f", i, 32 + start, bits)])
    btf = Btf(b.bytes())
    resolver = Resolver(btf, Target(btf))

    def value(kind: CoreKind) -> int:
        outcome = resolver.resolve(CoreRelocation(0, root, "0:1", kind))
        assert outcome.after is not None
        return outcome.after.number

    memory = struct.pack("<Q" if order == "little" else ">Q", content)
    at, size = value(CoreKind.FIELD_BYTE_OFFSET), value(CoreKind.FIELD_BYTE_SIZE)
    loaded = int.from_bytes(memory[at : at + size], order)
    loaded = loaded << value(CoreKind.FIELD_LSHIFT_U64) & (1 << 64) - 1
    if value(CoreKind.FIELD_SIGNED) and loaded >> 63:
        loaded -= 1 << 64
    assert loaded >> value(CoreKind.FIELD_RSHIFT_U64) == codec(btf, root).decode(memory).f


def pair(local: Any, there: Any) -> tuple[Resolver, int]:
    """A resolver between two structs "s" with one member "m" of the types that the callables make."""
    made = []
    for make in (local, there):
        b = Builder()
        made.append((b, b.struct("s", 16, [("m", make(b), 64)])))
    return Resolver(Btf(made[0][0].bytes()), Target(Btf(made[1][0].bytes()))), made[0][1]


def loaded(resolver: Resolver, root: int, width: int) -> tuple[bytes, str]:
    code = bytearray(insn.encode([Instruction(LOADS[width], 1, 2, 8, 0)], "little"))
    reason = patch(code, resolver.resolve(CoreRelocation(0, root, "0:0", CoreKind.FIELD_BYTE_OFFSET)), "little", "test")
    return bytes(code), reason


def test_a_signed_number_of_another_width_is_poisoned_and_explained() -> None:
    resolver, root = pair(lambda b: b.int("int", 4, signed=True), lambda b: b.int("long", 8, signed=True))
    code, reason = loaded(resolver, root, 4)
    assert insn.decode(code, "little")[0].imm == POISON
    assert "8 bytes in the kernel and 4 in the object" in reason


def test_a_pointer_of_another_type_is_a_pointer() -> None:
    resolver, root = pair(lambda b: b.ptr(b.int("int", 4)), lambda b: b.ptr(b.fwd("other")))
    assert loaded(resolver, root, 8)[1] == ""


def test_a_member_of_another_kind_is_missing_and_the_message_says_so() -> None:
    resolver, root = pair(lambda b: b.int("int", 4), lambda b: b.ptr(0))
    assert "its m has another" in loaded(resolver, root, 4)[1]


def test_candidates_that_differ_are_an_error_and_those_that_agree_are_not() -> None:
    local = Builder()
    root = local.struct("s", 16, [("m", local.int("int", 4), 0)])
    for offset, fails in ((0, False), (32, True)):
        b = Builder()
        i = b.int("int", 4)
        b.struct("s", 16, [("m", i, 0)])
        b.struct("s___other", 16, [("m", i, offset)])
        b.struct("s___without", 16, [("x", i, 0)])
        relocation = CoreRelocation(0, root, "0:0", CoreKind.FIELD_BYTE_OFFSET)
        resolver = Resolver(Btf(local.bytes()), Target(Btf(b.bytes())))
        if fails:
            with pytest.raises(purebpf.RelocationError, match="several types 's'"):
                resolver.resolve(relocation)
        else:
            assert len(resolver.resolve(relocation).found) == 2


def test_modules_are_asked_only_where_the_kernel_has_no_such_type() -> None:
    local = Builder()
    i = local.int("int", 4)
    roots = [local.struct(name, 8, [("m", i, 0)]) for name in ("here", "there")]
    base_builder = Builder()
    base_builder.struct("here", 8, [("m", base_builder.int("int", 4), 32)])
    base = Btf(base_builder.bytes())
    module = Builder(base=base)
    module.struct("there", 8, [("m", 1, 16)])
    asked = []

    def modules() -> list[Btf]:
        asked.append(True)
        return [Btf(module.bytes(), base)]

    resolver = Resolver(Btf(local.bytes()), Target(base, modules))
    first = resolver.resolve(CoreRelocation(0, roots[0], "0:0", CoreKind.FIELD_BYTE_OFFSET))
    assert not asked
    second = resolver.resolve(CoreRelocation(0, roots[1], "0:0", CoreKind.FIELD_BYTE_OFFSET))
    assert asked
    assert first.after is not None
    assert second.after is not None
    assert (first.after.number, second.after.number) == (4, 2)


def test_enumerators_of_64_bits_and_flavours() -> None:
    local, there = Builder(), Builder()
    root = local.enum64("e", [("BIG", 1), ("GONE", 2)])
    there.enum64("e", [("BIG___new", 1 << 40)])
    resolver = Resolver(Btf(local.bytes()), Target(Btf(there.bytes())))
    wide = [Instruction(LD_IMM64, 1, 0, 0, 1), Instruction(0, 0, 0, 0, 0)]
    code = bytearray(insn.encode(wide, "little"))
    assert patch(code, resolver.resolve(CoreRelocation(0, root, "0", CoreKind.ENUMVAL_VALUE)), "little", "test") == ""
    first, second = insn.decode(bytes(code), "little")
    assert first.imm | second.imm << 32 == 1 << 40
    gone = resolver.resolve(CoreRelocation(0, root, "1", CoreKind.ENUMVAL_EXISTS))
    assert gone.after is not None
    assert gone.after.number == 0


def test_type_matches_compares_members() -> None:
    def build(*members: tuple[str, int]) -> tuple[Btf, int]:
        b = Builder()
        types = {size: b.int(f"u{size * 8}", size) for size in (1, 2, 4, 8)}
        root = b.struct("s", 64, [(name, types[size], 64 * i) for i, (name, size) in enumerate(members)])
        return Btf(b.bytes()), root

    local, root = build(("a", 4), ("b", 8))
    for members, answer in (
        ((("b", 8), ("a", 4), ("c", 1)), 1),
        ((("a", 4),), 0),
        ((("a", 8), ("b", 8)), 0),
    ):
        outcome = Resolver(local, Target(build(*members)[0])).resolve(
            CoreRelocation(0, root, "0", CoreKind.TYPE_MATCHES)
        )
        assert outcome.after is not None
        assert outcome.after.number == answer


@pytest.mark.parametrize("access", ["", "x", "0:", "0:9", "0:-1", "0:0:0", "9" * 30, "0:" * 50 + "0"])
def test_an_access_that_makes_no_sense_is_our_error(access: str) -> None:
    b = Builder()
    root = b.struct("s", 8, [("m", b.int("int", 4), 0)])
    btf = Btf(b.bytes())
    for kind in CoreKind:
        for type_id in (0, root, 1, 99):
            with suppress(purebpf.ObjectError):
                outcome = Resolver(btf, Target(btf)).resolve(CoreRelocation(0, type_id, access, kind))
                patch(bytearray(8), outcome, "little", "test")


def test_types_that_hold_themselves_end_in_bounded_time() -> None:
    b = Builder()
    loop = b.count + 1
    b.struct("loop", 8, [("", loop, 0), ("", loop, 0), ("m", loop, 0)])
    proto = b.func_proto(b.count + 1, [("a", b.count + 1), ("b", b.count + 1)])
    btf = Btf(b.bytes())
    begin = time.monotonic()
    for kind in CoreKind:
        for type_id in (loop, proto):
            for access in ("0", "0:2", "0:0:0:0:0"):
                with suppress(purebpf.ObjectError):
                    Resolver(btf, Target(btf)).resolve(CoreRelocation(0, type_id, access, kind))
    assert time.monotonic() - begin < 5
