"""Function names to file offsets: compared with what the compiler put there, with nm, and on damaged files."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from purebpf.errors import ElfError, ObjectError
from purebpf.formats.elf_symbols import function_offsets

COMPILER = shutil.which("clang") or shutil.which("cc")
# Each function holds a number of its own, which is found again in the bytes at its offset.
MARK = "__attribute__((noinline)) {0} {{ volatile unsigned v = {1:#x}; return v; }}\n"
NUMBERS = {"plain": 0x11223344, "spare": 0x55667788, "chosen": 0x1A2B3C4D, "local": 0x0A1B2C3D}
FIRST = (
    MARK.format("unsigned plain(void)", NUMBERS["plain"])
    + MARK.format("__attribute__((weak)) unsigned spare(void)", NUMBERS["spare"])
    + MARK.format("static unsigned local(void)", NUMBERS["local"])
    + MARK.format("static unsigned twin(void)", 1)
    + MARK.format("unsigned chosen(void)", NUMBERS["chosen"])
    + "unsigned use_first(void) { return local() + twin(); }\nextern unsigned elsewhere(void);\n"
    + "unsigned use_elsewhere(void) { return elsewhere(); }\n"
)
SECOND = (
    MARK.format("static unsigned chosen(void)", 2)
    + MARK.format("static unsigned twin(void)", 3)
    + "unsigned use_second(void) { return chosen() + twin(); }\n"
)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two source files; at addresses that differ from the offsets."""
    if COMPILER is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("symbols")
    for name, text in (("one.c", FIRST), ("two.c", SECOND)):
        (folder / name).write_text(text)
    made = folder / "lib.so"
    sources = [folder / "one.c", folder / "two.c"]
    subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", "-Wl,--image-base=0x10000", "-o", made, *sources], check=False)
    if not made.exists():  # a linker without that option
        subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", "-o", made, *sources], check=True)
    return made


@pytest.mark.parametrize("name", NUMBERS)
def test_the_offset_is_where_the_function_is(library: Path, name: str) -> None:
    data = library.read_bytes()
    (offset,) = function_offsets(data, name)  # of "chosen", the exported one
    assert NUMBERS[name].to_bytes(4, sys.byteorder) in data[offset : offset + 64]


def test_functions_of_one_name_are_all_given(library: Path) -> None:
    assert len(function_offsets(library.read_bytes(), "twin")) == 2


def test_a_pattern_gives_each_match_once_in_order(library: Path) -> None:
    data = library.read_bytes()
    expected = [function_offsets(data, name)[0] for name in ("use_elsewhere", "use_first", "use_second")]
    assert function_offsets(data, "use_*") == sorted(expected)
    assert function_offsets(data, "use_?????") == function_offsets(data, "use_first")


@pytest.mark.parametrize("name", ["elsewhere", "plane", "", "a" * 10_000])
def test_what_is_only_called_or_not_there_is_refused(library: Path, name: str) -> None:
    with pytest.raises(ObjectError, match=f"no function '{name}'") as caught:
        function_offsets(library.read_bytes(), name)
    assert ("close to it: plain" in caught.value.hint) == (name == "plane")


def test_a_stripped_library_has_what_it_exports(library: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped.so"
    shutil.copy(library, stripped)
    subprocess.run(["strip", stripped], check=True)
    for name in ("plain", "spare", "chosen"):
        assert function_offsets(stripped.read_bytes(), name) == function_offsets(library.read_bytes(), name)
    with pytest.raises(ObjectError, match="no function 'local'"):
        function_offsets(stripped.read_bytes(), "local")


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm (binutils) is not installed")
def test_the_c_library_has_the_functions_that_nm_prints() -> None:
    path = Path(os.path.realpath(_loaded("libc.so.6")))
    data = path.read_bytes()
    rows = [line.split() for line in subprocess.check_output(["nm", "-D", path], text=True).splitlines()]
    addresses: dict[str, set[int]] = {}
    for row in rows:
        if len(row) == 3 and row[1] == "T" and "@@" in row[2]:
            addresses.setdefault(row[2].split("@")[0], set()).add(int(row[0], 16))
    names = sorted(addresses)[::40]
    assert len(names) > 20
    for name in names:
        found = {data[offset : offset + 16] for offset in function_offsets(data, name)}
        assert {_at(path, address) for address in addresses[name]} <= found


def _loaded(name: str) -> str:
    ctypes.CDLL(name)
    lines = Path("/proc/self/maps").read_text().splitlines()
    return next(line.split()[-1] for line in lines if line.endswith("/" + name))


def _at(path: Path, address: int) -> bytes:
    """16 bytes at an address of the library as it is loaded in this process."""
    first = next(line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path)))
    return ctypes.string_at(int(first.split("-")[0], 16) + address, 16)


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm (binutils) is not installed")
def test_of_several_versions_the_one_that_is_linked_to_by_default_is_taken() -> None:
    path = Path(os.path.realpath(_loaded("libc.so.6")))
    data = path.read_bytes()
    rows = [line.split() for line in subprocess.check_output(["nm", "-D", path], text=True).splitlines()]
    old = {row[2].split("@")[0] for row in rows if row[1:2] in (["T"], ["W"]) and "@@" not in row[2]}
    several = [row for row in rows if "@@" in row[-1] and row[1] in "TW" and row[2].split("@")[0] in old]
    for address, _kind, name in several:
        (offset,) = function_offsets(data, name.split("@")[0])
        assert _at(path, int(address, 16)) == data[offset : offset + 16]


def test_more_headers_than_the_file_can_hold_are_refused_at_once(library: Path) -> None:
    content = bytearray(library.read_bytes())
    table, wide = int.from_bytes(content[40:48], sys.byteorder), content[4] == 2
    if not wide:
        pytest.skip("a 32-bit machine")
    content[54:58] = b"\0\0\xff\xff"  # e_phentsize 0, e_phnum PN_XNUM: the number is in the first section's sh_info
    content[table + 44 : table + 48] = b"\xff\xff\xff\xff"
    with pytest.raises(ElfError, match="4294967295 program and"):
        function_offsets(bytes(content), "plain")


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF" + bytes(100), b"#!/bin/sh\n"])
def test_what_is_no_elf_file_is_refused(data: bytes) -> None:
    with pytest.raises(ElfError):
        function_offsets(data, "f")


@settings(max_examples=examples(400), deadline=None)
@given(data=st.data())
def test_damage_brings_up_nothing_but_our_errors(library: Path, data: st.DataObject) -> None:
    content = bytearray(library.read_bytes())
    # Headers, symbols and the section table: at both ends of the file.
    places = st.integers(0, 2047) | st.integers(len(content) - 4096, len(content) - 1)
    for at, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=12)):
        content[at] = byte
    cut = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    for pattern in ("plain", "*"):
        try:
            offsets = function_offsets(bytes(content[:cut]), pattern)
        except ObjectError:
            continue
        assert all(0 <= offset < cut for offset in offsets)
