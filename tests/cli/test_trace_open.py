"""`python -m purebpf trace-open` as its users run it."""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import purebpf
from purebpf.tools import trace_open
from purebpf.tracing.clock import Clock

COMMAND = [sys.executable, "-m", "purebpf", "trace-open"]
X86 = platform.machine() == "x86_64"
Row = dict[str, Any]
kernel = pytest.mark.kernel


def run(*options: str, code: str, arguments: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """trace-open of a Python program; `libc` and `os` are there."""
    program = f"import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True)\n{code}"
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run([*COMMAND, *options, "--", *command], capture_output=True, text=True, timeout=60)


def opens(folder: Path, *options: str, code: str) -> list[Row]:
    """What the program opened below the folder, which is its sys.argv[1]. Nothing else was said."""
    done = run("--json", *options, "--path", f"{folder}/*", code=code, arguments=(str(folder),))
    assert (done.stderr, done.returncode) == ("", 0)
    return [json.loads(line) for line in done.stdout.splitlines()]


@kernel
def test_a_thousand_opens_are_a_thousand_rows_in_their_order(tmp_path: Path) -> None:
    rows = opens(tmp_path, code="for i in range(1000): os.close(os.open(f'{sys.argv[1]}/{i}', os.O_CREAT))")
    assert [row["path"] for row in rows] == [f"{tmp_path}/{i}" for i in range(1000)]


@kernel
def test_a_row_says_who_opened_what_and_how(tmp_path: Path) -> None:
    before = time.monotonic_ns()
    code = "os.dup2(os.open(sys.argv[1] + '/made', os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640), 99)"
    (row,) = opens(tmp_path, code=code)
    assert tuple(row) == trace_open.TOOL.fields
    assert row["event"] == "open"
    assert before < row["start_ns"] < row["monotonic_ns"] < time.monotonic_ns()
    assert (row["uid"], row["gid"]) == (os.getuid(), os.getgid())
    assert row["tid"] == row["pid"]
    assert row["comm"].startswith("python")
    assert (row["dirfd"], row["mode"], row["errno"]) == (None, 0o640, None)
    assert row["flags"] == ["O_RDWR", "O_CREAT", "O_EXCL", "O_CLOEXEC"]
    assert row["retval"] > 2
    assert row["cgroup"].startswith("/")


@kernel
def test_a_relative_path_has_the_descriptor_that_it_is_relative_to(tmp_path: Path) -> None:
    code = "at = os.open(sys.argv[1], os.O_RDONLY); os.dup2(at, 77); os.open('gone-from-here', 0, dir_fd=77)"
    done = run(
        "--json", "--path", "gone-from-here", code=f"try: {code}\nexcept OSError: pass", arguments=(str(tmp_path),)
    )
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (row["dirfd"], row["path"], row["errno"], row["retval"]) == (77, "gone-from-here", "ENOENT", -2)
    assert (row["flags"], row["mode"]) == (["O_RDONLY", "O_CLOEXEC"], None)


# Numbers of x86-64; arm64 has no open and no creat. The path is a; O_WRONLY | O_CREAT is 65.
CALLS = {
    "openat": "libc.syscall(257 if X86 else 56, -100, a, 65, 0o600)",
    "openat2": "libc.syscall(437, -100, a, (ctypes.c_uint64 * 3)(65, 0o600, 0), 24)",
    **({"open": "libc.syscall(2, a, 65, 0o600)", "creat": "libc.syscall(85, a, 0o600)"} if X86 else {}),
}


@kernel
@pytest.mark.parametrize("name", CALLS)
def test_each_of_the_calls_is_seen(tmp_path: Path, name: str) -> None:
    code = f"X86 = {X86}; a = (sys.argv[1] + '/x').encode(); assert {CALLS[name]} > 0"
    (row,) = opens(tmp_path, code=code)
    assert (row["path"], row["mode"], row["dirfd"]) == (f"{tmp_path}/x", 0o600, None)
    assert row["flags"] == ["O_WRONLY", "O_CREAT", *(["O_TRUNC"] if name == "creat" else [])]


NARROW = r"""
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
static int call(int number, long a, long b, long c, long d)
{
	__asm__ volatile("int $0x80" : "+a"(number) : "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	return number;
}
int main(int argc, char **argv)
{
	char *path = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	unsigned long long *how = (void *)(path + 4096);
	strcpy(path, argv[1]);
	how[0] = O_RDWR;
	long failed = call(8, (long)path, 0640, 0, 0) < 0;
	failed |= call(5, (long)path, O_RDONLY, 0, 0) < 0;
	failed |= call(295, AT_FDCWD, (long)path, O_WRONLY | O_CREAT, 0600) < 0;
	return failed || call(437, AT_FDCWD, (long)path, (long)how, 24) < 0;
}
"""


if X86:  # whose calls they are

    @kernel
    def test_calls_of_32_bits_are_seen(tmp_path: Path) -> None:
        """creat, open, openat and openat2 by int 0x80 have other numbers and other registers."""
        program, path = str(tmp_path / "narrow"), str(tmp_path / "x")
        subprocess.run(["gcc", "-x", "c", "-o", program, "-"], input=NARROW, text=True, check=True)
        if subprocess.run([program, path]).returncode < 0:
            pytest.skip("the kernel runs no 32-bit programs (CONFIG_IA32_EMULATION)")
        done = subprocess.run(
            [*COMMAND, "--json", "--path", path, "--", program, path], capture_output=True, text=True, timeout=60
        )
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [(row["flags"], row["mode"], row["dirfd"]) for row in rows] == [
            (["O_WRONLY", "O_CREAT", "O_TRUNC"], 0o640, None),
            (["O_RDONLY"], None, None),
            (["O_WRONLY", "O_CREAT"], 0o600, None),
            (["O_RDWR"], None, None),
        ]


MIXED = """
for name, flags in (("r", os.O_RDONLY), ("gone/r", os.O_RDONLY), ("w", os.O_WRONLY), ("gone/w", os.O_WRONLY | os.O_CREAT)):
    try: os.open(f"{sys.argv[1]}/{name}", flags)
    except OSError: pass
"""


@kernel
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ["r", "gone/r", "w", "gone/w"]),
        (["--failed"], ["gone/r", "gone/w"]),
        (["-w"], ["w", "gone/w"]),
        (["--failed", "--writes"], ["gone/w"]),
        (["--path", "*/w"], ["r", "gone/r", "w", "gone/w"]),  # of several patterns any
        (["--comm", "somebody"], []),
    ],
)
def test_what_is_asked_for_is_shown(tmp_path: Path, options: list[str], names: list[str]) -> None:
    (tmp_path / "r").touch()
    (tmp_path / "w").touch()
    rows = opens(tmp_path, *options, code=MIXED)
    assert [row["path"] for row in rows] == [f"{tmp_path}/{name}" for name in names]
    assert [row["errno"] for row in rows] == ["ENOENT" if "gone" in name else None for name in names]


@kernel
def test_a_path_is_exact_and_never_controls_the_terminal(tmp_path: Path) -> None:
    code = r"os.open(os.fsencode(sys.argv[1]) + b'/a\x1b[31m\xff\n', os.O_CREAT)"
    (row,) = opens(tmp_path, code=code)
    assert base64.b64decode(row["path_b64"]) == os.fsencode(tmp_path) + b"/a\x1b[31m\xff\n"
    done = run("--path", f"{tmp_path}/*", code=code, arguments=(str(tmp_path),))
    line = done.stdout.splitlines()[1]
    assert line.endswith(rf" O_RDONLY|O_CREAT|O_CLOEXEC  $'{tmp_path}/a\x1b[31m\xff\n'")


@kernel
def test_what_was_not_in_memory_is_said() -> None:
    """A path at address 8; struct open_how likewise."""
    code = "libc.syscall(437, -100, b'/', ctypes.c_void_p(8), 24); libc.syscall(437, -100, ctypes.c_void_p(8), (ctypes.c_uint64 * 3)(), 24)"
    done = run("--json", "--failed", "--path", "/", "--path", "re:^$", code=code)
    how, path = (json.loads(line) for line in done.stdout.splitlines())
    assert (how["path"], how["flags"], how["mode"], how["errno"]) == ("/", None, None, "EFAULT")
    assert (path["path"], path["flags"], path["path_fault"], path["errno"]) == ("", ["O_RDONLY"], True, "EFAULT")
    assert "path_fault" not in how


@kernel
def test_an_empty_path_is_there_and_empty() -> None:
    done = run("--json", "--path", "re:^$", code="libc.open(b'', 0)")
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (row["path"], row["errno"]) == ("", "ENOENT")
    assert not {"path_fault", "path_truncated"} & set(row)


@kernel
def test_the_longest_path_is_whole_and_a_longer_one_is_said_to_be_cut(tmp_path: Path) -> None:
    code = "for n in (4095, 4096, 6000): libc.open(sys.argv[1].encode().ljust(n, b'/'), 0)"
    rows = opens(tmp_path, code=code)
    assert [len(row["path"]) for row in rows] == [4095, 4096, 4096]
    assert [row.get("path_truncated") for row in rows] == [None, True, True]
    assert [row["errno"] for row in rows] == [None, "ENAMETOOLONG", "ENAMETOOLONG"]


@kernel
def test_the_other_forms(tmp_path: Path) -> None:
    def lines(*options: str) -> list[str]:
        code = "os.dup2(os.open(sys.argv[1] + '/two words', os.O_CREAT, 0o600), 9)"
        return run(*options, "--path", f"{tmp_path}/*", code=code, arguments=(str(tmp_path),)).stdout.splitlines()

    header, line = lines()
    assert header.split() == ["TIME", "PID", "COMM", "UID", "FD/ERR", "FLAGS", "PATH"]
    assert line.endswith(f"  O_RDONLY|O_CREAT|O_CLOEXEC  '{tmp_path}/two words'")
    names, values = lines("--csv")
    assert names.split(",") == [*trace_open.TOOL.fields]
    assert f',{tmp_path}/two words,,"[""O_RDONLY"", ""O_CREAT"", ""O_CLOEXEC""]",384,' in values
    (formed,) = lines("--format", "{mode} {command}")
    assert formed.partition(": ")[2] == f"'{tmp_path}/two words'"
    assert lines("--tree-view")[-1].endswith(f": '{tmp_path}/two words'")


@kernel
def test_the_count_ends_it_and_the_filters_of_all_tracers_apply(tmp_path: Path) -> None:
    options = ["--json", "-n", "3", "--ppid", str(os.getpid()), "--path", f"{tmp_path}/*"]
    tracer = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while tracer.poll() is None:
        assert time.monotonic() < deadline
        os.close(os.open(tmp_path / "mine", os.O_CREAT))
        subprocess.run(["cat", tmp_path / "childs"], stderr=subprocess.DEVNULL)
    out, _ = tracer.communicate()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["path"] for row in rows] == [f"{tmp_path}/childs"] * 3
    assert tracer.returncode == 0


def test_a_schema_of_processes_is_not_offered() -> None:
    done = subprocess.run([*COMMAND, "--schema", "ecs"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--schema" in done.stderr


FLAGS = [name for name in dir(os) if name.startswith("O_") and getattr(os, name)]


@given(st.sets(st.sampled_from(FLAGS)))
def test_the_names_are_those_of_python_and_stand_for_all_bits(chosen: set[str]) -> None:
    bits = 0
    for name in chosen:
        bits |= getattr(os, name)
    names = trace_open.flag_names(bits)
    again = 0
    for name in names:
        again |= int(name, 16) if name.startswith("0x") else getattr(os, name)
    assert again == bits
    assert not any(name.startswith("0x") for name in names[1:])


@given(st.integers(0, 2**64 - 1))
def test_bits_without_a_name_are_one_number(bits: int) -> None:
    *names, last = trace_open.flag_names(bits | 1 << 40)
    assert int(last, 16) & ~bits == (1 << 40) & ~bits
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("size", [0, 95, 127])
def test_a_record_that_is_too_short_is_refused(size: int) -> None:
    decode = trace_open.Decoder(argparse.Namespace(), Clock())
    with pytest.raises(purebpf.ObjectError, match="no open event"):
        decode(bytes(size))
