"""Hooks on functions of the kernel, where it has them: kprobes of all kinds, fentry, fexit, fmod_ret, lsm."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hits import Hits

import purebpf

pytestmark = pytest.mark.kernel

# Each counts calls of this process, in nanosleep(2) with this many nanoseconds where arguments are seen.
NANOSECONDS = 123_457
SOURCE = """
#include <bpf/bpf_core_read.h>
__u64 hits, cookie, seen;
__u32 me;

static int mine(void)
{
    return bpf_get_current_pid_tgid() >> 32 == me;
}
#define COUNT(expression) do { if (mine()) { hits++; seen = (expression); } return 0; } while (0)

SEC("kprobe/hrtimer_nanosleep") int BPF_KPROBE(on_kprobe, long long expires) { COUNT(expires); }
SEC("kretprobe/hrtimer_nanosleep") int BPF_KRETPROBE(on_kretprobe, long result) { COUNT(result); }
SEC("kprobe.multi/hrtimer_nanosl*p") int BPF_KPROBE(on_multi, long long expires) { COUNT(expires); }
SEC("kretprobe.multi/hrtimer_nanosl*p") int BPF_KRETPROBE(on_multi_return, long result) { COUNT(result); }
SEC("kprobe.session/hrtimer_nanosleep") int on_session(void *ctx) { COUNT(1); }
SEC("fentry/hrtimer_nanosleep") int BPF_PROG(on_fentry, long long expires) { COUNT(expires); }
SEC("fexit/hrtimer_nanosleep") int BPF_PROG(on_fexit, long long expires, int mode, int clock, long result) { COUNT(result); }
SEC("ksyscall/getpgid") int on_ksyscall(void *ctx) { COUNT(1); }
SEC("kretsyscall/getpgid") int BPF_KRETPROBE(on_kretsyscall, long result) { COUNT(result); }
"""
AT_ENTRY = {"on_kprobe": "kprobe", "on_multi": "kprobe_multi", "on_fentry": "fentry"}
AT_RETURN = {"on_kretprobe": "kprobe", "on_multi_return": "kprobe_multi", "on_fexit": "fentry"}
Run = Callable[..., purebpf.Object]


def needing(programs: dict[str, str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.needs(feature), id=name) for name, feature in programs.items()]


@pytest.fixture
def run(load_one: Run) -> Run:
    return partial(load_one, source=SOURCE)


def counted(obj: purebpf.Object, action: Callable[[], object], times: int = 3) -> int:
    before: int = obj.globals.hits
    for _ in range(times):
        action()
    after: int = obj.globals.hits
    return after - before


@pytest.mark.parametrize("name", needing(AT_ENTRY | AT_RETURN))
def test_each_call_of_a_function_is_seen_until_the_link_is_closed(run: Run, name: str) -> None:
    obj = run(name)
    (link,) = obj.attach()
    assert counted(obj, nanosleep) == 3
    assert obj.globals.seen == (NANOSECONDS if name in AT_ENTRY else 0)
    link.close()
    assert counted(obj, nanosleep) == 0


def nanosleep() -> None:
    """nanosleep(2), not clock_nanosleep, as that of some C libraries has become."""
    libc = ctypes.CDLL(None)
    libc.syscall(ctypes.c_long(NUMBERS[os.uname().machine]), (ctypes.c_long * 2)(0, NANOSECONDS), None)


NUMBERS = {"x86_64": 35, "aarch64": 101, "riscv64": 101, "s390x": 162, "ppc64le": 162}  # of nanosleep


@pytest.mark.needs("kprobe_session")
def test_a_session_is_run_at_the_entry_and_at_the_return(run: Run) -> None:
    obj = run("on_session")
    with obj.programs["on_session"].attach():
        assert counted(obj, nanosleep) == 6


@pytest.mark.needs("kprobe")
@pytest.mark.parametrize("name", ["on_ksyscall", "on_kretsyscall"])
def test_a_system_call_is_found_by_its_name(run: Run, name: str) -> None:
    obj = run(name)
    (link,) = obj.attach()
    assert counted(obj, lambda: os.getpgid(0)) == 3
    assert obj.globals.seen == (1 if name == "on_ksyscall" else os.getpgid(0))
    link.close()


@pytest.mark.needs("kprobe", "cookie")
@pytest.mark.parametrize("hook", ["kprobe", "kretprobe"])
def test_a_probe_brings_its_cookie(hook: str) -> None:
    with Hits(hook, cookies=True) as hits, hits.attach("hrtimer_nanosleep", cookie=5):
        assert hits.of(nanosleep) == 5


@pytest.mark.needs("kprobe_multi")
@pytest.mark.parametrize("hook", ["kprobe.multi", "kretprobe.multi"])
def test_a_probe_of_many_functions_brings_its_cookie(hook: str) -> None:
    with Hits(hook, cookies=True) as hits, hits.attach("hrtimer_nanosleep", cookie=2**40):
        assert hits.of(nanosleep) == 2**40


@pytest.mark.needs("kprobe_multi")
def test_a_pattern_attaches_to_all_that_match(run: Run) -> None:
    obj = run("on_multi")
    with obj.programs["on_multi"].attach("vfs_*read*"), open("/proc/self/stat") as file:
        assert counted(obj, lambda: os.pread(file.fileno(), 1, 0)) >= 3


@pytest.mark.needs("kprobe")
def test_a_probe_may_stand_inside_a_function() -> None:
    """Behind what ftrace, and on x86-64 the check of indirect jumps, put before its first instruction."""
    with Hits("kprobe") as hits:
        for start in (5, 9, 4, 8):
            with suppress(purebpf.NotSupported), hits.attach(f"hrtimer_nanosleep+{start:#x}"):
                assert hits.of(nanosleep) == 1
                return
    pytest.fail("no such place was found")


@pytest.mark.needs("kprobe")
def test_what_cannot_be_probed_is_explained() -> None:
    with Hits("kprobe") as hits:
        with pytest.raises(purebpf.NotSupported, match="this kernel has no function hrtimer_nanoslep") as caught:
            hits.attach("hrtimer_nanoslep")
        assert "hrtimer_nanosleep" in caught.value.hint
        with pytest.raises(purebpf.NotSupported, match="cannot be probed here") as caught:
            hits.attach("hrtimer_nanosleep+0x1")  # in the middle of an instruction, on every machine
        assert "middle of an instruction" in caught.value.hint


@pytest.mark.needs("kprobe", "perf_link")
def test_a_pinned_probe_stays_attached(run: Run, bpffs: Path, bpftool: Any) -> None:
    obj = run("on_kprobe")
    with obj.programs["on_kprobe"].attach() as link:
        link.pin(bpffs / "probe")
        number = link.info().id
    assert counted(obj, nanosleep) == 3
    assert number in [row["id"] for row in bpftool("link", "show")]
    link.unpin()


DECISIONS = """
__u32 me;

static int decide(unsigned long protection, int result)
{
    return bpf_get_current_pid_tgid() >> 32 == me && protection == 7 ? -38 : result;
}
SEC("fmod_ret/security_file_mprotect")
int BPF_PROG(on_fmod_ret, void *vma, unsigned long asked, unsigned long protection, int result) { return decide(protection, result); }
SEC("lsm/file_mprotect")
int BPF_PROG(on_lsm, void *vma, unsigned long asked, unsigned long protection, int result) { return decide(protection, result); }
"""


def make_executable() -> int:
    """The errno of mprotect(2) that makes a page writable and executable."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    size = mmap.PAGESIZE
    page = ctypes.c_void_p(libc.mmap(None, ctypes.c_size_t(size), 3, 0x22, -1, 0))
    try:
        return ctypes.get_errno() if libc.mprotect(page, ctypes.c_size_t(size), 7) else 0
    finally:
        libc.munmap(page, ctypes.c_size_t(size))


@pytest.mark.parametrize("name", needing({"on_fmod_ret": "fentry", "on_lsm": "lsm"}))
def test_a_program_decides_for_a_security_hook(run: Run, name: str) -> None:
    obj = run(name, source=DECISIONS)
    with obj.programs[name].attach():
        assert make_executable() == errno.ENOSYS
    assert make_executable() == 0


def file_on(root: str) -> Iterator[Path]:
    """Files with something in them on the file system that is mounted there."""
    device = os.stat(root).st_dev
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if os.lstat(f"{folder}/{name}").st_dev == device]
        yield from (path for name in names if (path := Path(folder, name)).is_file() and path.stat().st_size)


@pytest.mark.needs("fentry", "module_btf")
def test_a_function_of_a_module_is_found_among_its_types(run: Run) -> None:
    source = """
    __u64 hits;
    __u32 me;
    SEC("fentry/ext4:ext4_file_read_iter") int on_read(void *ctx)
    {
        hits += bpf_get_current_pid_tgid() >> 32 == me;
        return 0;
    }
    """
    with open("/proc/mounts") as mounts:
        roots = [line.split()[1] for line in mounts if line.split()[2] == "ext4"]
    if not roots:
        pytest.skip("no ext4 is mounted")
    file = next(file_on(roots[0]))
    obj = run("on_read", source=source)
    with obj.programs["on_read"].attach():
        assert counted(obj, file.read_bytes) >= 3
