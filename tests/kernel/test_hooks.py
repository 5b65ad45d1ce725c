"""Rows of the table of hooks that test_attach.py, which goes by sections, does not reach; and the kernel's symbols."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hits import Hits, load

from purebpf.errors import KernelError, NotSupported, ObjectError
from purebpf.formats.abi import AttachType, MapType, ProgType
from purebpf.formats.kinds import Kind
from purebpf.formats.sections import HOOKS
from purebpf.formats.spec import MapSpec
from purebpf.kernel import kallsyms, maps, vmlinux
from purebpf.kernel.attach import ATTACHERS, IterLink, Request, attach, can_attach

pytestmark = pytest.mark.kernel


TWIN = '__attribute__((noinline)) static long twin(long a) { __asm__ volatile(""); return a * 3; }\n'
SOURCES = {
    "one.c": TWIN + "long hit_one(long a) { return a + 1; }\nlong other(long a) { return twin(a); }\n",
    "two.c": TWIN + "long another(long a) { return twin(a) + 1; }\n",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("hooks")
    for name, text in SOURCES.items():
        (folder / name).write_text(text)
    path = folder / "libhit.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", path, *(folder / name for name in SOURCES)], check=True)
    return str(path)


def five_calls(library: str) -> Callable[[], None]:
    function = ctypes.CDLL(library).hit_one

    def run() -> None:
        for number in range(5):
            function(number)

    return run


@pytest.mark.parametrize(
    ("hook", "times"),
    [
        ("uprobe", 5),
        ("uprobe.s", 5),
        ("uretprobe", 5),
        ("uprobe.multi", 5),
        ("uprobe.multi.s", 5),
        ("uretprobe.multi", 5),
        ("uprobe.session", 10),  # at entry and at return
    ],
)
def test_every_kind_of_user_probe_hits_and_brings_its_cookie(hook: str, times: int, library: str) -> None:
    with Hits(hook, cookies=True) as hits:
        for cookie in (1, 1 << 40):
            with hits.attach(f"{library}:hit_one", cookie=cookie):
                assert hits.of(five_calls(library)) == times * cookie
            assert hits.of(five_calls(library)) == 0


def test_a_name_of_two_functions_is_not_guessed_at_and_multi_takes_both(library: str) -> None:
    with Hits("uprobe") as hits, pytest.raises(ObjectError, match=r"2 functions match; uprobe\.multi takes many"):
        hits.attach(f"{library}:twin")
    with Hits("uprobe.multi") as hits, hits.attach(f"{library}:twin"):
        both = [ctypes.CDLL(library)[name] for name in ("other", "another")]
        assert hits.of(lambda: [function(1) for function in both]) == 2


def busy() -> None:
    """0.3 seconds of work on memory that is new each time."""
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        with mmap.mmap(-1, 1 << 20) as memory:
            memory.write(bytes(1 << 20))


@pytest.mark.parametrize("target", ["cpu-clock@999", "cpu-clock", "task-clock@999", "page-faults@999"])
def test_samples_are_taken_until_the_link_is_closed(target: str) -> None:
    with Hits("perf_event") as hits:
        with hits.attach(target):
            assert hits.of(busy) > 3
        assert hits.of(busy) == 0


def test_samples_of_one_process_leave_others_alone() -> None:
    def sleep() -> None:
        time.sleep(0.3)

    with (
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other,
        Hits("perf_event", everyone=True) as hits,
    ):
        try:
            for pid, least, most in ((other.pid, 10, 10_000), (os.getpid(), 0, 9), (0, 0, 9)):
                with hits.attach("cpu-clock@999", pid=pid):
                    assert least <= hits.of(sleep) <= most, pid
        finally:
            other.kill()


@pytest.mark.needs("perf_link")
def test_samples_have_a_link_on_each_cpu_so_no_single_pin(tmp_path: Path) -> None:
    with Hits("perf_event") as hits, hits.attach("cpu-clock") as link:
        assert link.info().program_id
        with pytest.raises(ObjectError, match="it is one link for each CPU"):
            link.pin(tmp_path / "pin")


# bpf_seq_write(ctx->meta->seq, "elem", 4)
PER_ELEMENT: list[tuple[int, ...]] = [
    (0x79, 6, 1, 0, 0),
    (0x79, 1, 6, 0, 0),
    (0x62, 10, 0, -8, struct.unpack("=i", b"elem")[0]),
    (0xBF, 2, 10, 0, 0),
    (0x07, 2, 0, 0, -8),
    (0xB7, 3, 0, 0, 4),
    (0x85, 0, 0, 0, 127),
    (0xB7, 0, 0, 0, 0),
    (0x95, 0, 0, 0, 0),
]


@contextmanager
def iterator(target: str, **more: Any) -> Iterator[IterLink]:
    kernel = vmlinux.vmlinux()
    program = load(PER_ELEMENT, "iter", next(iter(kernel.find(f"bpf_iter_{target}", Kind.FUNC))).id)
    try:
        with attach(Request("each", program.fileno(), target, AttachType.TRACE_ITER, hook="iter", **more)) as link:
            assert isinstance(link, IterLink)
            yield link
    finally:
        program.close()


@pytest.mark.needs("map_iterator")
def test_an_iterator_goes_through_the_map_that_it_is_given() -> None:
    with maps.create(MapSpec("numbers", MapType.HASH, 4, 4, 8)) as made:
        for number in range(5):
            made.put(struct.pack("=I", number), bytes(4))
        with iterator("bpf_map_elem", map_fd=made.fileno()) as link:
            assert link.read() == link.read() == b"elem" * 6  # and once more at the end, without an element
    with pytest.raises(KernelError, match="iter bpf_map_elem: E"), iterator("bpf_map_elem"):
        pass


def test_an_iterator_refuses_what_it_cannot_heed() -> None:
    with pytest.raises(ObjectError, match=r"only iterators of tasks \(task, "), iterator("bpf_map", pid=0):
        pass
    with pytest.raises(NotSupported, match="no cookies"), iterator("task", cookie=1):
        pass


@pytest.mark.lacks("kprobe")
@pytest.mark.parametrize(
    ("hook", "target", "hint"),
    [
        ("kretprobe", "vfs_read", "CONFIG_KPROBE_EVENTS"),
        ("kretsyscall", "openat", "CONFIG_KPROBE_EVENTS"),
        ("kretprobe.multi", "vfs_re*", "CONFIG_FPROBE"),
        ("kprobe.session", "vfs_read", "CONFIG_FPROBE"),
    ],
)
def test_without_kprobes_the_missing_option_is_named(hook: str, target: str, hint: str) -> None:
    with Hits(hook) as hits, pytest.raises(NotSupported, match=f"to {hook} {re.escape(target)}: ") as caught:
        hits.attach(target)
    assert hint in caught.value.hint


def test_a_return_probe_has_no_offset() -> None:
    with Hits("kretprobe") as hits, pytest.raises(ObjectError, match=r"'vfs_read\+4' is no function$"):
        hits.attach("vfs_read+4")


@pytest.mark.parametrize("hook", ["kprobe", "kprobe.multi"])
def test_a_process_is_refused_where_the_kernel_would_ignore_it(hook: str) -> None:
    with Hits(hook) as hits, pytest.raises(ObjectError, match="cannot be restricted to process 1") as caught:
        hits.attach("vfs_read", pid=1)
    assert "bpf_get_current_pid_tgid" in caught.value.hint


def test_a_program_without_a_hook_of_ours_cannot_be_attached() -> None:
    for hook, kind in (("xdp", ProgType.XDP), ("freplace", ProgType.EXT), ("", ProgType.SOCKET_FILTER), ("", 999)):
        request = Request("p", 0, "x", hook=hook, type=kind)
        assert not can_attach(request)
        with pytest.raises(NotSupported, match="does not attach programs of type") as caught:
            attach(request)
        assert "pin" in caught.value.hint
    with pytest.raises(ObjectError, match="does not say what to attach to"):
        attach(Request("p", 0, "", hook="kprobe"))


def test_a_program_of_unknown_section_is_attached_by_its_type(library: str) -> None:
    with Hits("uprobe.multi") as hits:
        request = hits.request(f"{library}:hit_one")._replace(hook="")
        assert can_attach(request)
        with attach(request):
            assert hits.of(five_calls(library)) == 5


def test_each_tracing_hook_that_sections_know_has_a_row() -> None:
    tracing = {ProgType.TRACEPOINT, ProgType.RAW_TRACEPOINT, ProgType.KPROBE, ProgType.PERF_EVENT, ProgType.TRACING}
    hooks = {name.removesuffix(".s").removesuffix(".w") for name, row in HOOKS.items() if row.type in tracing}
    assert hooks - {"usdt"} <= set(ATTACHERS) <= hooks | {"lsm"}


def test_the_kernels_functions_are_found_by_pattern() -> None:
    assert kallsyms.functions("vfs_read") == ["vfs_read"]
    assert {"vfs_read", "vfs_readv"} <= set(kallsyms.functions("vfs_rea*"))
    assert not [name for name in kallsyms.functions("*vfs_read") if name.startswith("__pfx_")]
    assert kallsyms.functions("vfs_[r]ead.") == []


def test_what_the_compiler_renamed_or_the_user_misspelt_is_found_among_the_symbols() -> None:
    assert "vfs_read" in kallsyms.similar("vsf_read")
    renamed = next(n for n in kallsyms.functions("*.*") if re.fullmatch(r"\w+\.(isra|constprop|part)\.\d+", n))
    assert f"the compiler made {renamed}" in kallsyms.similar(renamed.split(".")[0]).replace(
        ", ", " the compiler made "
    )
    assert kallsyms.similar("") == kallsyms.similar("\0" * 50) == ""


def test_a_system_call_has_its_wrapper() -> None:
    symbol = kallsyms.syscall_symbol("openat")
    assert re.fullmatch(r"(__\w+_)?sys_openat", symbol)
    assert kallsyms.functions(symbol) == [symbol]
    assert [kallsyms.syscall_symbol(name) for name in ("opena", "open(", "", ".*")] == [""] * 4
