"""How the distributions are built: as `make wheel` and `make pyz` do, without the network."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Version = tuple[int, int]


@functools.cache
def pythons(old: bool = False) -> dict[Version, str]:
    """The interpreters of this machine that purebpf runs on, or the older ones: version → path."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [*os.environ["PATH"].split(":"), *map(str, pyenv.glob("versions/*/bin"))]
    found = {}
    for path in (file for folder in folders for file in Path(folder).glob("python[23].*[0-9]")):
        version = _version(path)
        if version and (version < (3, 9)) == old:
            found[version] = str(path)
    return found


def _version(python: Path) -> Version | None:
    """What it says of itself; nothing if it does not start, as a shim of pyenv may not."""
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True)
    if done.returncode:
        return None
    major, minor = done.stdout.split(".")
    return int(major), int(minor)


def build(source: Path, into: Path, *options: str) -> Path:
    """Build a distribution of a source tree; its file."""
    pytest.importorskip("build", reason="needs build, which makes distributions")
    before = set(into.glob("*"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", into, *options, source]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = set(into.glob("*")) - before
    return made


def make_pyz(wheels: Path, output: Path, python: str = sys.executable) -> Path:
    """As `make pyz` does from a folder of wheels."""
    subprocess.run([python, ROOT / ".ci/pyz.py", *sorted(wheels.glob("*.whl")), output], check=True)
    return output
