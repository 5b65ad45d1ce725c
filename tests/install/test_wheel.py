"""The package as pip gives it to users: complete, and the same from the source distribution."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest
from distributions import ROOT, build

import purebpf


@pytest.fixture(scope="module")
def installed(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an empty environment into which pip has installed the wheel."""
    where = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", where], check=True)
    command = [where / "bin/pip", "install", "--quiet", "--no-index", "--find-links", wheels, "purebpf"]
    subprocess.run(command, check=True)
    return where / "bin"


@pytest.mark.kernel
def test_what_pip_installs_traces(installed: Path, clean: dict[str, str]) -> None:
    command = [installed / "purebpf", "trace-exec", "--format", "{filename}", "--", "/bin/true"]
    done = subprocess.run(command, capture_output=True, text=True, env=clean, cwd="/", timeout=60)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1].endswith("/true")


@pytest.mark.parametrize("start", [["purebpf"], ["python", "-m", "purebpf"]], ids=" ".join)
def test_its_command_and_module_are_there(installed: Path, clean: dict[str, str], start: list[str]) -> None:
    command = [str(installed / start[0]), *start[1:], "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=clean, cwd="/")
    assert done.stdout == f"purebpf {purebpf.__version__}\n"


def test_nothing_of_it_is_imported_from_the_checkout(installed: Path, clean: dict[str, str]) -> None:
    program = "import purebpf, elftools; print(purebpf.__file__, elftools.__file__, purebpf.prebuilt('trace_exec'))"
    command = [installed / "python", "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=clean, cwd="/")
    assert all(path.startswith(str(installed.parent)) for path in done.stdout.split())


def test_one_wheel_serves_every_python_and_machine(wheel: Path) -> None:
    assert wheel.name == f"purebpf-{purebpf.__version__}-py3-none-any.whl"


def test_prebuilt_objects_types_and_licence_are_inside(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    objects = {path.name for path in (ROOT / "prebuilt").iterdir()}
    assert {name.rpartition("/")[2] for name in names if name.startswith("purebpf/prebuilt/")} == objects
    assert "purebpf/py.typed" in names
    assert f"purebpf-{purebpf.__version__}.dist-info/licenses/LICENSE" in names


def test_the_source_distribution_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", sdist, "-C", tmp_path], check=True)
    (source,) = tmp_path.iterdir()
    (tmp_path / "wheel").mkdir()
    assert build(source, tmp_path / "wheel", "--wheel").read_bytes() == wheel.read_bytes()


def test_the_source_distribution_has_what_is_versioned_and_its_metadata(sdist: Path) -> None:
    """The tests, the programs in C, the documentation and the Makefile among it."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing says what is versioned")
    git = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")[:-1]
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive}
    assert names == {*(name for name in listed if (ROOT / name).exists()), "PKG-INFO"}


def test_the_index_of_packages_would_take_both(sdist: Path, wheel: Path) -> None:
    pytest.importorskip("twine", reason="needs twine, which checks what is uploaded")
    command = [sys.executable, "-m", "twine", "check", "--strict", sdist, wheel]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_metadata_says_what_users_ask(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = BytesParser().parsebytes(archive.read(f"purebpf-{purebpf.__version__}.dist-info/METADATA"))
    assert metadata["Name"] == "purebpf"
    assert metadata["Version"] == purebpf.__version__
    assert metadata["Requires-Python"] == ">=3.9"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Author"] == "The purebpf authors"
    assert "ebpf" in metadata["Keywords"].split(",")
    assert "BPF" in metadata["Summary"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert [line.partition(">")[0] for line in needed] == ["pyelftools"]
    pythons = {line.rpartition(" ")[2] for line in metadata.get_all("Classifier") if ":: Python :: 3." in line}
    assert pythons == {"3.9", "3.10", "3.11", "3.12", "3.13"}
