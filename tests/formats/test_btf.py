"""BTF: what a writer put in is what is read, in both byte orders; damage raises BtfError; and bpftool agrees."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from btf_builder import Builder
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from purebpf import BtfError
from purebpf.formats.btf import Btf
from purebpf.formats.kinds import Kind, Type, essential

VMLINUX = Path("/sys/kernel/btf/vmlinux")
orders = st.sampled_from(["little", "big"])
words = st.integers(0, 2**32 - 1)
names = st.sampled_from(["", "a", "b", "ab", "struct", "a___b", "a___c", "a____c", "___a", "a___", "\u00e4", "x" * 100])
ids = st.integers(0, 40)


def rows(*columns: Any) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.tuples(*columns), max_size=4)


def signed_rows(bits: int) -> st.SearchStrategy[tuple[list[Any], bool]]:
    unsigned = st.tuples(rows(names, st.integers(0, 2**bits - 1)), st.just(False))
    return unsigned | st.tuples(rows(names, st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)), st.just(True))


# Kind -> the arguments of the builder's method of that name, for what a type of that kind can say.
ARGUMENTS: dict[Kind, st.SearchStrategy[tuple[Any, ...]]] = {
    Kind.INT: st.tuples(
        names, words, st.booleans(), st.sampled_from([0, 2, 4]), st.integers(0, 255), st.integers(0, 255)
    ),
    Kind.PTR: st.tuples(ids),
    Kind.ARRAY: st.tuples(ids, words, st.integers(1, 40)),
    Kind.STRUCT: st.tuples(names, words, rows(names, ids, words)),
    Kind.UNION: st.tuples(names, words, rows(names, ids, st.integers(0, 2**24 - 1), st.integers(0, 255)).filter(bool)),
    Kind.ENUM: st.builds(lambda n, size, r: (n, r[0], size, r[1]), names, words, signed_rows(32)),
    Kind.FWD: st.tuples(names, st.booleans()),
    Kind.TYPEDEF: st.tuples(names, ids),
    Kind.VOLATILE: st.tuples(ids),
    Kind.CONST: st.tuples(ids),
    Kind.RESTRICT: st.tuples(ids),
    Kind.FUNC: st.tuples(names, ids, st.integers(0, 2)),
    Kind.FUNC_PROTO: st.tuples(ids, rows(names, ids)),
    Kind.VAR: st.tuples(names, ids, st.integers(0, 2)),
    Kind.DATASEC: st.tuples(names, words, rows(ids, words, words)),
    Kind.FLOAT: st.tuples(names, words),
    Kind.DECL_TAG: st.tuples(names, ids),
    Kind.TYPE_TAG: st.tuples(names, ids),
    Kind.ENUM64: st.builds(lambda n, size, r: (n, r[0], size, r[1]), names, words, signed_rows(64)),
}
types = st.lists(st.sampled_from(list(ARGUMENTS)).flatmap(lambda k: st.tuples(st.just(k), ARGUMENTS[k])), max_size=30)

# Kind -> the same arguments as the BTF tells them.
READ: dict[Kind, Callable[[Btf, Type], tuple[Any, ...]]] = {
    Kind.INT: lambda b, t: (t.name, t.size_or_type, b.integer(t).signed, b.integer(t).encoding & 6, *b.integer(t)[1:]),
    Kind.PTR: lambda _b, t: (t.size_or_type,),
    Kind.ARRAY: lambda b, t: (*b.array(t), b.tail(t, 2)[1]),
    Kind.STRUCT: lambda b, t: (t.name, t.size_or_type, [m[:3] for m in b.members(t)]),
    Kind.UNION: lambda b, t: (t.name, t.size_or_type, [tuple(m) for m in b.members(t)]),
    Kind.ENUM: lambda b, t: (t.name, b.enumerators(t), t.size_or_type, t.flag),
    Kind.FWD: lambda _b, t: (t.name, t.flag),
    Kind.TYPEDEF: lambda _b, t: (t.name, t.size_or_type),
    Kind.FUNC: lambda b, t: (t.name, t.size_or_type, b.linkage(t)),
    Kind.FUNC_PROTO: lambda b, t: (t.size_or_type, b.parameters(t)),
    Kind.DATASEC: lambda b, t: (t.name, t.size_or_type, [tuple(v) for v in b.variables(t)]),
}
for kind, like in [
    *((kind, Kind.PTR) for kind in (Kind.VOLATILE, Kind.CONST, Kind.RESTRICT)),
    *((kind, Kind.TYPEDEF) for kind in (Kind.FLOAT, Kind.DECL_TAG, Kind.TYPE_TAG)),
    (Kind.VAR, Kind.FUNC),
    (Kind.ENUM64, Kind.ENUM),
]:
    READ[kind] = READ[like]


def write(builder: Builder, wanted: list[tuple[Kind, tuple[Any, ...]]]) -> None:
    for kind, arguments in wanted:
        method = "int" if kind == Kind.INT else kind.name.lower()
        getattr(builder, method)(*arguments)


def read(btf: Btf) -> list[tuple[Kind, tuple[Any, ...]]]:
    return [(Kind(t.kind), READ[Kind(t.kind)](btf, t)) for t in btf]


@given(orders, types)
@settings(max_examples=examples(300), deadline=None)
def test_what_was_written_is_read(order: str, wanted: Any) -> None:
    builder = Builder(order)
    write(builder, wanted)
    btf = Btf(builder.bytes())
    assert (btf.byte_order, btf.count) == (order, len(wanted))
    assert read(btf) == wanted
    assert [t.id for t in btf] == list(range(1, len(wanted) + 1))


@given(orders, types, types)
@settings(max_examples=examples(150), deadline=None)
def test_a_split_btf_goes_on_where_its_base_ends(order: str, below: Any, above: Any) -> None:
    builder = Builder(order)
    write(builder, below)
    base = Btf(builder.bytes())
    more = Builder(order, base)
    write(more, above)
    split = Btf(more.bytes(), base)
    assert read(split) == above
    assert [split.type(i) for i in range(1, base.count + 1)] == list(base)
    assert split.count == len(below) + len(above)


def linear(btf: Btf, name: str, kinds: frozenset[Kind], flavours: bool) -> list[Type]:
    every = (btf.type(i) for i in range(1, btf.count + 1))
    return [
        t for t in every if t.kind in kinds and name and (t.name == name or (flavours and essential(t.name) == name))
    ]


@given(orders, types, types, names, st.booleans(), st.booleans(), st.sets(names))
@settings(max_examples=examples(400), deadline=None)
def test_find_finds_what_a_search_of_all_types_finds(
    order: str, below: Any, above: Any, name: str, flavours: bool, is_split: bool, expected: set[str]
) -> None:
    builder = Builder(order)
    write(builder, below)
    btf = Btf(builder.bytes())
    btf.expect(expected)
    if is_split:
        more = Builder(order, btf)
        write(more, above)
        btf = Btf(more.bytes(), btf)
        btf.expect(expected)
    kinds = frozenset({Kind.STRUCT, Kind.UNION, Kind.TYPEDEF, Kind.FUNC, Kind.ENUM, Kind.INT, Kind.FWD})
    assert btf.find(name, kinds, flavours=flavours) == linear(btf, name, kinds, flavours)
    assert btf.find(name, Kind.TYPEDEF) == linear(btf, name, frozenset({Kind.TYPEDEF}), False)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a", "a"), ("a___b", "a"), ("a___b___c", "a___b"), ("a____b", "a____b"), ("a___", "a___"), ("___a", "___a")],
)
def test_a_flavour_begins_at_the_last_three_underscores(name: str, expected: str) -> None:
    assert essential(name) == expected


@pytest.mark.parametrize("expected", [[], ["name"]])
def test_a_name_may_be_the_end_of_another_string(expected: list[str]) -> None:
    builder = Builder()
    builder.typedef("long_name", 0)
    builder.add(Kind.TYPEDEF)
    data = bytearray(builder.bytes())
    struct.pack_into("<I", data, 24 + 12, 1 + len("long_"))
    btf = Btf(bytes(data))
    btf.expect(expected)
    assert [t.id for t in btf.find("name", Kind.TYPEDEF)] == [2]


@pytest.mark.parametrize("string", [b"a\0", b"a___b\0"])
def test_a_name_that_is_there_many_times_is_found_soon(string: bytes) -> None:
    b, count = Builder(), 50_000
    for _ in range(count):
        b.typedef("", 0)
    data = bytearray(b.bytes() + string * count)
    struct.pack_into("<I", data, 20, 1 + len(string) * count)
    for i in range(count):
        struct.pack_into("<I", data, 24 + 12 * i, 1 + i * len(string))
    start = time.monotonic()
    assert len(Btf(bytes(data)).find("a", Kind.TYPEDEF, flavours=True)) == count
    assert time.monotonic() - start < 5


def test_sizes_are_those_of_values() -> None:
    b = Builder()
    number, pointer = b.int("int", 4), b.ptr(0)
    alias, grid = b.const(b.typedef("t", number)), b.array(b.array(number, 3), 2)
    function, section = b.func_proto(0, []), b.datasec(".data", 24, [])
    btf = Btf(b.bytes())
    assert [btf.size(i) for i in (number, pointer, alias, grid, section)] == [4, 8, 4, 24, 24]
    for without in (0, function):
        with pytest.raises(BtfError, match="has no size"):
            btf.size(without)
    assert btf.resolve(alias).id == number
    assert btf.owner(btf.word(grid)) == grid


def test_loops_of_types_end() -> None:
    b = Builder()
    alias = b.typedef("loop", 1)
    tower = b.array(b.count + 1, 2)
    btf = Btf(b.bytes())
    for call in (lambda: btf.resolve(alias), lambda: btf.size(alias), lambda: btf.size(tower)):
        with pytest.raises(BtfError, match="nest deeper"):
            call()


def test_names_that_are_nearly_right_are_offered() -> None:
    b = Builder()
    for name in ("task_struct", "task_group", "mm_struct"):
        b.struct(name, 0, [])
    btf = Btf(b.bytes())
    assert btf.close_to("task_strukt", Kind.STRUCT)[0] == "task_struct"
    assert btf.close_to("task_strukt", Kind.UNION) == []
    assert btf.close_to("mm_strukt", Kind.STRUCT, "mm_") == ["mm_struct"]


def with_layout(data: bytes, layout: bytes) -> bytes:
    """The header of Linux 7.1: 32 bytes, the last eight for a layout section, which here comes last."""
    magic, _length, *sizes = struct.unpack_from("<II4I", data)
    return struct.pack("<II4III", magic, 32, *sizes, len(data) - 24, len(layout)) + data[24:] + layout


def test_an_unknown_kind_is_passed_over_where_a_layout_section_gives_its_size() -> None:
    b = Builder()
    b.add(20, "new", 7, [1, 2, 3, 4, 5], vlen=2)  # a word, and two for each member
    known = b.typedef("known", 0)
    with pytest.raises(BtfError, match="unknown kind 20, and no layout") as refused:
        Btf(b.bytes())
    assert "update" in refused.value.hint
    layout = bytes(4 * 20) + struct.pack("<BBH", 4, 8, 0)
    btf = Btf(with_layout(b.bytes(), layout))
    assert (btf.type(1).kind, btf.type(1).name, btf.type(known).name) == (20, "new", "known")


def test_a_header_may_be_longer_than_what_is_known_of_it() -> None:
    b = Builder()
    b.typedef("t", 0)
    data = b.bytes()
    longer = struct.pack("<II", *struct.unpack_from("<I", data), 48) + data[8:24] + bytes(24) + data[24:]
    assert Btf(longer).type(1).name == "t"


@pytest.mark.parametrize(
    ("position", "value", "says"),
    [
        (0, 0x12345678, "not its magic"),
        (4, 8, "header of 8 bytes"),
        (4, 2**31, "reaches beyond"),
        (8, 2**32 - 1, "type section, .* reaches beyond"),
        (12, 2**32 - 4, "type section, .* reaches beyond"),
        (12, 8, "last type, 1, is cut off"),
        (16, 2**32 - 1, "string section, .* reaches beyond"),
        (20, 2**32 - 1, "string section, .* reaches beyond"),
        (24 + 4, Kind.STRUCT << 24 | 0xFFFF, "cut off"),
        (24 + 4, 0, "unknown kind 0"),
    ],
)
def test_damage_is_named(position: int, value: int, says: str) -> None:
    b = Builder()
    b.typedef("t", 0)
    data = bytearray(b.bytes())
    struct.pack_into("<I", data, position, value)
    with pytest.raises(BtfError, match=says):
        Btf(bytes(data))


@pytest.mark.parametrize("length", range(24))
def test_a_cut_off_header_is_refused(length: int) -> None:
    with pytest.raises(BtfError):
        Btf(Builder().bytes()[:length])


def test_names_that_are_not_there_are_refused_when_asked_for() -> None:
    for offset in (100, 2**32 - 1):
        b = Builder()
        b.typedef("t", 0)
        data = bytearray(b.bytes())
        struct.pack_into("<I", data, 24, offset)
        btf = Btf(bytes(data))
        with pytest.raises(BtfError, match=f"no string .* at offset {offset}"):
            btf.type(1)
        assert btf.find("t", Kind.TYPEDEF) == []
        btf.expect(["t"])
        assert btf.find("t", Kind.TYPEDEF) == []


def look_at_everything(btf: Btf) -> None:
    """Each call by itself: one that raises must not hide the next."""
    for type_id in range(btf.count + 2):
        with contextlib.suppress(BtfError):
            found = btf.type(type_id)
            if found.kind in READ:
                READ[Kind(found.kind)](btf, found)
        for look in (btf.resolve, btf.size, btf.kind):
            with contextlib.suppress(BtfError):
                look(type_id)
    btf.expect(["a"])
    for name in ("a", "ab"):
        with contextlib.suppress(BtfError):
            btf.find(name, frozenset(Kind), flavours=True)
        with contextlib.suppress(BtfError):
            btf.close_to(name, Kind.STRUCT)


@given(orders, types, st.data())
@settings(max_examples=examples(500), deadline=None)
def test_mutated_btf_raises_nothing_but_btferror(order: str, wanted: Any, data: st.DataObject) -> None:
    builder = Builder(order)
    write(builder, wanted)
    mutated = bytearray(builder.bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(mutated)) | st.none())
    with contextlib.suppress(BtfError):
        look_at_everything(Btf(bytes(mutated[:cut])))


@given(st.binary(max_size=200))
@settings(max_examples=examples(300), deadline=None)
def test_bytes_behind_a_magic_raise_nothing_but_btferror(data: bytes) -> None:
    for magic in (b"\x9f\xeb\1\0", b"\xeb\x9f\1\0"):
        with contextlib.suppress(BtfError):
            look_at_everything(Btf(magic + data))


# What bpftool calls the fields, by kind -> the same from a type of ours.
FIELDS: dict[str, Callable[[Btf, Type], Any]] = {
    "size": lambda _b, t: t.size_or_type,
    "type_id": lambda b, t: b.array(t)[0] if t.kind == Kind.ARRAY else t.size_or_type,
    "ret_type_id": lambda _b, t: t.size_or_type,
    "nr_elems": lambda b, t: b.array(t)[1],
    "nr_bits": lambda b, t: b.integer(t).bits,
    "bits_offset": lambda b, t: b.integer(t).offset,
    "vlen": lambda _b, t: t.vlen,
    "fwd_kind": lambda _b, t: "union" if t.flag else "struct",
    "linkage": lambda b, t: ("static", "global", "extern")[b.linkage(t)],
    "values": lambda b, t: [{"name": n, "val": v % 2 ** (8 * t.size_or_type)} for n, v in b.enumerators(t)],
    "params": lambda b, t: [{"name": n or "(anon)", "type_id": i} for n, i in b.parameters(t)],
    "members": lambda b, t: [members(m, t.flag) for m in b.members(t)],
    "vars": lambda b, t: [{"type_id": v[0], "offset": v[1], "size": v[2]} for v in b.variables(t)],
}


def members(member: Any, has_bits: bool) -> dict[str, Any]:
    row = {"name": member.name or "(anon)", "type_id": member.type_id, "bits_offset": member.bit_offset}
    return {**row, "bitfield_size": member.bit_size} if has_bits and member.bit_size else row


def test_the_kernels_types_are_what_bpftool_reads() -> None:
    bpftool = shutil.which("bpftool") or shutil.which("bpftool", path="/usr/sbin:/sbin")
    if bpftool is None or not VMLINUX.exists():
        pytest.skip("bpftool is not installed" if bpftool is None else "this kernel has no BTF")
    command = [bpftool, "-j", "btf", "dump", "file", str(VMLINUX)]
    theirs = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)["types"]
    btf = Btf(VMLINUX.read_bytes())
    assert btf.count == len(theirs)
    checked = set()
    for row in [*theirs[:500], *theirs[500::7]]:
        ours = btf.type(row["id"])
        assert (Kind(ours.kind).name, ours.name or "(anon)") == (row["kind"], row["name"])
        for value in row.get("values", ()):  # of which bpftool widens unsigned ones as if they were signed
            value["val"] %= 2 ** (8 * row["size"])
        for field in FIELDS.keys() & row.keys():
            assert FIELDS[field](btf, ours) == row[field], (row["id"], field)
            checked.add(field)
    assert checked >= {
        "size",
        "type_id",
        "ret_type_id",
        "nr_elems",
        "nr_bits",
        "members",
        "values",
        "params",
        "linkage",
    }


def test_the_kernels_types_are_found_by_name() -> None:
    if not VMLINUX.exists():
        pytest.skip("this kernel has no BTF")
    btf = Btf(VMLINUX.read_bytes())
    kinds = frozenset({Kind.STRUCT, Kind.TYPEDEF, Kind.FUNC})
    every = list(btf)
    btf.expect(["task_struct", "u8", "t", "never was", "do_exit"])
    for name in ("task_struct", "list_head", "u8", "pid_t", "do_exit", "no such type", "t", "s"):
        assert btf.find(name, kinds) == [t for t in every if t.name == name and t.kind in kinds]
