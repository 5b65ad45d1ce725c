"""Tracepoints: a perf event that counts the tracepoint, and the program tied to it.

The event is opened once, on CPU 0 for all processes: the program is attached to the tracepoint itself and
runs on every CPU (kernel/trace/bpf_trace.c, perf_event_attach_bpf_prog).
"""

from __future__ import annotations

import errno

from ...formats import abi
from ...formats.abi import AttachType, Cmd
from .. import sys, tracefs
from ..fd import FileDescriptor
from .link import Link


def attach(program: str, program_fd: int, target: str) -> Link:
    """Attach to "category/name". A link where the kernel has them for perf events (5.15), else the perf ioctl."""
    tracepoint_id = tracefs.tracepoint_id(target)
    doing = f"attaching program {program!r} to tracepoint {target}"
    try:
        opened = sys.perf_event_open(abi.perf_event_tracepoint(tracepoint_id), -1, 0, abi.PERF_FLAG_FD_CLOEXEC)
    except OSError as error:
        raise sys.refusal(f"{doing}: perf_event_open", error) from error
    event = FileDescriptor(opened, f"perf event of {program!r}")
    try:
        return _link(program, program_fd, event)
    except OSError as error:
        event.close()
        raise sys.refusal(doing, error) from error


def _link(program: str, program_fd: int, event: FileDescriptor) -> Link:
    try:
        attr = abi.link_create(program_fd, event.fileno(), AttachType.PERF_EVENT)
        link = FileDescriptor(sys.bpf(Cmd.LINK_CREATE, attr), f"link of {program!r}")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _ioctl(event, abi.PERF_EVENT_IOC_SET_BPF, program_fd)
        _ioctl(event, abi.PERF_EVENT_IOC_ENABLE, 0)
        return Link(event)
    return Link(link, event)


def _ioctl(event: FileDescriptor, request: int, argument: int) -> None:
    import fcntl  # Unix only; purebpf imports anywhere

    fcntl.ioctl(event.fileno(), request, argument)
