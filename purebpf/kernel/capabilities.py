"""What a process that was refused lacks (capabilities(7); /proc/self/status)."""

from __future__ import annotations

CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 21, 38, 39


def _effective() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))


def diagnose() -> tuple[str, str]:
    """(what is missing, remedy) for a refused BPF call, as far as /proc tells."""
    try:
        held = _effective()
        with open("/proc/self/uid_map") as ids:
            whole = ids.read().split() == ["0", "0", "4294967295"]
    except (OSError, StopIteration, ValueError):
        return "tracing needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN", "run as root"
    wanted = {"CAP_BPF": CAP_BPF, "CAP_PERFMON": CAP_PERFMON}
    missing = [] if held >> CAP_SYS_ADMIN & 1 else [name for name, bit in wanted.items() if not held >> bit & 1]
    if missing:
        return (
            f"this process lacks {' and '.join(missing)} (CAP_SYS_ADMIN would do as well)",
            "run as root, for example with sudo, or grant CAP_BPF and CAP_PERFMON",
        )
    if not whole:
        return "its capabilities hold in its user namespace only", "run outside the container, or in a privileged one"
    return (
        "although this process has the capabilities",
        "a security module, lockdown (/sys/kernel/security/lockdown) or a seccomp filter may forbid it",
    )
