"""Types that no compiler makes: codecs refuse them, soon and by name."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from btf_builder import Builder

from purebpf import BtfError
from purebpf.formats.btf import Btf
from purebpf.formats.kinds import COMPOSITES, ENUMS
from purebpf.formats.layout import Codec, codec

VMLINUX = Path("/sys/kernel/btf/vmlinux")


def made(builder: Builder, type_id: int) -> Codec:
    return codec(Btf(builder.bytes()), type_id)


# What the message says, and how to write the type, after a byte with id 1.
IMPOSSIBLE: list[tuple[str, Callable[[Builder], int]]] = [
    ("FWD 'opaque'. has no values", lambda b: b.fwd("opaque")),
    ("FUNC_PROTO '.. has no values", lambda b: b.func_proto(0, [])),
    ("no type 9", lambda b: b.struct("s", 4, [("a", 9, 0)])),
    ("types nest deeper", lambda b: b.struct("loop", 8, [("again", 2, 0)])),
    ("types nest deeper", lambda b: b.struct("loop", 8, [("", 2, 0), ("", 2, 0)])),
    ("types nest deeper", lambda b: b.array(2, 1)),
    ("typedefs nest deeper", lambda b: b.typedef("loop", 2)),
    ("'a' reaches beyond struct s", lambda b: b.struct("s", 4, [("a", 1, 32)])),
    ("without a name, reaches beyond", lambda b: b.struct("s", 1, [("", b.struct("", 4, []), 0)])),
    ("'a' starts at bit 3", lambda b: b.struct("s", 4, [("a", 1, 3)])),
    ("bit-field 'a' of 9 bits in byte", lambda b: b.struct("s", 4, [("a", 1, 0, 9)])),
    ("bit-field 'a' of 8 bits in a pointer", lambda b: b.struct("s", 8, [("a", b.ptr(0), 0, 8)])),
    ("cannot have 17 bytes", lambda b: b.int("int", 17)),
    ("cannot have 0 bytes", lambda b: b.int("int", 0)),
    ("cannot have 3 bytes", lambda b: b.float("float", 3)),
    ("cannot have 3 bytes", lambda b: b.enum("e", [], size=3)),
    ("cannot have 4294967295 bytes", lambda b: b.struct("s", 2**32 - 1, [])),
    ("an array of 2147483648 byte .* too much", lambda b: b.array(1, 2**31)),
    ("an array of 2147483648 struct empty .* too much", lambda b: b.array(b.struct("empty", 0, []), 2**31)),
    ("kind 25", lambda b: b.add(25)),
]


@pytest.mark.parametrize(("says", "write"), IMPOSSIBLE)
def test_impossible_types_are_refused(says: str, write: Callable[[Builder], int]) -> None:
    b = Builder()
    b.int("byte", 1)
    type_id = write(b)
    with pytest.raises(BtfError, match=says):
        made(b, type_id)


def test_void_and_what_does_not_exist_have_no_codec() -> None:
    for type_id, says in ((0, "VOID 'void'"), (5, "no type 5")):
        with pytest.raises(BtfError, match=says):
            made(Builder(), type_id)


def unions_of_unions(b: Builder, name: str) -> int:
    inner = b.int("u64", 8)
    for _ in range(28):
        inner = b.union(name, 8, [(name and "a", inner, 0), (name and "b", inner, 0)])
    return inner


def many_members(b: Builder) -> int:
    inner = b.int("u8", 1)
    for level in range(2):
        inner = b.struct("s", 65535 ** (level and 1), [("" if level else f"m{i}", inner, 0) for i in range(65535)])
    return inner


def arrays_of_nothing(b: Builder) -> int:
    inner = b.struct("empty", 0, [])
    for _ in range(2):
        inner = b.array(inner, 60000)
    return inner


def a_long_name(b: Builder) -> int:
    name = "x" * 1_000_000
    number = b.int("int", 4)
    return b.struct("s", 4, [(name, number, 0) for _ in range(60000)])


def many_enumerators(b: Builder) -> int:
    return b.enum("e", [(f"E{i}", i) for i in range(65535)])


@pytest.mark.parametrize(
    "write",
    [
        lambda b: unions_of_unions(b, "u"),
        lambda b: unions_of_unions(b, ""),
        many_members,
        arrays_of_nothing,
        a_long_name,
        many_enumerators,
    ],
)  # fmt: skip
def test_types_that_would_take_for_ever_are_refused_or_cheap(write: Callable[[Builder], int]) -> None:
    b = Builder()
    type_id = write(b)
    start = time.process_time()
    try:
        types = made(b, type_id)
        types.decode(bytes(types.size))
    except BtfError:
        pass
    assert time.process_time() - start < 20  # seconds of work


def test_every_type_of_the_kernel_has_a_codec() -> None:
    if not VMLINUX.exists():
        pytest.skip("this kernel has no BTF")
    btf = Btf(VMLINUX.read_bytes())
    checked = [t for t in btf if t.kind in COMPOSITES | ENUMS and t.size_or_type][::10]
    for type_ in checked:
        types = codec(btf, type_.id)
        memory = bytes(range(1, 252)) * (types.size // 251 + 1)
        assert types.size == len(types.encode(types.decode(memory))) == type_.size_or_type
    assert len(checked) > 100
