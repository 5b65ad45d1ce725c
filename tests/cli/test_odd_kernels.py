"""Kernels that lack something: it works all the same, or one line says what is missing and another what to do."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest
from odd_machines import (
    BTF_LOAD,
    HIDE_BTF,
    LOADING,
    MAP_CREATE,
    PREBUILT,
    PROG_LOAD,
    PYTHON,
    every_command,
    filtered,
    mounts,
    purebpf,
    root,
    run,
    says,
    without_map_type,
    works,
)

from purebpf.formats.abi import MapType
from purebpf.formats.helpers import HELPERS

pytestmark = [pytest.mark.kernel, pytest.mark.needs("btf")]

WITHOUT_BTF = mounts(HIDE_BTF)


def test_without_btf_the_simplest_object_runs() -> None:
    """It needs no types of the kernel's."""
    works(purebpf("run", f"{PREBUILT}/execve.bpf.o", "--duration", "0.1", on=WITHOUT_BTF))


@pytest.mark.parametrize(
    "command",
    [
        ("trace-open",),
        ("trace-connect",),
        ("run", f"{PREBUILT}/trace_open.bpf.o"),
        ("inspect", f"{PREBUILT}/trace_open.bpf.o", "--btf", "kernel"),
    ],
    ids=" ".join,
)
def test_without_btf_what_needs_it_says_so(command: tuple[str, ...]) -> None:
    says(purebpf(*command, on=WITHOUT_BTF), 4, "carries no type information", "CONFIG_DEBUG_INFO_BTF", "--btf")


@pytest.mark.parametrize(
    "command",
    [
        ("trace-open", "--duration", "0.1"),
        ("trace-connect", "--duration", "0.1"),
        ("run", f"{PREBUILT}/trace_open.bpf.o", "--duration", "0.1"),
        ("inspect", f"{PREBUILT}/trace_open.bpf.o"),
    ],
    ids=" ".join,
)
def test_a_btf_file_stands_in_for_the_kernel_s_own(command: tuple[str, ...]) -> None:
    taken = mounts(f"cp /sys/kernel/btf/vmlinux /mnt/types && {HIDE_BTF}")
    works(purebpf(*command, "--btf", "/mnt/types", on=taken))


RELEASE = os.uname().release
# Folders of its own instead of /boot and /lib/modules, which a machine need not have.
OVERLAY = (
    "mkdir /mnt/upper /mnt/work && mount -t overlay -o lowerdir=/lib/,upperdir=/mnt/upper,workdir=/mnt/work none /lib/"
)
FOLDERS = f"mount -t tmpfs none /boot && {OVERLAY} && mkdir -p /lib/modules/{RELEASE}/build"


def test_an_installed_kernel_without_types_is_not_taken_for_one_with() -> None:
    on = mounts(f"{FOLDERS} && cp /bin/true /boot/vmlinux-{RELEASE} && {HIDE_BTF}")
    says(purebpf("trace-open", on=on), 4, "carries no type information", "--btf")


def test_an_installed_kernel_with_types_serves_where_sysfs_has_none() -> None:
    """Looked for in one place after the other, past a kernel without."""
    installed = f"cp /bin/true /boot/vmlinux-{RELEASE} && cp /sys/kernel/btf/vmlinux /lib/modules/{RELEASE}/build"
    works(purebpf("trace-open", "--duration", "0.1", on=mounts(f"{FOLDERS} && {installed} && {HIDE_BTF}")))


def test_the_configuration_lies_in_boot_or_beside_the_modules() -> None:
    """The first of them counts, and comments do not."""
    places = (f"/boot/config-{RELEASE}", f"/lib/modules/{RELEASE}/config")
    script = FOLDERS
    for number, place in enumerate(places):
        script += rf""" && printf '# CONFIG_B is not set\nCONFIG_A=y\nCONFIG_PLACE="{number}"\n' >{place}"""
    for number, place in enumerate(places):
        done = run(PYTHON, "-c", "from purebpf.kernel import kconfig; print(kconfig.read())", on=mounts(script))
        assert ast.literal_eval(done.stdout) == {"CONFIG_A": "y", "CONFIG_PLACE": f'"{number}"'}, done.stderr
        script += f" && rm {place}"


@every_command
def test_a_kernel_before_5_8_has_no_ring_buffers(command: tuple[str, ...]) -> None:
    """Other maps are made: only this type is refused."""
    done = purebpf(*command, on=without_map_type(MapType.RINGBUF))
    says(done, 4, "creating map 'events'", "no maps of type RINGBUF (Linux 5.8 has them)", "run on a newer kernel")


def test_probe_tells_a_kernel_without_ring_buffers() -> None:
    done = purebpf("probe", on=without_map_type(MapType.RINGBUF))
    works(done)
    assert "ringbuf                      no (Linux 5.8 brought it)" in done.stdout
    assert "  array                        yes\n" in done.stdout


@pytest.mark.parametrize("command", [MAP_CREATE, BTF_LOAD])
def test_probe_has_answers_where_nothing_of_a_kind_can_be_made(command: int) -> None:
    works(purebpf("probe", on=filtered(f"bpf:{command}:22")))


@pytest.mark.parametrize("command", [*LOADING, ("probe",)], ids=lambda command: command[0])
def test_a_kernel_without_the_system_call(command: tuple[str, ...]) -> None:
    says(purebpf(*command, on=filtered("bpf:any:38")), 4, "ENOSYS", "CONFIG_BPF_SYSCALL")


@pytest.mark.parametrize("command", [*LOADING, ("probe",)], ids=lambda command: command[0])
def test_a_seccomp_filter_that_forbids_bpf_is_suspected(command: tuple[str, ...]) -> None:
    done = purebpf(*command, on=filtered("bpf:any:1"))
    says(done, 5, "EPERM", "although this process has the capabilities", "a seccomp filter is on this process")


@pytest.mark.parametrize(("number", "status", "word"), [(1, 5, "a seccomp filter"), (38, 4, "perf_event_open: ENOSYS")])
def test_a_filter_that_forbids_perf_events_stops_only_what_needs_them(number: int, status: int, word: str) -> None:
    on = filtered(f"perf_event_open:any:{number}")
    works(purebpf("trace-exec", "--duration", "0.1", on=on))
    says(purebpf("run", f"{PREBUILT}/execve.bpf.o", "--duration", "0.1", on=on), status, word)


def locked_down(mode: str) -> tuple[str, ...]:
    """What the kernel says of itself; the refusals have to be made by a filter."""
    folder = "/sys/kernel/security"
    return mounts(f"mount -t tmpfs none {folder} && echo '{mode}' >{folder}/lockdown")


@every_command
def test_lockdown_is_named_with_what_it_forbids(command: tuple[str, ...]) -> None:
    done = purebpf(*command, on=(*locked_down("none integrity [confidentiality]"), *filtered("bpf:any:1")))
    forbids = "which forbids bpf_probe_write_user(), reading the kernel's memory, kprobes and tracefs: "
    says(
        done, 5, f"the kernel is locked down (confidentiality), {forbids}", "boot without lockdown=", "a seccomp filter"
    )


@pytest.mark.parametrize("mode", ["[none] integrity confidentiality", "none [integrity] confidentiality"])
def test_lockdown_is_not_blamed_where_it_refuses_nothing(mode: str) -> None:
    """The mode for integrity takes a helper away, and lets each call through."""
    done = purebpf("trace-exec", on=(*locked_down(mode), *filtered("bpf:any:1")))
    says(done, 5, "a seccomp filter")
    assert "lock" not in done.stderr


@pytest.mark.parametrize(
    ("mode", "helper", "blamed"),
    [
        ("none integrity [confidentiality]", "bpf_probe_read", True),
        ("none [integrity] confidentiality", "bpf_probe_read", False),
        ("none integrity [confidentiality]", "bpf_probe_write_user", True),
        ("none [integrity] confidentiality", "bpf_probe_write_user", True),
        ("[none] integrity confidentiality", "bpf_probe_write_user", False),
    ],
)
def test_a_helper_that_lockdown_takes_away_is_blamed_on_it(mode: str, helper: str, blamed: bool) -> None:
    """The verifier says that the program may not call it: here, since it is not for sockets."""
    program = f"""if True:
        import purebpf
        from purebpf.formats.abi import ProgType
        from purebpf.formats.insn import Instruction, encode
        import sys
        spec = purebpf.parse(open("{PREBUILT}/execve.bpf.o", "rb").read())
        del spec.maps["events"], spec.maps["lost"]
        (only,) = spec.programs.values()
        only.type, only.relocations, only.references, only.lines = ProgType.SOCKET_FILTER, [], [], []
        only.code = encode([Instruction(0x85, 0, 0, 0, {HELPERS.index(helper[4:])}), Instruction(0xB7, 0, 0, 0, 0), Instruction(0x95, 0, 0, 0, 0)],
                           sys.byteorder)
        try:
            purebpf.load(spec)
        except purebpf.VerifierError as error:
            print(error, error.hint)
    """
    done = run(PYTHON, "-c", program, on=locked_down(mode))
    assert helper in done.stdout, done.stderr
    said = f"the kernel is locked down ({mode[mode.index('[') + 1 : mode.index(']')]}), which forbids bpf_probe_write_user()"
    assert (said in done.stdout) == blamed
    assert ("boot without lockdown=" in done.stdout) == blamed


@every_command
def test_before_5_11_the_limit_of_locked_memory_is_named(command: tuple[str, ...]) -> None:
    """As there: no map for want of memory, and no bpf_ktime_get_coarse_ns, so programs with it do not load."""
    on = (*root("bpf", "perfmon"), "sh", "-c", 'ulimit -l 64 && exec "$@"', "-")
    done = purebpf(*command, on=(*on, *filtered(f"bpf:{MAP_CREATE}:1", f"bpf:{PROG_LOAD}:22")))
    says(done, 5, "limit of locked memory (64 KiB) is used up", "CAP_SYS_RESOURCE", "ulimit -l unlimited", "memlock=-1")


# As before 5.11: without bpf_ktime_get_coarse_ns. A process with these capabilities cannot lift the limit.
OLD = (
    *mounts("echo 0000000000000000 T sys_bpf >/mnt/symbols && mount --bind /mnt/symbols /proc/kallsyms"),
    *root("bpf", "perfmon"),
    *("sh", "-c", 'ulimit -l 64 && exec "$@"', "-"),
)


@every_command
@pytest.mark.parametrize("rule", ["bpf:any:1", f"bpf:{PROG_LOAD}:1"], ids=["all", "programs"])
def test_before_5_11_the_limit_is_not_blamed_for_what_it_would_let_through(command: tuple[str, ...], rule: str) -> None:
    done = purebpf(*command, on=(*OLD, *filtered(rule)))
    says(done, 5, "EPERM", "a seccomp filter")
    assert "locked memory" not in done.stderr


def test_probes_of_programs_name_the_limit() -> None:
    program = """if True:
        from purebpf import NotPermitted
        from purebpf.formats.abi import ProgType
        from purebpf.kernel import probe
        for ask in (lambda: probe.has_prog_type(ProgType.KPROBE), lambda: probe.has_helper(ProgType.KPROBE, 1)):
            try:
                print(ask())
            except NotPermitted as error:
                print(error, error.hint)
    """
    done = run(PYTHON, "-c", program, on=(*OLD, *filtered(f"bpf:{MAP_CREATE}:1", f"bpf:{PROG_LOAD}:1")))
    assert done.stdout.count("limit of locked memory (64 KiB) is used up") == 2, (done.stdout, done.stderr)
    assert done.stdout.count("ulimit -l unlimited") == 2


@pytest.mark.needs("memcg_accounting")
def test_since_5_11_the_limit_of_locked_memory_is_not_blamed() -> None:
    on = (*root("bpf", "perfmon"), "sh", "-c", 'ulimit -l 64 && exec "$@"', "-")
    works(purebpf("trace-exec", "--duration", "0.1", on=on))
    done = purebpf("trace-exec", on=(*on, *filtered("bpf:any:1")))
    says(done, 5, "a seccomp filter")
    assert "locked memory" not in done.stderr


@every_command
def test_a_machine_that_calls_itself_otherwise_is_named(command: tuple[str, ...]) -> None:
    done = purebpf(*command, on=("setarch", "linux32"))
    says(done, 4, "no system call numbers known for machine", "setarch")


def test_a_python_of_32_bits_is_refused_before_it_calls_something_else() -> None:
    """The kernel calls itself x86_64 for it, too, and takes its call 321 for another."""
    code = "import sys; sys.maxsize = (1 << 31) - 1; from purebpf.cli import main; main(['trace-exec'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    says(done, 4, "is a 32-bit program", "use a 64-bit Python")


def test_a_command_is_not_traced_where_its_end_cannot_be_waited_for() -> None:
    """Linux 5.3 brought pidfd_open. The command has not been run."""
    done = purebpf("trace-exec", "--", "echo", "run", on=filtered("pidfd_open:any:38"))
    says(done, 4, "pidfd_open, Linux 5.3")
    assert done.stdout == ""
