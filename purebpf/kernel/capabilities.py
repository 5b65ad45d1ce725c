"""What a process that was refused lacks (capabilities(7); /proc/self/status), and who else may have refused.

In this order: capabilities, the user namespace, lockdown, seccomp. The memory limit, which tools like to blame, counts
on kernels before 5.11 only and is dealt with where the call is made (kernel/memlock.py).
"""

from __future__ import annotations

CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 21, 38, 39


def _status(field: str) -> str:
    with open("/proc/self/status") as status:
        return next((line.split()[1] for line in status if line.startswith(field + ":")), "0")


def _missing() -> list[str]:
    held = int(_status("CapEff"), 16)
    if held >> CAP_SYS_ADMIN & 1:
        return []
    wanted = {"CAP_BPF": CAP_BPF, "CAP_PERFMON": CAP_PERFMON}
    return [name for name, bit in wanted.items() if not held >> bit & 1]


def _in_first_namespace() -> bool:
    with open("/proc/self/uid_map") as ids:
        return ids.read().split() == ["0", "0", "4294967295"]


def complete() -> bool:
    """Has this process all the capabilities that tracing needs, and do they count?"""
    try:
        return not _missing() and _in_first_namespace()
    except (OSError, ValueError):
        return False


def locked_down() -> str:
    """ "none", "integrity", "confidentiality"; "" where the kernel does not say."""
    try:
        with open("/sys/kernel/security/lockdown") as modes:
            text = modes.read()
        return text.split("[")[1].split("]")[0]
    except (OSError, IndexError):
        return ""


def suspects() -> str:
    """Who may have refused although the capabilities are there, as far as /proc and /sys tell; "" for nobody."""
    found = []
    mode = locked_down()
    if mode not in ("", "none"):
        found.append(f"the kernel is locked down ({mode}: /sys/kernel/security/lockdown)")
    try:
        if _status("Seccomp") != "0":
            found.append("a seccomp filter is on this process")
    except OSError:
        pass
    return "; ".join(found)


def diagnose() -> tuple[str, str]:
    """(what is missing, remedy) for a refused BPF call, as far as /proc tells."""
    try:
        missing, first = _missing(), _in_first_namespace()
    except (OSError, ValueError):
        return "tracing needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN", "run as root"
    if missing:
        return (
            f"this process lacks {' and '.join(missing)} (CAP_SYS_ADMIN would do as well)",
            "run as root, for example with sudo, or grant CAP_BPF and CAP_PERFMON",
        )
    if not first:
        return "its capabilities hold in its user namespace only", "run outside the container, or in a privileged one"
    return (
        "although this process has the capabilities",
        suspects() or "a security module, lockdown (/sys/kernel/security/lockdown) or a seccomp filter may forbid it",
    )
