"""Attaching on the running kernel: a program runs when it should, for whom it should, and no longer than its link."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import seccomp_filter
from features import present
from hits import Hits

import purebpf
from purebpf.errors import ClosedError, Error, KernelError, NotPermitted, NotSupported, ObjectError
from purebpf.formats import insn
from purebpf.formats.abi import AttachType, Cmd, ProgType
from purebpf.formats.elf_symbols import function_offsets
from purebpf.formats.insn import Instruction
from purebpf.formats.kinds import Kind
from purebpf.formats.spec import ProgramSpec
from purebpf.kernel import tracefs, vmlinux

pytestmark = pytest.mark.kernel

ENTER = "syscalls/sys_enter_getpgid"
PMU = "/sys/bus/event_source/devices/uprobe"
LIBRARY = """
__attribute__((noinline)) long hit_one(long a) { __asm__ volatile(""); return a + 1; }
__attribute__((noinline)) long hit_two(long a) { __asm__ volatile(""); return a + 2; }
long other(long a) { return a; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("library") / "lib hit#1.so"  # characters that tracefs takes for its own
    source = path.with_suffix(".c")
    source.write_text(LIBRARY)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", path, source], check=True)
    return str(path)


def five_calls() -> None:
    for _ in range(5):
        os.getpgid(0)


def hit(path: str, name: str = "hit_one") -> Callable[[], None]:
    function = ctypes.CDLL(path)[name]

    def run() -> None:
        for number in range(5):
            function(number)

    return run


def raw_hits(hook: str, **more: Any) -> Hits:
    """For the tracepoint sys_enter."""
    kernel = vmlinux.vmlinux()
    number = next(iter(kernel.find("btf_trace_sys_enter", Kind.TYPEDEF))).id if hook == "tp_btf" else 0
    return Hits(hook, btf_id=number, **more)


def in_child(function: Callable[[], Any]) -> Any:
    """What the function gives in a process of its own, which it may spoil; values of JSON."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.write(send, json.dumps(function()).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(send)
    with os.fdopen(receive, "rb") as answer:
        text = answer.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(text)


def hide(folder: str) -> None:
    """An empty file system over a folder, for this process only."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x20000) == 0  # CLONE_NEWNS
    assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
    assert libc.mount(b"none", os.path.realpath(folder).encode(), b"tmpfs", 0, None) == 0


@pytest.mark.parametrize("target", [ENTER, "syscalls/sys_exit_getpgid"])
def test_a_tracepoint_runs_as_long_as_its_link_is_open(target: str, bpftool: Any) -> None:
    with Hits("tp") as hits:
        with hits.attach(target) as link:
            assert hits.of(five_calls) == 5
            if present("perf_link"):
                info = link.info()
                shown = next(row for row in bpftool("link", "show") if row["id"] == info.id)
                assert shown["prog_id"] == info.program_id
        assert hits.of(five_calls) == 0


@pytest.mark.parametrize("hook", ["raw_tp", "raw_tracepoint", "raw_tp.w", "tp_btf"])
def test_a_raw_tracepoint_runs_as_long_as_its_link_is_open(hook: str, bpftool: Any) -> None:
    with raw_hits(hook) as hits:
        with hits.attach("sys_enter") as link:
            assert hits.of(five_calls) >= 5
            assert link.info().id in [row["id"] for row in bpftool("link", "show")]
        assert hits.of(five_calls) == 0


def test_a_category_before_a_raw_tracepoint_does_no_harm() -> None:
    with Hits("raw_tp") as hits, hits.attach("raw_syscalls/sys_enter"):
        assert hits.of(five_calls) >= 5


@pytest.mark.parametrize(("hook", "target"), [("tp", ENTER), ("raw_tp", "sys_enter"), ("tp_btf", "sys_enter")])
def test_a_cookie_reaches_the_program(hook: str, target: str) -> None:
    with raw_hits(hook, cookies=True) as hits, hits.attach(target, cookie=1 << 40):
        count, rest = divmod(hits.of(five_calls), 1 << 40)
        assert count >= 5
        assert rest == 0


@pytest.mark.parametrize(("hook", "target"), [("tp_btf", "sys_enter"), ("tp", ENTER)])
def test_without_links_the_old_way_attaches(hook: str, target: str) -> None:
    """BPF_LINK_CREATE answers EINVAL before 5.7, to these before 5.15."""

    def old() -> list[Any]:
        seccomp_filter.install(*seccomp_filter.bpf_answers(errno.EINVAL, Cmd.LINK_CREATE))
        with raw_hits(hook) as hits:
            with hits.attach(target):
                during = hits.of(five_calls)
            with pytest.raises(NotSupported) as caught:
                hits.attach(target, cookie=1)
            return [during, hits.of(five_calls), str(caught.value)]

    during, after, message = in_child(old)
    assert (during >= 5, after) == (True, 0)
    assert "cookie" in message


@pytest.mark.parametrize("hook", ["tp", "raw_tp"])
def test_a_process_is_refused_where_the_kernel_would_ignore_it(hook: str) -> None:
    with Hits(hook) as hits, pytest.raises(ObjectError, match="cannot be restricted to process 1") as caught:
        hits.attach("sys_enter", pid=1)
    assert "bpf_get_current_pid_tgid" in caught.value.hint


@pytest.mark.parametrize(
    ("hook", "target", "close"),
    [
        ("tp", "syscalls/sys_enter_getpgidd", ENTER),
        ("tp", "exec/sched_process_exec", "close to it: sched/sched_process_exec"),
        ("tp", "zzz/qqqqqqqqqqqq", "/events"),
        ("raw_tp", "sched_proces_exec", "sched_process_exec"),
    ],
)
def test_a_missing_tracepoint_is_named_with_close_ones(hook: str, target: str, close: str) -> None:
    with Hits(hook) as hits, pytest.raises(NotSupported, match=f"this kernel has no tracepoint {target}") as caught:
        hits.attach(target)
    assert close in caught.value.hint
    assert caught.value.errno == errno.ENOENT


def test_a_user_probe_goes_to_a_function_or_an_offset_and_nowhere_else(library: str) -> None:
    one, two = (function_offsets(Path(library).read_bytes(), name)[0] for name in ("hit_one", "hit_two"))
    for target in ("hit_two", "hit_two+0", f"hit_one+{two - one:#x}", f"{two:#x}", f"{two}"):
        with Hits("uprobe") as hits, hits.attach(f"{library}:{target}"):
            assert hits.of(hit(library, "hit_two")) == 5
            assert hits.of(hit(library)) == 0


def test_a_pattern_probes_many_functions_with_one_link(library: str, bpftool: Any) -> None:
    with Hits("uprobe.multi") as hits, hits.attach(f"{library}:hit_*") as link:
        assert hits.of(hit(library)) + hits.of(hit(library, "hit_two")) == 10
        assert hits.of(hit(library, "other")) == 0
        assert link.info().id in [row["id"] for row in bpftool("link", "show")]


@contextmanager
def other_process(library: str) -> Iterator[tuple[int, Callable[[], None]]]:
    """Another process's number, and what makes it call hit_one five times."""
    code = (
        "import ctypes, sys; f = ctypes.CDLL(sys.argv[1]).hit_one; print('ready', flush=True)\n"
        "for line in sys.stdin: [f(1) for _ in range(5)]; print('done', flush=True)"
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, library], text=True, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ask, answer = process.stdin, process.stdout
        assert answer.readline() == "ready\n"

        def run() -> None:
            ask.write("\n")
            ask.flush()
            assert answer.readline() == "done\n"

        yield process.pid, run


@pytest.mark.parametrize("hook", ["uprobe", "uretprobe", "uprobe.multi"])
def test_a_user_probe_of_one_process_leaves_others_alone(hook: str, library: str) -> None:
    with other_process(library) as (other, there), Hits(hook, everyone=True) as hits:
        there()
        for pid, expected in ((other, (0, 5)), (os.getpid(), (5, 0)), (0, (5, 0)), (-1, (5, 5))):
            with hits.attach(f"{library}:hit_one", pid=pid):
                assert (hits.of(hit(library)), hits.of(there)) == expected, pid


def test_libraries_and_programs_are_found_by_name() -> None:
    labs = ctypes.CDLL("libc.so.6").labs
    with Hits("uprobe") as hits, hits.attach("libc.so.6:labs"):
        assert hits.of(lambda: labs(-3)) == 1
    with Hits("uprobe") as hits, pytest.raises(ObjectError, match="/env: no function 'no_such'"):
        hits.attach("env:no_such")
    with Hits("uprobe") as hits, pytest.raises(ObjectError, match=r"no 'libnone\.so\.9' where"):
        hits.attach("libnone.so.9:f")


def events(pid: int) -> list[str]:
    """What this process has in tracefs."""
    with tracefs.root() as (root, _path):
        lines = Path(f"/proc/self/fd/{root}/uprobe_events").read_text().splitlines()
    return [line for line in lines if f"purebpf_{pid}/" in line]


@pytest.mark.parametrize("hook", ["uprobe", "uretprobe"])
def test_without_the_pmu_tracefs_probes_and_is_left_clean(hook: str, library: str) -> None:
    """As before 4.17."""

    def old() -> list[int]:
        hide(PMU)
        with Hits(hook) as hits:
            with hits.attach(f"{library}:hit_one"):
                during, listed = hits.of(hit(library)), len(events(os.getpid()))
            return [during, listed, hits.of(hit(library)), len(events(os.getpid()))]

    assert in_child(old) == [5, 1, 0, 0]


def test_events_that_a_killed_process_left_are_swept_up(library: str) -> None:
    child = os.fork()
    if not child:
        try:
            hide(PMU)
            Hits("uprobe").attach(f"{library}:hit_one")
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert len(events(child)) == 1

    def sweep() -> list[str]:
        hide(PMU)
        with Hits("uprobe") as hits, hits.attach(f"{library}:hit_two"):
            return events(child)

    assert in_child(sweep) == []


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        ("nothing", "is not FILE:FUNCTION", "libc.so.6:malloc"),
        ("{0}:hit_oen", "no function 'hit_oen'", "close to it: hit_one"),
        ("{0}:hit_*", "2 functions match", ""),
        ("{0}:010", "no function '010'", ""),
        ("{0}:hit_one+0x1ffffffffffffffff", "is not FILE:FUNCTION", ""),
        ("/none/at/all:f", "No such file", ""),
        ("/dev/zero:f", "no regular file", ""),
        ("/etc/passwd:f", "not an ELF file", ""),
        ("{0}:f\0", "is no target", ""),
    ],
)
def test_a_bad_place_for_a_user_probe_is_explained(target: str, message: str, hint: str, library: str) -> None:
    with Hits("uprobe") as hits, pytest.raises(ObjectError, match=re.escape(message)) as caught:
        hits.attach(target.format(library))
    assert hint in caught.value.hint


def test_a_place_that_the_kernel_refuses_comes_with_its_errno() -> None:
    with Hits("uprobe") as hits, pytest.raises(KernelError, match="to uprobe /none/at/all:0x10: ENOENT"):
        hits.attach("/none/at/all:0x10")


@pytest.mark.parametrize("more", [{"pid": -2}, {"pid": 1 << 31}, {"cookie": -1}, {"cookie": 1 << 64}])
def test_numbers_that_do_not_fit_are_refused(more: dict[str, int], library: str) -> None:
    with Hits("uprobe") as hits, pytest.raises(ObjectError, match="out of range"):
        hits.attach(f"{library}:hit_one", **more)


@pytest.mark.parametrize(
    ("target", "kind", "message", "hint"),
    [
        ("cpu-clock@0", ObjectError, "is no event", "EVENT@HERTZ"),
        ("cpu-clock@²", ObjectError, "is no event", "EVENT@HERTZ"),
        ("cpu-clock@99999999999999999999999", ObjectError, "is no event", "EVENT@HERTZ"),
        ("no-such-event", ObjectError, "is no event", "cpu-clock"),
        ("cpu-clock@999999999", KernelError, "perf_event_open: EINVAL", "perf_event_max_sample_rate"),
    ],
)
def test_a_bad_event_is_explained(target: str, kind: type[Error], message: str, hint: str) -> None:
    with Hits("perf_event") as hits, pytest.raises(kind, match=message) as caught:
        hits.attach(target)
    assert hint in caught.value.hint


WITHOUT_KPROBES = pytest.mark.lacks("kprobe")


@pytest.mark.parametrize(
    ("hook", "target", "kind", "message"),
    [
        pytest.param("kprobe", "vfs_read", NotSupported, "this kernel has no kprobes", marks=WITHOUT_KPROBES),
        pytest.param("kprobe", "vfs_read+0x10", NotSupported, "this kernel has no kprobes", marks=WITHOUT_KPROBES),
        pytest.param("ksyscall", "openat", NotSupported, "this kernel has no kprobes", marks=WITHOUT_KPROBES),
        ("ksyscall", "no_such(", NotSupported, "no system call 'no_such('"),
        ("kprobe.multi", "vsf_read", NotSupported, "no function of this kernel matches 'vsf_read'"),
        pytest.param(
            *("kprobe.multi", "vfs_re*", NotSupported, "this kernel cannot attach to many functions at once"),
            marks=pytest.mark.lacks("kprobe_multi"),
        ),
        ("kprobe", "a b", ObjectError, "is no function, which may have an offset"),
        ("kprobe", "vfs_read+010", ObjectError, "is no function"),
        ("kprobe", "vfs_read+0xfffffffffffffffff", ObjectError, "is no function"),
    ],
)
def test_a_place_in_the_kernel_that_cannot_be_probed_is_explained(
    hook: str, target: str, kind: type[Error], message: str
) -> None:
    with Hits(hook) as hits, pytest.raises(kind, match=re.escape(message)):
        hits.attach(target)


@pytest.mark.needs("perf_link")
def test_a_pinned_link_stays_attached_until_it_is_unpinned(bpffs: Path, bpftool: Any) -> None:
    with Hits("tp") as hits:
        with hits.attach(ENTER) as link:
            link.pin(bpffs / "link")
            number = link.info().id
        assert hits.of(five_calls) == 5
        assert number in [row["id"] for row in bpftool("link", "show")]
        link.unpin()
        end = time.monotonic() + 10
        while hits.of(five_calls):  # the kernel lets go of an unlinked pin a little later
            assert time.monotonic() < end
            time.sleep(0.02)


def test_a_pin_that_fails_is_caused_by_what_the_kernel_answered(tmp_path: Path) -> None:
    with Hits("raw_tp") as hits, hits.attach("sys_enter") as link, pytest.raises(KernelError) as caught:
        link.pin(tmp_path / "link")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__ is not caught.value


def test_a_tracing_link_cannot_be_detached_from_afar_and_says_how_it_ends() -> None:
    with Hits("raw_tp") as hits, hits.attach("sys_enter") as link:
        with pytest.raises(KernelError, match=r"detaching link of 'hit': E(OP)?NOTSUPP?") as caught:
            link.detach()
        assert "closed and unpinned" in caught.value.hint


def test_a_closed_link_says_so_and_closes_twice() -> None:
    with Hits("raw_tp") as hits:
        link = hits.attach("sys_enter")
        link.close()
        link.close()
        with pytest.raises(ClosedError, match="link of 'hit' is closed"):
            link.info()


def test_fentry_where_the_kernel_refuses_it_is_not_blamed_on_privileges() -> None:
    code = insn.encode([Instruction(0xB7, 0, 0, 0, 0), Instruction(0x95, 0, 0, 0, 0)], sys.byteorder)
    kind: dict[str, Any] = {"type": ProgType.TRACING, "attach_type": AttachType.TRACE_FENTRY, "attach_to": "vfs_read"}
    program = ProgramSpec("enter", "fentry/vfs_read", code, required=False, **kind)
    with purebpf.load(purebpf.ObjectSpec({}, {"enter": program}, "GPL", sys.byteorder)) as obj:
        if "enter" in obj.programs:
            refusal = ""
            try:
                with obj.programs["enter"].attach() as link:
                    assert link.info().program_id
            except NotSupported as error:  # no trampolines
                refusal = str(error)
            assert not refusal or "ENOTSUPP: this kernel's functions cannot call programs" in refusal
            return
        error = obj.failures["enter"]
        assert isinstance(error, NotPermitted)
        assert "this process has the capabilities" in str(error)
        assert "memlock" not in str(error) + error.hint
