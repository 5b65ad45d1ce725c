"""Object file -> spec: the values that our own object declares, and any damage answered by ObjectError."""

from __future__ import annotations

import contextlib
import random
import struct
import sys

import pytest
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import purebpf
from purebpf.formats import insn
from purebpf.formats.abi import MapType, ProgType
from purebpf.formats.sections import Place, classify
from purebpf.formats.spec import ReferenceKind

OBJECT = purebpf.prebuilt("execve").read_bytes()


def test_the_maps_are_as_declared_in_c() -> None:
    maps = purebpf.parse(OBJECT).maps
    events, lost = maps.values()
    assert events == purebpf.MapSpec("events", MapType.RINGBUF, max_entries=1 << 20)
    assert (lost.type, lost.key_size, lost.value_size, lost.max_entries) == (MapType.PERCPU_ARRAY, 4, 8, 1)
    assert lost.btf is not None
    assert (lost.btf.type(lost.key_type).name, lost.btf.type(lost.value_type).name) == ("__u32", "__u64")


def test_the_program_is_named_typed_and_aimed_by_its_section() -> None:
    spec = purebpf.parse(OBJECT)
    (program,) = spec.programs.values()
    assert (program.name, program.type) == ("trace_execve", ProgType.TRACEPOINT)
    assert program.attach_to == "syscalls/sys_enter_execve"
    assert (spec.license, spec.byte_order) == ("Dual MIT/GPL", sys.byteorder)


def test_each_reference_is_on_an_ld_imm64_and_names_a_map() -> None:
    spec = purebpf.parse(OBJECT)
    program = spec.programs["trace_execve"]
    slots = insn.decode(program.code, spec.byte_order)
    assert {(r.kind, r.name) for r in program.references} == {(ReferenceKind.MAP, n) for n in ("events", "lost")}
    assert all(slots[r.slot].opcode == insn.LD_IMM64 for r in program.references)


def test_the_same_bytes_give_equal_specs() -> None:
    assert purebpf.parse(OBJECT) == purebpf.parse(bytes(OBJECT))


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELF" + bytes(60)])
def test_what_is_no_elf_object_is_refused(data: bytes) -> None:
    with pytest.raises(purebpf.ElfError):
        purebpf.parse(data)


def test_an_elf_file_for_another_machine_is_named() -> None:
    other = bytearray(OBJECT)
    struct.pack_into("=H", other, 18, 62)
    with pytest.raises(purebpf.ElfError, match="EM_X86_64"):
        purebpf.parse(bytes(other))


def test_maps_without_btf_are_refused_with_the_remedy() -> None:
    with pytest.raises(purebpf.BtfError) as caught:
        purebpf.parse(OBJECT.replace(b".rel.BTF\0", b".rel.XTF\0"))
    assert "clang -g" in caught.value.hint


@pytest.mark.parametrize("length", range(0, len(OBJECT), 97))
def test_a_truncated_object_is_refused(length: int) -> None:
    with pytest.raises(purebpf.ObjectError):
        purebpf.parse(OBJECT[:length])


@settings(max_examples=examples(300), deadline=None)
@given(st.integers(0, 2**32))
def test_a_mutated_object_is_accepted_or_refused_by_object_error(seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(OBJECT)
    for _ in range(chance.randint(1, 12)):
        data[chance.randrange(len(data))] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
    with contextlib.suppress(purebpf.ObjectError):  # anything else fails the test
        purebpf.parse(bytes(data))


def test_an_unknown_section_keeps_its_name_without_a_type() -> None:
    assert classify("unheard_of/x") == Place("", "x", True)
    assert classify("tp/sched/sched_switch") == Place("tp", "sched/sched_switch", True)
    assert classify("?uprobe.s//bin/bash:readline") == Place("uprobe.s", "/bin/bash:readline", False)
