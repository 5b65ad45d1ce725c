"""Every kind of map can be made, and does what its kind is for."""

from __future__ import annotations

import mmap
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from features import FEATURES, require

from purebpf.errors import KernelError, ObjectError
from purebpf.formats import attr, insn
from purebpf.formats.abi import Cmd, MapFlags, MapType, ProgType
from purebpf.formats.insn import Instruction
from purebpf.formats.spec import MapSpec
from purebpf.kernel import cpus, maps
from purebpf.kernel import sys as system
from purebpf.kernel.fd import FileDescriptor

pytestmark = pytest.mark.kernel

EXIT = [Instruction(0xB7, 0, 0, 0, 0), Instruction(0x95, 0, 0, 0, 0)]
INNER = MapSpec("inner", MapType.HASH, 4, 4, 8)
STORAGES = {MapType.SK_STORAGE, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE}
# What each kind needs: sizes of key and value, entries, flags. The others take 4, 4, 4, 0.
NEEDS: dict[MapType, tuple[int, int, int, int]] = {
    MapType.STACK_TRACE: (4, 80, 4, 0),
    MapType.LPM_TRIE: (8, 4, 4, MapFlags.NO_PREALLOC),
    MapType.CGROUP_STORAGE: (8, 4, 0, 0),
    MapType.PERCPU_CGROUP_STORAGE: (8, 4, 0, 0),
    MapType.QUEUE: (0, 4, 4, 0),
    MapType.STACK: (0, 4, 4, 0),
    MapType.BLOOM_FILTER: (0, 4, 4, 0),
    MapType.RINGBUF: (0, 0, mmap.PAGESIZE, 0),
    MapType.USER_RINGBUF: (0, 0, mmap.PAGESIZE, 0),
    MapType.ARENA: (0, 0, 4, MapFlags.MMAPABLE),
    MapType.SOCKMAP: (4, 8, 4, 0),
    MapType.SOCKHASH: (4, 8, 4, 0),
    **dict.fromkeys(STORAGES, (4, 4, 0, MapFlags.NO_PREALLOC)),
}
# These take what is only there with the BPF LSM (its storage in inodes), or a type of the kernel's own.
ELSEWHERE = {MapType.INODE_STORAGE, MapType.STRUCT_OPS}


def integer_btf() -> bytes:
    """BTF with one type: `unsigned int`."""
    types, strings = struct.pack("=4I", 1, 1 << 24, 4, 32), b"\0unsigned int\0"
    return struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings


@pytest.fixture
def btf() -> Iterator[FileDescriptor]:
    """`integer_btf` in the kernel."""
    data = system.Buffer(integer_btf())
    loaded = FileDescriptor(system.bpf(Cmd.BTF_LOAD, attr.btf_load(data.address, len(data.bytes()))), "BTF")
    yield loaded
    loaded.close()


@pytest.fixture
def make(btf: FileDescriptor) -> Iterator[Any]:
    """Make a map of a kind from NEEDS; all are closed at the end."""
    made: list[maps.Map] = []

    def create(kind: MapType, **more: Any) -> Any:
        if kind.name.lower() in FEATURES:
            require(kind.name.lower())
        key, value, entries, flags = NEEDS.get(kind, (4, 4, 4, 0))
        spec = MapSpec(kind.name.lower(), kind, key, value, entries, flags, **more)
        if kind in STORAGES:
            spec.key_type = spec.value_type = 1
        if kind in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
            spec.inner = INNER
        made.append(maps.create(spec, btf_fd=btf.fileno()))
        return made[-1]

    yield create
    for one in made:
        one.close()


def program(kind: ProgType, code: list[Instruction]) -> FileDescriptor:
    instructions, license = system.Buffer(insn.encode(code, sys.byteorder)), system.Buffer(b"GPL\0")
    load = attr.prog_load(kind, len(instructions.bytes()) // 8, instructions.address, license.address)
    return FileDescriptor(system.bpf(Cmd.PROG_LOAD, load), "program")


@pytest.mark.parametrize("kind", sorted(set(maps.CLASSES) - ELSEWHERE), ids=lambda kind: kind.name)
def test_each_kind_is_made_as_asked_and_has_its_class(kind: MapType, make: Any, bpftool: Any) -> None:
    made = make(kind)
    assert type(made) is maps.CLASSES[kind]
    info = made.info()
    needs = NEEDS.get(kind, (4, 4, 4, 0))
    quirk = MapFlags.RDONLY_PROG if kind in (MapType.DEVMAP, MapType.DEVMAP_HASH) else 0
    entries = min(needs[2], cpus.cpu_slots()) if kind == MapType.PERF_EVENT_ARRAY else needs[2]
    assert (info.type, info.name) == (kind, kind.name.lower()[:15])
    assert (info.key_size, info.value_size, info.max_entries, info.flags) == (*needs[:2], entries, needs[3] | quirk)
    shown = bpftool("map", "show", "id", str(info.id))
    assert (shown["bytes_key"], shown["bytes_value"], shown["max_entries"]) == info[3:6]


def test_every_type_has_a_row() -> None:
    assert set(maps.CLASSES) == set(MapType)


def test_a_queue_gives_the_first_and_a_stack_the_last(make: Any, bpftool: Any) -> None:
    for kind, order in (
        (MapType.QUEUE, [b"1111", b"2222", b"3333", b"4444"]),
        (MapType.STACK, [b"4444", b"3333", b"2222", b"1111"]),
    ):
        made = make(kind)
        for value in (b"1111", b"2222", b"3333", b"4444"):
            made.push(value)
        with pytest.raises(KernelError, match="E2BIG") as caught:
            made.push(b"5555")
        assert "replace=True" in caught.value.hint
        shown = bpftool("map", "peek", "id", str(made.info().id))
        assert bytes(int(octet, 16) for octet in shown["value"]) == made.peek() == order[0]
        assert made.pop() == order[0]
        assert list(made.drain()) == order[1:]
        for empty in (made.peek, made.pop):
            with pytest.raises(IndexError, match="empty"):
                empty()


def test_a_full_queue_may_drop_its_oldest(make: Any) -> None:
    made = make(MapType.QUEUE)
    for value in (b"1111", b"2222", b"3333", b"4444", b"5555"):
        made.push(value, replace=True)
    assert list(made.drain()) == [b"2222", b"3333", b"4444", b"5555"]


def test_a_bloom_filter_never_denies_what_was_added(make: Any) -> None:
    made = make(MapType.BLOOM_FILTER)
    made.push(b"1111")
    assert b"1111" in made
    assert not all(struct.pack("=I", i) in made for i in range(200))


@pytest.mark.parametrize(
    "kind",
    [MapType.RINGBUF, MapType.USER_RINGBUF, MapType.ARENA, MapType.QUEUE, MapType.BLOOM_FILTER],
    ids=lambda kind: kind.name,
)
def test_what_has_no_keys_says_what_it_has(kind: MapType, make: Any) -> None:
    made = make(kind)
    for use in (lambda: made[0], lambda: made.__setitem__(0, b"x"), lambda: list(made)):
        with pytest.raises(ObjectError, match=rf"{kind.name}\) has no element 0, nor others by key: it is "):
            use()


@pytest.mark.parametrize("kind", [MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS], ids=lambda kind: kind.name)
def test_maps_in_maps_are_assigned_and_opened(kind: MapType, make: Any, bpftool: Any) -> None:
    outer = make(kind)
    key = 2 if kind == MapType.ARRAY_OF_MAPS else struct.pack("=I", 2)
    with maps.create(INNER) as inner:
        outer[key] = inner
        inner[b"aaaa"] = b"1111"
        assert dict(outer.items()) == {key: inner.info().id} == dict(outer)
        (row,) = [row for row in bpftool("map", "dump", "id", str(outer.info().id)) if isinstance(row["value"], list)]
        assert bytes(int(octet, 16) for octet in row["value"]) == struct.pack("=I", inner.info().id)
    with outer.inner(key) as again:  # the outer map keeps it alive
        assert again[b"aaaa"] == b"1111"
    with maps.create(MapSpec("other", MapType.ARRAY, 4, 4, 1)) as other, pytest.raises(KernelError, match="EINVAL"):
        outer[key] = other
    outer.clear()
    assert len(outer) == 0
    with pytest.raises(KeyError):
        outer.inner(key)


def test_a_map_of_maps_needs_a_template() -> None:
    with pytest.raises(KernelError) as caught:
        maps.create(MapSpec("outer", MapType.ARRAY_OF_MAPS, max_entries=4))
    assert "template" in caught.value.hint


def test_programs_go_into_slots(make: Any) -> None:
    table, tail = make(MapType.PROG_ARRAY), program(ProgType.SOCKET_FILTER, EXIT)
    table[1] = tail
    table.update({3: tail.fileno()})
    assert list(table) == [1, 3]
    assert table[1] == table[3] > 0
    del table[1]
    with pytest.raises(KeyError):
        table[1]
    assert len(table) == 1
    with pytest.raises(ObjectError, match="a value is an integer"):
        table[1] = "tail"
    table.clear()
    tail.close()


def test_perf_events_go_in_and_cannot_be_read(make: Any) -> None:
    table = make(MapType.PERF_EVENT_ARRAY)
    event = FileDescriptor(system.perf_event_open(attr.perf_event(attr.PERF_TYPE_SOFTWARE, 10), -1, 0, 8), "event")
    table[0] = event
    for read in (lambda: table[0], lambda: list(table)):
        with pytest.raises(KernelError, match="ENOTSUPP") as caught:
            read()
        assert "do not have this operation" in caught.value.hint
    del table[0]
    event.close()


@pytest.fixture
def cgroup(tmp_path: Path) -> Iterator[int]:
    """A descriptor of the root of the cgroup hierarchy, version 2."""
    subprocess.run(["mount", "-t", "cgroup2", "none", str(tmp_path)], check=True)
    folder = os.open(tmp_path, os.O_RDONLY)
    yield folder
    os.close(folder)
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    "kind", [MapType.SK_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE], ids=lambda kind: kind.name
)
def test_storage_is_by_descriptor(kind: MapType, make: Any, cgroup: int) -> None:
    made = make(kind)
    with socket.socket() as one, closing(FileDescriptor(os.pidfd_open(os.getpid()), "pidfd")) as task:
        owner = {MapType.SK_STORAGE: one, MapType.TASK_STORAGE: task, MapType.CGRP_STORAGE: cgroup}[kind]
        with pytest.raises(KeyError):
            made[owner]
        made[owner] = b"mine"
        assert made[owner] == b"mine"
        assert made.pop(owner) == b"mine"
        assert owner not in made
        with pytest.raises(KernelError, match="walking the keys"):
            list(made)


def test_cgroups_go_into_slots(make: Any, cgroup: int) -> None:
    made = make(MapType.CGROUP_ARRAY)
    made[0] = cgroup
    del made[0]
    with pytest.raises(KeyError):
        del made[0]


@pytest.mark.parametrize("kind", [MapType.DEVMAP, MapType.DEVMAP_HASH, MapType.CPUMAP], ids=lambda kind: kind.name)
def test_devices_and_cpus_are_numbers_in_slots(kind: MapType, make: Any) -> None:
    made = make(kind)
    number = 192 if kind == MapType.CPUMAP else socket.if_nametoindex("lo")  # a queue's size, or an interface
    made[0] = number
    assert dict(made) == dict(made.items()) == {0: number}
    assert made.pop(0) == number
    assert len(made) == 0


def test_storage_without_types_says_that_it_needs_them() -> None:
    with pytest.raises(KernelError, match="EINVAL") as caught:
        maps.create(MapSpec("storage", MapType.SK_STORAGE, 4, 4, 0, MapFlags.NO_PREALLOC))
    assert "types in BTF" in caught.value.hint


def test_types_are_left_out_where_the_kernel_refuses_them(btf: FileDescriptor) -> None:
    """A value type of another size is no reason to fail; the map is made without."""
    with maps.create(MapSpec("typed", MapType.HASH, 4, 4, 1, key_type=1, value_type=1), btf_fd=btf.fileno()) as made:
        assert made.info()[-3:] == (made.info().btf_id, 1, 1)
        assert made.info().btf_id > 0
    with maps.create(MapSpec("typed", MapType.HASH, 4, 8, 1, key_type=1, value_type=1), btf_fd=btf.fileno()) as made:
        assert made.info()[-3:] == (0, 0, 0)
    for kind, size in ((MapType.PERF_EVENT_ARRAY, 4), (MapType.STACK_TRACE, 8)):
        with maps.create(MapSpec("t", kind, 4, size, 1, key_type=1, value_type=1), btf_fd=btf.fileno()) as made:
            assert made.info().btf_id == 0


@pytest.mark.parametrize("kind", [MapType.SOCKMAP, MapType.SOCKHASH], ids=lambda kind: kind.name)
def test_sockets_go_into_maps_and_come_out_as_cookies(kind: MapType, make: Any) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        made = make(kind)
        key = 1 if kind == MapType.SOCKMAP else b"aaaa"
        made[key] = listener
        assert list(made) == [key]
        assert made[key] == struct.unpack("=Q", listener.getsockopt(socket.SOL_SOCKET, 57, 8))[0]  # SO_COOKIE
        del made[key]
        assert len(made) == 0


def test_stacks_are_lists_of_addresses(make: Any, bpftool: Any) -> None:
    made = make(MapType.STACK_TRACE)
    get_stackid = [
        Instruction(0x18, 2, 1, 0, made.fileno()),
        Instruction(0, 0, 0, 0, 0),
        Instruction(0xB7, 3, 0, 0, 0),
        Instruction(0x85, 0, 0, 0, 27),
        Instruction(0x95, 0, 0, 0, 0),
    ]
    traced = program(ProgType.RAW_TRACEPOINT, get_stackid)
    answer = system.bpf_out(Cmd.PROG_TEST_RUN, attr.run_out(traced.fileno(), (0, 0), (0, 0), (0, 0), (0, 0), 0))
    number = struct.unpack_from("=I", answer, attr.TEST_RUN_RETVAL)[0]
    traced.close()
    assert list(made) == [number]
    assert 0 < len(made[number]) <= 10
    (row,) = bpftool("map", "dump", "id", str(made.info().id))
    whole = bytes(int(octet, 16) for octet in row["value"])
    assert [a for (a,) in struct.iter_unpack("=Q", whole) if a] == made[number]
    del made[number]
    assert len(made) == 0


def test_a_type_newer_than_the_list_is_still_a_map() -> None:
    with pytest.raises(KernelError, match=r"creating map 'new' \(type 9999, key 4"):
        maps.create(MapSpec("new", 9999, 4, 4, 4))


def test_sizes_are_put_right_before_the_kernel_is_asked() -> None:
    spec = MapSpec("perf", MapType.PERF_EVENT_ARRAY)
    with maps.create(spec) as made:
        assert isinstance(made, maps.ReferenceMap)
        assert (made.spec.key_size, made.spec.value_size, made.spec.max_entries) == (4, 4, cpus.cpu_slots())
        assert spec.max_entries == 0
    with maps.create(MapSpec("tested", MapType.PERF_EVENT_ARRAY, 4, 4, 4096)) as made:
        assert made.info().max_entries == cpus.cpu_slots()
    with maps.create(MapSpec("tested", MapType.RINGBUF, 0, 24, 5000)) as made:
        assert (made.info().max_entries, made.info().value_size) == (8192, 0)
    with pytest.raises(ObjectError, match="32 bits"):
        maps.create(MapSpec("tested", MapType.HASH, 4, 8, 1 << 32))
    with pytest.raises(ObjectError, match="64 bits"):
        maps.create(MapSpec("tested", MapType.HASH, 4, 8, 1, extra=-1))
    with pytest.raises(KernelError, match=r"creating map 'tested' \(HASH, key 4") as caught:
        maps.create(MapSpec("tested", MapType.HASH, 4, 8, 0))
    assert "max_entries is 0" in caught.value.hint


def test_an_id_that_nobody_has_is_refused() -> None:
    with pytest.raises(KernelError, match="ENOENT"):
        maps.open_id(2**31 - 1)
