"""Hooks: one file each, and their rows in ATTACHERS."""

from __future__ import annotations

import os
from collections.abc import Callable

from ...errors import NotSupported, ObjectError
from ...formats.abi import AttachType, ProgType
from .. import probe
from . import iterator, kprobe, kprobe_multi, perf_event, raw_tracepoint, tracepoint, tracing, uprobe
from .link import IterLink, Link, LinkInfo, Request

Attacher = Callable[[Request], Link]

# The section's name up to the slash (formats.sections.HOOKS, without .s and .w) -> what attaches its programs.
ATTACHERS: dict[str, Attacher] = {
    "tracepoint": tracepoint.attach,
    "tp": tracepoint.attach,
    "raw_tracepoint": raw_tracepoint.attach,
    "raw_tp": raw_tracepoint.attach,
    "tp_btf": tracing.attach,
    "fentry": tracing.attach,
    "fexit": tracing.attach,
    "fmod_ret": tracing.attach,
    "lsm": tracing.attach,
    "iter": iterator.attach,
    "kprobe": kprobe.attach,
    "kretprobe": kprobe.attach,
    "ksyscall": kprobe.attach_syscall,
    "kretsyscall": kprobe.attach_syscall,
    "kprobe.multi": kprobe_multi.attach,
    "kretprobe.multi": kprobe_multi.attach,
    "kprobe.session": kprobe_multi.attach,
    "uprobe": uprobe.attach,
    "uretprobe": uprobe.attach,
    "uprobe.multi": uprobe.attach_multi,
    "uretprobe.multi": uprobe.attach_multi,
    "uprobe.session": uprobe.attach_multi,
    "perf_event": perf_event.attach,
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
    (ProgType.TRACING, AttachType.TRACE_ITER): "iter",
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
    return ATTACHERS[request.hook](request)


__all__ = ["ATTACHERS", "AVAILABLE", "IterLink", "Link", "LinkInfo", "Request", "attach", "can_attach"]
