"""Values by their BTF types, against bytes that were laid out by hand, by `struct` and by a compiler."""

from __future__ import annotations

import ctypes
import gc
import json
import struct
import weakref
from enum import IntEnum
from typing import Any

import pytest
from btf_builder import Builder
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from purebpf import ObjectError
from purebpf.formats.btf import Btf
from purebpf.formats.layout import Codec, codec, plain

orders = pytest.mark.parametrize("order", ["little", "big"])


def made(builder: Builder, type_id: int) -> Codec:
    return codec(Btf(builder.bytes()), type_id)


def event(order: str = "little") -> Codec:
    """struct event { int pid; bool ok; char comm[8]; enum state state; unsigned long long when; }, packed."""
    b = Builder(order)
    number, char, flag = b.int("int", 4, signed=True), b.int("char", 1, signed=True), b.int("_Bool", 1, encoding=4)
    state = b.enum("state", [("IDLE", 0), ("BUSY", 1), ("RUNNING", 1)])
    wide, text = b.int("unsigned long long", 8), b.array(char, 8)
    rows = [("pid", number, 0), ("ok", flag, 32), ("comm", text, 40), ("state", state, 104), ("when", wide, 136)]
    return made(b, b.struct("event", 25, rows))


@orders
def test_a_packed_struct_is_read_where_btf_says(order: str) -> None:
    data = struct.pack((">", "<")[order == "little"] + "i?8sIQ", -2, True, b"ls\0junk", 1, 2**63)
    value = event(order).decode(data)
    assert (value.pid, value.ok, value.comm, value.state, value.when) == (-2, True, b"ls", 1, 2**63)
    assert value.state.name == "BUSY"
    assert repr(value) == f"event(pid=-2, ok=True, comm=b'ls', state=BUSY, when={2**63})"
    assert event(order).encode(value) == data.replace(b"junk", b"\0\0\0\0")


def test_a_struct_is_written_from_names_from_members_in_order_and_from_bytes() -> None:
    types = event()
    expected = struct.pack("<i?8sIQ", 7, False, b"sh", 1, 0)
    assert types.encode({"pid": 7, "comm": "sh", "state": "BUSY"}) == expected
    assert types.encode([7, False, b"sh", 1, 0]) == expected
    assert types.encode(types.decode(expected)) == expected
    assert types.encode(memoryview(expected)) == expected


def test_values_are_equal_by_content_and_cannot_be_changed() -> None:
    types = event()
    value = types.decode(bytes(25))
    assert value == types.decode(bytes(25)) != types.decode(bytes([1] * 25))
    assert hash(value) == hash(types.decode(bytes(25)))
    for name in ("pid", "new"):
        with pytest.raises(AttributeError):
            setattr(value, name, 1)


def test_plain_gives_what_json_can_hold() -> None:
    value = event().decode(struct.pack("<i?8sIQ", 1, True, b"\xff\xc3\xa4", 0, 5))
    shown = {"pid": 1, "ok": True, "comm": "\\xff\u00e4", "state": "IDLE", "when": 5}
    assert plain([value, 7, b"a"]) == [shown, 7, "a"]
    assert json.loads(json.dumps(plain(value))) == shown


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"pid": 2**31}, "int holds -2147483648 to 2147483647, not 2147483648"),
        ({"pid": 10**5000}, "int holds"),
        ({"pid": "7"}, "int cannot be '7'"),
        ({"pid": 1.0}, "int cannot be 1.0"),
        ({"ok": 2}, "_Bool holds 0 to 1, not 2"),
        ({"when": -1}, "unsigned long long holds 0 to"),
        ({"comm": "nine bytes"}, "8 bytes, not 10"),
        ({"comm": 10**12}, "cannot be 1000000000000"),
        ({"state": "BUZY"}, "enum state has no 'BUZY'; close: BUSY"),
        ({"pit": 1}, "struct event has no member 'pit'; close: pid"),
        ({5: 1}, "no member 5"),
        ([1, 2], "its members by name, all 5 in order, or 25 bytes"),
        (b"short", "or 25 bytes"),
        ("a string that has 25 bytes", "or 25 bytes"),
        (None, "not None"),
    ],
)
def test_what_a_type_cannot_hold_is_refused_by_name(given: Any, says: str) -> None:
    with pytest.raises(ObjectError, match=says):
        event().encode(given)


def test_short_data_is_refused_and_longer_data_is_not_looked_at() -> None:
    with pytest.raises(ObjectError, match="struct event has 25 bytes; there are 24"):
        event().decode(bytes(24))
    assert event().decode(bytes(25) + b"rest") == event().decode(bytes(25))
    assert event().decode(memoryview(bytes(25))).comm == b""


@given(st.sampled_from(["little", "big"]), st.integers(1, 16), st.booleans(), st.data())
@settings(max_examples=examples(200), deadline=None)
def test_integers_of_every_size_come_back(order: Any, size: int, signed: bool, data: st.DataObject) -> None:
    b = Builder(order)
    types = made(b, b.int("number", size, signed=signed))
    low, high = (-(1 << size * 8 - 1), (1 << size * 8 - 1) - 1) if signed else (0, (1 << size * 8) - 1)
    number = data.draw(st.integers(low, high))
    assert types.encode(number) == number.to_bytes(size, order, signed=signed)
    assert types.decode(types.encode(number)) == number
    for beyond in (low - 1, high + 1):
        with pytest.raises(ObjectError, match="number holds"):
            types.encode(beyond)


@orders
def test_floats_pointers_and_aliases(order: str) -> None:
    b = Builder(order)
    double = b.typedef("real", b.const(b.volatile(b.type_tag("user", b.float("double", 8)))))
    single, long_double, pointer = b.float("float", 4), b.float("long double", 16), b.ptr(0)
    mark = ">" if order == "big" else "<"
    assert made(b, double).encode(1.5) == struct.pack(mark + "d", 1.5)
    assert made(b, single).decode(struct.pack(mark + "f", -0.25)) == -0.25
    assert made(b, long_double).decode(bytes(range(16))) == bytes(range(16))
    assert made(b, pointer).decode(struct.pack(mark + "Q", 2**64 - 1)) == 2**64 - 1
    for value in ("1", 1e300):
        with pytest.raises(ObjectError, match="float cannot be"):
            made(b, single).encode(value)
    with pytest.raises(ObjectError, match="long double cannot be"):
        made(b, long_double).encode(b"short")


@orders
def test_bit_fields_of_both_forms_are_read_as_the_compiler_wrote_them(order: Any) -> None:
    """Bits fill a byte from its low end on a little-endian machine, from its high end on a big-endian one."""
    b = Builder(order)
    unsigned, signed = b.int("unsigned int", 4), b.int("int", 4, signed=True)
    old_unsigned, old_signed = b.int("unsigned int", 4, bits=3), b.int("int", 4, signed=True, offset=3, bits=5)
    new = b.struct(
        "new", 4, [("a", unsigned, 0, 3), ("b", signed, 3, 5), ("c", unsigned, 8, 20), ("d", unsigned, 28, 4)]
    )
    old = b.struct("old", 4, [("a", old_unsigned, 0), ("b", old_signed, 0), ("c", b.int("u16", 2), 16)])
    word = 5 | (-7 & 31) << 3 | 0xABCDE << 8 | 9 << 28
    if order == "big":
        word = 5 << 29 | (-7 & 31) << 24 | 0xABCDE << 4 | 9
    value = made(b, new).decode(word.to_bytes(4, order))
    assert tuple(value) == (5, -7, 0xABCDE, 9)
    assert made(b, new).encode(value._asdict()) == word.to_bytes(4, order)
    first = (5 | (-7 & 31) << 3) if order == "little" else 5 << 5 | (-7 & 31)
    packed = bytes([first, 0]) + (513).to_bytes(2, order)
    assert tuple(made(b, old).decode(packed)) == (5, -7, 513)
    assert made(b, old).encode({"a": 5, "b": -7, "c": 513}) == packed
    with pytest.raises(ObjectError, match="struct new: 'b' of 5 bits holds -16 to 15, not 16"):
        made(b, new).encode({"b": 16})


@given(
    st.sampled_from(["little", "big"]), st.lists(st.tuples(st.integers(1, 32), st.booleans()), max_size=12), st.data()
)
@settings(max_examples=examples(200), deadline=None)
def test_bit_fields_come_back_and_leave_their_neighbours_alone(order: str, widths: Any, data: st.DataObject) -> None:
    b, rows, at = Builder(order), [], 0
    types = {signed: b.int("number", 4, signed=signed) for signed in (False, True)}
    for number, (bits, signed) in enumerate(widths):
        rows.append((f"m{number}", types[signed], at, bits))
        at += bits
    low = [-(1 << bits - 1) if signed else 0 for bits, signed in widths]
    values = [data.draw(st.integers(least, least + (1 << bits) - 1)) for least, (bits, _signed) in zip(low, widths)]
    types_ = made(b, b.struct("bits", (at + 7) // 8, rows))
    assert list(types_.decode(types_.encode(values))) == values


def test_enums_bools_and_wide_numbers_may_be_bit_fields() -> None:
    b = Builder()
    color, flag = b.enum64("color", [("RED", -1), ("BLUE", 2)], signed=True), b.int("_Bool", 1, encoding=4)
    types = made(b, b.struct("s", 32, [("c", color, 0, 3), ("f", flag, 3, 1), ("w", b.int("u128", 16), 8, 100)]))
    data = types.encode({"c": "RED", "f": True, "w": 2**99})
    assert repr(types.decode(data)) == f"s(c=RED, f=True, w={2**99})"


def test_enums_keep_working_whatever_their_names_are() -> None:
    b = Builder()
    rows = [
        ("mro", 1),
        ("__new__", 2),
        ("_sunder_", 3),
        ("class", 4),
        ("name", 5),
        ("value", 6),
        ("SAME", 7),
        ("SAME", 8),
    ]
    types = made(b, b.enum("odd names", rows))
    kept = [types.decode(struct.pack("<I", number)) for number in range(1, 10)]
    assert kept == list(range(1, 10))
    assert [value.name for value in kept if isinstance(value, IntEnum)] == ["class", "name", "value", "SAME"]
    assert types.encode("__new__") == struct.pack("<I", 2)
    assert types.encode(1000) == struct.pack("<I", 1000)
    assert made(b, b.enum("", [])).decode(bytes(4)) == 0


def test_enums_of_other_sizes_and_signs() -> None:
    b = Builder()
    small, wide = b.enum("small", [("A", 200)], size=1), b.enum64("wide", [("B", -(2**63)), ("C", 1)], signed=True)
    assert made(b, small).decode(b"\xc8").name == "A"
    assert made(b, wide).decode(struct.pack("<q", -(2**63))).name == "B"
    with pytest.raises(ObjectError, match="enum small holds 0 to 255"):
        made(b, small).encode(256)


def test_arrays_of_chars_are_text_and_of_other_bytes_are_not() -> None:
    b = Builder()
    char, byte = b.int("char", 1, signed=True), b.int("unsigned char", 1)
    marked = b.int("letter", 1, encoding=2)
    for text in (b.array(b.const(char), 4), b.array(marked, 4)):
        assert made(b, text).decode(b"a\0bc") == b"a"
        assert made(b, text).encode("\u00e4") == b"\xc3\xa4\0\0"
        assert made(b, text).encode(b"") == bytes(4)
    raw = made(b, b.array(byte, 4))
    assert raw.decode(b"a\0bc") == b"a\0bc"
    assert raw.encode([1, 2, 3, 4]) == b"\1\2\3\4"
    for wrong in (b"abc", [1, 2, 3], [256, 0, 0, 0], [1, 2, 3, 4, 5]):
        with pytest.raises(ObjectError):
            raw.encode(wrong)


def test_arrays_nest_and_may_be_empty() -> None:
    b = Builder()
    char, number, flag = b.int("char", 1), b.int("short", 2, signed=True), b.int("bool", 1, encoding=4)
    names, grid = b.array(b.array(char, 3), 2), b.array(b.array(number, 2), 2)
    assert made(b, names).decode(b"ab\0c\0\0") == [b"ab", b"c"]
    assert made(b, grid).decode(struct.pack("<4h", 1, -2, 3, 4)) == [[1, -2], [3, 4]]
    assert made(b, grid).encode([[1, -2], (3, 4)]) == struct.pack("<4h", 1, -2, 3, 4)
    assert made(b, b.array(flag, 2)).decode(b"\2\0") == [True, False]
    with pytest.raises(ObjectError, match="sequence of 2, not"):
        made(b, grid).encode([[1, 2]])
    flexible = made(
        b, b.struct("f", 2, [("n", number, 0), ("rest", b.array(number, 0), 16), ("s", b.array(char, 0), 16)])
    )
    assert tuple(flexible.decode(b"\1\0")) == (1, [], b"")
    assert flexible.encode({"n": 1, "rest": []}) == b"\1\0"
    empty = b.struct("empty", 0, [])
    assert len(made(b, b.array(empty, 3)).decode(b"")) == 3


def union(order: str = "little") -> Codec:
    """struct { int kind; union { struct { short a, b; }; int c; char d[4]; }; union named { … } u; }"""
    b = Builder(order)
    number, short, text = b.int("int", 4, signed=True), b.int("short", 2, signed=True), b.array(b.int("char", 1), 4)
    pair = b.struct("", 4, [("a", short, 0), ("b", short, 16)])
    inside = b.union("", 4, [("", pair, 0), ("c", number, 0), ("d", text, 0)])
    named = b.union("named", 4, [("x", number, 0), ("text", text, 0)])
    return made(b, b.struct("outer", 12, [("kind", number, 0), ("", inside, 32), ("u", named, 64)]))


def test_unions_show_every_member_and_anonymous_ones_belong_to_their_parent() -> None:
    value = union().decode(struct.pack("<i2hi", 1, 2, 3, 0x6261))
    assert (value.a, value.b, value.c, value.d) == (2, 3, 2 | 3 << 16, b"\2")
    assert repr(value.u) == "named(x=25185, text=b'ab')"
    assert plain(value)["u"] == {"x": 25185, "text": "ab"}


def test_a_union_is_written_by_one_of_its_members() -> None:
    assert union().encode({"a": 1, "b": 2, "u": {"text": "hi"}}) == struct.pack("<i2h4s", 0, 1, 2, b"hi")
    for wrong in ({"a": 1, "c": 2}, {"u": {"x": 1, "text": ""}}, {"u": [1, "a"]}):
        with pytest.raises(ObjectError, match="share bytes; give one of them"):
            union().encode(wrong)


@given(st.binary(min_size=12, max_size=12))
@settings(max_examples=examples(50), deadline=None)
def test_a_decoded_union_is_written_with_all_of_its_bytes(data: bytes) -> None:
    assert union().encode(union().decode(data)) == data


def test_members_with_odd_names_are_attributes_too() -> None:
    b = Builder()
    n = b.int("u8", 1)
    names = [
        "class",
        "_x",
        "count",
        "_fields",
        "_asdict",
        "__new__",
        "__classcell__",
        "same",
        "same",
        "same___2",
        "a b",
    ]
    types = made(b, b.struct("odd", len(names), [(name, n, 8 * i) for i, name in enumerate(names)]))
    value = types.decode(bytes(range(len(names))))
    seen = {name: getattr(value, name) for name in ("class", "_x", "count", "same", "same___2", "a b")}
    assert seen == {"class": 0, "_x": 1, "count": 2, "same": 7, "same___2": 8, "a b": 10}
    assert list(value._asdict().values()) == list(range(len(names)))
    assert types.encode(value) == bytes(range(len(names)))


def test_a_type_without_a_name_goes_by_its_typedef() -> None:
    b = Builder()
    types = made(b, b.const(b.typedef("event_t", b.struct("", 1, [("a", b.int("u8", 1), 0)]))))
    assert repr(types.decode(b"\1")) == "event_t(a=1)"
    with pytest.raises(ObjectError, match=r"^event_t has 1 bytes"):
        types.decode(b"")


def test_a_record_needs_all_but_the_array_at_its_end() -> None:
    b = Builder()
    number, text = b.int("int", 4), b.array(b.int("char", 1), 16)
    assert made(b, b.struct("open", 20, [("n", number, 0), ("text", text, 32)])).least == 4
    assert made(b, b.struct("shut", 20, [("text", text, 0), ("n", number, 128)])).least == 20


def test_a_codec_is_made_once_and_does_not_keep_its_btf() -> None:
    b = Builder()
    record = b.struct("s", 4, [("a", b.int("int", 4), 0), ("e", b.enum("e", [("A", 0)]), 0)])
    btf = Btf(b.bytes())
    assert codec(btf, record) is codec(btf, record)
    gone = weakref.ref(btf)
    del btf
    gc.collect()
    assert gone() is None


LETTERS = {"b": ctypes.c_byte, "H": ctypes.c_ushort, "i": ctypes.c_int, "Q": ctypes.c_ulonglong, "d": ctypes.c_double}


@given(st.lists(st.sampled_from("bHiQd"), min_size=1, max_size=20), st.booleans(), st.data())
@settings(max_examples=examples(200), deadline=None)
def test_structs_are_read_as_ctypes_reads_them(letters: list[str], is_union: bool, data: st.DataObject) -> None:
    fields = [(f"m{i}", LETTERS[letter]) for i, letter in enumerate(letters)]
    peer: Any = type("peer", (ctypes.Union if is_union else ctypes.Structure,), {"_fields_": fields})
    b = Builder("little" if struct.pack("=H", 1)[0] else "big")
    types = {"b": b.int("s8", 1, signed=True), "H": b.int("u16", 2), "i": b.int("int", 4, signed=True)}
    types |= {"Q": b.int("u64", 8), "d": b.float("double", 8)}
    rows = [(n, types[letter], getattr(peer, n).offset * 8) for (n, _t), letter in zip(fields, letters)]
    ours = made(b, b.struct("peer", ctypes.sizeof(peer), rows))
    memory = data.draw(st.binary(min_size=ours.size, max_size=ours.size))
    theirs, value = peer.from_buffer_copy(memory), ours.decode(memory)
    assert [repr(getattr(theirs, n)) for n, _t in fields] == [repr(getattr(value, n)) for n, _t in fields]
