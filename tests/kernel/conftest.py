"""For tests on the running kernel: C compiled on the spot, and a BPF file system to pin on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ring_sender import SOURCE, Sender

import purebpf

# What bpf_tracing.h calls them.
MACHINES = {"x86_64": "x86", "aarch64": "arm64", "riscv64": "riscv", "s390x": "s390", "ppc64le": "powerpc"}
PRELUDE = """
#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The object file of a BPF program in C, which is put behind PRELUDE."""
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    machine, made = os.uname().machine, dict[str, Path]()
    options = (
        "-O2",
        "-g",
        "-target",
        "bpf",
        f"-I/usr/include/{machine}-linux-gnu",
        f"-D__TARGET_ARCH_{MACHINES[machine]}",
    )

    def compile_once(source: str) -> Path:
        if source not in made:
            written = tmp_path_factory.mktemp("build") / "built.bpf.c"
            written.write_text(PRELUDE + source)
            subprocess.run(["clang", *options, "-c", written, "-o", written.with_suffix(".o")], check=True)
            made[source] = written.with_suffix(".o")
        return made[source]

    return compile_once


@pytest.fixture(scope="session")
def build(compiled: Callable[[str], Path]) -> Callable[[str], purebpf.ObjectSpec]:
    """Compile a program and read it; the spec is the caller's to edit."""
    return lambda source: purebpf.parse(compiled(source).read_bytes(), "built")


@pytest.fixture
def load_one(build: Callable[[str], purebpf.ObjectSpec]) -> Iterator[Callable[[str, str], purebpf.Object]]:
    """Load an object from C with one of its programs, which count hits of this process: the one that is `me`."""
    with ExitStack() as loaded:

        def load(name: str, source: str) -> purebpf.Object:
            spec = build(source)
            for program in spec.programs.values():
                program.autoload = program.name == name
            spec.variables["me"].value = os.getpid()
            return loaded.enter_context(purebpf.load(spec))

        yield load


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A BPF file system of our own."""
    where = tmp_path / "bpffs"
    where.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


@pytest.fixture
def sender(build: Callable[[str], purebpf.ObjectSpec]) -> Iterator[Sender]:
    with purebpf.load(build(SOURCE)) as obj:
        yield Sender(obj)
