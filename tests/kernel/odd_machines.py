"""Machines that are odd in one way: what tests put before a command. Namespaces and seccomp filters, so the kernel answers itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import elftools
import pytest
import seccomp_filter
from machines import Privileges

ROOT = Path(__file__).parents[2]
NEEDED = ("unshare", "setpriv", "setarch")
NOBODY = 65534
MAP_CREATE, PROG_LOAD, BTF_LOAD = 0, 5, 18  # commands of bpf(2)

# Where any user may read it: Python, purebpf and pyelftools, all of which may lie below root's home.
_REACHABLE = """
mount -t tmpfs -o mode=755 none /mnt && mkdir /mnt/python /mnt/root /mnt/site &&
mount --bind "$1" /mnt/python && mount --bind "$2" /mnt/root && mount --bind "$3" /mnt/site && shift 3 && exec "$@"
"""
PREBUILT, PROGRAMS = "/mnt/root/prebuilt", "/mnt/root/tests/kernel"
PYTHON = "/mnt/python/" + os.path.relpath(os.path.realpath(sys.executable), sys.base_prefix)
PUREBPF = (PYTHON, "-m", "purebpf")
NEEDED_BY_PYTHON = {
    "PYTHONPATH": "/mnt/root:/mnt/site",
    "LD_LIBRARY_PATH": "/mnt/python/lib",
}  # its libpython may be there
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **NEEDED_BY_PYTHON}

# Scripts for `mounts`. The options of tracefs are those of all its mounts and outlive them, so they are put to their defaults.
MOUNT_TRACEFS = "mount -t tracefs -o uid=0,gid=0,mode=700 none /sys/kernel/tracing"
UNMOUNT_TRACEFS = "{ umount -l /sys/kernel/tracing; umount -l /sys/kernel/debug; true; } 2>/dev/null"
HIDE_BTF = "mount -t tmpfs none /sys/kernel/btf"
HIDE_PROCESSES = "mount -t proc -o hidepid=2 proc /proc"
# With the number of a process of root's behind the command.
WITH_SLEEPER = ("sh", "-c", 'sleep 60 >/dev/null 2>&1 & "$@" $!; status=$?; kill $!; exit $status', "-")

Done = subprocess.CompletedProcess[str]


def mounts(script: str) -> tuple[str, ...]:
    """Run the shell script, in a mount namespace of its own, first."""
    return ("unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "-")


def filtered(*rules: str) -> tuple[str, ...]:
    """Under a filter that refuses: "bpf:any:1" is EPERM for each bpf(2)."""
    return seccomp_filter.filtered(*rules, python=PYTHON, file=f"{PROGRAMS}/seccomp_filter.py")


def without_map_type(number: int) -> tuple[str, ...]:
    return (PYTHON, f"{PROGRAMS}/without_map_type.py", str(int(number)))


def user(*capabilities: str) -> tuple[str, ...]:
    """A user, not root, with these capabilities ("bpf") and no others."""
    return tuple(Privileges(frozenset(capabilities), NOBODY, ambient=True).command())


def root(*capabilities: str) -> tuple[str, ...]:
    """Root with these capabilities and no others, as in a container."""
    return tuple(Privileges(frozenset(capabilities)).command())


def run(*command: str, on: tuple[str, ...] = (), **keywords: Any) -> Done:
    """Run a command on an odd machine, with Python, purebpf and pyelftools in /mnt."""
    missing = [tool for tool in NEEDED if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}, of util-linux")
    site = str(Path(elftools.__file__).parents[1])
    reachable = ("unshare", "--mount", "sh", "-c", _REACHABLE, "-", sys.base_prefix, str(ROOT), site)
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60, "env": ENVIRONMENT, "cwd": "/"}
    return subprocess.run([*reachable, *on, *command], **{**options, **keywords})


def purebpf(*arguments: str, on: tuple[str, ...] = (), **keywords: Any) -> Done:
    """The command line, there."""
    return run(*PUREBPF, *arguments, on=on, **keywords)


def says(done: Done, status: int, *words: str) -> None:
    """One line that names the cause, one with the remedy, the documented exit status, and nothing else."""
    lines = [line for line in done.stderr.splitlines() if "attached; Ctrl-C ends" not in line]
    assert done.returncode == status, done.stderr
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("purebpf: ")
    assert lines[1].startswith("purebpf: hint: ")
    for word in words:
        assert word in done.stderr


def works(done: Done) -> None:
    lines = [line for line in done.stderr.splitlines() if "attached; Ctrl-C ends" not in line]
    assert (done.returncode, lines) == (0, [])


# Each way to load a program.
LOADING = (
    ("trace-exec", "--duration", "0.1"),
    ("trace-open", "--duration", "0.1"),
    ("trace-connect", "--duration", "0.1"),
    ("run", f"{PREBUILT}/execve.bpf.o", "--duration", "0.1"),
)
every_command = pytest.mark.parametrize("command", LOADING, ids=lambda command: command[0])
