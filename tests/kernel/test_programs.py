"""Programs in the kernel: described as bpftool describes them, run on given input, counted, pinned."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from features import present

import purebpf
from purebpf.formats.abi import ProgType
from purebpf.kernel.program import run_statistics

pytestmark = pytest.mark.kernel

SOURCE = """
__u64 runs, where;
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, int); __type(value, int); } seen SEC(".maps");

SEC("raw_tp/sys_enter") int sum(struct bpf_raw_tracepoint_args *ctx)
{
    int key = 1;
    __sync_fetch_and_add(&runs, 1);
    where = bpf_get_smp_processor_id();
    bpf_map_update_elem(&seen, &key, &key, BPF_ANY);
    return ctx->args[0] + ctx->args[1];
}

SEC("xdp") int invert_and_grow(struct xdp_md *ctx)
{
    unsigned char *data = (void *)(long)ctx->data;
    if (data + 14 > (unsigned char *)(long)ctx->data_end)
        return XDP_DROP;
    runs++;
    data[0] = ~data[0];
    return bpf_xdp_adjust_tail(ctx, 1000) ? XDP_ABORTED : XDP_TX;
}

SEC("socket") int length(struct __sk_buff *skb) { runs++; return skb->len; }
SEC("tp/task/task_rename") int nothing(void *ctx) { return 0; }

struct numbers { __u64 in, out; };
SEC("syscall") int twice(struct numbers *numbers)
{
    numbers->out = 2 * numbers->in;
    return 3;
}
"""
PACKET = bytes(range(64))
SYSCALL = pytest.param("twice", marks=pytest.mark.needs("syscall_program"))


@pytest.fixture
def obj(build: Callable[[str], purebpf.ObjectSpec]) -> Iterator[purebpf.Object]:
    spec = build(SOURCE)
    spec.programs["twice"].autoload = present("syscall_program")
    with purebpf.load(spec) as loaded:
        yield loaded


@pytest.mark.parametrize("name", ["sum", "invert_and_grow", "length", "nothing", SYSCALL])
def test_the_info_is_what_bpftool_shows(obj: purebpf.Object, name: str, bpftool: Any, tmp_path: Path) -> None:
    info = obj.programs[name].info()
    shown = bpftool("prog", "show", "id", str(info.id))
    types = {"sum": "raw_tracepoint", "length": "socket_filter", "nothing": "tracepoint", "twice": "syscall"}
    assert shown["type"] == types.get(name, "xdp")
    assert info.type == obj.programs[name].spec.type
    assert (info.name, info.tag, info.btf_id) == (shown["name"], shown["tag"], shown["btf_id"])
    assert (len(info.translated), len(info.jited)) == (shown["bytes_xlated"], shown["bytes_jited"])
    assert list(info.map_ids) == shown.get("map_ids", [])
    assert info.verified_instructions > 0 or not present("bloom_filter")  # both came with 5.16
    dump = ["bpftool", "prog", "dump", "xlated", "id", str(info.id), "file", str(tmp_path / "dump")]
    subprocess.run(dump, check=True)
    assert info.translated == (tmp_path / "dump").read_bytes()


def test_the_ids_of_its_maps_are_those_of_the_objects(obj: purebpf.Object) -> None:
    ids = {name: made.info().id for name, made in obj.maps.items()}
    assert set(obj.programs["sum"].info().map_ids) == {ids["seen"], ids[".bss"]}
    assert obj.programs["nothing"].info().map_ids == ()


def test_runs_are_counted_while_statistics_are_on(obj: purebpf.Object) -> None:
    program, comm = obj.programs["nothing"], Path("/proc/self/comm")
    name = comm.read_bytes().rstrip()
    with program.attach():
        with run_statistics():
            comm.write_bytes(name)
        counted = program.info()
        comm.write_bytes(name)
        assert program.info().run_count == counted.run_count >= 1
    assert counted.run_time_ns > 0
    assert counted.recursion_misses == 0


def test_a_raw_tracepoint_runs_on_its_arguments(obj: purebpf.Object) -> None:
    program = obj.programs["sum"]
    result = program.test_run(context=struct.pack("=QQ", 40, 2))
    assert (result.return_value, result.data) == (42, b"")
    assert obj.globals.runs == 1
    assert obj.maps["seen"][1] == 1
    for cpu in (0, 1):
        program.test_run(context=bytes(16), flags=1, cpu=cpu)  # BPF_F_TEST_RUN_ON_CPU
        assert obj.globals.where == cpu


def test_what_a_raw_tracepoint_cannot_do_is_refused_and_not_ignored(obj: purebpf.Object) -> None:
    program = obj.programs["sum"]
    runs: list[Callable[[], object]] = [
        lambda: program.test_run(context=bytes(16), repeat=2),
        lambda: program.test_run(PACKET, context=bytes(16)),
    ]
    for run in runs:
        with pytest.raises(purebpf.KernelError, match="running program 'sum': EINVAL"):
            run()


def test_a_packet_comes_back_as_the_program_left_it(obj: purebpf.Object) -> None:
    result = obj.programs["invert_and_grow"].test_run(PACKET)
    assert result.return_value == 3  # XDP_TX
    assert result.data == b"\xff" + PACKET[1:] + bytes(1000)
    result = obj.programs["length"].test_run(PACKET)
    assert result.return_value == len(PACKET) - 14  # it does not see the Ethernet header, which comes back as zeros
    assert result.data == bytes(14) + PACKET[14:]


def test_a_program_runs_as_often_as_it_is_told(obj: purebpf.Object) -> None:
    program = obj.programs["length"]
    obj.globals.runs = 0
    result = program.test_run(PACKET, repeat=500)
    assert (result.return_value, obj.globals.runs) == (len(PACKET) - 14, 500)
    assert result.duration_ns < 1_000_000  # of one run


@pytest.mark.needs("syscall_program")
def test_a_syscall_program_changes_its_context(obj: purebpf.Object) -> None:
    result = obj.programs["twice"].test_run(context=struct.pack("=QQ", 21, 0))
    assert result.return_value == 3
    assert struct.unpack("=QQ", result.context) == (21, 42)


def test_a_type_that_cannot_be_run_is_said(obj: purebpf.Object) -> None:
    with pytest.raises(purebpf.KernelError, match="running program 'nothing': ENOTSUPP") as caught:
        obj.programs["nothing"].test_run(PACKET)
    assert caught.value.errno == 524
    assert "at their hook only" in caught.value.hint


def test_a_packet_shorter_than_its_header_is_refused(obj: purebpf.Object) -> None:
    with pytest.raises(purebpf.KernelError, match="EINVAL"):
        obj.programs["length"].test_run(bytes(4))


def test_a_pin_keeps_the_program(obj: purebpf.Object, bpffs: Path, bpftool: Any) -> None:
    program = obj.programs["sum"]
    number = program.info().id
    program.pin(bpffs / "sum")
    obj.close()
    assert bpftool("prog", "show", "pinned", str(bpffs / "sum"))["id"] == number
    with pytest.raises(purebpf.KernelError, match="ENOENT"):
        program.unpin(bpffs / "sun")
    program.unpin(bpffs / "sum")
    assert not (bpffs / "sum").exists()
    with pytest.raises(purebpf.ObjectError, match="not on a BPF file system"):
        program.unpin("/etc/passwd")


def test_a_closed_program_says_so(obj: purebpf.Object) -> None:
    program = obj.programs["sum"]
    program.close()
    program.close()
    for use in (program.info, program.fileno, program.test_run, lambda: program.pin("/sys/fs/bpf/x")):
        with pytest.raises(purebpf.ClosedError, match="program 'sum' is closed"):
            use()


@pytest.mark.needs("syscall_program")
def test_types_by_name(obj: purebpf.Object) -> None:
    assert [p.info().type for p in obj.programs.values()] == [
        ProgType.RAW_TRACEPOINT,
        ProgType.XDP,
        ProgType.SOCKET_FILTER,
        ProgType.TRACEPOINT,
        ProgType.SYSCALL,
    ]
