"""Pins: paths on a BPF file system that keep maps, programs and links alive without a process.

bpffs is mounted at /sys/fs/bpf by systemd, in containers often not at all. The kernel refuses a pin outside
one, and a name with a dot in it, both with EPERM, and reading what is no pin with EACCES (kernel/bpf/inode.c,
bpf_obj_do_pin, bpf_lookup, bpf_inode_do_get); so a refusal is explained by looking where the path leads.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from ..errors import ObjectError
from ..formats import attr
from ..formats.abi import Cmd
from . import mounts, sys

ROOT = "/sys/fs/bpf"


def path_of(name: str, directory: str | os.PathLike[str] = ROOT) -> str:
    """Where LIBBPF_PIN_BY_NAME puts a map of this name; dots, which bpffs reserves, become underscores."""
    return os.path.join(directory, name.replace(".", "_"))


def pin(fd: int, path: str | os.PathLike[str], what: str) -> None:
    """Pin the map, program or link behind `fd`, which `what` names in errors; missing directories are made.

    Raises KernelError (EEXIST where something is), NotPermitted.
    """
    parent = os.path.dirname(os.path.abspath(path))
    doing = f"pinning {what} at {os.fspath(path)}"
    try:
        if not os.path.isdir(parent) and is_bpffs(parent):
            os.makedirs(parent, 0o700)
        memory = sys.Buffer(os.fsencode(path) + b"\0")
        sys.bpf(Cmd.OBJ_PIN, attr.obj_pin(memory.address, fd))
    except OSError as error:
        raise sys.refusal(doing, error, _hint(path, error.errno or 0)) from error


def get(path: str | os.PathLike[str], what: str) -> int:
    """A new descriptor of what is pinned there. Raises KernelError (ENOENT where nothing is), NotPermitted."""
    memory = sys.Buffer(os.fsencode(path) + b"\0")
    try:
        return sys.bpf(Cmd.OBJ_GET, attr.obj_pin(memory.address))
    except OSError as error:
        raise sys.refusal(
            f"opening {what}, pinned at {os.fspath(path)}", error, _hint(path, error.errno or 0)
        ) from error


def unpin(path: str | os.PathLike[str], what: str) -> None:
    """Remove a pin. Raises ObjectError if the path is on no bpffs, KernelError."""
    if not is_bpffs(os.path.dirname(os.path.abspath(path))):
        raise ObjectError(f"unpinning {what}: {os.fspath(path)} is not on a BPF file system")
    try:
        os.unlink(path)
    except OSError as error:
        raise sys.refusal(f"unpinning {what} from {os.fspath(path)}", error) from error


def is_bpffs(path: str | os.PathLike[str]) -> bool:
    """Is this path, or what exists of it, on a BPF file system? By its device number in /proc/self/mountinfo."""
    here = os.path.abspath(path)
    while not os.path.lexists(here):
        here = os.path.dirname(here)
    with suppress(OSError):
        device = os.stat(here).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        return any(mount.device == number and mount.kind == "bpf" for mount in mounts.mounted())
    return False


def _hint(path: str | os.PathLike[str], number: int) -> str:
    if number == errno.EEXIST:
        return "remove what is pinned there, or choose another path"
    if not is_bpffs(os.path.dirname(os.path.abspath(path))):
        return f"that path is not on a BPF file system: mount -t bpf bpf {ROOT}"
    if "." in os.path.basename(path):
        return "bpffs takes no dots in names"
    return ""
