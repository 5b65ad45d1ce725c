"""What a program section's name means (libbpf's convention): SEC("tracepoint/syscalls/sys_enter_execve").

A name is a hook, then a slash and what it is attached to. ".s" after the hook makes the program sleepable,
".w" makes a raw tracepoint writable, a question mark before it keeps the program from being loaded unasked.
As cilium/ebpf and unlike libbpf, a hook followed by anything after a slash is accepted, and a name that nobody
knows makes a program without a type, which fails when it is loaded and not before.
"""

from __future__ import annotations

from typing import NamedTuple

from .abi import AttachType, ProgFlags, ProgType


class Hook(NamedTuple):
    """A row of HOOKS: the type of its programs and how they are attached."""

    type: ProgType
    attach_type: AttachType | int = 0
    flags: int = 0


_P, _A, _SLEEPABLE = ProgType, AttachType, ProgFlags.SLEEPABLE

# The section's name up to the first slash -> what it is. A new hook is a row here and one in
# kernel/attach/__init__.py. From libbpf's section_defs (tools/lib/bpf/libbpf.c).
HOOKS: dict[str, Hook] = {
    "tracepoint": Hook(_P.TRACEPOINT),
    "tp": Hook(_P.TRACEPOINT),
    "raw_tracepoint": Hook(_P.RAW_TRACEPOINT),
    "raw_tp": Hook(_P.RAW_TRACEPOINT),
    "raw_tracepoint.w": Hook(_P.RAW_TRACEPOINT_WRITABLE),
    "raw_tp.w": Hook(_P.RAW_TRACEPOINT_WRITABLE),
    "tp_btf": Hook(_P.TRACING, _A.TRACE_RAW_TP),
    "kprobe": Hook(_P.KPROBE),
    "kretprobe": Hook(_P.KPROBE),
    "ksyscall": Hook(_P.KPROBE),
    "kretsyscall": Hook(_P.KPROBE),
    "kprobe.multi": Hook(_P.KPROBE, _A.TRACE_KPROBE_MULTI),
    "kretprobe.multi": Hook(_P.KPROBE, _A.TRACE_KPROBE_MULTI),
    "kprobe.session": Hook(_P.KPROBE, _A.TRACE_KPROBE_SESSION),
    "uprobe": Hook(_P.KPROBE),
    "uprobe.s": Hook(_P.KPROBE, 0, _SLEEPABLE),
    "uretprobe": Hook(_P.KPROBE),
    "uretprobe.s": Hook(_P.KPROBE, 0, _SLEEPABLE),
    "uprobe.multi": Hook(_P.KPROBE, _A.TRACE_UPROBE_MULTI),
    "uprobe.multi.s": Hook(_P.KPROBE, _A.TRACE_UPROBE_MULTI, _SLEEPABLE),
    "uretprobe.multi": Hook(_P.KPROBE, _A.TRACE_UPROBE_MULTI),
    "uretprobe.multi.s": Hook(_P.KPROBE, _A.TRACE_UPROBE_MULTI, _SLEEPABLE),
    "uprobe.session": Hook(_P.KPROBE, _A.TRACE_UPROBE_SESSION),
    "uprobe.session.s": Hook(_P.KPROBE, _A.TRACE_UPROBE_SESSION, _SLEEPABLE),
    "usdt": Hook(_P.KPROBE),
    "usdt.s": Hook(_P.KPROBE, 0, _SLEEPABLE),
    "fentry": Hook(_P.TRACING, _A.TRACE_FENTRY),
    "fentry.s": Hook(_P.TRACING, _A.TRACE_FENTRY, _SLEEPABLE),
    "fexit": Hook(_P.TRACING, _A.TRACE_FEXIT),
    "fexit.s": Hook(_P.TRACING, _A.TRACE_FEXIT, _SLEEPABLE),
    "fmod_ret": Hook(_P.TRACING, _A.MODIFY_RETURN),
    "fmod_ret.s": Hook(_P.TRACING, _A.MODIFY_RETURN, _SLEEPABLE),
    "freplace": Hook(_P.EXT, 0),
    "lsm": Hook(_P.LSM, _A.LSM_MAC),
    "lsm.s": Hook(_P.LSM, _A.LSM_MAC, _SLEEPABLE),
    "iter": Hook(_P.TRACING, _A.TRACE_ITER),
    "iter.s": Hook(_P.TRACING, _A.TRACE_ITER, _SLEEPABLE),
    "perf_event": Hook(_P.PERF_EVENT),
    "syscall": Hook(_P.SYSCALL, 0, _SLEEPABLE),
    "socket": Hook(_P.SOCKET_FILTER),
    "xdp": Hook(_P.XDP, _A.XDP),
    "xdp.frags": Hook(_P.XDP, _A.XDP, ProgFlags.XDP_HAS_FRAGS),
    "tc": Hook(_P.SCHED_CLS),
    "tcx": Hook(_P.SCHED_CLS),
    "classifier": Hook(_P.SCHED_CLS),
    "action": Hook(_P.SCHED_ACT),
    "sk_skb": Hook(_P.SK_SKB),
    "sk_msg": Hook(_P.SK_MSG, _A.SK_MSG_VERDICT),
    "sockops": Hook(_P.SOCK_OPS, _A.CGROUP_SOCK_OPS),
    "sk_lookup": Hook(_P.SK_LOOKUP, _A.SK_LOOKUP),
    "flow_dissector": Hook(_P.FLOW_DISSECTOR, _A.FLOW_DISSECTOR),
    "cgroup_skb": Hook(_P.CGROUP_SKB),
    "lwt_in": Hook(_P.LWT_IN),
    "lwt_out": Hook(_P.LWT_OUT),
    "lwt_xmit": Hook(_P.LWT_XMIT),
    "netfilter": Hook(_P.NETFILTER, _A.NETFILTER),
}


class Place(NamedTuple):
    """A section's name taken apart. `hook` is "" for a name that no row knows."""

    hook: str
    target: str
    autoload: bool


def classify(name: str) -> Place:
    """Look a section's name up in HOOKS."""
    bare = name[1:] if name.startswith("?") else name
    hook, _, target = bare.partition("/")
    return Place(hook if hook in HOOKS else "", target, bare == name)
