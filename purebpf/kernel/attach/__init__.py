"""Hooks: one file each, and their rows in ATTACHERS.

Only probes of user space, samples and iterators can be held to one process. With kprobes and tracepoints the kernel
runs the program before it looks whose event it is (kernel/trace/trace_kprobe.c, kprobe_perf_func;
include/trace/perf.h), so a pid is refused there and not silently ignored.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from ...errors import NotSupported, ObjectError
from ...formats.abi import AttachType, ProgType
from .. import probe
from .link import IterLink, Link, LinkInfo, Request


class Hook(NamedTuple):
    """A row of ATTACHERS: the file and the function that attach, and whether they can do so for a single process.

    A file is imported when it is needed: a tracer of one tracepoint does not wait for all the others.
    """

    file: str
    function: str = "attach"
    by_process: bool = False

    def attach(self, request: Request) -> Link:
        """Attach the program."""
        attached: Link = getattr(import_module(f".{self.file}", __name__), self.function)(request)
        return attached


# The section's name up to the slash (formats.sections.HOOKS, without .s and .w) -> what attaches its programs.
ATTACHERS: dict[str, Hook] = {
    "tracepoint": Hook("tracepoint"),
    "tp": Hook("tracepoint"),
    "raw_tracepoint": Hook("raw_tracepoint"),
    "raw_tp": Hook("raw_tracepoint"),
    "tp_btf": Hook("tracing"),
    "fentry": Hook("tracing"),
    "fexit": Hook("tracing"),
    "fmod_ret": Hook("tracing"),
    "lsm": Hook("tracing"),
    "iter": Hook("iterator", by_process=True),
    "kprobe": Hook("kprobe"),
    "kretprobe": Hook("kprobe"),
    "ksyscall": Hook("kprobe", "attach_syscall"),
    "kretsyscall": Hook("kprobe", "attach_syscall"),
    "kprobe.multi": Hook("kprobe_multi"),
    "kretprobe.multi": Hook("kprobe_multi"),
    "kprobe.session": Hook("kprobe_multi"),
    "uprobe": Hook("uprobe", by_process=True),
    "uretprobe": Hook("uprobe", by_process=True),
    "uprobe.multi": Hook("uprobe", "attach_multi", by_process=True),
    "uretprobe.multi": Hook("uprobe", "attach_multi", by_process=True),
    "uprobe.session": Hook("uprobe", "attach_multi", by_process=True),
    "perf_event": Hook("perf_event", by_process=True),
}
# For programs whose section no row knows, and whose type the user has set: the hook that their type stands for.
_BY_TYPE: dict[tuple[ProgType | int | None, AttachType | int], str] = {
    (ProgType.TRACEPOINT, 0): "tracepoint",
    (ProgType.RAW_TRACEPOINT, 0): "raw_tracepoint",
    (ProgType.RAW_TRACEPOINT_WRITABLE, 0): "raw_tracepoint",
    (ProgType.KPROBE, 0): "kprobe",
    (ProgType.PERF_EVENT, 0): "perf_event",
    (ProgType.TRACING, AttachType.TRACE_RAW_TP): "tp_btf",
    (ProgType.TRACING, AttachType.TRACE_FENTRY): "fentry",
    (ProgType.TRACING, AttachType.TRACE_FEXIT): "fexit",
    (ProgType.TRACING, AttachType.MODIFY_RETURN): "fmod_ret",
    (ProgType.TRACING, AttachType.TRACE_ITER): "iter",
    (ProgType.LSM, AttachType.LSM_MAC): "lsm",
    (ProgType.KPROBE, AttachType.TRACE_KPROBE_MULTI): "kprobe.multi",
    (ProgType.KPROBE, AttachType.TRACE_KPROBE_SESSION): "kprobe.session",
    (ProgType.KPROBE, AttachType.TRACE_UPROBE_MULTI): "uprobe.multi",
    (ProgType.KPROBE, AttachType.TRACE_UPROBE_SESSION): "uprobe.session",
}


def _pmu(name: str) -> bool:
    return os.path.exists(f"/sys/bus/event_source/devices/{name}/type")


# Ways to attach that a kernel may lack.
AVAILABLE: dict[str, Callable[[], bool]] = {
    "tracepoint": lambda: probe.has_prog_type(ProgType.TRACEPOINT) and _pmu("tracepoint"),
    "raw_tracepoint": lambda: probe.has_prog_type(ProgType.RAW_TRACEPOINT),
    "tp_btf": lambda: probe.has_prog_type(ProgType.TRACING),
    "kprobe": lambda: _pmu("kprobe"),
    "uprobe": lambda: _pmu("uprobe"),
    "perf_event_link": probe.FEATURES["perf_link"],
}


def _complete(request: Request) -> Request:
    return request if request.hook else request._replace(hook=_BY_TYPE.get((request.type, request.attach_type), ""))


def can_attach(request: Request) -> bool:
    """Does the request say where, and is there a way?"""
    return bool(request.target) and _complete(request).hook in ATTACHERS


def attach(request: Request) -> Link:
    """Attach a program. Raises NotSupported, TracefsUnavailable, NotPermitted, KernelError.

    Also ObjectError for a request that does not say where, and NotSupported for a hook that has no row here.
    """
    request = _complete(request)
    if request.hook not in ATTACHERS:
        kind = request.type.name if isinstance(request.type, ProgType) else str(request.type)
        raise NotSupported(
            f"program {request.program!r}: purebpf does not attach programs of type {kind} ({request.hook or 'unknown'})",
            hint="it is loaded: attach it with another tool through its pin (program.pin)",
        )
    if not request.target:
        raise ObjectError(
            f"program {request.program!r}: its section {request.hook!r} does not say what to attach to",
            hint="program.attach('…') takes what would stand behind the slash",
        )
    _check(request)
    return ATTACHERS[request.hook].attach(request)


def _check(request: Request) -> None:
    if not request.target.isprintable():  # a NUL would end the name in the kernel's eyes
        raise ObjectError(f"program {request.program!r}: {request.target!r} is no target")
    if not 0 <= request.cookie < 1 << 64 or not -1 <= request.pid < 1 << 31:
        raise ObjectError(f"{request.doing}: pid {request.pid} or cookie {request.cookie} is out of range")
    if request.pid >= 0 and not ATTACHERS[request.hook].by_process:
        raise ObjectError(
            f"{request.doing}: this hook cannot be restricted to process {request.pid}",
            hint="compare bpf_get_current_pid_tgid() >> 32 in the program",
        )


__all__ = ["ATTACHERS", "AVAILABLE", "IterLink", "Link", "LinkInfo", "Request", "attach", "can_attach"]
