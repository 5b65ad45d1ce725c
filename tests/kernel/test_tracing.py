"""Compiled objects attached to the kernel's hooks, as users attach them: what runs, what is said where it cannot."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from features import present, require

import purebpf
from purebpf.kernel.attach import IterLink, Link

pytestmark = pytest.mark.kernel

SOURCE = """
__u64 hits, cookie;
__u32 me;
const volatile _Bool cookies; /* may all of these programs ask for theirs? */

static int hit(void *ctx)
{
    if (bpf_get_current_pid_tgid() >> 32 != me)
        return 0;
    __sync_fetch_and_add(&hits, 1);
    if (cookies)
        cookie = bpf_get_attach_cookie(ctx);
    return 0;
}

SEC("tp/task/task_rename") int on_tp(void *ctx) { return hit(ctx); }
SEC("raw_tp/task_rename") int on_raw_tp(void *ctx) { return hit(ctx); }
SEC("tp_btf/task_rename") int on_tp_btf(void *ctx) { return hit(ctx); }
SEC("perf_event") int on_sample(void *ctx) { return hit(ctx); }
SEC("kprobe/do_nanosleep") int on_kprobe(void *ctx) { return hit(ctx); }
SEC("ksyscall/getpid") int on_ksyscall(void *ctx) { return hit(ctx); }
SEC("kprobe.multi/do_nanosleep") int on_kprobe_multi(void *ctx) { return hit(ctx); }
SEC("fentry/do_nanosleep") int on_fentry(void *ctx) { return 0; }

struct task_struct { int pid, tgid; } __attribute__((preserve_access_index));
struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; } __attribute__((preserve_access_index));
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; } __attribute__((preserve_access_index));
SEC("iter/task") int on_task(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;
    if (task)
        BPF_SEQ_PRINTF(ctx->meta->seq, "%d %d\\n", task->tgid, task->pid);
    return 0;
}

struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 3); __type(key, __u32); __type(value, __u64); } slots SEC(".maps");
struct bpf_iter__bpf_map_elem { struct bpf_iter_meta *meta; __u32 *key; __u64 *value; } __attribute__((preserve_access_index));
SEC("iter/bpf_map_elem") int on_element(struct bpf_iter__bpf_map_elem *ctx)
{
    __u32 *key = ctx->key;
    __u64 *value = ctx->value;
    if (key && value)
        BPF_SEQ_PRINTF(ctx->meta->seq, "%d=%llu ", *key, *value);
    return 0;
}
"""
RENAMES = ["on_tp", "on_raw_tp", "on_tp_btf"]
TYPES = {"on_tp": "perf_event", "on_raw_tp": "raw_tracepoint", "on_tp_btf": "raw_tracepoint"}
COOKIES = {"on_raw_tp": "raw_tp_cookie", "on_tp_btf": "raw_tp_cookie"}
Run = Callable[..., purebpf.Object]


@pytest.fixture
def run(build: Callable[[str], purebpf.ObjectSpec]) -> Iterator[Run]:
    """Load the object with one of its programs, edited, which counts hits of this process."""
    with ExitStack() as loaded:

        def load(name: str, **changes: Any) -> purebpf.Object:
            spec = build(SOURCE)
            for program in spec.programs.values():
                program.autoload = program.name == name
            vars(spec.programs[name]).update(changes)
            spec.variables["me"].value = os.getpid()
            spec.variables["cookies"].value = present(COOKIES.get(name, "cookie"))
            return loaded.enter_context(purebpf.load(spec))

        yield load


def rename() -> None:
    """Pass the tracepoint task_rename, once."""
    comm = Path("/proc/self/comm")
    comm.write_bytes(comm.read_bytes().rstrip())  # it is read with a line's end


def burn() -> None:
    """0.3 seconds of work."""
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass


def counted(obj: purebpf.Object, action: Callable[[], object], times: int = 1) -> int:
    """How many hits the action makes."""
    before: int = obj.globals.hits
    for _ in range(times):
        action()
    after: int = obj.globals.hits
    return after - before


@pytest.mark.parametrize("name", RENAMES)
def test_the_object_attaches_its_program_until_the_link_is_closed(run: Run, bpftool: Any, name: str) -> None:
    obj = run(name)
    (link,) = obj.attach()
    assert counted(obj, rename, 5) == 5
    if name != "on_tp" or present("perf_link"):
        info = link.info()
        shown = next(row for row in bpftool("link", "show") if row["id"] == info.id)
        assert shown["prog_id"] == info.program_id == obj.programs[name].info().id
        assert shown["type"] == TYPES[name] or not present("perf_link")  # bpftools of older kernels name few
    link.close()
    assert counted(obj, rename, 5) == 0


@pytest.mark.parametrize("name", RENAMES)
def test_a_pinned_link_outlives_the_object(run: Run, bpffs: Path, bpftool: Any, name: str) -> None:
    require("perf_link", COOKIES.get(name, "cookie"))
    obj = run(name)
    link = obj.programs[name].attach(cookie=2**63)
    number = link.info().id
    link.pin(bpffs / "kept")
    link.close()
    assert (counted(obj, rename), obj.globals.cookie) == (1, 2**63)
    obj.close()
    assert any(row["id"] == number for row in bpftool("link", "show"))
    link.unpin()
    deadline = time.monotonic() + 10  # the kernel takes it apart a little later
    while any(row["id"] == number for row in bpftool("link", "show")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.needs("perf_link")
def test_a_pin_by_a_relative_path_is_found_again(run: Run, bpffs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run("on_tp").programs["on_tp"].attach() as link:
        with monkeypatch.context() as there:
            there.chdir(bpffs)
            link.pin("kept")
        assert link.pinned == str(bpffs / "kept")
        link.unpin()
        assert not (bpffs / "kept").exists()
        with pytest.raises(purebpf.ObjectError, match="link of 'on_tp' is not pinned"):
            link.unpin()


def test_a_tracepoint_takes_a_program_once(run: Run) -> None:
    program = run("on_tp").programs["on_tp"]
    with program.attach(), pytest.raises(purebpf.KernelError, match="EEXIST") as caught:
        program.attach()
    assert "attached there already" in caught.value.hint


@pytest.mark.lacks("perf_link")
def test_without_a_link_it_says_that_there_is_none(run: Run, bpffs: Path) -> None:
    with run("on_tp").programs["on_tp"].attach() as link:
        for ask in (link.info, lambda: link.pin(bpffs / "kept")):
            with pytest.raises(purebpf.NotSupported, match="to perf events without a link") as caught:
                ask()
            assert "Linux 5.15" in caught.value.hint


@pytest.mark.needs("raw_tp_cookie")  # with which each link became an entry of its own
@pytest.mark.parametrize("name", ["on_raw_tp", "on_tp_btf"])
def test_other_programs_attached_twice_run_twice(run: Run, name: str) -> None:
    obj = run(name)
    program = obj.programs[name]
    with program.attach() as first, program.attach() as second:
        assert first.info().id != second.info().id
        assert counted(obj, rename) == 2
        first.close()
        assert counted(obj, rename) == 1
    assert counted(obj, rename) == 0


@pytest.mark.parametrize(("pid", "cookie"), [(-1, 3), (0, 4), (os.getpid(), 5)])
def test_samples_are_counted_and_know_their_cookie(run: Run, pid: int, cookie: int) -> None:
    obj = run("on_sample")
    cookie *= present("cookie")
    with obj.programs["on_sample"].attach("cpu-clock@99", pid=pid, cookie=cookie) as link:
        assert 10 <= counted(obj, burn) <= 60  # 30, were the machine idle
        assert obj.globals.cookie == cookie
        assert not cookie or link.info().program_id == obj.programs["on_sample"].info().id
    assert counted(obj, burn) == 0


def test_an_iterator_lists_the_tasks_each_time_it_is_read(run: Run) -> None:
    (link,) = run("on_task").attach()
    assert isinstance(link, IterLink)
    for _ in range(2):
        with subprocess.Popen(["sleep", "60"]) as child:
            rows = [line.split() for line in link.read().decode().splitlines()]
            child.kill()
        assert {os.getpid(), os.getppid(), child.pid} <= {int(tgid) for tgid, _pid in rows}
    link.close()
    with pytest.raises(purebpf.ClosedError):
        link.read()


@pytest.mark.needs("task_iterator")
def test_an_iterator_can_be_held_to_a_process(run: Run) -> None:
    program = run("on_task").programs["on_task"]
    for pid in (0, os.getpid()):
        with program.attach(pid=pid) as link:
            assert isinstance(link, IterLink)
            assert {line.split()[0] for line in link.read().splitlines()} == {b"%d" % os.getpid()}


@pytest.mark.lacks("task_iterator")
def test_a_process_is_refused_where_the_kernel_knows_none(run: Run) -> None:
    with pytest.raises(purebpf.NotSupported, match="cannot hold an iterator to a process") as caught:
        run("on_task").programs["on_task"].attach(pid=0)
    assert "Linux 6.1" in caught.value.hint


@pytest.mark.needs("map_iterator")
def test_an_iterator_goes_through_the_elements_of_a_map(run: Run) -> None:
    obj = run("on_element")
    obj.maps["slots"][1] = 17
    with obj.programs["on_element"].attach(map=obj.maps["slots"]) as link:
        assert isinstance(link, IterLink)
        assert link.read() == b"0=0 1=17 2=0 "


def test_programs_whose_section_says_nothing_are_left_out_by_the_object(run: Run) -> None:
    obj = run("on_sample")
    assert not obj.programs["on_sample"].attachable
    assert obj.attach() == []
    with pytest.raises(purebpf.ObjectError, match="'perf_event' does not say what to attach to") as caught:
        obj.programs["on_sample"].attach()
    assert "program.attach(" in caught.value.hint


REFUSALS = [
    ("on_tp", "task/task_renam", purebpf.NotSupported, "no tracepoint task/task_renam", "task/task_rename"),
    ("on_tp", "sched/task_rename", purebpf.NotSupported, "no tracepoint sched/task_rename", "task/task_rename"),
    ("on_tp", "task_rename", purebpf.ObjectError, "written category/name", ""),
    ("on_raw_tp", "task_renam", purebpf.NotSupported, "no tracepoint task_renam", "task_rename"),
    pytest.param(
        "on_kprobe",
        "do_nanosleep",
        purebpf.NotSupported,
        "no kprobes",
        "CONFIG_KPROBE_EVENTS",
        marks=pytest.mark.lacks("kprobe"),
    ),
    pytest.param(
        "on_kprobe",
        "do_nanosleep+0x4",
        purebpf.NotSupported,
        "no kprobes",
        "CONFIG_KPROBE_EVENTS",
        marks=pytest.mark.lacks("kprobe"),
    ),
    ("on_kprobe", "what is this", purebpf.ObjectError, "no function", ""),
    ("on_kprobe", "do_nanosleep+010", purebpf.ObjectError, "no function", ""),
    pytest.param(
        "on_ksyscall",
        "getpid",
        purebpf.NotSupported,
        "no kprobes",
        "CONFIG_KPROBE_EVENTS",
        marks=pytest.mark.lacks("kprobe"),
    ),
    ("on_ksyscall", "get.*", purebpf.NotSupported, "no system call 'get.*'", ""),
    pytest.param(
        "on_kprobe_multi",
        "do_nanosleep",
        purebpf.NotSupported,
        "many functions at once",
        "CONFIG_FPROBE",
        marks=pytest.mark.lacks("kprobe_multi"),
    ),
    ("on_kprobe_multi", "do_nanoslep*", purebpf.NotSupported, "no function of this kernel matches", "do_nanosleep"),
    ("on_sample", "cpu-clok@99", purebpf.ObjectError, "is no event", "cpu-clock"),
]


@pytest.mark.parametrize(("name", "target", "kind", "message", "hint"), REFUSALS)
def test_what_cannot_be_attached_is_said_with_what_can(
    run: Run, name: str, target: str, kind: type[purebpf.Error], message: str, hint: str
) -> None:
    with pytest.raises(kind) as caught:
        run(name).programs[name].attach(target)
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert name in str(caught.value)


def test_a_missing_target_is_named_when_the_program_is_loaded(run: Run) -> None:
    with pytest.raises(purebpf.NotSupported, match="'on_tp_btf': this kernel has no tracepoint task_renam") as caught:
        run("on_tp_btf", attach_to="task_renam")
    assert "task_rename" in caught.value.hint
    with pytest.raises(purebpf.NotSupported, match="this kernel has no iterator tusk"):
        run("on_task", attach_to="tusk")
    with pytest.raises(purebpf.ObjectError, match="does not say which tracepoint"):
        run("on_tp_btf", attach_to="")


def test_what_was_verified_for_one_target_is_not_attached_to_another(run: Run) -> None:
    with pytest.raises(purebpf.ObjectError, match="verified for task_rename, and cannot be attached to sys_enter"):
        run("on_tp_btf").programs["on_tp_btf"].attach("sys_enter")


@pytest.mark.lacks("fentry")
def test_a_kind_of_program_that_the_kernel_refuses_is_not_blamed_on_the_memory_limit(run: Run) -> None:
    with pytest.raises((purebpf.NotPermitted, purebpf.NotSupported)) as caught:
        run("on_fentry").programs["on_fentry"].attach()
    if isinstance(caught.value, purebpf.NotSupported):  # no trampolines: that is why, and is said
        assert "this kernel's functions cannot call programs" in str(caught.value)
        return
    said = f"{caught.value} {caught.value.hint}"
    assert "EPERM without a word from the verifier" in said
    assert "programs of type TRACING in section 'fentry/do_nanosleep'" in said
    assert "memlock" not in said.lower()
    assert "ulimit" not in said


def test_a_forgotten_link_says_so(run: Run) -> None:
    link: Link = run("on_raw_tp").programs["on_raw_tp"].attach()
    with pytest.warns(ResourceWarning, match="link of 'on_raw_tp' was not closed"):
        del link
