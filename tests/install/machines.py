"""Places into which purebpf.pyz is deployed, made here: a service's sandbox, a container."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

# Each takes its own arguments, and behind "--" the command.
_SANDBOX = """set -e
pyz=$1 logs=$2; shift 2
mount --make-rprivate /
mount -t proc -o hidepid=invisible proc /proc
mount -t sysfs -o ro sysfs /sys
mount -t tmpfs tmpfs /usr/local/lib
cp "$pyz" /usr/local/lib/purebpf.pyz
mount --bind "$logs" /var/log
mount -o remount,bind,ro /
exec "$@"
"""
_CONTAINER = """set -e
root=$1 pyz=$2; shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
for path in /*; do
    case $path in /proc | /sys | /dev | /tmp | /run) continue ;; esac
    if [ -L "$path" ]; then cp -P "$path" "$root$path"
    elif [ -d "$path" ]; then mkdir "$root$path"; mount --bind -o ro "$path" "$root$path"; fi
done
mkdir -m 755 "$root/proc" "$root/sys" "$root/dev"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
for device in null zero random urandom; do touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
cp "$pyz" "$root/purebpf.pyz"
mount -o remount,bind,ro "$root"
exec chroot "$root" "$@"
"""
NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--cgroup")
# What Docker leaves to a container (its documentation, "Runtime privilege and Linux capabilities").
DOCKER = (
    *("chown", "dac_override", "fsetid", "fowner", "mknod", "net_raw", "setgid", "setuid", "setfcap", "setpcap"),
    *("net_bind_service", "sys_chroot", "kill", "audit_write"),
)


@dataclass(frozen=True)
class Privileges:
    """What a process is to have, as setpriv (util-linux) gives it."""

    capabilities: frozenset[str]  # as "bpf"
    uid: int = 0
    ambient: bool = False

    def command(self) -> list[str]:
        """What stands before the command that has them."""
        names = ",".join(["-all", *(f"+{name}" for name in sorted(self.capabilities))])
        sets = [
            f"--inh-caps={names}",
            f"--bounding-set={names}",
            *([f"--ambient-caps={names}"] if self.ambient else []),
        ]
        return ["setpriv", "--no-new-privs", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", *sets]


def capability(name: str) -> str:
    """As setpriv names it: of CAP_SYS_ADMIN, or of SYS_ADMIN, sys_admin."""
    lower = name.lower()
    return lower[len("cap_") :] if lower.startswith("cap_") else lower


class Started(subprocess.Popen[str]):
    """A command whose output is read. A test that fails does not wait for its end."""

    def __init__(self, command: list[object], stdin: IO[bytes] | None = None) -> None:
        words, pipe = list(map(str, command)), subprocess.PIPE
        super().__init__(words, stdin=stdin, stdout=pipe, stderr=pipe, text=True, cwd="/")

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind:
            self.kill()  # and unshare --kill-child what it has started
        super().__exit__(kind, *rest)


def in_sandbox(command: list[str], privileges: Privileges, pyz: Path, logs: Path) -> Started:
    """Start a command as in a systemd service: everything read-only but /var/log, which is `logs`; no network."""
    prefix = ["unshare", "--mount", "--net", "sh", "-c", _SANDBOX, "-", pyz, logs]
    return Started([*prefix, *privileges.command(), *command])


def in_container(command: list[str], privileges: Privileges, pyz: Path, root: Path, host_pid: bool = False) -> Started:
    """Start a command in a read-only root, with file systems and namespaces of its own; python3 is this very one's."""
    namespaces = [*NAMESPACES, *([] if host_pid else ["--pid", "--fork", "--kill-child"])]
    path = f"PATH={sys.base_prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    prefix = ["unshare", *namespaces, "sh", "-c", _CONTAINER, "-", root, pyz]
    return Started([*prefix, *privileges.command(), "env", path, *command])
