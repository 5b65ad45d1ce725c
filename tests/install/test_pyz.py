"""The one file that is copied to a server: complete, the same each time, and content with a Python alone."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from distributions import ROOT, build, make_pyz, pythons

COMMANDS = (
    ["--version"],
    ["--help"],
    ["probe"],
    ["inspect", "{pyz}/purebpf/prebuilt/trace_exec.bpf.o", "--code"],
    *([name, "--help"] for name in ("trace-exec", "trace-open", "trace-connect", "run", "inspect", "ring", "probe")),
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


@pytest.mark.parametrize("python", pythons().values())
def test_a_name_relative_to_the_folder_leads_into_it(pyz: Path, clean: dict[str, str], python: str) -> None:
    """As docs/deploying.md shows. Pythons make the name of what they run absolute, and leave the others."""
    words = ["inspect", f"{pyz.name}/purebpf/prebuilt/execve.bpf.o"]
    done = subprocess.run(
        [python, "-I", "-S", pyz.name, *words], capture_output=True, text=True, env=clean, cwd=pyz.parent
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "trace_execve" in done.stdout


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


def test_a_program_that_names_it_by_a_relative_path_may_go_elsewhere(pyz: Path, clean: dict[str, str]) -> None:
    program = f"""if True:
        import os, sys
        sys.path.insert(0, {pyz.name!r})
        import purebpf
        purebpf.parse(purebpf.prebuilt("execve").read_bytes())  # Python looks for pyelftools when it is needed first
        os.chdir("/")
        path = purebpf.prebuilt("execve")
        assert str(path) == {str(pyz)!r} + "/purebpf/prebuilt/execve.bpf.o", path
        from purebpf.object import contents
        assert contents(str(path)) == path.read_bytes()
    """
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=clean, cwd=pyz.parent)
    assert (done.returncode, done.stderr) == (0, "")


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
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
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
    for package in ("purebpf-", "pyelftools-", "elftools/construct/"):
        assert any(name.startswith(package) and name.endswith("/LICENSE") for name in names), package
    assert not [name for name in names if name.endswith(".pyc") or "tests/" in name]


def test_it_says_nothing_of_the_tools_that_made_the_wheels(pyz: Path) -> None:
    """Their next release writes another WHEEL and METADATA; the same source is to give the same archive."""
    for_pip = [name for name in zipfile.ZipFile(pyz).namelist() if ".dist-info/" in name]
    assert for_pip
    assert [name for name in for_pip if not name.endswith("/LICENSE")] == []


def test_each_python_of_this_machine_makes_the_same_of_the_same_wheels(pyz: Path, wheels: Path, tmp_path: Path) -> None:
    for python in pythons().values():
        assert make_pyz(wheels, tmp_path / "again.pyz", python).read_bytes() == pyz.read_bytes(), python


OLD = """if True:
    import runpy, sys
    sys.version_info = (3, 8, 18)
    runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_a_python_that_is_too_old_is_told_so(pyz: Path, clean: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", OLD, pyz], capture_output=True, text=True, env=clean)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"purebpf: needs Python 3.9 or newer; {sys.executable} is 3.8\n"


def test_pythons_that_cannot_read_the_source_say_it_in_a_line(pyz: Path, clean: dict[str, str]) -> None:
    """Those that this machine has."""
    for (major, minor), python in pythons(old=True).items():
        done = subprocess.run([python, pyz, "trace-exec"], capture_output=True, text=True, env=clean)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"purebpf: needs Python 3.9 or newer; {python} is {major}.{minor}\n"


def test_what_is_read_before_the_version_is_checked_is_in_the_oldest_language(pyz: Path) -> None:
    main = zipfile.ZipFile(pyz).read("__main__.py").decode()
    ast.parse(main, feature_version=(3, 4))
    assert main.index("version_info") < main.index("purebpf.cli")


@pytest.mark.parametrize("module", ["mmap", "json", "zlib"])
def test_a_python_without_its_library_is_told_so(pyz: Path, clean: dict[str, str], module: str) -> None:
    """As Debian's python3-minimal is."""
    program = f"import runpy, sys; sys.modules[{module!r}] = None; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    command = [sys.executable, "-c", program, pyz, "trace-exec", "--json", "--duration", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=clean)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("purebpf: needs all of Python's standard library; ")
    assert module in done.stderr
    assert len(done.stderr.splitlines()) == 1


INTERRUPTED = """if True:
    import os, runpy, signal, sys

    class Interrupts:
        def find_spec(name, *_rest):
            if name == module:
                os.kill(os.getpid(), signal.SIGINT)

    module, action = sys.argv[1:3]
    del sys.argv[1:3]
    signal.signal(signal.SIGINT, getattr(signal, action))
    sys.meta_path.insert(0, Interrupts)
    runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


@pytest.mark.parametrize(("action", "status"), [("default_int_handler", -signal.SIGINT), ("SIG_IGN", 0)])
@pytest.mark.parametrize("module", ["purebpf.cli", "purebpf.tools.trace_exec"])
def test_a_ctrl_c_while_it_is_imported_ends_it_in_silence(
    pyz: Path, clean: dict[str, str], module: str, action: str, status: int
) -> None:
    command = [sys.executable, "-c", INTERRUPTED, module, action, pyz, "trace-exec", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=clean)
    assert (done.returncode, done.stderr) == (status, "")


@pytest.mark.parametrize("module", ["purebpf.tracing.table", "elftools.elf.structs"])
def test_a_file_of_its_own_that_is_missing_is_not_python_s_fault(pyz: Path, clean: dict[str, str], module: str) -> None:
    program = f"import runpy, sys; sys.modules[{module!r}] = None; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    command = [sys.executable, "-c", program, pyz, "trace-exec", "--duration", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=clean)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" in done.stderr
    assert "standard library" not in done.stderr
