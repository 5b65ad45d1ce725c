"""CO-RE: each relocation resolved against the target's BTF, and the instruction patched with what came out.

A relocation that no candidate satisfies is not an error: its instruction is poisoned, replaced by a call that the
verifier refuses, so that code which checks with bpf_core_field_exists() and never gets there still loads. What was
poisoned, and why, is kept for the message of the program that does get there.

Rules and constants are libbpf's (tools/lib/bpf/relo_core.c): candidates are the types of one name up to its
flavour; all that match must agree; a successful match leaves only the matching candidates for later relocations
of the same type. A load or store of an unsigned number or a pointer takes the width of the target's field.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from difflib import get_close_matches
from typing import NamedTuple

from ..errors import BtfError, RelocationError
from .abi import CoreKind
from .btf import Btf
from .core_spec import ENUM_KINDS, TYPE_KINDS, Access, candidate_kinds, find_access, local_access
from .insn import CALL, LD_IMM64, SIZE
from .kinds import COMPOSITES, ENUMS, Kind, Type, essential
from .spec import CoreRelocation

POISON = 0xBAD2310  # the helper number that a poisoned instruction calls
_U32, _U64 = (1 << 32) - 1, (1 << 64) - 1
_EXISTS = frozenset({CoreKind.FIELD_EXISTS, CoreKind.TYPE_EXISTS, CoreKind.TYPE_MATCHES, CoreKind.ENUMVAL_EXISTS})


class Value(NamedTuple):
    """What a relocation comes to on one side. `width` is that of a load or store of it, 0 where none is meant.

    `checked` is False where the compiler may have seen it another way (the offset of a bit-field).
    """

    number: int
    width: int = 0
    checked: bool = True


class Outcome(NamedTuple):
    """A relocation resolved: the compiler's value and the target's, None if the instruction is poisoned.

    `reason` says why it is; `found` lists what was matched in the target.
    """

    relocation: CoreRelocation
    local: Access
    before: Value
    after: Value | None
    reason: str = ""
    found: tuple[Access, ...] = ()
    same_width: bool = True  # may the width be taken over? If not, and it differs, loads and stores are poisoned


class Candidate(NamedTuple):
    """A type of the target."""

    btf: Btf
    type: Type


class Target:
    """The BTF that programs will run against: a kernel's, and where that has no candidate, its modules'.

    `modules` is called when they are needed.
    """

    def __init__(self, btf: Btf, modules: Callable[[], list[Btf]] = list) -> None:
        self.btf = btf
        self._modules = modules

    def candidates(self, name: str, kinds: frozenset[Kind]) -> list[Candidate]:
        """The types of that name, flavours included."""
        found = [Candidate(self.btf, type_) for type_ in self.btf.find(name, kinds, flavours=True)]
        if found:
            return found
        modules = self._modules()
        return [
            Candidate(module, type_)
            for module in modules
            for type_ in module.find(name, kinds, flavours=True)
            if module.home(type_.id) is module
        ]

    def similar(self, name: str, access: Access) -> str:
        """What comes close to a missing member or enumerator: "; it has a, b", or the same of another type."""
        step = next((s.name for s in reversed(access.steps) if s.name), "")
        known: list[str] = []
        for candidate in self.candidates(name, candidate_kinds(access.root)):
            type_ = candidate.btf.resolve(candidate.type.id)
            if step and type_.kind in COMPOSITES:
                known += [m.name for m in candidate.btf.members(type_)]
            elif access.enumerator and type_.kind in ENUMS:
                known += [n for n, _value in candidate.btf.enumerators(type_)]
        wanted = step or (access.enumerator[0] if access.enumerator else "")
        if wanted in known:
            return f" of that type; its {wanted} has another"
        close = get_close_matches(wanted, known, 3)
        return f"; it has {', '.join(close)}" if close else ""


class Resolver:
    """Resolves the relocations of one object against one target. `local` is the object's BTF."""

    def __init__(self, local: Btf, target: Target) -> None:
        self._local, self._target = local, target
        self._candidates: dict[int, list[Candidate]] = {}
        self._outcomes: dict[tuple[int, str, CoreKind | int], Outcome] = {}

    def resolve(self, relocation: CoreRelocation) -> Outcome:
        """Raises RelocationError where candidates contradict each other, BtfError where the object does."""
        key = (relocation.type_id, relocation.access, relocation.kind)
        if key not in self._outcomes:
            self._outcomes[key] = self._resolve(relocation)
        return self._outcomes[key]._replace(relocation=relocation)

    def _resolve(self, relocation: CoreRelocation) -> Outcome:
        kind = relocation.kind
        if not isinstance(kind, CoreKind):
            raise RelocationError(f"CO-RE relocation of unknown kind {kind}", hint="update purebpf")
        local = local_access(self._local, relocation.type_id, relocation.access, kind)
        if kind == CoreKind.TYPE_ID_LOCAL:
            itself = Value(relocation.type_id, 0, False)
            return Outcome(relocation, local, itself, itself, "", (local,))
        named = self._local.type(relocation.type_id)
        named = named if named.name else self._local.resolve(relocation.type_id)
        if not named.name:
            raise RelocationError(f"CO-RE relocation of {local}: a type without a name cannot be found in the kernel")
        before = _value(local, kind)
        candidates = self._candidates_for(named)
        matches = []
        for candidate in candidates:
            found = find_access(local, candidate.btf, candidate.type, kind)
            if found:
                matches.append((candidate, found, _value(found, kind)))
        if not matches:
            after = Value(0) if kind in _EXISTS | TYPE_KINDS else None  # libbpf: no type, no id and no size
            return Outcome(relocation, local, before, after, self._why(named, local, candidates))
        first = matches[0]
        for other in matches[1:]:
            if other[1].bit_offset != first[1].bit_offset or other[2] != first[2]:
                raise RelocationError(
                    f"CO-RE relocation of {local} ({kind.name}): the kernel has several types {essential(named.name)!r} that"
                    f" differ: types {first[0].type.id} ({first[2].number}) and {other[0].type.id} ({other[2].number})"
                )
        self._candidates[named.id] = [candidate for candidate, _found, _value in matches]
        widths = _same_width(local, first[1])
        return Outcome(relocation, local, before, first[2], "", tuple(found for _c, found, _v in matches), widths)

    def _candidates_for(self, named: Type) -> list[Candidate]:
        if named.id not in self._candidates:
            self._candidates[named.id] = self._target.candidates(essential(named.name), candidate_kinds(named))
        return self._candidates[named.id]

    def _why(self, named: Type, local: Access, candidates: list[Candidate]) -> str:
        if not candidates:
            return f"the kernel has no {local._replace(steps=(), enumerator=None)}"
        return f"the kernel has no {local}{self._target.similar(essential(named.name), local)}"


def _value(access: Access, kind: CoreKind) -> Value:
    """What a relocation of this kind comes to for this access."""
    if kind in _EXISTS:
        return Value(1)
    if kind in TYPE_KINDS:
        if kind == CoreKind.TYPE_SIZE:
            return Value(access.btf.size(access.root.id))
        return Value(access.root.id, 0, False)
    if kind in ENUM_KINDS:
        return Value((access.enumerator[1] if access.enumerator else 0) & _U64)
    return _FIELD_VALUES[kind](access, _field(access))


class _Field(NamedTuple):
    """Where a field lies, as loads see it: a bit-field in the smallest aligned number that holds it."""

    type: Type
    byte_offset: int
    byte_size: int
    bit_offset: int
    bit_size: int
    is_bitfield: bool


def _field(access: Access) -> _Field:
    last = access.steps[-1]
    btf = access.btf
    type_ = btf.resolve(last.type_id)
    bits = last.member.bit_size if last.member else 0
    size = btf.size(last.type_id)
    if not bits:
        return _Field(type_, access.bit_offset // 8, size, access.bit_offset, size * 8, False)
    size = max(1, size)
    start = access.bit_offset // 8 // size * size
    while access.bit_offset + bits - start * 8 > size * 8:
        if size >= 8:
            raise BtfError(f".BTF: bit-field {access} lies across 64-bit words")
        size *= 2
        start = access.bit_offset // 8 // size * size
    return _Field(type_, start, size, access.bit_offset, bits, True)


def _offset_value(access: Access, field: _Field) -> Value:
    if field.is_bitfield:
        return Value(field.byte_offset, 0, False)
    btf, type_ = access.btf, field.type
    while type_.kind == Kind.ARRAY:  # a load takes an element
        type_ = btf.resolve(btf.array(type_)[0])
    sized = type_.kind not in (Kind.VOID, Kind.FWD, Kind.FUNC_PROTO)
    return Value(field.byte_offset, btf.size(type_.id) if sized else 0)


def _signed(access: Access, field: _Field) -> Value:
    if field.type.kind in ENUMS:
        return Value(int(field.type.flag))
    return Value(int(field.type.kind == Kind.INT and access.btf.integer(field.type).signed))


def _left_shift(access: Access, field: _Field) -> Value:
    if access.btf.byte_order == "little":
        shift = 64 - (field.bit_offset + field.bit_size - field.byte_offset * 8)
    else:
        shift = (8 - field.byte_size) * 8 + (field.bit_offset - field.byte_offset * 8)
    return Value(shift, 0, not field.is_bitfield)


_FIELD_VALUES: dict[CoreKind, Callable[[Access, _Field], Value]] = {
    CoreKind.FIELD_BYTE_OFFSET: _offset_value,
    CoreKind.FIELD_BYTE_SIZE: lambda _access, field: Value(field.byte_size, 0, not field.is_bitfield),
    CoreKind.FIELD_SIGNED: _signed,
    CoreKind.FIELD_LSHIFT_U64: _left_shift,
    CoreKind.FIELD_RSHIFT_U64: lambda _access, field: Value(64 - field.bit_size),
}


def _same_width(local: Access, found: Access) -> bool:
    """May a load of the one field become one of the other's width? Not if a sign would have to be extended."""
    if not local.steps:
        return True
    one, other = local.btf.resolve(local.steps[-1].type_id), found.btf.resolve(found.steps[-1].type_id)
    if one.kind == other.kind == Kind.PTR:
        return True
    numbers = one.kind == other.kind == Kind.INT
    return numbers and not local.btf.integer(one).signed and not found.btf.integer(other).signed


# Opcode classes (instruction-set.rst), and the size bits of loads and stores.
_CLASS = 7
_LDX, _ST, _STX, _ALU, _ALU64 = 1, 2, 3, 4, 7
_SIZES = {4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18}
_BYTES = {bits: size for size, bits in _SIZES.items()}


def patch(code: bytearray, outcome: Outcome, byte_order: str, where: str) -> str:
    """Put the outcome into its instruction. "" or, when that had to be poisoned, why.

    Raises RelocationError when the instruction is not what the relocation says.
    """
    order = "<" if byte_order == "little" else ">"
    at = outcome.relocation.slot * SIZE
    if at + SIZE > len(code):
        raise RelocationError(f"{where}: a CO-RE relocation beyond the end of the code")
    opcode = code[at]
    if outcome.after is None:
        _poison(code, at, order)
        return outcome.reason
    if opcode == LD_IMM64:
        return _patch_wide(code, at, order, outcome, where)
    kind = opcode & _CLASS
    if kind in (_LDX, _ST, _STX):
        return _patch_access(code, at, order, outcome, where)
    if kind in (_ALU, _ALU64) and not opcode & 8:
        _check(outcome, struct.unpack_from(order + "I", code, at + 4)[0], outcome.before.number & _U32, where)
        struct.pack_into(order + "I", code, at + 4, outcome.after.number & _U32)
        return ""
    raise RelocationError(f"{where}: a CO-RE relocation on an instruction with opcode {opcode:#04x}")


def _check(outcome: Outcome, there: int, expected: int, where: str) -> None:
    if outcome.before.checked and there != expected:
        raise RelocationError(
            f"{where}: CO-RE relocation of {outcome.local}: the instruction has {there}, the object's BTF says {expected}"
        )


def _patch_wide(code: bytearray, at: int, order: str, outcome: Outcome, where: str) -> str:
    assert outcome.after is not None
    if at + 2 * SIZE > len(code):
        raise RelocationError(f"{where}: half an ld_imm64")
    low, high = (struct.unpack_from(order + "I", code, at + part)[0] for part in (4, 12))
    before, after = outcome.before.number & _U64, outcome.after.number & _U64
    if outcome.local.enumerator and low | high << 32 == _negative(before) != before:
        before, after = _negative(before), _negative(after)  # only clang from 15 on marks signed enums in BTF
    _check(outcome, low | high << 32, before, where)
    struct.pack_into(order + "I", code, at + 4, after & _U32)
    struct.pack_into(order + "I", code, at + 12, after >> 32)
    return ""


def _negative(number: int) -> int:
    """The 64-bit number that 32 bits with a sign stand for."""
    return number | ~_U32 & _U64 if number >> 31 == 1 else number


def _patch_access(code: bytearray, at: int, order: str, outcome: Outcome, where: str) -> str:
    """An offset goes into the instruction, and the width of the field into its opcode."""
    assert outcome.after is not None
    before, after = outcome.before, outcome.after
    _check(outcome, struct.unpack_from(order + "h", code, at + 2)[0], before.number, where)
    if after.number > 0x7FFF:
        raise RelocationError(f"{where}: {outcome.local} is at offset {after.number}, too far for a load or store")
    if before.width and after.width and before.width != after.width:
        width = _BYTES[code[at] & 0x18]
        if not outcome.same_width or after.width not in _SIZES or width != before.width:
            _poison(code, at, order)
            return (
                f"{outcome.local} has {after.width} bytes in the kernel and {before.width} in the object, and cannot be"
                " read by one load (only unsigned numbers and pointers can)"
            )
        code[at] = code[at] & ~0x18 | _SIZES[after.width]
    struct.pack_into(order + "h", code, at + 2, after.number)
    return ""


def _poison(code: bytearray, at: int, order: str) -> None:
    end = at + (2 if code[at] == LD_IMM64 else 1) * SIZE
    for slot in range(at, min(end, len(code)), SIZE):
        struct.pack_into(order + "BBhi", code, slot, CALL, 0, 0, POISON)
