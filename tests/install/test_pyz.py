"""The one file that is copied to a server: complete, the same each time, and content with a Python alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from distributions import ROOT, build, make_pyz

COMMANDS = (
    ["--version"],
    ["--help"],
    ["probe"],
    ["inspect", "{pyz}/purebpf/prebuilt/trace_exec.bpf.o", "--code"],
    *([name, "--help"] for name in ("trace-exec", "trace-open", "trace-connect", "run", "inspect", "probe")),
)


def run(pyz: Path, *arguments: str, env: dict[str, str], cwd: str = "/") -> subprocess.CompletedProcess[str]:
    """Python without site packages, which is what a server has."""
    command = [sys.executable, "-I", "-S", str(pyz), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, cwd=cwd)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_each_command_runs_out_of_the_archive(pyz: Path, clean: dict[str, str], arguments: list[str]) -> None:
    done = run(pyz, *(word.format(pyz=pyz) for word in arguments), env=clean)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.kernel
@pytest.mark.parametrize("command", ["trace-exec", "trace-open", "trace-connect"])
def test_it_traces_on_a_file_system_that_cannot_be_written(pyz: Path, clean: dict[str, str], command: str) -> None:
    traced = f"{sys.executable} -I -S {pyz} {command} --json -- /bin/true"
    script = f"mount --make-rprivate / && mount -o remount,bind,ro / && ! touch /written 2>&- && exec {traced}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, env=clean, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    if command == "trace-exec":
        assert json.loads(done.stdout.splitlines()[0])["filename"] == "/bin/true"


@pytest.mark.kernel
def test_it_runs_its_own_prebuilt_objects(pyz: Path, clean: dict[str, str]) -> None:
    done = run(pyz, "run", f"{pyz}/purebpf/prebuilt/execve.bpf.o", "--duration", "0.1", env=clean)
    assert (done.returncode, done.stderr) == (0, "purebpf: 1 program attached; Ctrl-C ends\n")


def test_it_is_executable_by_itself(pyz: Path, clean: dict[str, str]) -> None:
    assert subprocess.run([pyz, "--version"], check=True, capture_output=True, env=clean).stdout.startswith(b"purebpf ")


@pytest.mark.kernel
def test_a_program_imports_purebpf_from_it(pyz: Path, clean: dict[str, str]) -> None:
    program = f"""if True:
        import sys
        sys.path.insert(0, {str(pyz)!r})
        import purebpf
        assert purebpf.__file__.startswith({str(pyz)!r})
        path = purebpf.prebuilt("execve")
        spec = purebpf.parse(path.read_bytes(), path.name)
        for source in (path, spec):
            with purebpf.load(source) as obj:
                print(*obj.programs)
        try:
            purebpf.load(purebpf.prebuilt("missing"))
        except purebpf.ObjectError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, env=clean)
    assert done.stdout.splitlines() == [
        "trace_execve",
        "trace_execve",
        f"{pyz}/purebpf/prebuilt/missing.bpf.o: there is no such file in the archive",
    ], done.stderr


def test_a_path_that_leads_through_a_file_is_an_error(pyz: Path, clean: dict[str, str]) -> None:
    done = run(pyz, "inspect", "/etc/passwd/object.o", env=clean)
    assert (done.returncode, done.stderr) == (7, "purebpf: /etc/passwd/object.o: Not a directory\n")


def test_it_is_the_same_to_the_byte_whenever_and_wherever_it_is_built(
    pyz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "elsewhere"
    ignore = shutil.ignore_patterns(".*", "build", "dist", "__pycache__", "tests")
    shutil.copytree(ROOT, checkout, ignore=ignore, copy_function=shutil.copy)
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    old = os.umask(0o077)
    try:
        build(checkout, tmp_path / "wheels", "--wheel")
    finally:
        os.umask(old)
    for other in pyz.parent.parent.glob("wheels*/pyelftools*.whl"):
        shutil.copy(other, tmp_path / "wheels")
    assert make_pyz(tmp_path / "wheels", tmp_path / "again.pyz").read_bytes() == pyz.read_bytes()


def test_it_is_small_and_has_its_licences_inside(pyz: Path) -> None:
    assert pyz.stat().st_size < 1_000_000
    names = zipfile.ZipFile(pyz).namelist()
    for package in ("purebpf-", "pyelftools-"):
        assert any(name.startswith(package) and name.endswith("/LICENSE") for name in names), package
    assert not [name for name in names if name.endswith(".pyc") or "tests/" in name]
