"""BTF as C, judged by the compiler: what is printed compiles, and lays structs out as they were."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from btf_builder import Builder
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import purebpf
from purebpf import BtfError
from purebpf.formats.btf import Btf
from purebpf.formats.btf_c import declaration, definition, dump
from purebpf.formats.kinds import COMPOSITES, Kind, Type

VMLINUX = Path("/sys/kernel/btf/vmlinux")
CORPUS = sorted((Path(__file__).parent.parent / "corpus").glob("*.bpf.c"))
KEYWORDS = {Kind.STRUCT: "struct", Kind.UNION: "union"}


@pytest.fixture
def clang(tmp_path: Path) -> Callable[..., Path]:
    """Compile C; the object file."""
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")

    def run(source: str, *options: str) -> Path:
        (tmp_path / "it.c").write_text(source)
        command = ["clang", "-target", "bpf", "-w", *options, "it.c", "-o", "it.o"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert not result.returncode, result.stderr[:3000]
        return tmp_path / "it.o"

    return run


def btf_of(path: Path) -> Btf:
    btf = purebpf.parse(path.read_bytes()).btf
    assert btf is not None
    return btf


def shape(btf: Btf, type_: Type, base: int = 0) -> Iterator[tuple[str, int, int, str]]:
    """(name, bit offset, bits of a bit-field, declaration) of each member; those of anonymous members in their place."""
    for member in btf.members(type_):
        inner = btf.resolve(member.type_id)
        if not member.name and inner.kind in COMPOSITES:
            yield from shape(btf, inner, base + member.bit_offset)
        else:
            text = re.sub(r"\t+struct \{\n\t+\};\n", "", declaration(btf, member.type_id))  # fills a union
            yield member.name, base + member.bit_offset, member.bit_size, text


def composites(btf: Btf) -> dict[tuple[int, str], Type]:
    """By kind and name; of several the first."""
    return {(t.kind, t.name): t for t in reversed(list(btf)) if t.kind in COMPOSITES and t.name}


def check_again(btf: Btf, clang: Callable[..., Path]) -> int:
    """Print, compile, read: nothing has changed. The number of structs that were compared."""
    before = composites(btf)
    variables = (
        f"{KEYWORDS[Kind(kind)]} {name} v{i};\n" for i, (kind, name) in enumerate(before)
    )  # clang drops unused types
    again = btf_of(clang(dump(btf) + "int one;\n" + "".join(variables), "-g", "-c"))
    after = composites(again)
    for key, type_ in before.items():
        assert after[key].size_or_type == type_.size_or_type, key
        assert list(shape(again, after[key])) == list(shape(btf, type_)), key
    return len(before)


def builder() -> tuple[Builder, dict[str, int]]:
    b = Builder()
    ids = {"int": b.int("int", 4, signed=True), "char": b.int("char", 1, signed=True)}
    ids["s"] = b.struct("s", 4, [("a", ids["int"], 0)])
    ids["s *"] = b.ptr(ids["s"])
    ids["const char *"] = b.ptr(b.const(ids["char"]))
    ids["u8"] = b.typedef("u8", ids["char"])
    return b, ids


DECLARATIONS: list[tuple[str, Callable[[Builder, dict[str, int]], int]]] = [
    ("int x", lambda _b, t: t["int"]),
    ("u8 x", lambda _b, t: t["u8"]),
    ("struct s x", lambda _b, t: t["s"]),
    ("void *x", lambda b, _t: b.ptr(0)),
    ("const char *x", lambda _b, t: t["const char *"]),
    ("char *const x", lambda b, t: b.const(b.ptr(t["char"]))),
    ("char *volatile const x", lambda b, t: b.volatile(b.const(b.ptr(t["char"])))),
    ("int *restrict x", lambda b, t: b.restrict(b.ptr(t["int"]))),
    ("const int x", lambda b, t: b.const(b.const(t["int"]))),
    ("int *x", lambda b, t: b.ptr(b.type_tag("user", t["int"]))),
    ("char x[16]", lambda b, t: b.array(t["char"], 16)),
    ("char x[2][16]", lambda b, t: b.array(b.array(t["char"], 16), 2)),
    ("struct s *x[3]", lambda b, t: b.array(t["s *"], 3)),
    ("struct s *const x[3]", lambda b, t: b.const(b.array(t["s *"], 3))),
    ("int (*x)[4]", lambda b, t: b.ptr(b.array(t["int"], 4))),
    ("const int (*x)[4]", lambda b, t: b.ptr(b.const(b.array(t["int"], 4)))),
    ("int (*x)(struct s *, ...)", lambda b, t: b.ptr(b.func_proto(t["int"], [("", t["s *"]), ("", 0)]))),
    ("void (*x)(void)", lambda b, _t: b.ptr(b.func_proto(0, []))),
    ("int (*x[2])(int a)", lambda b, t: b.array(b.ptr(b.func_proto(t["int"], [("a", t["int"])])), 2)),
    ("int (*(*x)(int))(u8)", lambda b, t: b.ptr(b.func_proto(returning(b, t), [("", t["int"])]))),
    ("union u *x", lambda b, _t: b.ptr(b.fwd("u", union=True))),
    ("enum e x", lambda b, _t: b.enum("e", [("A", 1)])),
    ("enum {\n\tA = 1,\n} x", lambda b, _t: b.enum("", [("A", 1)])),
    ("struct {\n\tint a;\n} x", lambda b, t: b.struct("", 4, [("a", t["int"], 0)])),
]


def returning(b: Builder, t: dict[str, int]) -> int:
    return b.ptr(b.func_proto(t["int"], [("", t["u8"])]))


@pytest.mark.parametrize(("expected", "write"), DECLARATIONS)
def test_declarations_read_as_in_c(expected: str, write: Callable[[Builder, dict[str, int]], int]) -> None:
    b, types = builder()
    made = write(b, types)
    btf = Btf(b.bytes())
    assert declaration(btf, made, "x") == expected
    assert declaration(btf, made).replace(" ", "") == re.sub(r"\bx\b", "", expected).replace(" ", "")


def test_definitions_show_members_and_bit_fields_but_no_gaps() -> None:
    b, t = builder()
    color = b.enum("", [("RED", 0), ("BLUE", -1)], signed=True)
    inner = b.union("", 4, [("x", t["int"], 0), ("color", color, 0)])
    rows = [("a", t["int"], 0, 3), ("b", t["int"], 7, 2), ("", inner, 64, 0), ("text", b.array(t["char"], 4), 256, 0)]
    outer = b.struct("outer", 64, rows)
    alias, empty = b.typedef("alias", b.struct("", 1, [("c", t["char"], 0)])), b.union("empty", 0, [])
    btf = Btf(b.bytes())
    assert definition(btf, outer) == (
        "struct outer {\n"
        "\tint a: 3;\n"
        "\tint b: 2;\n"
        "\tunion {\n"
        "\t\tint x;\n"
        "\t\tenum {\n"
        "\t\t\tRED = 0,\n"
        "\t\t\tBLUE = -1,\n"
        "\t\t} color;\n"
        "\t};\n"
        "\tchar text[4];\n"
        "};"
    )
    assert definition(btf, alias) == "typedef struct {\n\tchar c;\n} alias;"
    assert definition(btf, empty) == "union empty {\n};"


def test_old_bit_fields_have_their_width_from_the_int() -> None:
    b = Builder()
    narrow = b.int("unsigned int", 4, bits=8)
    made = b.struct("s", 4, [("a", narrow, 0), ("b", narrow, 8)])
    assert definition(Btf(b.bytes()), made) == "struct s {\n\tunsigned int a: 8;\n\tunsigned int b: 8;\n};"


def test_what_cannot_be_declared_or_defined_is_named() -> None:
    b, t = builder()
    section = b.datasec(".data", 0, [])
    loop = b.ptr(b.count + 1)
    btf = Btf(b.bytes())
    for call, says in (
        (lambda: declaration(btf, section), "DATASEC '.data'"),
        (lambda: definition(btf, t["int"]), "INT 'int'.* has no definition"),
        (lambda: declaration(btf, loop), "nest deeper"),
        (lambda: declaration(btf, 99), "no type 99"),
    ):
        with pytest.raises(BtfError, match=says):
            call()


def test_types_of_one_name_are_told_apart(clang: Callable[..., Path]) -> None:
    b, t = builder()
    b.struct("s", 8, [("b", b.float("double", 8), 0)])
    b.union("s", 4, [("c", t["int"], 0), ("again", b.ptr(b.fwd("s", union=True)), 0)])
    b.struct("s___2", 1, [("d", t["char"], 0)])
    b.typedef("s", t["int"])
    b.typedef("s", t["char"])
    b.enum("s", [("A", 1), ("s", 2)])
    b.enum("t", [("A", 5)])
    text = dump(Btf(b.bytes()))
    expected = ("struct s", "struct s___2", "union s___3", "struct s___2___2", "enum s___4", "enum t")
    for name in expected:
        assert f"\n{name} {{" in text
    for line in ("typedef int s;", "typedef char s___2;", "A = 1,", "A___2 = 5,", "s___3 = 2,", "union s___3 *again;"):
        assert line in text
    clang(text, "-fsyntax-only")


def test_enums_keep_their_size_and_their_values(clang: Callable[..., Path]) -> None:
    b = Builder()
    sizes = {
        b.enum("byte_", [("B", 255)], size=1): 1,
        b.enum("half", [("H", 300)], size=2): 2,
        b.enum("signed_", [("S", -5)], signed=True): 4,
        b.enum("top", [("T", 2**32 - 1)]): 4,
        b.enum64("wide", [("W", 2**64 - 1)]): 8,
        b.enum64("least", [("L", -(2**63))], signed=True): 8,
        b.enum64("narrow", [("N", 3)]): 8,
    }
    b.enum("later", [], size=0)
    btf = Btf(b.bytes())
    names = {btf.type(i).name: size for i, size in sizes.items()}
    values = {n: v for i in sizes for n, v in btf.enumerators(btf.type(i))}
    checks = [f"_Static_assert(sizeof(enum {name}) == {size}, {name!r});" for name, size in names.items()]
    checks += [
        f"_Static_assert({name} == {hex(value % 2**64)}ull, {name!r});" for name, value in values.items() if value > 0
    ]
    checks += [f"_Static_assert({name} < 0, {name!r});" for name, value in values.items() if value < 0]
    clang(dump(btf) + "\n".join(checks).replace("'", '"'), "-fsyntax-only")


def test_the_base_of_a_split_btf_is_printed_with_it(clang: Callable[..., Path]) -> None:
    b, t = builder()
    base = Btf(b.bytes())
    more = Builder(base=base)
    more.struct("module", 8, [("s", t["s"], 0), ("own", more.typedef("own_t", t["int"]), 32)])
    assert check_again(Btf(more.bytes(), base), clang) == 1
    assert dump(Btf(more.bytes(), base)).index("struct s {") < dump(Btf(more.bytes(), base)).index("struct module {")


class RandomC:
    """Structs of everything that moves members around."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.names: list[str] = []
        self.count = 0

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def member(self, depth: int) -> str:
        kind = self.random.choice(["scalar"] * 4 + ["bits"] * 3 + ["array", "named", "anonymous", "pointer", "none"])
        name, scalar = self.fresh("m"), self.random.choice(["char", "short", "int", "long", "_Bool", "double"])
        if kind == "bits":
            unit, most = self.random.choice([("char", 8), ("unsigned short", 16), ("int", 32), ("unsigned long", 64)])
            return f"{unit} {name}: {self.random.randint(1, most)}"
        if kind == "none":
            return f"int: {self.random.randint(0, 31)}"
        if kind == "array":
            return f"{scalar} {name}[{self.random.randint(0, 3)}]" + f"[{self.random.randint(1, 3)}]"
        if kind == "named" and self.names:
            return f"{self.random.choice(self.names)} {name}"
        if kind == "anonymous" and depth < 3:
            return self.composite("", depth + 1) + self.random.choice(["", f" {name}", f" {name}[2]"])
        if kind == "pointer":
            return f"int (*{name})({self.random.choice([*self.names, 'int'])} *, ...)"
        aligned = self.random.choice([""] * 9 + [" __attribute__((aligned(16)))"])
        return f"{scalar} {name}{aligned}"

    def composite(self, name: str, depth: int = 0) -> str:
        keyword = self.random.choice(["struct", "struct", "struct", "union"])
        members = "".join(f"{self.member(depth)}; " for _ in range(self.random.randint(1, 7)))
        packed = self.random.choice([""] * 4 + [" __attribute__((packed))"])
        if name:
            self.names.append(f"{keyword} {name}")
        return f"{keyword} {name} {{ {members}}}{packed}"

    def source(self) -> str:
        text = "".join(f"{self.composite(self.fresh('s'))};\n" for _ in range(40))
        return text + "".join(f"{name} {self.fresh('v')};\n" for name in self.names)


@pytest.mark.parametrize("seed", range(12))
def test_random_structs_keep_their_layout(seed: int, clang: Callable[..., Path]) -> None:
    btf = btf_of(clang(RandomC(seed).source(), "-g", "-c"))
    assert check_again(btf, clang) == 40


@pytest.mark.parametrize("source", CORPUS, ids=lambda path: path.name)
def test_types_of_compiled_programs_keep_their_layout(source: Path, clang: Callable[..., Path]) -> None:
    options = [
        "-O2",
        "-g",
        "-c",
        "-mcpu=v3",
        f"-I{source.parent}",
        "-D__TARGET_ARCH_x86",
        "-I/usr/include/x86_64-linux-gnu",
    ]
    check_again(btf_of(clang(source.read_text(), *options)), clang)


@pytest.fixture(scope="module")
def vmlinux() -> Btf:
    if not VMLINUX.exists():
        pytest.skip("this kernel has no BTF")
    return Btf(VMLINUX.read_bytes())


def test_the_kernels_types_compile_and_keep_their_layout(vmlinux: Btf, clang: Callable[..., Path]) -> None:
    start = time.monotonic()
    text = dump(vmlinux)
    assert time.monotonic() - start < 30
    found, checks = composites(vmlinux), []
    for (kind, name), type_ in found.items():
        tag = f"{KEYWORDS[Kind(kind)]} {name}"
        if (Kind.STRUCT + Kind.UNION - kind, name) in found or uses_va_list(vmlinux, type_):
            continue
        checks.append(f'_Static_assert(sizeof({tag}) == {type_.size_or_type}, "{name}");\n')
        for member in vmlinux.members(type_):
            if member.name and not member.bit_size:
                at = f"__builtin_offsetof({tag}, {member.name})"
                checks.append(f'_Static_assert({at} == {member.bit_offset // 8}, "{name}.{member.name}");\n')
    assert len(checks) > 1000
    clang(text + "".join(checks), "-fsyntax-only", "-ferror-limit=0")


def uses_va_list(btf: Btf, type_: Type) -> bool:
    """BPF has one of its own, of another size."""
    return any(declaration(btf, m.type_id) == "va_list" for m in btf.members(type_))


def test_the_kernels_types_are_those_that_bpftool_prints(vmlinux: Btf) -> None:
    bpftool = shutil.which("bpftool") or shutil.which("bpftool", path="/usr/sbin:/sbin")
    if bpftool is None:
        pytest.skip("bpftool is not installed")
    command = [bpftool, "btf", "dump", "file", str(VMLINUX), "format", "c"]
    theirs = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    ours = dump(vmlinux)
    for pattern in (r"^(?:struct|union|enum) (\w+?)(?:___\d+)? \{(?:\};)?$", r"^(?:\}|typedef .*) (\w+);$"):
        shown = [sorted(re.findall(pattern, text, re.MULTILINE)) for text in (ours, theirs)]
        assert shown[0] == shown[1]


def branching(b: Builder, step: Callable[[int], int]) -> int:
    inner = b.int("int", 4)
    for _ in range(14):
        inner = step(inner)
    return inner


@pytest.mark.parametrize(
    "step",
    [
        lambda b, t: b.ptr(b.func_proto(t, [("", t), ("", t), ("", t), ("", t)])),
        lambda b, t: b.struct("", 4, [("a", t, 0), ("b", t, 0), ("c", t, 0), ("d", t, 0)]),
    ],
)
def test_declarations_that_would_take_for_ever_are_refused(step: Callable[[Builder, int], int]) -> None:
    b = Builder()
    made = branching(b, lambda inner: step(b, inner))
    b.typedef("t", made)
    btf = Btf(b.bytes())
    start = time.monotonic()
    for call in (lambda: declaration(btf, made), lambda: dump(btf)):
        with pytest.raises(BtfError, match="declarations without end"):
            call()
    assert time.monotonic() - start < 60


def test_a_long_chain_of_types_is_no_deep_recursion() -> None:
    b = Builder()
    inner = b.int("int", 4)
    for number in range(5000):
        inner = b.struct(f"s{number}", 4, [("a", inner, 0)])
    btf = Btf(b.bytes())
    with contextlib.suppress(BtfError):
        dump(btf)


def small() -> bytes:
    b, t = builder()
    b.struct("outer", 32, [("s", t["s"], 0), ("p", t["s *"], 64), ("f", t["int"], 128, 3)])
    b.typedef("fn", b.ptr(b.func_proto(t["int"], [("x", t["u8"]), ("", 0)])))
    b.enum("e", [("A", 1), ("B", 2)])
    b.enum64("", [("C", 1)])
    b.array(b.const(b.fwd("f")), 3)
    return b.bytes()


@given(st.data())
@settings(max_examples=examples(300), deadline=None)
def test_damaged_btf_is_printed_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(small())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(24, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BtfError):
        dump(Btf(bytes(damaged)))
