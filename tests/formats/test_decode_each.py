"""Values decoded in bulk are those decoded one by one, whatever the type; and the source that does it is our own."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest
from btf_builder import Builder
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from purebpf import ObjectError
from purebpf.formats import composites, decode
from purebpf.formats.btf import Btf
from purebpf.formats.layout import Codec, Value, codec


def made(builder: Builder, type_id: int) -> Codec:
    return codec(Btf(builder.bytes()), type_id)


class Types:
    """Draws BTF types: (id, bytes) of each."""

    def __init__(self, draw: Any, order: str) -> None:
        self.draw, self.b = draw, Builder(order)
        b = self.b
        self.leaves = [
            *((b.int(f"int{size}", size, signed), size) for size in (1, 2, 3, 4, 8, 16) for signed in (False, True)),
            (b.int("_Bool", 1, encoding=4), 1),
            (b.ptr(0), 8),
            *((b.float("float", size), size) for size in (4, 8, 16)),
            (b.enum("state", [("IDLE", 0), ("BUSY", 1)]), 4),
            (b.enum64("wide", [("LOW", -1), ("HIGH", 1)], signed=True), 8),
        ]
        self.char, self.byte = b.int("char", 1, signed=True), b.int("unsigned char", 1)

    def any(self, depth: int) -> tuple[int, int]:
        kinds = ["leaf", "text", "array", "struct", "struct", "union", "bits"] if depth else ["leaf", "text"]
        return getattr(self, self.draw(st.sampled_from(kinds)))(depth)

    def leaf(self, _depth: int) -> tuple[int, int]:
        return self.draw(st.sampled_from(self.leaves))

    def text(self, _depth: int) -> tuple[int, int]:
        size = self.draw(st.integers(0, 9))
        return self.b.array(self.draw(st.sampled_from([self.char, self.byte])), size), size

    def array(self, depth: int) -> tuple[int, int]:
        (element, size), count = self.any(depth - 1), self.draw(st.sampled_from([0, 1, 2, 3, 150]))
        return self.b.array(element, count), size * count

    def struct(self, depth: int) -> tuple[int, int]:
        rows, at = [], 0
        for number in range(self.draw(st.integers(0, 4))):
            type_id, size = self.any(depth - 1)
            at += self.draw(st.integers(0, 3))
            rows.append((f"m{number}", type_id, at * 8))
            at += size
        size = at + self.draw(st.integers(0, 3))
        return self._named(self.b.struct(self._name(), size, rows), size)

    def union(self, depth: int) -> tuple[int, int]:
        members = [self.any(depth - 1) for _ in range(self.draw(st.integers(1, 3)))]
        size = max(size for _type_id, size in members)
        rows = [(f"u{number}", type_id, 0) for number, (type_id, _size) in enumerate(members)]
        return self._named(self.b.union(self._name(), size, rows), size)

    def bits(self, _depth: int) -> tuple[int, int]:
        rows: list[Any] = []
        at = 0
        for number in range(self.draw(st.integers(1, 6))):
            type_id, size = self.draw(st.sampled_from([row for row in self.leaves[:13] if row[1] in (1, 4, 8, 16)]))
            width = self.draw(st.integers(1, size * 8))
            at += self.draw(st.sampled_from([0, 0, 1, 9]))
            rows.append((f"b{number}", type_id, at, width))
            at += width
        size = (at + 7) // 8 + self.draw(st.integers(0, 2))
        return self._named(self.b.struct(self._name(), size, rows), size)

    def _name(self) -> str:
        return self.draw(st.sampled_from(["", "s", 'x"); import os #', "v0", "o0"]))

    def _named(self, type_id: int, size: int) -> tuple[int, int]:
        """Half of them are put into a struct without a name for theirs, so that they are anonymous members."""
        if self.draw(st.booleans()):
            return type_id, size
        return self.b.struct("outer", size, [("", type_id, 0)]), size


@st.composite
def codecs(draw: Any) -> Codec:
    types = Types(draw, draw(st.sampled_from(["little", "big"])))
    return made(types.b, types.any(3)[0])


def exact(value: Any) -> Any:
    """What tells True from 1, a NaN from another value, and one struct from another."""
    if isinstance(value, Value):
        kept = vars(value) if hasattr(value, "__dict__") else None
        return type(value), value._fields, [exact(member) for member in value], kept
    return [exact(element) for element in value] if isinstance(value, list) else (type(value), repr(value))


@given(codecs(), st.integers(0, 9), st.integers(0, 9), st.integers(0, 4), st.data())
@settings(max_examples=examples(400), deadline=None)
def test_values_in_bulk_are_those_one_by_one(
    types: Codec, skip: int, rest: int, count: int, data: st.DataObject
) -> None:
    stride = max(1, skip + types.size + rest)
    unit = data.draw(st.binary(min_size=1, max_size=64))
    memory = (unit * (stride * count // len(unit) + 1))[: stride * count]
    expected = [exact(types.decode_at(memory, start + skip)) for start in range(0, len(memory), stride)]
    assert [exact(value) for value in types.decode_each(memoryview(memory), stride, skip)] == expected


@given(st.data())
@settings(max_examples=examples(400), deadline=None)
def test_compiled_structs_are_those_read_member_by_member(data: st.DataObject) -> None:
    types = Types(data.draw, data.draw(st.sampled_from(["little", "big"])))
    root, size = data.draw(st.sampled_from([types.struct, types.union, types.bits]))(3)
    memory = data.draw(st.binary(min_size=size, max_size=size))
    compiled = made(types.b, root).decode(memory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composites, "_MOST_PARTS", 0)
        read = made(types.b, root).decode(memory)
    assert [repr(member) for member in read] == [repr(member) for member in compiled]


def event() -> Codec:
    b = Builder()
    return made(b, b.struct("event", 20, [("pid", b.int("u32", 4), 0), ("name", b.array(b.int("char", 1), 16), 32)]))


def test_events_behind_headers_are_found_and_have_attributes() -> None:
    memory = b"".join(struct.pack("<QI16s4x", 20, pid, b"ls\0junk") for pid in range(3))
    found = list(event().decode_each(memory, 32, 8))
    assert [(value.pid, value.name) for value in found] == [(0, b"ls"), (1, b"ls"), (2, b"ls")]
    assert repr(found[1]) == "event(pid=1, name=b'ls')"


@pytest.mark.parametrize(("length", "stride", "skip"), [(24, 24, 8), (41, 20, 0), (40, 20, -1), (0, 0, 0), (19, 19, 0)])
def test_what_does_not_fit_is_refused_at_once(length: int, stride: int, skip: int) -> None:
    with pytest.raises(ObjectError, match=r"a value of 20 bytes, .* does not fit"):
        event().decode_each(bytes(length), stride, skip)


def test_a_type_without_bytes_gives_a_value_for_each_stride() -> None:
    b = Builder()
    types = made(b, b.struct("empty", 0, []))
    assert list(types.decode_each(bytes(24), 8)) == [(), (), ()]
    with pytest.raises(ObjectError, match="does not fit"):
        types.decode_each(b"", 0)


def test_one_source_serves_every_stride_and_few_layouts_are_kept() -> None:
    types = event()
    for stride in range(20, 400):
        assert len(list(types.decode_each(bytes(stride * 2), stride))) == 2
    assert len(types._decoder._layouts) <= decode._MOST_LAYOUTS


def test_the_memory_is_let_go_at_the_end_of_the_iteration() -> None:
    memory = bytearray(60)
    assert len(list(event().decode_each(memoryview(memory), 20))) == 3
    memory.clear()


def test_bit_fields_of_one_word_are_read_together_and_written_again() -> None:
    b = Builder()
    number, signed = b.int("unsigned int", 4), b.int("int", 4, signed=True)
    rows: list[Any] = [("a", number, 0, 3), ("b", signed, 3, 5), ("c", number, 8, 20), ("d", number, 28, 4)]
    types = made(b, b.struct("flags", 4, rows))
    source = decode.Source("<")
    types.expression(source, 0)
    assert [*source.reads] == [(0, "I")]
    (value,) = types.decode_each(b"\xf5\x12\x34\x56", 4)
    assert tuple(value) == (5, -2, 0x63412, 5)
    assert types.encode(value) == b"\xf5\x12\x34\x56"


def nested() -> Codec:
    b = Builder()
    number, state = b.int("u32", 4), b.enum("state", [("IDLE", 0), ("BUSY", 1)])
    point = b.struct("point", 8, [("x", number, 0), ("y", number, 32)])
    both = b.union("both", 8, [("at", point, 0), ("wide", b.int("u64", 8), 0)])
    rows = [("from", point, 0), ("path", b.array(point, 2), 64), ("u", both, 192), ("states", b.array(state, 2), 256)]
    return made(b, b.struct("move", 40, rows))


def test_nested_values_are_shown_by_name_and_become_dictionaries() -> None:
    value = nested().decode(struct.pack("<10I", 1, 2, 3, 4, 5, 6, 7, 0, 1, 9))
    shown = "path=[point(x=3, y=4), point(x=5, y=6)], u=both(at=point(x=7, y=0), wide=7), states=[BUSY, 9]"
    assert repr(value) == f"move(from=point(x=1, y=2), {shown})"
    assert value._asdict() == {
        "from": {"x": 1, "y": 2},
        "path": [{"x": 3, "y": 4}, {"x": 5, "y": 6}],
        "u": {"at": {"x": 7, "y": 0}, "wide": 7},
        "states": [1, 9],
    }
    assert (value.path[1].y, value.u.at.x, value.states[0].name) == (6, 7, "BUSY")
    assert nested().encode(value) == struct.pack("<10I", 1, 2, 3, 4, 5, 6, 7, 0, 1, 9)


def test_no_name_of_a_type_gets_into_the_source() -> None:
    b = Builder()
    bad = '"); raise SystemExit #\n'
    state = b.enum(bad, [(bad, 0)])
    inner = b.union(bad, 4, [(bad, state, 0), (bad, b.array(b.int(bad, 1, encoding=2), 4), 0)])
    types = made(b, b.struct(bad, 8, [(bad, inner, 0), (bad, b.int(bad, 4), 32)]))
    source = decode.Source("<")
    text = types.expression(source, 0)
    assert "raise" not in text
    assert all(name[0] in "vo" and name[1:].isdigit() for name in [*source.reads.values(), *source.objects])
    assert len(list(types.decode_each(bytes(16), 8))) == 2


@pytest.mark.parametrize("count", [300, 60000])
def test_large_structs_are_read_without_a_large_source(count: int) -> None:
    b = Builder()
    number, word = b.int("u8", 1), b.int("u32", 4)
    types = made(b, b.struct("s", count, [(f"m{i}", number if i % 2 else word, 8 * (i & ~3)) for i in range(count)]))
    source = decode.Source("<")
    assert len(types.expression(source, 0)) < 100
    start = time.monotonic()
    first, second = types.decode_each(bytes(count) + b"\1" * count, count)
    assert (first.m0, second.m0, second.m1) == (0, 0x01010101, 1)
    assert time.monotonic() - start < 10


def test_the_deepest_nesting_compiles() -> None:
    b = Builder()
    inner = b.int("u8", 1)
    for _ in range(15):
        inner = b.array(b.struct("s", 1, [("a", inner, 0)]), 1)
    types = made(b, inner)
    (value,) = types.decode_each(b"\7", 1)
    for _ in range(15):
        value = value[0].a
    assert value == 7
