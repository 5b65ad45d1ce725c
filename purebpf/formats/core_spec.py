"""CO-RE: what a relocation speaks of in the object's BTF, and the same thing found in the target's.

An access "0:1:2" starts at a type: the first number indexes an array of them, each further one picks a member of a
struct or union, or an element of an array. In the target members are found by name, through anonymous structs and
unions; a name counts up to three underscores (task_struct___old is a flavour of task_struct). The rules of what is
compatible are those of the kernel's own tools/lib/bpf/relo_core.c, so that objects mean here what they mean there.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import BtfError
from .abi import CoreKind
from .btf import Btf
from .kinds import COMPOSITES, ENUMS, MAX_DEPTH, Kind, Member, Type, essential, kind_name

TYPE_KINDS = frozenset(
    {
        CoreKind.TYPE_ID_LOCAL,
        CoreKind.TYPE_ID_TARGET,
        CoreKind.TYPE_EXISTS,
        CoreKind.TYPE_SIZE,
        CoreKind.TYPE_MATCHES,
    }
)
ENUM_KINDS = frozenset({CoreKind.ENUMVAL_EXISTS, CoreKind.ENUMVAL_VALUE})


class Step(NamedTuple):
    """A step of an access: a member by name, or an element by index (`name` is then "")."""

    name: str
    number: int
    member: Member | None
    type_id: int


class Access(NamedTuple):
    """What a relocation speaks of: steps from `root`, or an enumerator's value; or, with neither, the type."""

    btf: Btf
    root: Type
    steps: tuple[Step, ...] = ()
    bit_offset: int = 0
    enumerator: tuple[str, int] | None = None

    def __str__(self) -> str:
        """As one would write it in C: struct task_struct.group_leader, enum pid_type::PIDTYPE_PID."""
        keyword = {Kind.STRUCT: "struct ", Kind.UNION: "union ", Kind.ENUM: "enum ", Kind.ENUM64: "enum "}
        text = keyword.get(Kind(self.root.kind), "") + (self.root.name or "<anonymous>")
        if self.enumerator:
            return f"{text}::{self.enumerator[0]}"
        for number, step in enumerate(self.steps):
            if step.name:
                text += f".{step.name}"
            elif number or step.number:
                text += f"[{step.number}]"
        return text


def local_access(btf: Btf, type_id: int, access: str, kind: CoreKind) -> Access:
    """What a relocation says in the object's own BTF. Raises BtfError for what does not fit its types."""
    try:
        indexes = [int(part) for part in access.split(":")]
    except ValueError:
        raise BtfError(f".BTF.ext: {access!r} is no access") from None
    if kind in TYPE_KINDS:
        return Access(btf, btf.type(type_id))
    if kind in ENUM_KINDS:
        enum = btf.resolve(type_id)
        if enum.kind not in ENUMS or not 0 <= indexes[0] < enum.vlen:
            raise BtfError(f".BTF.ext: {access!r} is no enumerator of type {type_id}")
        return Access(btf, enum, enumerator=btf.enumerators(enum)[indexes[0]])
    steps = [Step("", indexes[0], None, type_id)]
    bits = indexes[0] * btf.size(type_id) * 8
    root = at = btf.resolve(type_id)
    for index in indexes[1:]:
        step, bits = _down(btf, at, index, bits)
        steps.append(step)
        at = btf.resolve(step.type_id)
    return Access(btf, root, tuple(s for i, s in enumerate(steps) if not i or s.name or not s.member), bits)


def _down(btf: Btf, at: Type, index: int, bits: int) -> tuple[Step, int]:
    if at.kind in COMPOSITES and 0 <= index < at.vlen:
        member = btf.members(at)[index]
        return Step(member.name, index, member, member.type_id), bits + member.bit_offset
    if (
        at.kind == Kind.ARRAY and index >= 0
    ):  # an index beyond the end is for flexible arrays, and the verifier's to judge
        element, _count = btf.array(at)
        return Step("", index, None, element), bits + index * btf.size(element) * 8
    raise BtfError(f".BTF.ext: an access to number {index} of type {at.id} ({kind_name(at.kind)} {at.name!r})")


def find_access(local: Access, target: Btf, candidate: Type, kind: CoreKind) -> Access | None:
    """The same in a candidate type of the target, None if that has no such thing."""
    if kind == CoreKind.TYPE_MATCHES:
        same = _Comparison(local.btf, target).matches(local.root.id, candidate.id)
        return Access(target, candidate) if same else None
    if kind in TYPE_KINDS:
        same = same_type(local.btf, local.root.id, target, candidate.id)
        return Access(target, candidate) if same else None
    if kind in ENUM_KINDS:
        return _enumerator(local, target, candidate)
    steps: list[Step] = []
    bits, type_id = 0, candidate.id
    for number, step in enumerate(local.steps):
        if not number:
            found: tuple[Step, int] | None = (
                Step("", step.number, None, type_id),
                step.number * target.size(type_id) * 8,
            )
        elif step.name and step.member:
            found = _member(local.btf, step.member, target, type_id, set())
        else:
            found = _element(target, type_id, step.number)
        if found is None:
            return None
        steps.append(found[0])
        bits += found[1]
        type_id = found[0].type_id
    return Access(target, target.resolve(candidate.id), tuple(steps), bits)


def _enumerator(local: Access, target: Btf, candidate: Type) -> Access | None:
    enum = target.resolve(candidate.id)
    if enum.kind not in ENUMS or local.enumerator is None:
        return None
    wanted = essential(local.enumerator[0])
    for name, value in target.enumerators(enum):
        if essential(name) == wanted:
            return Access(target, enum, enumerator=(name, value))
    return None


def _member(local: Btf, wanted: Member, target: Btf, type_id: int, seen: set[int]) -> tuple[Step, int] | None:
    """The member of that name and a compatible type, searched for in anonymous members too; and its bit offset."""
    type_ = target.resolve(type_id)
    if type_.kind not in COMPOSITES or type_.id in seen:
        return None
    seen.add(type_.id)
    for index, member in enumerate(target.members(type_)):
        if not member.name:
            found = _member(local, wanted, target, member.type_id, seen)
            if found:
                return found[0], member.bit_offset + found[1]
        elif member.name == wanted.name:
            if not fields_compatible(local, wanted.type_id, target, member.type_id):
                return None
            return Step(member.name, index, member, member.type_id), member.bit_offset
    return None


def _element(target: Btf, type_id: int, index: int) -> tuple[Step, int] | None:
    """The element, if the array is long enough; one of no elements is flexible, and as long as you like."""
    array = target.resolve(type_id)
    if array.kind != Kind.ARRAY:
        return None
    element, count = target.array(array)
    if count and index >= count:
        return None
    return Step("", index, None, element), index * target.size(element) * 8


def _same_kind(one: Type, other: Type) -> bool:
    return one.kind == other.kind or (one.kind in ENUMS and other.kind in ENUMS)


def candidate_kinds(type_: Type) -> frozenset[Kind]:
    """Of which kinds a candidate for this type may be."""
    return ENUMS if type_.kind in ENUMS else frozenset({Kind(type_.kind)})


def fields_compatible(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """May a field of the one type be taken for one of the other? (bpf_core_fields_are_compat)"""
    for _ in range(MAX_DEPTH):
        one, other = local.resolve(local_id), target.resolve(target_id)
        if one.kind in COMPOSITES and other.kind in COMPOSITES:
            return True
        if not _same_kind(one, other):
            return False
        if one.kind == Kind.ARRAY:
            local_id, target_id = local.array(one)[0], target.array(other)[0]
            continue
        if one.kind in ENUMS or one.kind == Kind.FWD:
            return not one.name or not other.name or essential(one.name) == essential(other.name)
        if one.kind == Kind.INT:
            return not local.integer(one).offset and not target.integer(other).offset
        return one.kind in (Kind.PTR, Kind.FLOAT)
    return False


class _Comparison:
    """Compares types of two BTFs all the way down. A pair that is being compared already counts as equal."""

    def __init__(self, local: Btf, target: Btf) -> None:
        self._local, self._target = local, target
        self._seen: set[tuple[int, int, bool]] = set()

    def compatible(self, local_id: int, target_id: int) -> bool:
        """Is a type there, as far as names and kinds go? (bpf_core_types_are_compat)"""
        one, other = self._local.resolve(local_id), self._target.resolve(target_id)
        if not _same_kind(one, other):
            return False
        if one.kind == Kind.INT:
            return not self._local.integer(one).offset and not self._target.integer(other).offset
        if one.kind in (Kind.PTR, Kind.ARRAY, Kind.FUNC_PROTO):
            if self._begun(one, other, False):
                return True
            pairs = self._inside(one, other)
            return pairs is not None and all(self.compatible(a, b) for a, b in pairs)
        return one.kind in COMPOSITES | ENUMS | {Kind.FWD, Kind.VOID, Kind.FLOAT}

    def matches(self, local_id: int, target_id: int, behind_pointer: bool = False) -> bool:
        """Does the one type describe a part of the other? (bpf_core_types_match)"""
        one, other = self._local.resolve(local_id), self._target.resolve(target_id)
        if essential(one.name) != essential(other.name):
            return False
        if behind_pointer and Kind.FWD in (one.kind, other.kind):
            return _is_union(one) == _is_union(other)
        if one.kind in ENUMS and other.kind in ENUMS:
            names = {essential(name) for name, _value in self._target.enumerators(other)}
            return all(essential(name) in names for name, _value in self._local.enumerators(one))
        if one.kind != other.kind:
            return False
        if self._begun(one, other, behind_pointer):
            return True
        if one.kind in COMPOSITES:
            return behind_pointer or self._members_match(one, other)
        if one.kind == Kind.INT:
            signs = self._local.integer(one).signed, self._target.integer(other).signed
            return one.size_or_type == other.size_or_type and signs[0] == signs[1]
        if one.kind == Kind.ARRAY and self._local.array(one)[1] != self._target.array(other)[1]:
            return False
        pairs = self._inside(one, other)
        behind = behind_pointer or one.kind == Kind.PTR
        return pairs is not None and all(self.matches(a, b, behind) for a, b in pairs)

    def _begun(self, one: Type, other: Type, behind_pointer: bool) -> bool:
        key = (one.id, other.id, behind_pointer)
        begun = key in self._seen
        self._seen.add(key)
        return begun

    def _inside(self, one: Type, other: Type) -> list[tuple[int, int]] | None:
        """The pairs of types that two of one kind refer to; None for functions of different numbers of parameters."""
        if one.kind == Kind.PTR:
            return [(one.size_or_type, other.size_or_type)]
        if one.kind == Kind.ARRAY:
            return [(self._local.array(one)[0], self._target.array(other)[0])]
        if one.kind != Kind.FUNC_PROTO:
            return []
        if one.vlen != other.vlen:
            return None
        parameters = zip(self._local.parameters(one), self._target.parameters(other))
        return [(one.size_or_type, other.size_or_type), *((a[1], b[1]) for a, b in parameters)]

    def _members_match(self, one: Type, other: Type) -> bool:
        others: dict[str, list[int]] = {}
        for there in self._target.members(other):
            others.setdefault(essential(there.name), []).append(there.type_id)
        return all(
            any(self.matches(member.type_id, there) for there in others.get(essential(member.name), []))
            for member in self._local.members(one)
        )


def same_type(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """Is the one type there in the place of the other, by kind all the way down?"""
    return _Comparison(local, target).compatible(local_id, target_id)


def _is_union(type_: Type) -> bool:
    return type_.flag if type_.kind == Kind.FWD else type_.kind == Kind.UNION
