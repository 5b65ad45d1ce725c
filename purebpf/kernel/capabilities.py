"""What a process that was refused lacks (capabilities(7); /proc/self/status), and who else may have refused.

In this order: the user namespace, capabilities, lockdown, seccomp. The memory limit, which tools like to blame, counts
on kernels before 5.11 only and is dealt with where the call is made (kernel/memlock.py).
"""

from __future__ import annotations

import os

CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 21, 38, 39
# What a mode forbids that matters here (security/security.c, lockdown_reasons; the second has what the first has). The
# first makes no call fail: the verifier does not know the helper then (kernel/trace/bpf_trace.c).
_LOCKED_DOWN = {
    "integrity": "bpf_probe_write_user()",
    "confidentiality": "bpf_probe_write_user(), reading the kernel's memory, kprobes and tracefs",
}


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


def lockdown() -> str:
    """What the mode that the kernel is locked down in forbids, and the remedy."""
    mode = locked_down()
    forbids = _LOCKED_DOWN.get(mode, "")
    return (
        f"the kernel is locked down ({mode}), which forbids {forbids}: boot without lockdown= on its command line, and with"
        " Secure Boot off (kernel_lockdown(7))"
    )


def suspects() -> str:
    """Who may have refused although the capabilities are there, as far as /proc and /sys tell; "" for nobody."""
    found = []
    if locked_down() == "confidentiality":
        found.append(lockdown())
    try:
        if _status("Seccomp") != "0":
            found.append(
                "a seccomp filter is on this process: run it under one that lets bpf(2) and perf_event_open(2) through"
            )
    except OSError:
        pass
    return "; ".join(found)


def diagnose() -> tuple[str, str]:
    """(what is missing, remedy) for a refused BPF call, as far as /proc tells."""
    try:
        missing, first = _missing(), _in_first_namespace()
    except (OSError, ValueError):
        return (
            "tracing needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN; what this process has cannot be seen without /proc",
            "as root: mount -t proc proc /proc, and the message names what is missing",
        )
    if not first:
        return (
            "this process is in a user namespace, where capabilities do not count for BPF",
            "run outside of it: not in a rootless container, nor under unshare --user",
        )
    if missing:
        return f"this process lacks {' and '.join(missing)} (CAP_SYS_ADMIN would do as well)", _grant()
    return (
        "although this process has the capabilities",
        suspects() or "a security module or lockdown may forbid it; the kernel's log (dmesg) may say",
    )


def _grant() -> str:
    if os.geteuid():
        return "run as root, for example with sudo, or grant CAP_BPF and CAP_PERFMON"
    return (
        "this root has been restricted, as in a container: grant them, e.g. docker run --cap-add BPF --cap-add PERFMON"
    )
