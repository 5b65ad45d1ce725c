"""What is given to users, built once: the wheel, the source distribution and the one-file archive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from distributions import ROOT, build, make_pyz


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with purebpf's wheel and that of pyelftools, which is all that an installation needs."""
    folder = tmp_path_factory.mktemp("wheels")
    build(ROOT, folder, "--wheel")
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", ROOT / ".ci/pyz.txt"]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, "--dest", folder], check=True)
    return folder


@pytest.fixture(scope="session")
def wheel(wheels: Path) -> Path:
    (purebpf,) = wheels.glob("purebpf-*.whl")
    return purebpf


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "--sdist")


@pytest.fixture(scope="session")
def pyz(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pyz(wheels, tmp_path_factory.mktemp("pyz") / "purebpf.pyz")


@pytest.fixture
def clean() -> dict[str, str]:
    """An environment in which nothing points to the checkout."""
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
