"""BTF as C: declarations for people, and all types of a BTF as a header that a compiler takes (a vmlinux.h)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import BtfError
from .btf import COMPOSITES, ENUMS, MAX_DEPTH, QUALIFIERS, Btf, Kind, Member, Type

_KEYWORDS = {Kind.STRUCT: "struct", Kind.UNION: "union", Kind.ENUM: "enum", Kind.ENUM64: "enum"}
_QUALIFIERS = {Kind.CONST: "const", Kind.VOLATILE: "volatile", Kind.RESTRICT: "restrict"}


def declaration(btf: Btf, type_id: int, name: str = "") -> str:
    """`char comm[16]`, `int (*handler)(struct request *, …)`. Raises BtfError where types form a loop."""
    return _Printer(btf).declare(type_id, name, 0)


def dump(btf: Btf) -> str:
    """All named types, each once and after what it needs, as C. Raises BtfError where types form a loop."""
    return _Printer(btf).dump()


class _Printer:
    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._names: dict[int, str] = {}
        self._taken: dict[tuple[bool, str], int] = {}
        self._alignments: dict[int, int] = {}

    # Names. Tags of structs, unions and enums are one space, typedefs and enumerators the other.

    def _name(self, type_: Type) -> str:
        """The type's name, with ___2 and so on where another type has it already, as bpftool does."""
        if type_.id not in self._names:
            space = (type_.kind != Kind.TYPEDEF, type_.name)
            number = self._taken[space] = self._taken.get(space, 0) + 1
            self._names[type_.id] = type_.name + (f"___{number}" if number > 1 else "")
        return self._names[type_.id]

    # Declarations.

    def declare(self, type_id: int, name: str, depth: int) -> str:
        """A declarator is built from the inside out: the name, then arrays, functions and pointers around it."""
        if depth > MAX_DEPTH:
            raise BtfError(f".BTF: types nest deeper than {MAX_DEPTH} at type {type_id}")
        type_ = self._btf.type(type_id)
        if type_.kind == Kind.PTR:
            return self._pointer(type_, name, depth)
        if type_.kind == Kind.ARRAY:
            element, count = self._btf.array(type_)
            return self.declare(element, f"{name}[{count}]", depth + 1)
        if type_.kind == Kind.FUNC_PROTO:
            return self.declare(type_.size_or_type, f"{name}({self._parameters(type_, depth)})", depth + 1)
        if type_.kind in QUALIFIERS:
            return self._qualified(type_, name, depth)
        return f"{self._base(type_, depth)} {name}".rstrip()

    def _pointer(self, type_: Type, name: str, depth: int) -> str:
        target = self._btf.resolve(type_.size_or_type, QUALIFIERS)
        starred = f"*{name}"
        if target.kind in (Kind.ARRAY, Kind.FUNC_PROTO):
            starred = f"({starred})"
        return self.declare(type_.size_or_type, starred, depth + 1)

    def _qualified(self, type_: Type, name: str, depth: int) -> str:
        word = _QUALIFIERS.get(Kind(type_.kind), "")
        target = self._btf.type(type_.size_or_type)
        if target.kind == Kind.PTR and word:
            return self.declare(type_.size_or_type, f"{word} {name}".strip(), depth + 1)
        inner = self.declare(type_.size_or_type, name, depth + 1)
        return inner if word in ("", "restrict") or inner.startswith(f"{word} ") else f"{word} {inner}"

    def _parameters(self, type_: Type, depth: int) -> str:
        rows = self._btf.parameters(type_)
        shown = [self.declare(t, n, depth + 1) if t else "..." for n, t in rows]
        return ", ".join(shown) or "void"

    def _base(self, type_: Type, depth: int) -> str:
        if type_.kind == Kind.FWD:
            return f"{'union' if type_.flag else 'struct'} {type_.name}"
        if type_.kind in _KEYWORDS:
            keyword = _KEYWORDS[Kind(type_.kind)]
            return f"{keyword} {self._name(type_)}" if type_.name else self._body(type_, depth)
        return self._name(type_) if type_.kind == Kind.TYPEDEF else type_.name

    # Definitions.

    def _body(self, type_: Type, depth: int) -> str:
        keyword = _KEYWORDS[Kind(type_.kind)]
        head = f"{keyword} {self._name(type_)}" if type_.name else keyword
        if type_.kind in ENUMS:
            return head + self._enumerators(type_)
        indent = "\t" * (depth + 1)
        packed = self._is_packed(type_)
        lines = [f"{indent}{line};\n" for line in self._members(type_, depth, packed)]
        return f"{head} {{\n{''.join(lines)}{indent[1:]}}}" + (" __attribute__((packed))" if packed else "")

    def _enumerators(self, type_: Type) -> str:
        rows = [
            f"\t{self._enumerator(name)} = {value}{'ULL' * (value >> 63 > 0)},\n"
            for name, value in self._btf.enumerators(type_)
        ]
        mode = {1: "byte", 2: "word", 8: "64"}.get(type_.size_or_type, "")
        packed = f" __attribute__((mode({mode})))" if mode in ("byte", "word") else ""
        if mode == "64" and type_.flag is False and all(0 <= v < 1 << 32 for _n, v in self._btf.enumerators(type_)):
            packed = " __attribute__((mode(word)))"
        return f" {{\n{''.join(rows)}}}{packed}"

    def _enumerator(self, name: str) -> str:
        space = (False, name)
        number = self._taken[space] = self._taken.get(space, 0) + 1
        return name + (f"___{number}" if number > 1 else "")

    def _members(self, type_: Type, depth: int, packed: bool) -> Iterator[str]:
        """The members, and bit-fields without a name where the compiler would not leave a gap by itself."""
        at = 0
        for member in self._btf.members(type_):
            if type_.kind == Kind.STRUCT:
                yield from self._padding(at, member, packed)
            bits = self._bits(member)
            text = self.declare(member.type_id, member.name, depth + 1)
            yield f"{text}: {bits}" if bits else text
            at = member.bit_offset + (bits or self._bit_size(member.type_id))
        if type_.kind == Kind.STRUCT and type_.vlen:
            alignment = 1 if packed else self._alignment(type_.id)
            yield from self._gap(type_.size_or_type * 8 - at, at, alignment * 8)

    def _padding(self, at: int, member: Member, packed: bool) -> Iterator[str]:
        bits = self._bits(member)
        alignment = 1 if packed or bits else self._alignment(member.type_id) * 8
        yield from self._gap(member.bit_offset - at, at, max(alignment, 1))

    def _gap(self, bits: int, at: int, alignment: int) -> Iterator[str]:
        """Nothing if the alignment alone makes a gap of that many bits from bit `at` on."""
        if bits <= 0 or -at % alignment == bits:
            return
        while bits > 0:
            step = min(bits, 32 - at % 32)
            yield f"int: {step}" if step < 32 else "int: 32"
            bits, at = bits - step, at + step

    def _bits(self, member: Member) -> int:
        type_ = self._btf.resolve(member.type_id)
        if member.bit_size or type_.kind != Kind.INT:
            return member.bit_size
        bits = self._btf.integer(type_).bits
        return bits if bits < type_.size_or_type * 8 and bits % 8 else 0

    def _bit_size(self, type_id: int) -> int:
        type_ = self._btf.resolve(type_id)
        return 0 if type_.kind in (Kind.VOID, Kind.FWD, Kind.FUNC_PROTO) else self._btf.size(type_id) * 8

    def _is_packed(self, type_: Type) -> bool:
        """Does it lie as no compiler would lay it out unasked? (btf_dump.c, btf_is_struct_packed)"""
        if type_.kind not in COMPOSITES or not type_.vlen:
            return False
        members = self._btf.members(type_)
        alignments = [(m.bit_offset, self._alignment(m.type_id) * 8) for m in members if not self._bits(m)]
        strictest = max(self._alignment(m.type_id) for m in members) * 8
        return bool(type_.size_or_type * 8 % strictest) or any(at % a for at, a in alignments)

    def _alignment(self, type_id: int) -> int:
        """In bytes, as the compiler would choose it; 1 for a packed struct."""
        type_ = self._btf.resolve(type_id)
        if type_.id not in self._alignments:
            self._alignments[type_.id] = 1  # ends a loop that only hostile BTF has
            self._alignments[type_.id] = self._find_alignment(type_)
        return self._alignments[type_.id]

    def _find_alignment(self, type_: Type) -> int:
        if type_.kind == Kind.ARRAY:
            return self._alignment(self._btf.array(type_)[0])
        if type_.kind in COMPOSITES:
            if self._is_packed(type_):
                return 1
            return max((self._alignment(m.type_id) for m in self._btf.members(type_)), default=1)
        if type_.kind in (Kind.VOID, Kind.FWD, Kind.FUNC_PROTO):
            return 1
        return max(1, min(self._btf.size(type_.id), 16 if type_.kind == Kind.INT else 8))

    # The whole.

    def dump(self) -> str:
        """Structs and unions are declared before all, so that pointers to them need no order."""
        lines, order = [], self._in_order()
        for type_ in self._btf:
            if type_.kind in COMPOSITES and type_.name:
                lines.append(f"{_KEYWORDS[Kind(type_.kind)]} {self._name(type_)};\n")
            elif type_.kind == Kind.FWD and type_.name:
                lines.append(f"{'union' if type_.flag else 'struct'} {type_.name};\n")
        for type_ in order:
            if type_.kind == Kind.TYPEDEF and type_.name != "__builtin_va_list":  # the compiler's own
                lines.append(f"typedef {self.declare(type_.size_or_type, self._name(type_), 0)};\n")
            elif type_.kind != Kind.TYPEDEF:
                lines.append(f"{self._body(type_, 0)};\n\n")
        return "".join(lines)

    def _in_order(self) -> Iterable[Type]:
        """Definitions, each behind those that it holds by value."""
        done: set[tuple[int, bool]] = set()
        order: dict[int, Type] = {}
        wanted = {Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.TYPEDEF}
        used = self._anonymous_enums_in_use()
        for type_ in self._btf:
            if type_.kind in wanted and (type_.name or (type_.kind in ENUMS and type_.id not in used)):
                self._visit(type_.id, done, order)
        return order.values()

    def _anonymous_enums_in_use(self) -> set[int]:
        """Those that are written out where they are used, and must not be written a second time."""
        found = set()
        for type_ in self._btf:
            if type_.kind == Kind.TYPEDEF or type_.kind in QUALIFIERS or type_.kind == Kind.PTR:
                found.add(type_.size_or_type)
            elif type_.kind in COMPOSITES:
                found.update(m.type_id for m in self._btf.members(type_))
            elif type_.kind == Kind.ARRAY:
                found.add(self._btf.array(type_)[0])
        return found

    def _visit(self, type_id: int, done: set[tuple[int, bool]], order: dict[int, Type]) -> None:
        """Depth first, on a stack of its own: chains of types are longer than Python's.

        Where a type is only pointed to, a struct's declaration will do, but a typedef must be there all the same. A
        typedef of a struct stands before that, for the struct may use it.
        """
        stack = [(type_id, False, False)]
        while stack:
            at, pointed, complete = stack.pop()
            type_ = self._btf.type(at)
            if complete:
                order.setdefault(at, type_)
            named = bool(type_.name) and type_.kind in COMPOSITES
            if complete or not at or (at, pointed) in done or (pointed and named):
                continue
            done.add((at, pointed))
            early = type_.kind == Kind.TYPEDEF and self._is_named_composite(type_.size_or_type)
            inside = [(inner, behind, False) for inner, behind in reversed(self._inside(type_, pointed))]
            mark = [(at, pointed, True)] if type_.kind == Kind.TYPEDEF or named or type_.kind in ENUMS else []
            stack += inside + mark if early else mark + inside

    def _is_named_composite(self, type_id: int) -> bool:
        target = self._btf.resolve(type_id, QUALIFIERS)
        return target.kind in COMPOSITES and bool(target.name)

    def _inside(self, type_: Type, pointed: bool) -> list[tuple[int, bool]]:
        """What must be known before this type: (type id, is it only pointed to?)."""
        if type_.kind == Kind.PTR:
            return [(type_.size_or_type, True)]
        if type_.kind == Kind.ARRAY:
            return [(self._btf.array(type_)[0], False)]
        if type_.kind == Kind.FUNC_PROTO:
            return [(type_.size_or_type, True), *((t, True) for _n, t in self._btf.parameters(type_))]
        if type_.kind in COMPOSITES:
            return [(m.type_id, False) for m in self._btf.members(type_)]
        if type_.kind == Kind.TYPEDEF or type_.kind in QUALIFIERS:
            return [(type_.size_or_type, pointed)]
        return []
