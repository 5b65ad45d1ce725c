"""Keys and values typed through BTF: what goes in by type is what bpftool prints by the same types."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from purebpf.errors import ObjectError
from purebpf.formats import attr
from purebpf.formats.abi import Cmd, MapType
from purebpf.formats.btf import Btf
from purebpf.formats.kinds import Kind
from purebpf.formats.spec import MapSpec
from purebpf.kernel import maps, sys, vmlinux
from purebpf.kernel.fd import FileDescriptor

pytestmark = pytest.mark.kernel

SOURCE = """
typedef unsigned int id_t;
struct seen { unsigned long long hits; int delta; char comm[16]; };
struct where { id_t cpu; id_t node; };
int keep(struct seen *seen, struct where *where, id_t id, unsigned long long count) { return 0; }
"""
SEEN = {"hits": 1 << 40, "delta": -5, "comm": b"bash"}
SEEN_BYTES = struct.pack("=Qi16sxxxx", 1 << 40, -5, b"bash")
CPUS = maps.possible_cpus()


@pytest.fixture(scope="module")
def btf(tmp_path_factory: Any) -> Btf:
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    folder: Path = tmp_path_factory.mktemp("types")
    (folder / "types.c").write_text(SOURCE)
    command = ["clang", "-target", "bpf", "-g", "-O2", "-c", "types.c", "-o", "types.o"]
    subprocess.run(command, cwd=folder, check=True)
    return vmlinux.read(folder / "types.o")


@pytest.fixture
def make(btf: Btf) -> Iterator[Any]:
    """Make a map of a kind with key and value of the types of these names; closed at the end."""
    memory = sys.Buffer(btf.data)
    uploaded = FileDescriptor(sys.bpf(Cmd.BTF_LOAD, attr.btf_load(memory.address, len(btf.data))), "BTF")
    made: list[maps.Map] = []

    def create(kind: MapType, key: str, value: str, **more: Any) -> Any:
        every = frozenset({Kind.STRUCT, Kind.TYPEDEF, Kind.INT})
        ids = [btf.find(name, every)[0].id if name else 0 for name in (key, value)]
        sizes = [btf.size(i) if i else 0 for i in ids]
        spec = MapSpec("typed", kind, *sizes, 4, key_type=ids[0], value_type=ids[1], btf=btf, **more)
        made.append(maps.create(spec, btf_fd=uploaded.fileno()))
        return made[-1]

    yield create
    for one in (*made, uploaded):
        one.close()


def formatted(bpftool: Any, made: Any) -> list[dict[str, Any]]:
    return [row["formatted"] for row in bpftool("map", "dump", "id", str(made.info().id))]


def test_integers_and_structs_are_python_values(make: Any, bpftool: Any) -> None:
    made = make(MapType.HASH, "id_t", "seen")
    made[7] = SEEN
    assert made.lookup(struct.pack("=I", 7)) == SEEN_BYTES
    assert list(made) == [7]
    (shown,) = formatted(bpftool, made)
    assert (shown["key"], shown["value"]["hits"], shown["value"]["delta"]) == (7, 1 << 40, -5)
    made[8] = made[7]
    made.update({9: made.pop(8)})
    assert made.lookup(struct.pack("=I", 9)) == SEEN_BYTES
    assert sorted(made.keys()) == [7, 9]
    assert 8 not in made
    with pytest.raises(KeyError, match="8"):
        made[8]


def test_keys_may_be_structs_and_everything_may_be_bytes(make: Any, bpftool: Any) -> None:
    made = make(MapType.LRU_HASH, "where", "unsigned long long")
    made[{"cpu": 1, "node": 2}] = 5
    assert formatted(bpftool, made) == [{"key": {"cpu": 1, "node": 2}, "value": 5}]
    raw = struct.pack("=II", 1, 2)
    assert made[raw] == 5
    assert {key.cpu: value for key, value in dict(made).items()} == {1: 5}
    made[raw] = struct.pack("=Q", 6)
    ((key, value),) = made.drain()
    assert value == 6
    made[key] = 7
    assert made[raw] == 7


def test_arrays_and_queues_have_typed_values(make: Any, bpftool: Any) -> None:
    array = make(MapType.ARRAY, "id_t", "seen")
    array[1] = SEEN
    assert array.lookup(struct.pack("=I", 1)) == SEEN_BYTES
    assert formatted(bpftool, array)[1]["value"]["delta"] == -5
    queue = make(MapType.QUEUE, "", "unsigned long long")
    queue.push(1 << 50)
    assert (queue.peek(), queue.pop()) == (1 << 50, 1 << 50)


@pytest.mark.parametrize("kind", [MapType.PERCPU_HASH, MapType.PERCPU_ARRAY], ids=lambda kind: kind.name)
def test_per_cpu_values_are_lists_of_typed_values(kind: MapType, make: Any, bpftool: Any) -> None:
    made = make(kind, "id_t", "id_t")
    made[2] = list(range(10, 10 + CPUS))
    assert made[2] == list(range(10, 10 + CPUS))
    row = next(row for row in formatted(bpftool, made) if row["key"] == 2)
    assert [part["value"] for part in row["values"]] == made[2]


def test_values_that_the_type_cannot_hold_are_refused_with_the_maps_name(make: Any) -> None:
    made = make(MapType.HASH, "id_t", "seen")
    for use in (lambda: made["x"], lambda: made[-1], lambda: made.put(1, {"hits": "many"}), lambda: made.put(1, 5)):
        with pytest.raises(ObjectError, match="map 'typed': a "):
            use()
    assert len(made) == 0


def test_a_map_opened_by_its_id_has_the_types_that_the_kernel_knows(make: Any) -> None:
    made = make(MapType.HASH, "id_t", "seen")
    made[7] = SEEN
    with maps.open_id(made.info().id) as again:
        assert list(again) == [7]
        again[8] = again[7]
    assert made.lookup(struct.pack("=I", 8)) == SEEN_BYTES


def test_inner_maps_are_typed_as_their_template(make: Any) -> None:
    inner = make(MapType.HASH, "id_t", "unsigned long long")
    outer = make(MapType.HASH_OF_MAPS, "id_t", "id_t", inner=inner.spec)
    outer[3] = inner
    inner[1] = 10
    assert dict(outer.items()) == {3: inner.info().id}
    with outer.inner(3) as again:
        assert dict(again.items()) == {1: 10}
