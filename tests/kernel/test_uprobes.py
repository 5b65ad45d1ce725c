"""Compiled programs on user-space functions: what they see there, and what tracefs does where there is no uprobe PMU."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from seccomp_filter import filtered

import purebpf
from purebpf.kernel import tracefs
from purebpf.kernel.attach import probe_event

pytestmark = pytest.mark.kernel

SOURCE = """
__u64 hits, result;
__u32 me;

static int hit(struct pt_regs *ctx)
{
    if (bpf_get_current_pid_tgid() >> 32 != me)
        return 0;
    __sync_fetch_and_add(&hits, 1);
    result = PT_REGS_RC(ctx);
    return 0;
}

SEC("uprobe") int on_uprobe(struct pt_regs *ctx) { return hit(ctx); }
SEC("uretprobe") int on_uretprobe(struct pt_regs *ctx) { return hit(ctx); }
SEC("uretprobe.multi") int on_multi(struct pt_regs *ctx) { return hit(ctx); }
SEC("uprobe/libc.so.6:getppid") int on_getppid(struct pt_regs *ctx) { return hit(ctx); }
"""
LIBRARY = """
__attribute__((noinline)) int work_first(int x) { return x + 1; }
__attribute__((noinline)) int work_second(int x) { return x * 3; }
"""
Run = Callable[[str], purebpf.Object]


@pytest.fixture
def run(load_one: Callable[..., purebpf.Object]) -> Run:
    return partial(load_one, source=SOURCE)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("library") / "libwork.so"
    path.with_suffix(".c").write_text(LIBRARY)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", path, path.with_suffix(".c")], check=True)
    return str(path)


@pytest.fixture(scope="session")
def work(library: str) -> ctypes.CDLL:
    return ctypes.CDLL(library)


@pytest.fixture
def without_pmu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the probe PMUs, as on a kernel before 4.17."""
    monkeypatch.setattr(probe_event, "_SYSFS", str(tmp_path / "no-such-folder"))


def probes() -> list[str]:
    """The uprobes that tracefs lists."""
    with tracefs.root() as (root, _path), open(f"/proc/self/fd/{root}/uprobe_events") as listing:
        return listing.read().splitlines()


def counted(obj: purebpf.Object, action: Callable[[], object], times: int = 1) -> int:
    """How many hits the action makes."""
    before: int = obj.globals.hits
    for _ in range(times):
        action()
    after: int = obj.globals.hits
    return after - before


def address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def test_the_section_alone_says_where(run: Run) -> None:
    obj = run("on_getppid")
    (link,) = obj.attach()
    assert counted(obj, os.getppid, 3) == 3
    link.close()
    assert counted(obj, os.getppid, 3) == 0


def test_a_uprobe_some_bytes_into_a_function(run: Run, library: str, work: ctypes.CDLL) -> None:
    obj = run("on_uprobe")
    distance = address(work.work_second) - address(work.work_first)
    for written in (str(distance), f"{distance:#x}"):
        with obj.programs["on_uprobe"].attach(f"{library}:work_first+{written}"):
            assert counted(obj, lambda: work.work_first(1)) == 0
            assert counted(obj, lambda: work.work_second(1)) == 1


@pytest.mark.parametrize("name", ["on_uretprobe", pytest.param("on_multi", marks=pytest.mark.needs("uprobe_multi"))])
def test_a_uretprobe_sees_what_the_function_returns(run: Run, library: str, work: ctypes.CDLL, name: str) -> None:
    obj = run(name)
    with obj.programs[name].attach(f"{library}:work_second"):
        assert counted(obj, lambda: work.work_second(7)) == 1
        assert obj.globals.result & 0xFFFFFFFF == 21
        assert counted(obj, lambda: work.work_first(7)) == 0
    assert counted(obj, lambda: work.work_second(7)) == 0


@pytest.mark.usefixtures("without_pmu")
@pytest.mark.parametrize(("name", "letter"), [("on_uprobe", "p"), ("on_uretprobe", "r")])
def test_each_link_has_an_event_of_its_own_in_tracefs(
    run: Run, library: str, work: ctypes.CDLL, name: str, letter: str
) -> None:
    before, obj = probes(), run(name)
    with obj.programs[name].attach(f"{library}:work_first") as link:
        (made,) = set(probes()) - set(before)
        assert made.startswith(f"{letter}:purebpf_{os.getpid()}/")
        with obj.programs[name].attach(f"{library}:work_second"):
            assert len(probes()) == len(before) + 2
            assert counted(obj, lambda: (work.work_first(1), work.work_second(1))) == 2
            link.close()
            assert counted(obj, lambda: (work.work_first(1), work.work_second(1))) == 1
        assert probes() == before


@pytest.mark.usefixtures("without_pmu")
def test_tracefs_takes_files_of_any_name(run: Run, library: str, tmp_path: Path) -> None:
    odd = tmp_path / "a b#c:d"
    odd.write_bytes(Path(library).read_bytes())
    obj, before = run("on_uprobe"), probes()
    with obj.programs["on_uprobe"].attach(f"{odd}:work_first"):
        assert counted(obj, lambda: ctypes.CDLL(str(odd)).work_first(1), 2) == 2
    assert probes() == before


@pytest.mark.usefixtures("without_pmu")
@pytest.mark.parametrize(
    ("target", "pid", "message"),
    [("{0}:work_first", 2**22 + 1, "ESRCH"), ("{0}:0x7fffffff", -1, "EINVAL"), ("/no/such/file:0x10", -1, "ENOENT")],
)
def test_a_probe_that_fails_leaves_no_event_behind(run: Run, library: str, target: str, pid: int, message: str) -> None:
    before, program = probes(), run("on_uprobe").programs["on_uprobe"]
    with pytest.raises(purebpf.KernelError, match=f"attaching program 'on_uprobe' to uprobe .*{message}"):
        program.attach(target.format(library), pid=pid)
    assert probes() == before


@pytest.mark.needs("perf_link")
@pytest.mark.usefixtures("without_pmu")
def test_a_pinned_link_keeps_its_event(run: Run, library: str, work: ctypes.CDLL, bpffs: Path) -> None:
    obj, before = run("on_uprobe"), probes()
    link = obj.programs["on_uprobe"].attach(f"{library}:work_first")
    link.pin(bpffs / "kept")
    link.close()
    assert counted(obj, lambda: work.work_first(1), 2) == 2
    (made,) = set(probes()) - set(before)
    link.unpin()
    remove(made.split()[0].partition(":")[2])
    assert counted(obj, lambda: work.work_first(1), 2) == 0


def remove(event: str) -> None:
    """Take it out of tracefs, when the kernel has let go of it, which is a little later."""
    deadline = time.monotonic() + 10
    with tracefs.root() as (root, _path):
        control = os.open("uprobe_events", os.O_WRONLY | os.O_APPEND, dir_fd=root)
    try:
        while True:
            try:
                os.write(control, f"-:{event}".encode())
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
    finally:
        os.close(control)


OLD = """
import ctypes, os, sys, purebpf
name, path, library = sys.argv[1:]
with open(path, "rb") as file:
    spec = purebpf.parse(file.read())
for program in spec.programs.values():
    program.autoload = program.name == name
spec.variables["me"].value = os.getpid()
work = ctypes.CDLL(library)
def act():
    before = obj.globals.hits
    work.work_first(1)
    return obj.globals.hits - before
with purebpf.load(spec) as obj:
    program = obj.programs[name]
    try:
        program.attach(library + ":work_first", cookie=1)
    except purebpf.NotSupported as error:
        print(error)
    with program.attach(library + ":work_first") as link:
        print(act(), act())
        try:
            link.info()
        except purebpf.KernelError as error:
            print(error)
    print(act())
"""


@pytest.mark.parametrize("name", ["on_uprobe", "on_uretprobe"])
def test_without_links_the_ioctl_attaches(compiled: Callable[[str], Path], library: str, name: str) -> None:
    """BPF_LINK_CREATE answers EINVAL for perf events before 5.15."""
    program = [sys.executable, "-W", "error", "-c", OLD, name, str(compiled(SOURCE)), library]
    result = subprocess.run([*filtered("bpf:28:22"), *program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    cookie, during, info, after = result.stdout.splitlines()
    assert "no cookies for it (Linux 5.15 has)" in cookie
    assert (during, after) == ("1 1", "0")
    assert info.startswith(f"asking about link of {name!r}: EINVAL")
