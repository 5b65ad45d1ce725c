"""BTF, the type information of an object or of the kernel (Documentation/bpf/btf.rst).

    header   magic u16 0xeb9f, version u8, flags u8, header length u32,
             type section offset and length u32, string section offset and length u32;
             since Linux 7.1 offset and length u32 of a layout section
    type     name offset u32, info u32 (vlen 0-15, kind 24-28, kind_flag 31), size or type u32,
             then what the kind adds
    layout   for each kind: bytes after a type's common part u8, bytes for each of its vlen members u8, flags u16

The sections' offsets count from the end of the header. Type 0 is void; ids count from 1 in file order.
A split BTF (a kernel module's) goes on where its base ends, in ids and in string offsets.

Speed. A kernel has 130,000 types. The one loop over all of them, in `_walk`, only adds up sizes, which it looks
up by the whole info word, for there are few different ones. Names are found by searching bytes, in C. A `Type`
is made when somebody asks for it.
"""

from __future__ import annotations

import re
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cached_property

from ..errors import BtfError
from .kinds import (
    ALIASES,
    KINDS,
    MAX_DEPTH,
    SIZED,
    TAIL,
    VOID,
    Integer,
    Kind,
    Member,
    Placed,
    Type,
    essential,
    kind_name,
)

MAGIC = 0xEB9F
_HEADER = 6  # words
_FEW = 64  # names to search for one by one
_LONGEST = 1 << 12  # bytes of a name and its NUL; the kernel takes 512 (KSYM_NAME_LEN)


class Btf:
    """Typed access to BTF. Any damage raises BtfError; equal bytes make equal objects.

    `base` is the BTF that a split BTF extends. `byte_order` is "little" or "big", as the magic says.
    """

    def __init__(self, data: bytes, base: Btf | None = None) -> None:
        self.data = data
        self.base = base
        self.byte_order = _byte_order(data)
        header = _words(data[: 4 * 8], self.byte_order)
        if len(header) < _HEADER:
            raise BtfError(f".BTF: cut off in its header, at {len(data)} bytes")
        length, type_off, type_len, str_off, str_len = header[1:_HEADER]
        if length < 4 * _HEADER:
            raise BtfError(f".BTF: has a header of {length} bytes; there are {4 * _HEADER} at least")
        self.types = _words(_part(data, "type", length + type_off, type_len), self.byte_order)
        self.strings = bytes(_part(data, "string", length + str_off, str_len))
        sizes = dict(TAIL)
        if length >= 32 and len(header) == 8 and header[7]:
            sizes = _layout(_part(data, "layout", length + header[6], header[7]))
        self._first = base.count + 1 if base else 1
        self._first_string = base._end_of_strings if base else 0
        self._end_of_strings: int = self._first_string + len(self.strings)
        if base is None and self.strings[:1] not in (b"", b"\0"):
            raise BtfError(".BTF: the string section does not start with an empty string")
        self._at, self._names = _walk(self.types, sizes)
        self._expected: dict[str, list[int]] = {}  # name -> ids

    @property
    def count(self) -> int:
        """The highest type id."""
        return self._first + len(self._at) - 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Btf) and self.data == other.data and self.base == other.base

    def __hash__(self) -> int:
        return hash(self.data)

    def string(self, offset: int) -> str:
        """The NUL-terminated string at `offset`. Many types may share a long one, so its length is limited."""
        if self.base and offset < self._first_string:
            return self.base.string(offset)
        start = offset - self._first_string
        end = self.strings.find(b"\0", start, start + _LONGEST)
        if start >= len(self.strings) or end < 0:
            if not offset:
                return ""
            raise BtfError(f".BTF: no string of up to {_LONGEST - 1} bytes at offset {offset} of the string section")
        return self.strings[start:end].decode("utf-8", "backslashreplace")

    def word(self, type_id: int) -> int:
        """Where a type of this BTF itself, not of its base, starts in `types`, in words."""
        index = type_id - self._first
        if not 0 <= index < len(self._at):
            raise BtfError(f".BTF: no type {type_id}; there are {self.count}")
        return self._at[index]

    def end(self, type_id: int) -> int:
        """Where a type of this BTF itself ends in `types`, in words."""
        index = type_id - self._first + 1
        return self._at[index] if index < len(self._at) else len(self.types)

    def home(self, type_id: int) -> Btf:
        """The BTF that holds a type: this one or its base."""
        return self.base.home(type_id) if self.base and type_id < self._first else self

    def type(self, type_id: int) -> Type:
        """The type with this id, void for 0. Raises BtfError for ids beyond the last."""
        if not type_id:
            return VOID
        if self.base and type_id < self._first:
            return self.base.type(type_id)
        at, types = self.word(type_id), self.types
        info = types[at + 1]
        number = info >> 24 & 0x1F
        kind = KINDS.get(number, number)
        return Type(type_id, kind, self.string(types[at]), info & 0xFFFF, bool(info >> 31), types[at + 2], at + 3)

    def __iter__(self) -> Iterator[Type]:
        """The types of this BTF itself, in the order of their ids."""
        return map(self.type, range(self._first, self.count + 1))

    def kind(self, type_id: int) -> int:
        """The kind alone."""
        home = self.home(type_id)
        return home.types[home.word(type_id) + 1] >> 24 & 0x1F if type_id else 0

    @cached_property
    def _name_bytes(self) -> bytes:
        return self._names.tobytes()

    @cached_property
    def _name_offsets(self) -> frozenset[int]:
        return frozenset(self._names)

    def find(self, name: str, kinds: frozenset[Kind] | Kind, *, flavours: bool = False) -> list[Type]:
        """The types of this name among `kinds`, base first, in the order of their ids.

        With `flavours` also those whose `essential` name this is (task_struct___old).
        """
        wanted = kinds if isinstance(kinds, frozenset) else frozenset({kinds})
        found = self.base.find(name, wanted, flavours=flavours) if self.base else []
        if name in self._expected:
            ids = self._expected[name]
        else:
            ids = self._named(self._name_offsets.intersection(self._offsets(name.encode())))
        if flavours and name in self._flavours:
            ids = sorted({*ids, *self._named(self._name_offsets.intersection(self._flavours[name]))})
        return found + [self.type(i) for i in ids if self.kind(i) in wanted]

    def expect(self, names: Iterable[str]) -> None:
        """Say what `find` will be asked for: looked for together, many names take little longer than one."""
        wanted = sorted({name for name in names if name})
        before = b"\0" + self.strings
        if self.base or not wanted or max(self._names, default=0) >= len(before):
            return
        if any(map(before.__getitem__, self._names)):
            return  # a name begins within a string: then each is looked for by itself
        pattern = b"\\0(" + b"|".join(re.escape(name.encode()) for name in wanted) + b")(?=\\0)"
        strings = {found.start() + 1: found[1].decode() for found in re.finditer(pattern, self.strings)}
        self._expected = {name: [] for name in wanted}
        for index, offset in enumerate(self._names):
            if offset in strings:
                self._expected[strings[offset]].append(self._first + index)

    def close_to(self, name: str, kind: Kind, prefix: str = "") -> list[str]:
        """Up to three names like this one among the types of a kind whose names start so, the best first."""
        names = []
        for at in self._at:
            if self.types[at + 1] >> 24 & 0x1F == kind:
                other = self.string(self.types[at])
                if other.startswith(prefix) and abs(len(other) - len(name)) <= len(name) // 2:
                    names.append(other)
        return get_close_matches(name, names, 3)

    @cached_property
    def _flavours(self) -> dict[str, list[int]]:
        """Essential name -> offsets of the strings that are flavours of it, those of the base included."""
        found = {name: list(offsets) for name, offsets in self.base._flavours.items()} if self.base else {}
        at = self.strings.find(b"___")
        while at >= 0:
            start = self.strings.rfind(b"\0", 0, at) + 1
            name = self.string(self._first_string + start)
            if essential(name) != name:
                found.setdefault(essential(name), []).append(self._first_string + start)
            at = self.strings.find(b"___", start + len(name.encode()))
        return found

    def _offsets(self, name: bytes) -> Iterator[int]:
        """Where strings end so. A name may be the tail of another string."""
        home: Btf | None = self
        while name and home:
            at = home.strings.find(name + b"\0")
            while at >= 0:
                yield home._first_string + at
                at = home.strings.find(name + b"\0", at + 1)
            home = home.base

    def _named(self, offsets: frozenset[int]) -> list[int]:
        """Ids of the types whose names are there, in order."""
        if len(offsets) > _FEW:
            return [self._first + i for i, offset in enumerate(self._names) if offset in offsets]
        return sorted(type_id for offset in offsets for type_id in self._named_at(offset))

    def _named_at(self, offset: int) -> Iterator[int]:
        needle = offset.to_bytes(4, sys.byteorder)
        at = self._name_bytes.find(needle)
        while at >= 0:
            if not at & 3:
                yield self._first + (at >> 2)
            at = self._name_bytes.find(needle, at + 1)

    def resolve(self, type_id: int, through: frozenset[Kind] = ALIASES) -> Type:
        """The type behind typedefs and qualifiers. Raises BtfError where they form a loop."""
        for _ in range(MAX_DEPTH):
            found = self.type(type_id)
            if found.kind not in through:
                return found
            type_id = found.size_or_type
        raise BtfError(f".BTF: typedefs nest deeper than {MAX_DEPTH} at type {type_id}")

    def tail(self, type_: Type, count: int) -> memoryview:
        """The first `count` words after a type's common part."""
        words = self.home(type_.id).types[type_.at : type_.at + count]
        if len(words) < count:
            raise BtfError(f".BTF: type {type_.id} is cut off")
        return words

    def members(self, type_: Type) -> list[Member]:
        """The members of a STRUCT or UNION."""
        words = self.tail(type_, 3 * type_.vlen)
        rows = zip(words[::3], words[1::3], words[2::3])
        if type_.flag:
            return [Member(self.string(n), t, place & 0xFFFFFF, place >> 24) for n, t, place in rows]
        return [Member(self.string(n), t, place, 0) for n, t, place in rows]

    def enumerators(self, type_: Type) -> list[tuple[str, int]]:
        """(name, value) of each enumerator of an ENUM or ENUM64; signed where the kind_flag says so."""
        wide = type_.kind == Kind.ENUM64
        words = self.tail(type_, (3 if wide else 2) * type_.vlen)
        if wide:
            rows = [(n, low | high << 32) for n, low, high in zip(words[::3], words[1::3], words[2::3])]
        else:
            rows = list(zip(words[::2], words[1::2]))
        sign = 1 << (63 if wide else 31)
        return [(self.string(n), (v ^ sign) - sign if type_.flag else v) for n, v in rows]

    def parameters(self, type_: Type) -> list[tuple[str, int]]:
        """(name, type id) of each parameter of a FUNC_PROTO; the last is ("", 0) for a variadic one."""
        words = self.tail(type_, 2 * type_.vlen)
        return [(self.string(n), t) for n, t in zip(words[::2], words[1::2])]

    def variables(self, datasec: Type) -> list[Placed]:
        """The variables of a DATASEC."""
        words = self.tail(datasec, 3 * datasec.vlen)
        return [Placed(*row) for row in zip(words[::3], words[1::3], words[2::3])]

    def linkage(self, type_: Type) -> int:
        """Of a VAR or FUNC: 0 static, 1 global, 2 extern."""
        return type_.vlen if type_.kind == Kind.FUNC else self.tail(type_, 1)[0]

    def array(self, type_: Type) -> tuple[int, int]:
        """(element type id, number of elements) of an ARRAY."""
        words = self.tail(type_, 3)
        return words[0], words[2]

    def integer(self, type_: Type) -> Integer:
        """What an INT says of its bits."""
        word = self.tail(type_, 1)[0]
        return Integer(word >> 24 & 15, word >> 16 & 255, word & 255)

    def size(self, type_id: int) -> int:
        """Size in bytes of a value. Pointers are 8: BPF is a 64-bit machine. Raises BtfError for what has none."""
        count = 1
        for _ in range(MAX_DEPTH):
            found = self.resolve(type_id)
            if found.kind == Kind.PTR:
                return 8 * count
            if found.kind in SIZED:
                return found.size_or_type * count
            if found.kind != Kind.ARRAY:
                raise BtfError(f".BTF: type {type_id} ({kind_name(found.kind)} {found.name!r}) has no size")
            type_id, elements = self.array(found)
            count *= elements
        raise BtfError(f".BTF: arrays nest deeper than {MAX_DEPTH} at type {type_id}")

    def owner(self, word: int) -> int:
        """The id of the type in whose words this one lies."""
        return self._first + bisect_right(self._at, word) - 1


def _byte_order(data: bytes) -> str:
    for order in ("little", "big"):
        if data[:2] == MAGIC.to_bytes(2, "little" if order == "little" else "big"):
            return order
    raise BtfError(f".BTF: starts with {data[:2].hex() or 'nothing'}, which is not its magic {MAGIC:#x}")


def _words(part: bytes | memoryview, byte_order: str) -> memoryview:
    """All of BTF but its strings is 32-bit words; here in the machine's own order."""
    whole = memoryview(part)[: len(part) & ~3]
    if byte_order == sys.byteorder:
        return whole.cast("I")
    swapped = array("I", bytes(whole))
    swapped.byteswap()
    return memoryview(swapped)


def _part(data: bytes, what: str, start: int, length: int) -> memoryview:
    if start + length > len(data):
        raise BtfError(f".BTF: its {what} section, {length} bytes at {start}, reaches beyond its {len(data)} bytes")
    return memoryview(data)[start : start + length]


def _layout(part: memoryview) -> dict[int, tuple[int, int]]:
    """The sizes that a layout section gives, which let unknown kinds be passed over."""
    rows = {kind: (part[4 * kind] // 4, part[4 * kind + 1] // 4) for kind in range(len(part) // 4)}
    return {**rows, **TAIL}


class _Steps(dict[int, int]):
    """Info word -> size of the type in words."""

    def __init__(self, sizes: dict[int, tuple[int, int]]) -> None:
        self._sizes = sizes

    def __missing__(self, info: int) -> int:
        kind = info >> 24 & 0x1F
        if kind not in self._sizes or not kind:
            raise BtfError(
                f".BTF: unknown kind {kind}, and no layout section that says its size",
                hint="it is newer than this purebpf; compile with an older clang or update purebpf",
            )
        fixed, each = self._sizes[kind]
        step = self[info] = 3 + fixed + each * (info & 0xFFFF)
        return step


def _walk(types: memoryview, sizes: dict[int, tuple[int, int]]) -> tuple[array[int], array[int]]:
    """Of each type where it starts, in words, and the offset of its name."""
    starts, names = array("I"), array("I")
    steps, at, end = _Steps(sizes), 0, len(types)
    add_start, add_name = starts.append, names.append
    try:
        while at < end:
            add_start(at)
            add_name(types[at])
            at += steps[types[at + 1]]
    except IndexError:
        at = end + 1
    if at != end:
        raise BtfError(f".BTF: its last type, {len(starts)}, is cut off")
    return starts, names
