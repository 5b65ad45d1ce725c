"""BTF as C: declarations and definitions for people, and all types as a header that clang takes (a vmlinux.h).

The header puts each type behind those that it holds by value; a struct that is only pointed to is declared before
all. Where types share a name, the second is called `name___2`, as bpftool does; to CO-RE that is a flavour of `name`.
Compiled again, structs have the same sizes and offsets: gaps that no compiler leaves by itself become bit-fields
without a name, and structs that are denser than their members' alignment get `packed`.

Not kept, for C has no words for it or another target says otherwise: tags, alignment beyond the natural one (its gaps
are kept), and what the compiler has built in (`__builtin_va_list`, `long double`).

A stranger's BTF can describe, in a few bytes, a declaration that takes for ever to print. So the work is limited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..errors import BtfError
from .btf import Btf
from .kinds import COMPOSITES, ENUMS, MAX_DEPTH, QUALIFIERS, Kind, Member, Type, kind_name

_LINE = 64  # work of a line, besides its characters
_KEYWORDS = {Kind.STRUCT: "struct", Kind.UNION: "union", Kind.ENUM: "enum", Kind.ENUM64: "enum"}
_WORDS = {Kind.CONST: "const ", Kind.VOLATILE: "volatile ", Kind.RESTRICT: "restrict ", Kind.TYPE_TAG: ""}
_ENUM_MODES = {1: "byte", 2: "HI"}  # GCC's machine modes, for enums that are not an int
_DEFINED = COMPOSITES | ENUMS | {Kind.TYPEDEF}
_SIZELESS = frozenset({Kind.VOID, Kind.FWD, Kind.FUNC_PROTO})
_BEFORE = """#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

"""
_AFTER = """#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
"""


def declaration(btf: Btf, type_id: int, name: str = "") -> str:
    """`char comm[16]`, `int (*handler)(struct request *, ...)`.

    Raises BtfError where types form a loop, and for what no variable can be, such as a DATASEC.
    """
    return _Printer(btf).declare(type_id, name)


def definition(btf: Btf, type_id: int) -> str:
    """A struct, union, enum or typedef with its members, `;` at the end. Gaps are not shown. Raises BtfError."""
    type_ = btf.type(type_id)
    if type_.kind not in _DEFINED:
        raise BtfError(f".BTF: type {type_id} ({kind_name(type_.kind)} {type_.name!r}) has no definition")
    return _Printer(btf).define(type_)


def dump(btf: Btf) -> str:
    """All types, those of the base too, each once and after what it needs, as a header with bpftool's guards.

    Raises BtfError where types hold one another in a loop, or so often that the text would be without end.
    """
    return _Header(btf).text()


class _Printer:
    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._names: dict[int, str] = {}
        self._taken: dict[tuple[bool, str], int] = {}
        self._work = 0
        self._most_work = (1 << 22) + 64 * len(btf.types)  # a kernel's BTF takes a sixth

    # Names. Tags of structs, unions and enums are one space, typedefs and enumerators the other.

    def name(self, type_: Type) -> str:
        """The type's name, or the next free of name___2, name___3 and so on."""
        if type_.id not in self._names:
            self._names[type_.id] = self._free(type_.kind != Kind.TYPEDEF, type_.name)
        return self._names[type_.id]

    def _free(self, is_tag: bool, name: str) -> str:
        taken, free = self._taken, name
        while (is_tag, free) in taken:
            taken[is_tag, name] += 1
            free = f"{name}___{taken[is_tag, name]}"
        taken[is_tag, free] = 1
        return free

    # Declarations.

    def declare(self, type_id: int, name: str, depth: int = 0, words: str = "") -> str:
        """A declarator is built from the inside out: the name, then arrays, functions and pointers around it.

        `words` are the qualifiers on the way, each with a blank behind it.
        """
        if depth > MAX_DEPTH:
            raise BtfError(f".BTF: types nest deeper than {MAX_DEPTH} at type {type_id}")
        type_ = self._btf.type(type_id)
        if type_.kind not in _DECLARERS:
            raise BtfError(f".BTF: nothing can be of type {type_id} ({kind_name(type_.kind)} {type_.name!r})")
        text = _DECLARERS[Kind(type_.kind)](self, type_, name, depth + 1, words)
        self._spend(len(text), type_)
        return text

    def _spend(self, characters: int, type_: Type) -> None:
        self._work += _LINE + characters
        if self._work > self._most_work:
            raise BtfError(f".BTF: declarations without end at type {type_.id}")

    def pointer(self, type_: Type, name: str, depth: int, words: str) -> str:
        target = self._btf.resolve(type_.size_or_type, QUALIFIERS)
        starred = f"*{words}{name}".rstrip()
        if target.kind in (Kind.ARRAY, Kind.FUNC_PROTO):
            starred = f"({starred})"
        return self.declare(type_.size_or_type, starred, depth)

    def array(self, type_: Type, name: str, depth: int, words: str) -> str:
        element, count = self._btf.array(type_)
        return self.declare(element, f"{name}[{count}]", depth, words)

    def function(self, type_: Type, name: str, depth: int, _words: str) -> str:
        rows = self._btf.parameters(type_)
        parameters = ", ".join(self.declare(t, n, depth) if t else "..." for n, t in rows) or "void"
        return self.declare(type_.size_or_type, f"{name}({parameters})", depth)

    def qualified(self, type_: Type, name: str, depth: int, words: str) -> str:
        word = _WORDS[Kind(type_.kind)]
        return self.declare(type_.size_or_type, name, depth, words if word in words else words + word)

    def forward(self, type_: Type, name: str, _depth: int, words: str) -> str:
        return f"{words}{'union' if type_.flag else 'struct'} {self.name(type_)} {name}".rstrip()

    def tagged(self, type_: Type, name: str, depth: int, words: str) -> str:
        keyword = _KEYWORDS[Kind(type_.kind)]
        return f"{words}{f'{keyword} {self.name(type_)}' if type_.name else self.body(type_, depth)} {name}".rstrip()

    def named(self, type_: Type, name: str, _depth: int, words: str) -> str:
        own = self.name(type_) if type_.kind == Kind.TYPEDEF else type_.name
        return f"{words.replace('restrict ', '')}{own} {name}".rstrip()

    # Definitions.

    def define(self, type_: Type) -> str:
        """With `;` at the end."""
        if type_.kind == Kind.TYPEDEF:
            return f"typedef {self.declare(type_.size_or_type, self.name(type_))};"
        return f"{self.body(type_, 0)};"

    def body(self, type_: Type, depth: int) -> str:
        """From the keyword to what follows the closing brace."""
        head = f"{_KEYWORDS[Kind(type_.kind)]} {self.name(type_) if type_.name else ''}".rstrip()
        if type_.kind in ENUMS:
            return self._enum(head, type_)
        lines = [f"\t{line};\n".replace("\n", "\n\t", line.count("\n")) for line in self.members(type_, depth)]
        return f"{head} {{\n{''.join(lines)}}}{self.attribute(type_)}"

    def _enum(self, head: str, type_: Type) -> str:
        rows, size = self._btf.enumerators(type_), type_.size_or_type
        if not rows:
            return head
        lines = [f"\t{self._free(False, name)} = {_literal(value)},\n" for name, value in rows]
        is_narrow = all(-(1 << 31) <= value < 1 << 32 for _name, value in rows)
        mode = "word" if size == 8 and is_narrow else _ENUM_MODES.get(size, "")
        return f"{head} {{\n{''.join(lines)}}}" + (f" __attribute__((mode({mode})))" if mode else "")

    def members(self, type_: Type, depth: int) -> Iterator[str]:
        """A line for each."""
        for member in self._btf.members(type_):
            _at, bits = self.place(member)
            yield self.declare(member.type_id, member.name, depth) + (f": {bits}" if bits else "")

    def attribute(self, _type: Type) -> str:
        """What is said behind a struct's closing brace."""
        return ""

    def place(self, member: Member) -> tuple[int, int]:
        """At which bit it starts, and for a bit-field of how many bits it is, else 0."""
        type_ = self._btf.resolve(member.type_id)
        if member.bit_size or type_.kind != Kind.INT:
            return member.bit_offset, member.bit_size
        integer = self._btf.integer(type_)  # before kind_flag, the INT itself said that it is a bit-field
        is_field = integer.offset or integer.bits < type_.size_or_type * 8
        return member.bit_offset + integer.offset, integer.bits if is_field else 0


_DECLARERS: dict[Kind, Callable[[_Printer, Type, str, int, str], str]] = {
    Kind.PTR: _Printer.pointer,
    Kind.ARRAY: _Printer.array,
    Kind.FUNC_PROTO: _Printer.function,
    Kind.FWD: _Printer.forward,
    **dict.fromkeys(QUALIFIERS, _Printer.qualified),
    **dict.fromkeys(COMPOSITES | ENUMS, _Printer.tagged),
    **dict.fromkeys((Kind.VOID, Kind.INT, Kind.FLOAT, Kind.TYPEDEF), _Printer.named),
}


def _literal(value: int) -> str:
    if value == -(1 << 63):
        return "(-9223372036854775807LL - 1)"  # C has no negative literals
    return f"{value}ULL" if value >> 63 > 0 else str(value)


class _Header(_Printer):
    """Prints so that a compiler lays structs out as they were."""

    def __init__(self, btf: Btf) -> None:
        super().__init__(btf)
        self._alignments: dict[int, int] = {}
        self._forwards: dict[tuple[bool, str], str] = {}

    def text(self) -> str:
        """The whole."""
        types = [self._btf.type(type_id) for type_id in range(1, self._btf.count + 1)]
        lines = [f"{line};\n" for line in self._forward_declarations(types)]
        for type_ in self._in_order(types):
            end = "\n" if type_.kind == Kind.TYPEDEF else "\n\n"
            if type_.name != "__builtin_va_list":  # the compiler has it
                lines.append(self.define(type_) + end)
        return "".join([_BEFORE, *lines, "\n", _AFTER])

    def _forward_declarations(self, types: Iterable[Type]) -> Iterator[str]:
        """All structs and unions are given their names, before those that BTF knows by name only."""
        for type_ in types:
            if type_.kind in COMPOSITES and type_.name:
                self._forwards.setdefault((type_.kind == Kind.UNION, type_.name), self.name(type_))
                yield f"{_KEYWORDS[Kind(type_.kind)]} {self.name(type_)}"
        for type_ in types:
            if type_.kind == Kind.FWD and (type_.flag, type_.name) not in self._forwards:
                self._forwards[type_.flag, type_.name] = self._free(True, type_.name)
                yield self.declare(type_.id, "")

    def name(self, type_: Type) -> str:
        """See _Printer; a FWD is the first struct of that name."""
        return self._forwards[type_.flag, type_.name] if type_.kind == Kind.FWD else super().name(type_)

    # Layout.

    def members(self, type_: Type, depth: int) -> Iterator[str]:
        """The members, and bit-fields without a name where the compiler would not leave a gap by itself."""
        at, is_packed, is_union = 0, self._is_packed(type_, 0), type_.kind == Kind.UNION
        for member, line in zip(self._btf.members(type_), super().members(type_, depth)):
            start, bits = self.place(member)
            if not is_union:
                yield from self._gap(type_, start, at, 1 if is_packed or bits else self._alignment(member.type_id, 0))
            yield line
            at = max(at * is_union, start + (bits or self._bit_size(member.type_id)))
        gap = self._gap(type_, type_.size_or_type * 8, at, 8 if is_packed else self._alignment(type_.id, 0))
        if not is_union:
            yield from gap
        elif next(gap, ""):
            fields = "".join(f"\t{field};\n" for field in self._gap(type_, type_.size_or_type * 8, 0, 1))
            yield f"struct {{\n{fields}}}"

    def attribute(self, type_: Type) -> str:
        """See _Printer."""
        return " __attribute__((packed))" if self._is_packed(type_, 0) else ""

    def _gap(self, type_: Type, end: int, at: int, alignment: int) -> Iterator[str]:
        """From bit `at` to bit `end`; nothing if an alignment of so many bits makes that gap by itself."""
        while at < end and -at % alignment != end - at:
            bits = min(end - at, 32 - at % 32)
            self._spend(bits, type_)
            yield f"int: {bits}"
            at += bits

    def _bit_size(self, type_id: int) -> int:
        return 0 if self._btf.resolve(type_id).kind in _SIZELESS else self._btf.size(type_id) * 8

    def _is_packed(self, type_: Type, depth: int) -> bool:
        """Does it lie as no compiler would lay it out unasked? (btf_dump.c, btf_is_struct_packed)"""
        if type_.kind not in COMPOSITES or not type_.vlen:
            return False
        rows = [(self.place(m), self._alignment(m.type_id, depth + 1)) for m in self._btf.members(type_)]
        strictest = max(alignment for _place, alignment in rows)
        # A bit-field does not cross the bounds of its type, unasked. That has the size of its alignment.
        return type_.size_or_type * 8 % strictest > 0 or any(
            start % alignment + bits > (alignment if bits else 0) for (start, bits), alignment in rows
        )

    def _alignment(self, type_id: int, depth: int) -> int:
        """In bits, as the compiler would choose it; 8 for a packed struct."""
        if type_id not in self._alignments:
            if depth > MAX_DEPTH:
                raise BtfError(f".BTF: types nest deeper than {MAX_DEPTH} at type {type_id}")
            self._alignments[type_id] = self._find_alignment(self._btf.resolve(type_id), depth + 1)
        return self._alignments[type_id]

    def _find_alignment(self, type_: Type, depth: int) -> int:
        if type_.kind == Kind.ARRAY:
            return self._alignment(self._btf.array(type_)[0], depth)
        if type_.kind in COMPOSITES:
            if self._is_packed(type_, depth):
                return 8
            return max((self._alignment(m.type_id, depth) for m in self._btf.members(type_)), default=8)
        return max(8, min(self._bit_size(type_.id), 128 if type_.kind == Kind.INT else 64))

    # Order.

    def _in_order(self, types: Iterable[Type]) -> Iterable[Type]:
        """Definitions, each behind those that it holds by value."""
        done: set[tuple[int, bool]] = set()
        order: dict[int, Type] = {}
        used = self._used_within(types)
        for type_ in types:
            if type_.kind in _DEFINED and (type_.name or (type_.kind in ENUMS and type_.id not in used)):
                self._visit(type_.id, done, order)
        return order.values()

    def _used_within(self, types: Iterable[Type]) -> set[int]:
        """An anonymous enum among them is written where it is used, and must not be written a second time."""
        return {inner for type_ in types for inner, _pointed in self._inside(type_, False)}

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
