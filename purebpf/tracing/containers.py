"""Which container a process runs in, by the name of its cgroup.

Runtimes name the cgroup of a container after its id, as a systemd scope or plainly; what runs inside may have cgroups of
its own below. Peers go by the same names (cadvisor, the OpenTelemetry Collector's resource detection).
"""

from __future__ import annotations

import os
from functools import lru_cache

from ..kernel import mounts

_HEX = frozenset("0123456789abcdef")
_LONG = 64  # hexadecimal digits of a Docker, containerd, CRI-O or Podman id
_FARGATE = 32


def container_of(path: str) -> str | None:
    """The id of the innermost container in a cgroup's path; the machine's name for LXC and systemd-nspawn."""
    for name in reversed(path.split("/")):
        found = _container(name)
        if found:
            return found
    return None


def _container(name: str) -> str | None:
    stem = name[: -len(".scope")] if name.endswith(".scope") else name
    tail = stem.rpartition(":")[2].rpartition("-")[2]
    if len(tail) == _LONG and _HEX.issuperset(tail):
        return tail
    task, dash, number = stem.partition("-")  # ECS on Fargate: TASK-NUMBER
    if dash and len(task) == _FARGATE and _HEX.issuperset(task) and number.isdigit():
        return stem
    if name.startswith("lxc.payload."):
        return name[len("lxc.payload.") :]
    if name.startswith("machine-") and name.endswith(".scope"):
        return _unescaped(stem[len("machine-") :])
    return None


def _unescaped(name: str) -> str:
    r"""systemd writes a "-" within a name as \x2d (systemd.unit(5))."""
    return name.replace("\\x2d", "-")


@lru_cache(None)
def hierarchy() -> str | None:
    """Where the version 2 hierarchy is mounted, None if it is not."""
    return next((mount.path for mount in mounts.mounted() if mount.kind == "cgroup2"), None)


def folders_of(container: str, root: str) -> list[str]:
    """The cgroups whose container's id, or name, begins with `container`."""
    found = []
    for folder, below, _files in os.walk(root):
        if (_container(os.path.basename(folder)) or "").startswith(container):
            found.append(folder)
            below.clear()
    return found
