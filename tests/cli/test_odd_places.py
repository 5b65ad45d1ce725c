"""File systems, descriptors and Pythons that lack something: it works all the same, or says what is missing and what to do."""

from __future__ import annotations

import json
import os

import pytest
from odd_machines import (
    ENVIRONMENT,
    HIDE_PROCESSES,
    LOADING,
    MOUNT_TRACEFS,
    NEEDED_BY_PYTHON,
    PREBUILT,
    PUREBPF,
    PYTHON,
    UNMOUNT_TRACEFS,
    WITH_SLEEPER,
    every_command,
    filtered,
    mounts,
    purebpf,
    root,
    run,
    says,
    user,
    works,
)

kernel = pytest.mark.kernel

NO_PROC, NO_SYS = mounts("mount -t tmpfs none /proc"), mounts("mount -t tmpfs none /sys")
NO_TRACEFS, TRACEFS = mounts(UNMOUNT_TRACEFS), mounts(MOUNT_TRACEFS)
TRACEPOINT = ("run", f"{PREBUILT}/execve.bpf.o", "--duration", "0.1")


@kernel
@every_command
def test_tracefs_need_not_be_mounted(command: tuple[str, ...]) -> None:
    works(purebpf(*command, on=NO_TRACEFS))


@kernel
def test_what_needs_tracefs_and_may_not_mount_it_says_so() -> None:
    done = purebpf(*TRACEPOINT, on=(*NO_TRACEFS, *root("bpf", "perfmon")))
    says(done, 6, "tracefs is not mounted", "EPERM", "mount -t tracefs tracefs /sys/kernel/tracing")


ODD_NAME = "/mnt/a\u2028\x0b \x1c\\\r\x85b"  # the kernel escapes the blank and the backslash alone


@kernel
def test_tracefs_is_found_under_any_name() -> None:
    where = MOUNT_TRACEFS.replace("/sys/kernel/tracing", f"'{ODD_NAME}'")
    mounted = mounts(f"{UNMOUNT_TRACEFS} ; mkdir '{ODD_NAME}' && {where}")
    works(purebpf(*TRACEPOINT, on=(*mounted, *root("bpf", "perfmon"))))


@kernel
def test_cgroups_are_found_under_any_name() -> None:
    mounted = mounts(f"umount -lR /sys/fs/cgroup; mkdir '{ODD_NAME}' && mount -t cgroup2 none '{ODD_NAME}'")
    done = purebpf("trace-exec", "--container", "none", on=mounted)
    assert done.returncode == 1, done.stderr
    assert "belongs to a container 'none'" in done.stderr
    assert "Traceback" not in done.stderr


@kernel
def test_a_kernel_without_tracefs_is_told_from_one_where_it_is_not_mounted() -> None:
    """ENODEV: it knows no such file system."""
    done = purebpf(*TRACEPOINT, on=(*NO_TRACEFS, *filtered("fsopen:any:19")))
    says(done, 4, "this kernel has no tracefs", "CONFIG_TRACING and CONFIG_BPF_EVENTS")


@kernel
def test_tracefs_that_a_user_may_not_read_is_named_with_the_capability() -> None:
    says(purebpf(*TRACEPOINT, on=(*TRACEFS, *user("bpf", "perfmon"))), 6, "cannot read tracefs", "CAP_DAC_READ_SEARCH")


@kernel
@pytest.mark.parametrize("command", [*LOADING[:3], ("probe",)], ids=lambda command: command[0])
def test_without_proc_it_works(command: tuple[str, ...]) -> None:
    works(purebpf(*command, on=NO_PROC))


@kernel
@pytest.mark.parametrize(
    "command",
    [
        TRACEPOINT,
        ("trace-exec", "--", "true"),
        ("trace-open", "--pid", "1"),
        ("trace-connect", "--container", "a"),
        ("trace-exec", "--schema", "ecs"),
    ],
    ids=" ".join,
)
def test_what_needs_proc_says_so(command: tuple[str, ...]) -> None:
    execs = "for i in $(seq 100); do sleep 0.1; /bin/true; done"
    script = f'{execs} & {" ".join(PUREBPF)} "$@"; status=$?; kill $!; exit $status'
    done = run("sh", "-c", script, "-", *command, on=NO_PROC)
    says(done, 1, "/proc is not mounted", "mount -t proc proc /proc")


@kernel
@pytest.mark.parametrize("on", [user(), root()], ids=["user", "root"])
def test_without_proc_a_missing_privilege_is_named(on: tuple[str, ...]) -> None:
    """Whether it is missing cannot be seen, so root is not told to become root."""
    done = purebpf("trace-exec", on=(*NO_PROC, *on))
    says(done, 5, "CAP_BPF and CAP_PERFMON", "cannot be seen without /proc", "mount -t proc proc /proc")
    assert "run as root" not in done.stderr


@kernel
@pytest.mark.parametrize(
    "command",
    [*LOADING[:3], ("probe",), ("inspect", f"{PREBUILT}/trace_exec.bpf.o", "--btf", "kernel")],
    ids=lambda command: command[0],
)
def test_what_needs_sys_says_so(command: tuple[str, ...]) -> None:
    """And not that this kernel has no BTF, which cannot be seen."""
    says(purebpf(*command, on=NO_SYS), 1, "/sys is not mounted", "mount -t sysfs sysfs /sys")


@kernel
def test_another_system_is_named_before_what_it_has_not() -> None:
    program = "import sys; sys.platform = 'darwin'; from purebpf.cli import main; main(['trace-exec'])"
    says(run(PYTHON, "-c", program, on=NO_SYS), 3, "only be loaded on Linux", "darwin")


@kernel
def test_without_sys_an_object_runs_that_needs_nothing_there() -> None:
    works(purebpf(*TRACEPOINT, on=NO_SYS))


@kernel
@pytest.mark.parametrize("hidepid", ["1", "2"])
def test_processes_that_proc_hides_are_not_passed_over_in_silence(hidepid: str) -> None:
    """Those of others. One's own process may have children of others, as a shell that has started sudo."""
    mounted, tracer = mounts(HIDE_PROCESSES.replace("hidepid=2", f"hidepid={hidepid}")), user("bpf", "perfmon")
    works(purebpf("trace-exec", "--", "true", on=(*mounted, *tracer)))
    for on in ((*WITH_SLEEPER, *tracer), (*tracer, *WITH_SLEEPER)):
        done = purebpf("trace-exec", "--duration", "0.1", "--tree", on=(*mounted, *on))
        says(done, 5, "hides the processes of others (hidepid)", "CAP_SYS_PTRACE")


@kernel
@pytest.mark.parametrize("pid", ["0", "4194305", "99999999999"])
def test_a_tree_without_a_root_is_not_waited_for(pid: str) -> None:
    """0 is no process, the others are above the largest number that Linux gives (PID_MAX_LIMIT)."""
    says(
        purebpf("trace-exec", "--duration", "0.1", "--tree", pid),
        1,
        f"there is no process {pid}",
        "name one that lives",
    )


@kernel
@every_command
def test_dev_null_is_not_needed(command: tuple[str, ...]) -> None:
    works(purebpf(*command, on=mounts("mount -t tmpfs none /dev")))


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-"])
def test_a_stream_is_closed_and_there_is_no_dev_null(closed: str) -> None:
    script = f"{' '.join(PUREBPF)} inspect {PREBUILT}/execve.bpf.o {closed}"
    says(run("sh", "-c", script, on=mounts("mount -t tmpfs none /dev")), 1, "/dev/null cannot be opened", "mknod")


STREAMS = ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- 2>&-", "<&- >&- 2>&-"]


@kernel
@pytest.mark.parametrize("closed", STREAMS)
@pytest.mark.parametrize("command", [*LOADING[:3], ("probe",)], ids=lambda command: command[0])
def test_closed_streams_are_no_trap(command: tuple[str, ...], closed: str) -> None:
    """What was to be printed could not be: status 1, and the reason, if there is somebody to tell. Else nothing is wrong."""
    done = run("sh", "-c", f"{' '.join(PUREBPF)} {' '.join(command)} {closed}")
    written = ">&-" not in closed.replace("2>&-", "")
    assert done.returncode == (0 if written else 1), done.stderr
    assert bool(done.stdout) == written
    said = not written and "2>&-" not in closed
    assert done.stderr.startswith("purebpf: standard output: Bad file descriptor; ") if said else not done.stderr
    assert len(done.stderr.splitlines()) == said


@kernel
@pytest.mark.parametrize("closed", STREAMS)
def test_nothing_of_ours_becomes_a_standard_stream(closed: str) -> None:
    """In a program as well, which may have closed them itself."""
    program = f"""if True:
        import os, purebpf
        with purebpf.load("{PREBUILT}/trace_open.bpf.o") as obj:
            obj.attach()
            obj.ring("events").drain()
            streams = {{fd: os.readlink(f"/proc/self/fd/{{fd}}") for fd in range(3) if os.path.exists(f"/proc/self/fd/{{fd}}")}}
        with open("/mnt/streams", "w") as file:
            print(*streams.values(), sep=chr(10), file=file)
    """
    done = run("sh", "-c", f"{PYTHON} -c '{program}' {closed} && exec cat /mnt/streams")
    assert (done.returncode, done.stderr) == (0, "")
    assert "bpf" not in done.stdout


def test_a_python_without_ctypes_reads_objects_and_says_what_it_cannot() -> None:
    """As one that was built without libffi."""
    without = "import sys, runpy; sys.modules['_ctypes'] = None; runpy.run_module('purebpf', run_name='__main__')"
    path = f"{PREBUILT}/execve.bpf.o"
    assert "trace_execve" in run(PYTHON, "-c", without, "inspect", path, "--code").stdout
    for command in (*LOADING, ("probe",)):
        says(run(PYTHON, "-c", without, *command), 1, "has no ctypes", "libffi")


@pytest.mark.parametrize(
    ("before", "on", "said"),
    [
        ("sys.modules['_ctypes'] = None", (), "has no ctypes, without which no system call can be made"),
        ("", ("setarch", "linux32"), "no system call numbers known for machine"),
    ],
    ids=["ctypes", "machine"],
)
def test_where_no_call_can_be_made_a_library_says_so_and_not_no(before: str, on: tuple[str, ...], said: str) -> None:
    program = f"""if True:
        import sys
        {before}
        import purebpf
        from purebpf.formats.abi import MapType
        from purebpf.kernel import maps, probe, sys as calls
        asks = (
            lambda: probe.has_map_type(MapType.HASH),
            probe.FEATURES["memcg_accounting"],
            lambda: maps.open_pinned("/sys/fs/bpf/map"),
            calls.full_barrier,
        )
        for ask in asks:
            try:
                print(ask())
            except purebpf.KernelError as error:
                print(error, error.hint)
    """
    done = run(PYTHON, "-c", program, on=on)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert [line for line in lines if said not in line] == []


@kernel
def test_no_home_no_path_and_no_locale_are_needed() -> None:
    for command in LOADING:
        works(purebpf(*command, env=NEEDED_BY_PYTHON))


@kernel
@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "POSIX"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}], ids=str
)
def test_arguments_beyond_ascii_survive_an_ascii_locale(locale: dict[str, str]) -> None:
    environment = {**ENVIRONMENT, **locale}
    done = purebpf("trace-exec", "--json", "--", "/bin/true", "é€", env=environment)
    works(done)
    assert json.loads(done.stdout)["argv"] == ["/bin/true", "é€"]
    odd = os.fsdecode("é€".encode() + b"\xff")
    for form in ((), ("--csv",), ("--format", "{argv}"), ("--tree-view",)):
        works(purebpf("trace-exec", *form, "--", "/bin/true", odd, env=environment))
    done = purebpf("inspect", f"/{odd}", env=environment)
    assert (done.returncode, len(done.stderr.splitlines())) == (7, 1)
