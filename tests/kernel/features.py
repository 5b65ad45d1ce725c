"""What tests need of a kernel, since when kernels have it, and how to see whether this one has.

@pytest.mark.needs("fentry")    skips where it is missing. With PUREBPF_NO_SKIPS that is a failure if this Linux should have it
require("fentry")               the same in the middle of a test
@pytest.mark.lacks("kprobe")    the other way round: for a test of what is said where something is missing

Versions are compared here and nowhere else: not to decide what can be done, but whether what cannot be done should.
What a machine lacks although its kernel is new enough and built with it is named in PUREBPF_LACKS, with commas.
"""

from __future__ import annotations

import functools
import glob
import importlib.util
import mmap
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from types import MappingProxyType
from typing import NamedTuple

import pytest

from purebpf.errors import KernelError
from purebpf.formats.abi import MapFlags, MapType, ProgType
from purebpf.formats.helpers import HELPERS
from purebpf.formats.kinds import Kind
from purebpf.formats.spec import MapSpec
from purebpf.kernel import cpus, kconfig, maps, probe, vmlinux
from purebpf.kernel.gates import Gates


class Feature(NamedTuple):
    """`since` is the release of Linux that brought it, `elsewhere` those of other architectures than x86-64."""

    what: str
    present: Callable[[], bool]
    since: tuple[int, ...] = (0,)
    config: str = ""  # the option with which kernels are built that have it
    elsewhere: Mapping[str, tuple[int, ...]] = MappingProxyType({})

    @property
    def here(self) -> tuple[int, ...]:
        """The release that brought it to this architecture."""
        return self.elsewhere.get(os.uname().machine, self.since)

    @property
    def expected(self) -> bool:
        """Is this Linux new enough for it, and built with it?"""
        return _release(os.uname().release) >= self.here and (
            not self.config or not configuration() or self.config in configuration()
        )

    @property
    def needed(self) -> str:
        """What a skip says: what is missing, and what would have it."""
        release = f"Linux {'.'.join(map(str, self.here))}" if any(self.here) else ""
        kernel = ", ".join(filter(None, (release, self.config)))
        return f"needs {self.what}" + (f" ({kernel})" if kernel else "")


@functools.cache
def configuration() -> dict[str, str]:
    """How this kernel was built, as far as that is known."""
    return kconfig.read()


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def _helper(name: str) -> Callable[[], bool]:
    return lambda: probe.has_helper(ProgType.TRACEPOINT, HELPERS.index(name))


def _attaches(hook: str, target: str = "", *, function: str = "", **options: int) -> Callable[[], bool]:
    """Is a program loaded, for a function of the kernel's if one is named, and attached if a target is?"""

    def attach() -> bool:
        from hits import Counter

        try:
            btf_id = vmlinux.vmlinux().find(function, Kind.FUNC)[0].id if function else 0
            with Counter(hook, btf_id=btf_id) as hits, hits.attach(target, **options) if target else nullcontext():
                return True
        except (KernelError, OSError, IndexError):
            return False

    return attach


def _takes(*code: tuple[int, ...]) -> Callable[[], bool]:
    """Does the verifier take these instructions, r0 being 0?"""

    def load_it() -> bool:
        from hits import load

        try:
            load([(0xB7, 0, 0, 0, 0), *code, (0x95, 0, 0, 0, 0)], "socket").close()
        except OSError:
            return False
        return True

    return load_it


def _file(path: str) -> Callable[[], bool]:
    return lambda: os.path.exists(path)


def _security_module(name: str) -> Callable[[], bool]:
    def active() -> bool:
        with suppress(OSError), open("/sys/kernel/security/lsm") as names:
            return name in names.read().split(",")
        return False

    return active


def _command(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is not None


def _bcc() -> bool:
    """Debian's Python has Debian's BCC."""
    command = ["/usr/bin/python3", "-c", "import bcc"]
    headers = glob.glob("/usr/src/linux-headers-*")
    return bool(headers) and os.path.exists(command[0]) and not subprocess.run(command, capture_output=True).returncode


def _module(name: str) -> Callable[[], bool]:
    return lambda: importlib.util.find_spec(name) is not None


def _overwrites() -> bool:
    try:
        maps.create(MapSpec("probe", MapType.RINGBUF, max_entries=mmap.PAGESIZE, flags=MapFlags.RB_OVERWRITE)).close()
    except KernelError:
        return False
    return True


def _faults() -> bool:
    try:
        Gates(1).close()
    except KernelError:
        return False
    return True


LACKS = set(filter(None, os.environ.get("PUREBPF_LACKS", "").split(",")))
_HELPERS = "/usr/include/bpf/bpf_helpers.h"
# arch_prepare_bpf_trampoline, and ftrace's direct calls, with which functions of the kernel get there
_TRAMPOLINES = {"aarch64": (6, 4), "s390x": (6, 3), "ppc64le": (6, 13)}
_FPROBE = {"aarch64": (6, 14), "s390x": (6, 14), "ppc64le": (6, 14)}  # fprobes on the function graph tracer

FEATURES: dict[str, Feature] = {
    "btf": Feature("the kernel's type information", _file("/sys/kernel/btf/vmlinux"), (5, 4), "CONFIG_DEBUG_INFO_BTF"),
    "module_btf": Feature(
        "types of kernel modules", _file("/sys/kernel/btf/ext4"), (5, 11), "CONFIG_DEBUG_INFO_BTF_MODULES"
    ),
    "memcg_accounting": Feature("BPF memory counted by cgroup", probe.FEATURES["memcg_accounting"], (5, 11)),
    "perf_link": Feature("links of perf events", probe.FEATURES["perf_link"], (5, 15)),
    "cookie": Feature("cookies", _helper("get_attach_cookie"), (5, 15)),
    "raw_tp_cookie": Feature("cookies of raw_tp and tp_btf", _attaches("raw_tp", "sys_enter", cookie=1), (6, 10)),
    "kprobe": Feature("kprobes", _attaches("kprobe", "vfs_read"), (4, 17), "CONFIG_KPROBE_EVENTS"),
    "kprobe_multi": Feature("kprobe.multi", _attaches("kprobe.multi", "vfs_read"), (5, 18), "CONFIG_FPROBE", _FPROBE),
    "kprobe_session": Feature(
        "kprobe.session", _attaches("kprobe.session", "vfs_read"), (6, 10), "CONFIG_FPROBE", _FPROBE
    ),
    "fentry": Feature(
        "fentry, fexit, fmod_ret",
        _attaches("fentry", "vfs_read", function="vfs_read"),
        (5, 5),
        "CONFIG_BPF_JIT",
        _TRAMPOLINES,
    ),
    "lsm": Feature(
        "LSM programs", lambda: _security_module("bpf")() and present("fentry"), (5, 7), "CONFIG_BPF_LSM", _TRAMPOLINES
    ),
    "map_iterator": Feature("iterators of maps", _attaches("iter", function="bpf_iter_bpf_map_elem"), (5, 9)),
    "task_iterator": Feature(
        "iterators of one process", _attaches("iter", "task", function="bpf_iter_task", pid=0), (6, 1)
    ),
    "uprobe_multi": Feature("uprobe.multi", _attaches("uprobe.multi", "libc.so.6:getpgid"), (6, 6)),
    "uprobe_session": Feature("uprobe.session", _attaches("uprobe.session", "libc.so.6:getpgid"), (6, 13)),
    **{
        kind.name.lower(): Feature(
            f"maps of type {kind.name}", functools.partial(probe.has_map_type, kind), _release(since)
        )
        for kind, since in probe.SINCE.items()
        if _release(since) > (5, 8)
    },
    "ring_overwrite": Feature("rings that overwrite", _overwrites, (6, 19)),
    "userfaultfd": Feature("userfaultfd", _faults, (4, 3), "CONFIG_USERFAULTFD"),
    "two_cpus": Feature("two CPUs", lambda: {0, 1} <= set(cpus.online_cpus())),
    "syscall_program": Feature("programs of type SYSCALL", lambda: probe.has_prog_type(ProgType.SYSCALL), (5, 14)),
    "for_each": Feature("bpf_for_each_map_elem", _helper("for_each_map_elem"), (5, 13)),
    "timer": Feature("timers", _helper("timer_init"), (5, 15)),
    "loop": Feature("bpf_loop", _helper("loop"), (5, 17)),
    "float": Feature("floats in BTF", lambda: probe.has_btf("float"), (5, 13)),
    "enum64": Feature("64-bit enums in BTF", lambda: probe.has_btf("enum64"), (6, 0)),
    "atomic": Feature("atomic instructions", _takes((0x7B, 10, 0, -8, 0), (0xDB, 10, 0, -8, 0xE1)), (5, 12)),
    "cpu_v4": Feature("instructions of -mcpu=v4", _takes((0xBF, 0, 0, 8, 0)), (6, 6)),
    "may_goto": Feature("may_goto of nowhere", _takes((0xE5, 0, 0, 0, 0)), (6, 14)),
    "load_acquire": Feature("loads that acquire", _takes((0x7B, 10, 0, -8, 0), (0xDB, 0, 10, -8, 0x100)), (6, 15)),
    "login_uid": Feature("login uids", _file("/proc/self/loginuid"), config="CONFIG_AUDITSYSCALL"),
    "clang": Feature("clang, and libbpf's headers", lambda: _command("clang")() and _file(_HELPERS)()),
    "libbpf": Feature("a C compiler, and libbpf", lambda: _command("cc")() and _file("/usr/include/bpf/libbpf.h")()),
    "bcc": Feature("BCC, and kernel headers", _bcc),
    "chromium": Feature("Chromium", _command("chromium")),
    "numpy": Feature("NumPy", _module("numpy")),
}


@functools.cache
def present(name: str) -> bool:
    """Has this machine the feature?"""
    return FEATURES[name].present()


class Missing(pytest.skip.Exception):  # type: ignore[misc,name-defined]
    """A test is skipped for a feature that may be missing here."""


def require(*names: str) -> None:
    """Skip the test if one is missing. Fail it if that is no good reason: Linux is new enough, and the machine not known."""
    for name in names:
        if not present(name):
            feature = FEATURES[name]
            if feature.expected and name not in LACKS:
                pytest.skip(feature.needed)
            raise Missing(feature.needed)


def require_absence(*names: str) -> None:
    """Skip the test where there is one of these."""
    for name in names:
        if present(name):
            raise Missing(f"is about machines without {FEATURES[name].what}")


def examples(number: int) -> int:
    """How many examples of a property are tried: an emulated machine tries fewer (PUREBPF_EXAMPLES=0.1)."""
    return max(5, int(number * float(os.environ.get("PUREBPF_EXAMPLES", "1"))))
