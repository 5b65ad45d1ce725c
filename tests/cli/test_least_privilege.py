"""Which capabilities suffice, as docs/least-privilege.md says, and what is said where they are missing."""

from __future__ import annotations

import fcntl
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from machines import DOCKER
from odd_machines import (
    HIDE_BTF,
    HIDE_PROCESSES,
    LOADING,
    MOUNT_TRACEFS,
    PREBUILT,
    ROOT,
    UNMOUNT_TRACEFS,
    WITH_SLEEPER,
    every_command,
    filtered,
    mounts,
    purebpf,
    root,
    says,
    user,
    works,
)

pytestmark = [pytest.mark.kernel, pytest.mark.needs("btf")]

PAGE = (ROOT / "docs/least-privilege.md").read_text()
WHERE = {
    "anywhere": (),
    "tracefs mounted": mounts(MOUNT_TRACEFS),
    "tracefs not mounted": mounts(UNMOUNT_TRACEFS),
    "no BTF, tracefs mounted": mounts(f"{HIDE_BTF} && {MOUNT_TRACEFS}"),
    "/proc with hidepid": (*mounts(HIDE_PROCESSES), *WITH_SLEEPER),
}
SYSCTL = Path("/proc/sys/kernel/unprivileged_bpf_disabled")


class Row(NamedTuple):
    command: tuple[str, ...]
    where: str
    capabilities: tuple[str, ...]


def rows() -> Iterator[Row]:
    for command, where, capabilities in re.findall(r"^\| `(.+?)`.*? \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE):
        name, *rest = command.replace("prebuilt/", PREBUILT + "/").removesuffix(" PID").split()
        ending = () if name in ("inspect", "probe") else ("--duration", "0.1")
        wanted = () if capabilities == "none" else capabilities.lower().split(", ")
        yield Row((name, *ending, *rest), where, tuple(name.removeprefix("cap_") for name in wanted))


ROWS = list(rows())
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{' '.join(row.command)} {row.where}")


def test_the_table_is_read_whole() -> None:
    assert len(ROWS) == PAGE.count("\n| `")
    assert {row.where for row in ROWS} == set(WHERE)


@each_row
def test_these_capabilities_suffice_for_a_user(row: Row) -> None:
    done = purebpf(*row.command, on=(*WHERE[row.where], *user(*row.capabilities)))
    if "no BTF" in row.where:
        assert "this kernel has no BTF" in done.stderr
        assert done.returncode == 0
    else:
        works(done)


@each_row
def test_each_of_them_is_needed_and_named(row: Row) -> None:
    for missing in row.capabilities:
        left = [name for name in row.capabilities if name != missing]
        done = purebpf(*row.command, on=(*WHERE[row.where], *user(*left)))
        assert done.returncode == (6 if missing == "dac_read_search" else 5), (missing, done.stderr)
        assert f"CAP_{missing.upper()}" in done.stderr
        assert "\npurebpf: hint: " in done.stderr


def test_root_reads_tracefs_without_a_capability_for_it() -> None:
    on = (*WHERE["tracefs mounted"], *root("bpf", "perfmon"))
    works(purebpf("run", f"{PREBUILT}/execve.bpf.o", "--duration", "0.1", on=on))


def test_the_way_that_is_shown_from_root_to_a_user_works() -> None:
    (shown,) = re.findall(r"^    (setpriv .+) COMMAND$", PAGE, re.MULTILINE)
    (numbers,) = re.findall(r"there `(\S+)`", PAGE)
    assert "+bpf,+perfmon" in shown
    for way in (shown, shown.replace("+bpf,+perfmon", numbers)):
        works(purebpf("trace-exec", "--duration", "0.1", on=tuple(shlex.split(way))))


def test_probe_calls_refused_what_it_may_not_try() -> None:
    done = purebpf("probe", on=user("bpf"))
    works(done)
    assert re.search(r"^  kprobe +refused$", done.stdout, re.MULTILINE)
    assert re.search(r"^  ringbuf +yes$", done.stdout, re.MULTILINE)


@every_command
@pytest.mark.parametrize("on", [("unshare", "-Ur"), (*user(), "unshare", "-Ur")], ids=["root", "user"])
def test_capabilities_in_a_user_namespace_do_not_count(command: tuple[str, ...], on: tuple[str, ...]) -> None:
    done = purebpf(*command, on=on)
    says(done, 5, "in a user namespace, where capabilities do not count", "run outside of it", "rootless container")


def test_a_user_in_a_user_namespace_is_not_told_to_become_root_there() -> None:
    done = purebpf("trace-exec", on=("unshare", "--user"))
    says(done, 5, "in a user namespace")
    assert "sudo" not in done.stderr


@pytest.mark.parametrize("command", [*LOADING, ("probe",)], ids=lambda command: command[0])
def test_root_in_a_container_is_told_which_capabilities_to_add(command: tuple[str, ...]) -> None:
    """With those that Docker leaves it, and with its seccomp profile, which refuses bpf(2) then."""
    for on in (root(*DOCKER), (*root(*DOCKER), *filtered("bpf:any:1"))):
        done = purebpf(*command, on=on)
        says(done, 5, "lacks CAP_BPF and CAP_PERFMON", "docker run --cap-add BPF --cap-add PERFMON")
        assert "run as root" not in done.stderr


@pytest.fixture
def unprivileged_bpf_disabled(request: pytest.FixtureRequest) -> Iterator[int]:
    """The sysctl at this value, then as it was. 1 cannot be taken back, so it is never written."""
    with SYSCTL.open() as setting:
        fcntl.flock(setting, fcntl.LOCK_EX)  # there is but one, for tests that run at the same time, too
        before, wanted = int(setting.read()), request.param
        if before != wanted and 1 in (before, wanted):
            pytest.skip(f"kernel.unprivileged_bpf_disabled is {before}, and cannot be changed to {wanted} and back")
        try:
            if before != wanted:
                SYSCTL.write_text(str(wanted))
            yield wanted
        finally:
            if before != wanted:
                SYSCTL.write_text(str(before))


@pytest.mark.parametrize("unprivileged_bpf_disabled", [0, 2], indirect=True)
@pytest.mark.usefixtures("unprivileged_bpf_disabled")
def test_a_user_lacks_the_same_whatever_users_may_do_with_bpf() -> None:
    """At 0 maps can be made: it is the programs that are refused then."""
    for command in LOADING:
        says(
            purebpf(*command, on=user()), 5, "lacks CAP_BPF and CAP_PERFMON", "hint: run as root, for example with sudo"
        )
