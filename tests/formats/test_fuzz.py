"""A short run of tests/fuzz/fuzz.py, whose long form is `make fuzz`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import purebpf

FUZZ = Path(__file__).parents[1] / "fuzz" / "fuzz.py"


def test_only_our_errors_come_out_of_mutated_objects(tmp_path: Path) -> None:
    clang = shutil.which("clang")
    if clang is None:
        pytest.skip("clang is not installed")
    import os

    objects = [str(purebpf.prebuilt("execve"))]
    for name in ("core_kinds", "data_sections", "map_of_maps", "kconfig"):
        source = FUZZ.parents[1] / "corpus" / f"{name}.bpf.c"
        objects.append(str(tmp_path / f"{name}.o"))
        include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
        subprocess.run(
            [clang, "-O2", "-g", "-target", "bpf", include, "-c", str(source), "-o", objects[-1]], check=True
        )
    result = subprocess.run([sys.executable, str(FUZZ), *objects, "--count", "500"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
