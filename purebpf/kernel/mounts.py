"""What this process has mounted; and files of /proc and /sys on machines where these are not: a chroot, a bare container."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import KernelError

_TYPES = {"/proc": "proc", "/sys": "sysfs"}
# What is always below, where the right thing is mounted.
_ALWAYS = {"/proc": "/proc/self", "/sys": "/sys/kernel"}


def require(root: str) -> None:
    """Raise KernelError if /proc, or /sys, is not mounted."""
    if not os.path.isdir(_ALWAYS[root]):
        kind = _TYPES[root]
        raise KernelError(
            f"{root} is not mounted, and purebpf needs it", hint=f"as root: mount -t {kind} {kind} {root}"
        )


def text(path: str) -> str:
    """The contents of a file of /proc or /sys. Raises KernelError."""
    try:
        with open(path, errors="surrogateescape", newline="\n") as file:
            return file.read()
    except OSError as error:
        require("/" + path.split("/")[1])
        raise KernelError(f"cannot read {path}: {error.strerror}", errno=error.errno) from error


class Mount(NamedTuple):
    """A row of /proc/self/mountinfo. `device` is MAJOR:MINOR, `kind` the file system's type, e.g. "tracefs"."""

    device: str
    path: str
    kind: str


def mounted() -> Iterator[Mount]:
    """All mounts of this process, in the order in which they were made. Raises KernelError without /proc.

    In proc(5)'s words (mountinfo): the type stands after " - ". In a path the kernel escapes the blank, tab, newline and
    backslash (fs/proc_namespace.c), so what else Python takes for white space is part of it.
    """
    for line in text("/proc/self/mountinfo").split("\n")[:-1]:
        fields, _, rest = line.partition(" - ")
        _id, _parent, device, _root, path, *_ = fields.split(" ")
        yield Mount(device, re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), path), rest.partition(" ")[0])
