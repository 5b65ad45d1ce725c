"""BTF as the kernel takes it: repaired, and rewritten for kernels that lack kinds of types."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Callable

import pytest
from btf_builder import Builder

import purebpf
from purebpf.formats import attr, btf_write
from purebpf.formats.abi import Cmd
from purebpf.formats.btf import Btf
from purebpf.formats.btf_write import REPLACEMENTS, rewritten, sanitized
from purebpf.formats.kinds import Kind
from purebpf.kernel import probe
from purebpf.kernel import sys as kernel_sys

pytestmark = pytest.mark.kernel

SOURCE = """
enum big { HUGE = 1ULL << 40 } ;
enum minus { LESS = -1, MORE = 5 };
struct pair { int a; float b; };
extern int CONFIG_HZ __attribute__((section(".kconfig")));
extern void schedule(void) __attribute__((section(".ksyms"))) __attribute__((weak));
const volatile int limit = 3;
struct pair pairs[2];
enum minus minus;
static int __attribute__((noinline)) helper(struct pair *p) { return p->a + CONFIG_HZ; }
int __attribute__((noinline)) shared(int n) { return n + minus; }
SEC("raw_tp/sys_enter") int main_(void *ctx) { return helper(&pairs[1]) + shared(limit) > 1000; }
"""


def load(btf: Btf) -> None:
    """Have the kernel take it; its answer is an OSError."""
    memory, log = kernel_sys.Buffer(btf.data), kernel_sys.Buffer(1 << 16)
    try:
        request = attr.btf_load(memory.address, len(btf.data), log.address, 1 << 16)
        os.close(kernel_sys.bpf(Cmd.BTF_LOAD, request))
    except OSError as error:
        raise AssertionError(log.bytes().split(b"\0")[0].decode()[-400:]) from error


@pytest.fixture
def missing() -> set[str]:
    """Kinds of types that this kernel lacks."""
    return {feature for feature in REPLACEMENTS if not probe.has_btf(feature)}


@pytest.fixture
def types(compiled: Callable[[str], Path]) -> Btf:
    btf = purebpf.parse(compiled(SOURCE).read_bytes()).btf
    assert btf is not None
    return btf


def test_an_objects_types_are_taken_after_the_repairs(types: Btf, missing: set[str]) -> None:
    load(sanitized(types, missing))
    (data,) = types.find(".bss", Kind.DATASEC)
    offsets = [placed.offset for placed in types.variables(data)]
    assert offsets == sorted(offsets)
    assert data.size_or_type >= 20
    assert not any(t.kind in (Kind.FUNC, Kind.VAR) and types.linkage(t) == 2 for t in types)


@pytest.mark.parametrize("count", range(1, len(REPLACEMENTS) + 1))
def test_every_rewriting_keeps_ids_and_is_taken(types: Btf, missing: set[str], count: int) -> None:
    for lacks in itertools.combinations(REPLACEMENTS, count):
        old = sanitized(types, lacks)
        assert old.count == types.count
        gone = {kind for feature in lacks for kind, _rule in REPLACEMENTS[feature]} - {Kind.ENUM, Kind.FUNC}
        gone |= {Kind.FUNC} if "func" in lacks else set()
        assert not [t for t in old if t.kind in gone]
        if missing <= set(lacks):
            load(old)


def test_kinds_that_clang_14_does_not_write_are_rewritten_too(missing: set[str]) -> None:
    b = Builder()
    i = b.int("int", 4)
    b.enum64("big", [("HUGE", 1 << 40)])
    b.enum("minus", [("LESS", -1)], signed=True)
    b.float("float", 4)
    tagged = b.type_tag("user", i)
    b.ptr(tagged)
    s = b.struct("s", 4, [("m", i, 0)])
    b.decl_tag("mark", s)
    btf = Btf(b.bytes())
    load(sanitized(btf, missing))
    for lacks in (*[{name} for name in REPLACEMENTS], set(REPLACEMENTS)):
        old = sanitized(btf, lacks)
        load(sanitized(btf, lacks | missing))
        assert old.size(2) == 8
        assert old.size(4) == 4


def test_rewriting_nothing_changes_nothing(types: Btf) -> None:
    again = rewritten(types, lambda _type: None)
    assert again.types.tobytes() == types.types.tobytes()
    assert again.strings == types.strings
    assert sanitized(types, []) is types


def test_a_hidden_function_becomes_static(types: Btf) -> None:
    changed = btf_write.with_sections(types, {".bss": 100, ".rodata": 4}, {}, {"shared"})
    (function,) = changed.find("shared", Kind.FUNC)
    assert changed.linkage(function) == 0
