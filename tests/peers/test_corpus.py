"""Each object of tests/corpus is in the kernel, loaded by purebpf, what it is when libbpf has loaded it."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import purebpf
from purebpf.formats import insn
from purebpf.formats.abi import MapFlags, Pseudo

from .conftest import SOURCES

pytestmark = pytest.mark.kernel

# Objects that libbpf refuses and purebpf does not, and why (shared choices with cilium/ebpf).
ONLY_OURS = {
    "legacy_maps": "libbpf 1.0 dropped struct bpf_map_def",
    "static_in_section": "libbpf takes static functions in .text only",
    "typed_ring": "libbpf passes the value's size on, which the kernel refuses",
    "several": 'bpftool wants to pin also the program that SEC("?…") keeps from being loaded',
    "map_ulong": "libbpf 1.1 does not know __ulong",
    "static_map": "libbpf wants maps to be global, and leaves .bss.x out",
}
# Objects that neither loads, and what purebpf says.
REFUSED = {
    "core_ambiguous_size": "several types 'console' that differ",
    "core_missing_live": "the kernel has no struct task_struct.no_such_field",
    "core_signed_live": "task_struct.prio has 4 bytes in the kernel and 8 in the object",
    "kconfig_missing": "does not give CONFIG_NO_SUCH_OPTION",
    "ksym_strong": "no symbol no_such_symbol",
    "ksym_typed": "failed to find the address for kernel symbol 'runqueues'",
    "section_call": "Caller passes invalid args into func#1 .'called'",
}


@pytest.fixture(params=[*SOURCES, "prebuilt"])
def path(request: pytest.FixtureRequest, corpus: dict[str, Path], tmp_path: Path) -> Path:
    if request.param == "prebuilt":
        copy = tmp_path / "execve.o"  # a bpffs takes no dots in names
        copy.write_bytes(purebpf.prebuilt("execve").read_bytes())
        return copy
    return corpus[request.param]


_ADDRESS = "an address in the kernel"


def normalised(code: bytes, maps: Mapping[int, str]) -> list[tuple[Any, ...]]:
    """Instructions in which maps are named instead of numbered, and the verifier's own addresses left out."""
    rows: list[tuple[Any, ...]] = []
    slots = [*insn.decode(code, sys.byteorder)]
    value: Any = None
    for slot, following in zip(slots, [*slots[1:], slots[-1]]):
        value = slot.imm if value != _ADDRESS or slot.opcode else None  # its high half may differ too
        if slot.opcode == insn.LD_IMM64 and slot.src in (Pseudo.MAP_FD, Pseudo.MAP_VALUE):
            value = maps[slot.imm]
        elif slot.opcode == insn.LD_IMM64 and -0x8000 <= following.imm < -1:
            value = _ADDRESS
        rows.append((*slot[:4], value))
    return rows


def test_programs_and_maps_are_what_libbpf_makes_of_them(path: Path, peer: Any, tmp_path: Path) -> None:
    try:
        compare(path, peer, peer.load(path), tmp_path)
    finally:
        peer.unload(path)


def compare(path: Path, peer: Any, theirs: dict[str, int] | None, tmp_path: Path) -> None:
    if path.stem in REFUSED:
        assert theirs is None, f"libbpf takes {path.stem} now"
        with pytest.raises(purebpf.Error, match=REFUSED[path.stem]):
            purebpf.load(path)
        return
    with purebpf.load(path) as obj:
        if path.stem in ONLY_OURS:
            assert theirs is None, f"libbpf takes it now: {ONLY_OURS[path.stem]}"
            assert obj.programs
            return
        assert theirs is not None
        assert {name[:15] for name in obj.programs} == set(theirs)
        for name, program in obj.programs.items():
            ours = program.info()
            shown = peer.json("prog", "show", "id", str(theirs[name[:15]]))
            assert compare_maps(peer, shown.get("map_ids", []), list(ours.map_ids))
            names = {
                n: peer.json("map", "show", "id", str(n))["name"] for n in [*shown.get("map_ids", []), *ours.map_ids]
            }
            code = peer.code(theirs[name[:15]], tmp_path / "code")
            assert normalised(ours.translated, names) == normalised(code, names), name
            assert peer.lines(ours.id) == peer.lines(theirs[name[:15]])
            assert (shown["type"], shown["tag"] != "") == (peer.json("prog", "show", "id", str(ours.id))["type"], True)


def compare_maps(peer: Any, theirs: list[int], ours: list[int]) -> bool:
    """The same maps by name: types, sizes, flags, and the contents of data sections."""
    fields = ("type", "name", "flags", "bytes_key", "bytes_value", "max_entries", "frozen")
    tables = []
    for numbers in (theirs, ours):
        shown = [peer.json("map", "show", "id", str(number)) for number in numbers]
        for row in shown:
            if "." in row["name"]:  # libbpf 1.1 lets also those be mapped in which user space is to see nothing
                row["flags"] &= ~MapFlags.MMAPABLE
        rows = {row["name"]: tuple(row.get(field) for field in fields) for row in shown}
        dumps = {row["name"]: contents(peer, row) for row in shown if "." in row["name"]}
        tables.append((rows, dumps))
    assert tables[0] == tables[1]
    return True


def contents(peer: Any, row: Mapping[str, Any]) -> Any:
    dump = peer.json("map", "dump", "id", str(row["id"]))
    return [element.get("formatted", element) for element in dump]


def test_types_are_what_bpftool_reads(path: Path, peer: Any) -> None:
    theirs = peer.json("btf", "dump", "file", str(path))["types"]
    btf = purebpf.parse(path.read_bytes()).btf
    assert btf is not None
    ours: list[Any] = list(btf)
    assert len(ours) == len(theirs)
    replaced = {"VAR", "FUNC", "DATASEC"}  # externs and their sections, which the kernel does not take
    for mine, row in zip(ours, theirs):
        if row["kind"] in replaced and mine.kind.name != row["kind"]:
            continue
        assert (mine.id, mine.kind.name, mine.name) == (row["id"], row["kind"], row["name"].replace("(anon)", ""))
        if "size" in row and row["kind"] != "DATASEC":
            assert mine.size_or_type == row["size"]
        if "members" in row:
            shown = [(m["name"].replace("(anon)", ""), m["type_id"], m["bits_offset"]) for m in row["members"]]
            assert [tuple(m[:3]) for m in btf.members(mine)] == shown


def test_width_and_bitfields_are_read_as_the_kernel_has_them(corpus: dict[str, Path]) -> None:
    """The object believes in other widths than the kernel's, and gets the right values all the same."""
    with purebpf.load(corpus["core_width"]) as obj, obj.programs["width"].attach():
        obj.globals.out = [0] * 6
        with open("/proc/self/stat") as stat:  # a system call of ours; the program has run
            fields = stat.read().rsplit(")", 1)[1].split()
        out = obj.globals.out
    flags = int(fields[6])
    assert out[0] & 0xFFFFFFFF == out[0]
    assert out[0] & 0x200000 == flags & 0x200000 or out[0] > 0  # task->flags of whoever entered last
    assert out[1] > 1 << 20  # nanoseconds since boot: more than 32 bits in any process
    assert out[2] in range(8)  # SCHED_NORMAL and its like
    assert out[3] in (0, 1)
    assert out[4] in (0, 1)


def test_fields_read_are_this_process_own(corpus: dict[str, Path]) -> None:
    with purebpf.load(corpus["core_fields"]) as obj:
        result = obj.programs["fields"].test_run(context=struct.pack("=2Q", 0, 0))
        out = obj.globals.out
    assert result.return_value == 0
    assert out[0] == os.getpid()
    assert out[4] == 16
    assert (out[5], out[6], out[8], out[11]) == (0, 1, 0, 0)
    with open("/proc/self/comm", "rb") as comm:
        assert out[2] == comm.read()[3]
    with open("/proc/self/stat") as stat:
        assert out[9] == int(stat.read().rsplit(")", 1)[1].split()[45])  # arg_start
    assert out[10] == 1


def test_functions_callbacks_and_tail_calls_run(corpus: dict[str, Path]) -> None:
    with purebpf.load(corpus["calls"]) as obj:
        obj.programs["first"].test_run()
        assert obj.globals.count == 5
        obj.programs["second"].test_run()
        assert obj.globals.count == 10
    with purebpf.load(corpus["callbacks"]) as obj:
        numbers: Any = obj.maps["numbers"]
        numbers.update({0: 5, 1: 6, 2: 7, 3: 8})
        obj.programs["iterate"].test_run()
        assert obj.globals.sum == 26 + 45
    with purebpf.load(corpus["static_in_section"]) as obj:
        obj.programs["beside"].test_run()
        assert obj.globals.seen == 3


def test_configuration_and_symbols_have_values(corpus: dict[str, Path]) -> None:
    with purebpf.load(corpus["kconfig"]) as obj:
        obj.programs["config"].test_run()
        assert obj.globals.result > 5 << 16
    with purebpf.load(corpus["ksyms"]) as obj:
        obj.programs["symbols"].test_run()
        address, missing = obj.globals.addresses
    with open("/proc/kallsyms") as symbols:
        expected = next(line.split()[0] for line in symbols if line.split()[2] == "schedule")
    assert (f"{address:016x}", missing) == (expected, 0)


def test_variables_set_before_loading_are_seen_by_the_program(corpus: dict[str, Path]) -> None:
    spec = purebpf.parse(corpus["data_sections"].read_bytes())
    assert spec.variables["name"].value == b"purebpf"
    assert spec.variables["origin"].value.y == -4
    assert spec.variables["mode"].value.name == "ON"
    spec.variables["limit"].value = 100
    spec.variables["origin"].value = {"x": 1000}
    spec.variables["counter"].value = 5
    with purebpf.load(spec) as obj:
        obj.programs["globals"].test_run()
        assert obj.globals.total == 100 + 1000 + 21 + 31 + 41 + 51
        assert obj.globals.counter == 6
        assert obj.globals.seen[1].x == 3 + ord("p")
        obj.globals.counter = 70
        obj.programs["globals"].test_run()
        assert obj.globals.counter == 71
        with pytest.raises(purebpf.ObjectError, match="constant"):
            obj.globals.limit = 3
        with pytest.raises(AttributeError, match="counter"):
            _ = obj.globals.countr


@pytest.mark.parametrize("options", [("-g", "-mcpu=v1"), ("-g", "-mcpu=v2"), ("-g", "-mcpu=v3"), ("-g", "-gdwarf-4")])
def test_objects_of_every_processor_version_load(options: tuple[str, ...], tmp_path: Path) -> None:
    from .conftest import CORPUS, compile_bpf

    made = compile_bpf(CORPUS / "data_sections.bpf.c", tmp_path / "made.o", *options)
    with purebpf.load(made) as obj:
        obj.programs["globals"].test_run()
        assert obj.globals.counter == 12


def test_an_object_without_debug_information_loads_if_its_maps_allow(tmp_path: Path) -> None:
    from .conftest import CORPUS, compile_bpf

    made = compile_bpf(CORPUS / "legacy_maps.bpf.c", tmp_path / "made.o", "-O2")
    with purebpf.load(made) as obj:
        assert obj.programs["legacy"].test_run().return_value == 0
        counts: Any = obj.maps["counts"]
        assert len(counts) == 1
