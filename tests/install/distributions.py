"""How the distributions are built: as `make wheel` and `make pyz` do, without the network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(source: Path, into: Path, *options: str) -> Path:
    """Build a distribution of a source tree; its file."""
    pytest.importorskip("build", reason="needs build, which makes distributions")
    before = set(into.glob("*"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", into, *options, source]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = set(into.glob("*")) - before
    return made


def make_pyz(wheels: Path, output: Path) -> Path:
    """As `make pyz` does from a folder of wheels."""
    subprocess.run([sys.executable, ROOT / ".ci/pyz.py", *sorted(wheels.glob("*.whl")), output], check=True)
    return output
