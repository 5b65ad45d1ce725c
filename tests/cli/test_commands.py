"""inspect, run and probe, as a user calls them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import purebpf

OBJECT = str(purebpf.prebuilt("execve"))
SOURCE = r"""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct { int tgid; int no_such_member; } __attribute__((preserve_access_index));
struct event { __u32 pid; char comm[16]; };
const volatile __u32 only_pid = 0;
const volatile char tag[8] = "none";
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
struct event *unused __attribute__((unused));

SEC("tp/syscalls/sys_enter_execve")
int on_exec(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 pid = BPF_CORE_READ(task, tgid);
	struct event *event;

	if (only_pid && pid != only_pid)
		return 0;
	if (bpf_core_field_exists(task->no_such_member))
		pid = BPF_CORE_READ(task, no_such_member);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	event->pid = tag[0] == 'x' ? 0 : pid;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("tp/syscalls/no_such_call")
int broken(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""


def purebpf_command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "purebpf", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> str:
    clang = shutil.which("clang")
    if clang is None:
        pytest.skip("clang is not installed")
    folder = tmp_path_factory.mktemp("object")
    (folder / "sample.bpf.c").write_text(SOURCE)
    include = f"/usr/include/{os.uname().machine}-linux-gnu"
    output = folder / "sample.bpf.o"
    command = [
        clang,
        "-O2",
        "-g",
        "-target",
        "bpf",
        f"-I{include}",
        "-c",
        str(folder / "sample.bpf.c"),
        "-o",
        str(output),
    ]
    subprocess.run(command, check=True)
    return str(output)


def test_inspect_shows_maps_programs_and_code_without_root() -> None:
    result = purebpf_command("inspect", OBJECT, "--code")
    assert result.returncode == 0, result.stderr
    for words in ("RINGBUF", "tracepoint/syscalls/sys_enter_execve", "call bpf_ringbuf_reserve#131", "= map events"):
        assert words in result.stdout
    assert "Dual MIT/GPL" in result.stdout


def test_inspect_says_what_each_relocation_would_become(compiled: str) -> None:
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("this kernel has no BTF")
    report = json.loads(purebpf_command("inspect", compiled, "--json", "--btf", "kernel").stdout)
    rows = {(row["kind"], row["what"]): row for row in report["relocations"]}
    assert rows["FIELD_BYTE_OFFSET", "struct task_struct.tgid"]["there"] > 0
    missing = rows["FIELD_BYTE_OFFSET", "struct task_struct.no_such_member"]
    assert missing["there"] is None
    assert "no struct task_struct.no_such_member" in missing["reason"]
    assert rows["FIELD_EXISTS", "struct task_struct.no_such_member"]["there"] == 0
    assert {v["name"]: v["value"] for v in report["variables"]}["tag"] == "none"


def test_inspect_against_a_file_of_btf_without_that_type(compiled: str) -> None:
    report = json.loads(purebpf_command("inspect", compiled, "--json", "--btf", OBJECT).stdout)
    assert all("no struct task_struct" in row["reason"] for row in report["relocations"])


def test_inspect_prints_types_as_c(compiled: str) -> None:
    assert (
        "struct event {\n\t__u32 pid;\n\tchar comm[16];\n};" in purebpf_command("inspect", compiled, "--types").stdout
    )


def test_inspect_of_no_object_is_status_7(tmp_path: Path) -> None:
    (tmp_path / "x.o").write_bytes(b"\x7fELF nonsense")
    for name in ("x.o", "gone.o"):
        result = purebpf_command("inspect", str(tmp_path / name))
        assert (result.returncode, result.stdout) == (7, ""), result.stderr
        assert "Traceback" not in result.stderr


def wait_for(process: subprocess.Popen[str], seconds: float = 20) -> list[str]:
    """What a command prints while something is executed all the time."""
    stop = threading.Event()

    def execute() -> None:
        deadline = time.monotonic() + seconds
        while not stop.wait(0.05) and time.monotonic() < deadline:
            subprocess.run(["/bin/true"])

    thread = threading.Thread(target=execute)
    thread.start()
    try:
        output, errors = process.communicate(timeout=seconds)
    finally:
        stop.set()
        thread.join()
    return [*output.splitlines(), *errors.splitlines()]


def run_object(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "purebpf", "run", *arguments]
    return wait_for(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))


@pytest.mark.kernel
def test_run_decodes_records_by_the_objects_types(compiled: str) -> None:
    lines = run_object(compiled, "--json", "-n", "2", "--keep-going")
    records = [json.loads(line) for line in lines[:2]]
    assert all(r["map"] == "events" and r["value"]["pid"] > 0 and r["value"]["comm"] for r in records)
    assert any("without broken" in line and "no tracepoint syscalls/no_such_call" in line for line in lines[2:])


@pytest.mark.kernel
def test_run_sets_variables_first(compiled: str) -> None:
    lines = run_object(compiled, "-n", "1", "--set", "tag=x", "-k")
    assert lines[0].startswith("events: event(pid=0, comm=b'")
    lines = run_object(compiled, "--duration", "0.5", "--set", "only_pid=0xffffffff", "-k")
    assert not any(line.startswith("events:") for line in lines)


@pytest.mark.kernel
def test_run_names_what_cannot_be_set_or_attached(compiled: str) -> None:
    for arguments, words in (
        (("--set", "only_pif=1"), "close to it: only_pid"),
        (("--set", "tag=much too long"), "8 bytes"),
        (("--set", "only_pid=-1"), "0 to 4294967295"),
        (("--type", "evnt"), "no struct 'evnt'"),
        ((), "no tracepoint syscalls/no_such_call"),
    ):
        result = purebpf_command("run", compiled, *arguments)
        assert words in result.stderr, result.stderr
        assert result.returncode in (4, 7)
        assert "Traceback" not in result.stderr


@pytest.mark.kernel
def test_probe_prints_answers_and_json() -> None:
    text = purebpf_command("probe")
    assert text.returncode == 0, text.stderr
    assert "ringbuf" in text.stdout
    report = json.loads(purebpf_command("probe", "--json", "--helpers").stdout)
    assert report["map_types"]["RINGBUF"] is True
    assert report["prog_types"]["TRACEPOINT"] is True
    assert "bpf_ringbuf_reserve" in report["helpers"]["TRACEPOINT"]


def test_of_two_signals_at_once_one_ends_it_without_a_traceback() -> None:
    code = """
import os, signal
from purebpf import cli
from purebpf.tools import ring
def run(options):
    both = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    for number in both:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
ring.run = run
cli.main(["ring"])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode in (-signal.SIGINT, -signal.SIGTERM)
    assert result.stderr == ""
