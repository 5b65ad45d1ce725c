"""Tracepoints: a perf event that counts the tracepoint, and the program tied to it.

The event is opened once, on CPU 0 for all processes: the program is attached to the tracepoint itself and
runs on every CPU (kernel/trace/bpf_trace.c, perf_event_attach_bpf_prog).
"""

from __future__ import annotations

from ...errors import KernelError, ObjectError
from ...formats import attr
from .. import sys, tracefs
from .link import Link, Request
from .perf import open_event, single


def attach(request: Request) -> Link:
    """Attach to "category/name". Raises ObjectError, NotSupported, TracefsUnavailable, NotPermitted, KernelError."""
    try:
        number = tracefs.tracepoint_id(request.target)
    except KernelError as error:
        raise type(error)(f"{request.doing}: {error}", errno=error.errno, hint=error.hint) from error
    except ObjectError as error:
        raise ObjectError(f"{request.doing}: {error}") from error
    try:
        event = open_event(request, attr.perf_event(attr.PERF_TYPE_TRACEPOINT, number, sample=1), -1, 0)
    except OSError as error:
        raise sys.refusal(f"{request.doing}: perf_event_open", error) from error
    return single(request, event)
