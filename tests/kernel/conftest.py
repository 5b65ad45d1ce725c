"""For tests on the running kernel: C compiled on the spot, and a BPF file system to pin on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import purebpf

PRELUDE = """
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def build(tmp_path: Path) -> Callable[[str], purebpf.ObjectSpec]:
    """Compile a BPF program in C, behind PRELUDE, and read it."""
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")

    def compiled(source: str) -> purebpf.ObjectSpec:
        written, made = tmp_path / "built.bpf.c", tmp_path / "built.bpf.o"
        written.write_text(PRELUDE + source)
        headers = f"-I/usr/include/{os.uname().machine}-linux-gnu"
        subprocess.run(["clang", "-O2", "-g", "-target", "bpf", headers, "-c", written, "-o", made], check=True)
        return purebpf.parse(made.read_bytes(), "built")

    return compiled


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
