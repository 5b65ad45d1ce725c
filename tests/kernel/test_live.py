"""The library on the running kernel: what is created is what was asked for, and closing leaves nothing."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import purebpf
from purebpf.formats import insn
from purebpf.formats.abi import MapType, ProgType
from purebpf.formats.insn import Instruction
from purebpf.formats.spec import ProgramSpec

pytestmark = pytest.mark.kernel

RETURN_0 = [Instruction(0xB7, 0, 0, 0, 0), Instruction(0x95, 0, 0, 0, 0)]
TARGET = "syscalls/sys_enter_execve"


def spec() -> purebpf.ObjectSpec:
    return purebpf.parse(purebpf.prebuilt("execve").read_bytes())


def of_code(code: list[Instruction], **changes: Any) -> purebpf.ObjectSpec:
    values: dict[str, Any] = {"type": ProgType.TRACEPOINT, "attach_to": TARGET, **changes}
    program = ProgramSpec("probe", "tp/x/y", insn.encode(code, sys.byteorder), **values)
    return purebpf.ObjectSpec({}, {"probe": program}, "GPL", sys.byteorder)


def filename(record: bytes | memoryview) -> bytes:
    size = struct.unpack_from("=Ii", record)[1]
    return bytes(record[8 : 8 + size - 1])


def run(path: Path) -> int:
    """Execute `path` and give its pid."""
    process = subprocess.Popen([str(path)])
    assert process.wait(10) == 0
    return process.pid


def program_named(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.symlink_to("/bin/true")
    return path


def take(ring: Any, wanted: set[bytes], seconds: float = 10) -> list[bytes]:
    """Names from the ring until all of `wanted` have come."""
    names: list[bytes] = []
    deadline = time.monotonic() + seconds
    while not wanted <= set(names) and ring.wait(max(0.0, deadline - time.monotonic())):
        names += map(filename, ring.consume())
    return names


def test_an_exec_is_seen_with_its_pid_and_name(tmp_path: Path) -> None:
    path = program_named(tmp_path / "unique-name")
    with purebpf.load(spec()) as obj:
        obj.attach()
        pid = run(path)
        for record in obj.ring("events"):
            if filename(record) == os.fsencode(path):
                assert struct.unpack_from("=I", record)[0] == pid
                break


@pytest.mark.parametrize("length", [246, 247, 248, 249, 1000, 4095])
def test_a_name_of_any_length_is_whole(tmp_path: Path, length: int) -> None:
    """247 bytes and the NUL fill the small record exactly."""
    stem = str(program_named(tmp_path / "x"))
    name = os.path.dirname(stem) + "/" * (length - len(stem) + 1) + "x"
    assert len(name) == length
    with purebpf.load(spec()) as obj:
        obj.attach()
        ring = obj.ring("events")
        run(Path(name)) if length < 200 else subprocess.run([name], check=True)
        assert os.fsencode(name) in take(ring, {os.fsencode(name)})


@pytest.mark.needs("perf_link")
def test_the_maps_and_the_program_are_what_bpftool_prints(bpftool: Any) -> None:
    with purebpf.load(spec()) as obj:
        (link,) = obj.attach()
        made = {m["name"]: m for m in bpftool("map", "show") if os.getpid() in [p["pid"] for p in m.get("pids", [])]}
        programs = [p for p in bpftool("prog", "show") if os.getpid() in [q["pid"] for q in p.get("pids", [])]]
        if not made:  # bpftool built without the means to tell whose they are
            made = {m["name"]: m for m in bpftool("map", "show") if m["name"] in obj.maps}
            programs = [p for p in bpftool("prog", "show") if p["name"] == "trace_execve"]
        events, lost = made["events"], made["lost"]
        assert (events["type"], events["max_entries"]) == ("ringbuf", 1 << 20)
        assert (lost["type"], lost["bytes_key"], lost["bytes_value"]) == ("percpu_array", 4, 8)
        (program,) = programs
        assert (program["type"], program["name"]) == ("tracepoint", "trace_execve")
        assert sorted(program["map_ids"]) == sorted([events["id"], lost["id"]])
        assert any(found["prog_id"] == program["id"] for found in bpftool("link", "show"))
        link.close()
        assert not any(found["prog_id"] == program["id"] for found in bpftool("link", "show"))
    gone = {("prog", program["id"]), ("map", events["id"]), ("map", lost["id"])}
    deadline = time.monotonic() + 10  # the kernel frees them after an RCU grace period
    while left := {(kind, row["id"]) for kind in ("prog", "map") for row in bpftool(kind, "show")} & gone:
        assert time.monotonic() < deadline, f"left in the kernel: {left}"
        time.sleep(0.05)


def test_lost_events_are_counted_when_the_ring_is_full(tmp_path: Path) -> None:
    small = spec()
    small.maps["events"].max_entries = 4096
    path = program_named(tmp_path / "crowd")
    with purebpf.load(small) as obj:
        obj.attach()
        for _ in range(40):
            run(path)
        lost = sum(obj.maps["lost"][0])
        seen = sum(filename(r) == os.fsencode(path) for r in obj.ring("events").consume())
    assert lost > 0
    assert 0 < seen <= 15  # 4096 bytes, 264 a record
    assert seen + lost >= 40


def test_a_ring_that_was_emptied_takes_records_again(tmp_path: Path) -> None:
    """More bytes than the ring holds, several times round: nothing lost, everything in order."""
    small = spec()
    small.maps["events"].max_entries = 4096
    paths = [program_named(tmp_path / f"n{i}") for i in range(60)]
    with purebpf.load(small) as obj:
        obj.attach()
        ring, seen = obj.ring("events"), []
        for path in paths:
            run(path)
            seen += [filename(r) for r in ring.consume()]
    ours = [name for name in seen if name.startswith(os.fsencode(tmp_path))]
    assert ours == [os.fsencode(p) for p in paths]


def test_what_a_break_leaves_behind_comes_next(tmp_path: Path) -> None:
    paths = [program_named(tmp_path / f"n{i}") for i in range(3)]
    with purebpf.load(spec()) as obj:
        obj.attach()
        ring = obj.ring("events")
        for path in paths:
            run(path)
        names = []
        while len(names) < 3:
            for record in ring:
                if filename(record).startswith(os.fsencode(tmp_path)):
                    names.append(filename(record))
                    break
    assert names == [os.fsencode(p) for p in paths]


def test_wait_ends_at_the_first_record_or_the_timeout(tmp_path: Path) -> None:
    path = program_named(tmp_path / "late")
    quiet = of_code(RETURN_0)
    quiet.maps["events"] = purebpf.MapSpec("events", MapType.RINGBUF, max_entries=4096)
    with purebpf.load(quiet) as obj:
        begin = time.monotonic()
        assert not obj.ring("events").wait(0.05)
        assert time.monotonic() - begin >= 0.05
    with purebpf.load(spec()) as obj:
        obj.attach()
        ring = obj.ring("events")
        ring.consume()
        thread = threading.Timer(0.2, run, [path])
        thread.start()
        assert os.fsencode(path) in take(ring, {os.fsencode(path)})
        thread.join()


def test_closing_twice_is_harmless_and_use_after_close_is_our_error() -> None:
    with purebpf.load(spec()) as obj:
        (link,) = obj.attach()
        ring, events, program = obj.ring("events"), obj.maps["events"], obj.programs["trace_execve"]
        for resource in (link, ring, link, ring):
            resource.close()
        with pytest.raises(purebpf.ClosedError, match="events"):
            ring.consume()
    obj.close()
    uses = (ring.wait, ring.fileno, link.fileno, events.fileno, program.attach, obj.attach, lambda: obj.ring("events"))
    for use in uses:
        with pytest.raises(purebpf.ClosedError):
            use()


def test_a_ring_size_is_rounded_up_to_what_the_kernel_takes() -> None:
    odd = spec()
    odd.maps["events"].max_entries = 5000
    with purebpf.load(odd) as obj:
        assert obj.maps["events"].spec.max_entries == 8192
        assert odd.maps["events"].max_entries == 5000


def test_a_rejected_program_says_why_and_leaves_nothing() -> None:
    read_nowhere = [Instruction(0x79, 0, 1, 16000, 0), Instruction(0x95, 0, 0, 0, 0)]  # r0 = *(u64 *)(r1 + 16000)
    uninitialised = [Instruction(0xBF, 0, 3, 0, 0), Instruction(0x95, 0, 0, 0, 0)]  # r0 = r3
    for code, telling in ((uninitialised, "R3 !read_ok"), (read_nowhere, "invalid bpf_context access")):
        with pytest.raises(purebpf.VerifierError) as caught:
            purebpf.load(of_code(code))
        assert telling in str(caught.value)
        assert "probe" in str(caught.value)
        assert "processed" in caught.value.log
        assert "processed" not in str(caught.value)


def test_a_tracepoint_that_is_not_there_is_named() -> None:
    missing = pytest.raises(purebpf.NotSupported, match="no tracepoint sched/no_such_event")
    with purebpf.load(of_code(RETURN_0, attach_to="sched/no_such_event")) as obj, missing:
        obj.attach()
    with purebpf.load(of_code(RETURN_0, attach_to="../../etc/x")) as obj, pytest.raises(purebpf.ObjectError):
        obj.attach()


def test_a_program_of_no_known_section_is_refused_at_load() -> None:
    with pytest.raises(purebpf.ObjectError, match="'tp/x/y'"):
        purebpf.load(of_code(RETURN_0, type=None))


def test_the_other_byte_order_is_refused() -> None:
    other = spec()
    other.byte_order = "big" if sys.byteorder == "little" else "little"
    with pytest.raises(purebpf.ObjectError, match="endian"):
        purebpf.load(other)


def test_missing_maps_and_files_are_named(tmp_path: Path) -> None:
    with purebpf.load(spec()) as obj:
        with pytest.raises(purebpf.ObjectError, match="has events, lost"):
            obj.ring("evnets")
        with pytest.raises(purebpf.ObjectError, match="no ring buffer"):
            obj.ring("lost")
        with pytest.raises(purebpf.ObjectError, match="4 bytes, not 1"):
            obj.maps["lost"].lookup(b"x")
    with pytest.raises(purebpf.ObjectError, match="No such file"):
        purebpf.load(tmp_path / "gone.o")


def test_the_programs_view_of_the_tracepoint_is_the_kernels() -> None:
    """struct execve_args in bpf/execve.bpf.c has the file name's address at offset 16."""
    from purebpf.kernel import tracefs

    with tracefs.root() as (folder, _path):
        number = os.open(f"events/{TARGET}/format", os.O_RDONLY, dir_fd=folder)
        with open(number) as file:
            assert "filename;\toffset:16;\tsize:8;" in file.read()


def test_the_readme_sample_runs(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    sample = readme.split("```python\n")[1].split("```")[0]
    assert len(sample.splitlines()) <= 14
    path = program_named(tmp_path / "from-the-readme")
    process = subprocess.Popen([sys.executable, "-u", "-c", sample], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        deadline = time.monotonic() + 20
        stop = threading.Event()

        def execute() -> None:
            while not stop.wait(0.05) and time.monotonic() < deadline:
                run(path)

        thread = threading.Thread(target=execute)
        thread.start()
        line = next(line for line in process.stdout if os.fsencode(path) in line)
        assert line.split()[0].isdigit()
        stop.set()
        thread.join()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
