"""Pins: what is pinned lives on, is found again and typed again, and is never confused with something else."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from purebpf.errors import KernelError, ObjectError
from purebpf.formats import attr
from purebpf.formats.abi import Cmd, MapFlags, MapType, ProgType
from purebpf.formats.spec import MapSpec
from purebpf.kernel import bpffs, maps, sys
from purebpf.kernel.fd import FileDescriptor

pytestmark = pytest.mark.kernel

COUNTS = MapSpec("counts", MapType.HASH, 4, 8, 16)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A BPF file system of our own."""
    where = tmp_path / "b p f"  # /proc/self/mountinfo writes the space as an octal escape
    where.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def test_a_pinned_map_outlives_its_descriptors(folder: Path, bpftool: Any) -> None:
    path = folder / "counts"
    with maps.create(COUNTS) as made:
        made[b"aaaa"] = b"12345678"
        made.pin(path)
        assert made.pinned == str(path)
        number = made.info().id
        assert bpftool("map", "show", "pinned", str(path))["id"] == number
    with maps.open_pinned(path) as again:
        assert (again.info().id, again.spec.name, again[b"aaaa"]) == (number, "counts", b"12345678")
        again.unpin()
        assert not path.exists()
        with pytest.raises(ObjectError, match="'counts' is not pinned"):
            again.unpin()


def test_the_second_load_takes_over_the_first_ones_map(folder: Path) -> None:
    path = folder / "app" / "of" / "mine" / "counts"  # folders are made
    with maps.create_or_reuse(COUNTS, path) as first:
        first[b"aaaa"] = b"12345678"
    with maps.create_or_reuse(COUNTS, path) as second:
        assert second[b"aaaa"] == b"12345678"
        assert second.pinned == str(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": MapType.LRU_HASH}, "type is HASH, not LRU_HASH"),
        ({"key_size": 8, "value_size": 16}, "key_size is 4, not 8; value_size is 8, not 16"),
        ({"max_entries": 17}, "max_entries is 16, not 17"),
        ({"flags": MapFlags.NO_PREALLOC}, "flags is 0, not 1"),
        ({"extra": 1}, "extra is 0, not 1"),
    ],
)
def test_another_map_is_not_taken_and_every_difference_is_named(
    folder: Path, change: dict[str, int], message: str
) -> None:
    path = folder / "counts"
    maps.create_or_reuse(COUNTS, path).close()
    with pytest.raises(ObjectError, match=f"map 'counts': the map pinned at .*counts is another: {message}$"):
        maps.create_or_reuse(dataclasses.replace(COUNTS, **change), path)
    assert path.exists()


@pytest.mark.parametrize(
    "spec",
    [
        MapSpec("ring", MapType.RINGBUF, 0, 24, 5000),
        MapSpec("perf", MapType.PERF_EVENT_ARRAY),
        MapSpec("devices", MapType.DEVMAP, 4, 4, 8),  # the kernel adds BPF_F_RDONLY_PROG
        MapSpec("devices", MapType.DEVMAP_HASH, 4, 4, 8),
    ],
    ids=lambda spec: spec.type.name,
)
def test_what_was_put_right_at_creation_is_no_difference(folder: Path, spec: MapSpec) -> None:
    with maps.create_or_reuse(spec, folder / "same") as one, maps.create_or_reuse(spec, folder / "same") as other:
        assert one.info() == other.info()


def test_of_many_at_once_one_makes_the_map_and_all_get_it(folder: Path) -> None:
    numbers: list[int] = []
    start = threading.Barrier(8)

    def take() -> None:
        start.wait()
        with maps.create_or_reuse(COUNTS, folder / "counts") as made:
            numbers.append(made.info().id)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers) == 8
    assert len(set(numbers)) == 1


def test_two_things_at_one_path_are_refused(folder: Path) -> None:
    with maps.create(COUNTS) as made:
        made.pin(folder / "counts")
        with pytest.raises(KernelError, match=r"pinning map 'counts' at .*EEXIST") as caught:
            made.pin(folder / "counts")
        assert caught.value.errno == errno.EEXIST
        assert "another path" in caught.value.hint


def test_what_is_no_map_is_not_taken_for_one(folder: Path) -> None:
    (folder / "a").mkdir()
    for path, message in ((folder / "a", "EACCES"), (folder / "none", "ENOENT")):
        with pytest.raises(KernelError, match=message):
            maps.open_pinned(path)
    instructions, license = sys.Buffer(b"\xb7".ljust(8, b"\0") + b"\x95".ljust(8, b"\0")), sys.Buffer(b"GPL\0")
    load = attr.prog_load(ProgType.SOCKET_FILTER, 2, instructions.address, license.address)
    program = FileDescriptor(sys.bpf(Cmd.PROG_LOAD, load), "program")
    bpffs.pin(program.fileno(), folder / "program", "program")
    program.close()
    with pytest.raises(ObjectError, match="'program' is no map, but anon_inode:bpf-prog"):
        maps.open_pinned(folder / "program")


def test_a_path_off_any_bpffs_says_how_to_mount_one(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("mine")
    with maps.create(COUNTS) as made:
        for path in (tmp_path / "counts", tmp_path / "deep" / "er" / "counts"):
            with pytest.raises(KernelError) as caught:
                made.pin(path)
            assert "mount -t bpf bpf /sys/fs/bpf" in caught.value.hint
            assert not made.pinned
        assert sorted(os.listdir(tmp_path)) == ["plain"]
        with pytest.raises(KernelError) as caught:
            maps.open_pinned(plain)
        assert "mount -t bpf" in caught.value.hint
        with pytest.raises(ObjectError, match="not on a BPF file system"):
            bpffs.unpin(plain, "map 'counts'")
    assert plain.read_text() == "mine"


def test_names_have_no_dots(folder: Path) -> None:
    assert bpffs.path_of(".rodata.x") == "/sys/fs/bpf/_rodata_x"
    with maps.create(COUNTS) as made:
        with pytest.raises(KernelError, match="EPERM") as caught:
            made.pin(folder / "a.b")
        assert "dots" in caught.value.hint
        made.pin(bpffs.path_of("a.b", folder))
    assert (folder / "a_b").exists()


def test_a_missing_pin_cannot_be_removed(folder: Path) -> None:
    with pytest.raises(KernelError, match="ENOENT"):
        bpffs.unpin(folder / "none", "map 'counts'")
