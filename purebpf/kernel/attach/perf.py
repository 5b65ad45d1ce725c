"""Programs on perf events: how tracepoints, probes and samples are all attached.

Since 5.15 there is a link for it, which carries a cookie and can be pinned; before, the program is set by ioctl and
stays as long as the event is open.
"""

from __future__ import annotations

import errno
import struct

from ...errors import Error, NotSupported
from ...formats import attr
from ...formats.abi import AttachType
from .. import sys
from ..fd import FileDescriptor
from .link import Link, Request, create


def open_event(request: Request, event: bytes, pid: int, cpu: int) -> FileDescriptor:
    """perf_event_open(2). OSErrors are left to the caller."""
    fd = sys.perf_event_open(event, pid, cpu, attr.PERF_FLAG_FD_CLOEXEC)
    return FileDescriptor(fd, f"perf event of {request.program!r}")


def attach(request: Request, event: FileDescriptor) -> tuple[FileDescriptor, ...]:
    """Tie the program to the event: what must stay open for it, the first of them the link if there is one.

    The event is closed when it fails. Raises NotPermitted, NotSupported for a cookie without links, KernelError.
    """
    try:
        return _linked(request, event)
    except Error:
        event.close()
        raise
    except OSError as error:
        event.close()
        hint = "it is attached there already, and the kernel takes it once" if error.errno == errno.EEXIST else ""
        raise sys.refusal(request.doing, error, hint) from error


def _linked(request: Request, event: FileDescriptor) -> tuple[FileDescriptor, ...]:
    tail = struct.pack("=Q", request.cookie)
    try:
        link = create(request._replace(attach_type=AttachType.PERF_EVENT), event.fileno(), 0, tail)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        if request.cookie:
            raise NotSupported(f"{request.doing}: this kernel has no cookies for it (Linux 5.15 has)") from error
        _ioctl(event, attr.PERF_EVENT_IOC_SET_BPF, request.fd)
        _ioctl(event, attr.PERF_EVENT_IOC_ENABLE, 0)
        return (event,)
    try:
        _ioctl(event, attr.PERF_EVENT_IOC_ENABLE, 0)
    except OSError:
        link.close()
        raise
    return link, event


def _ioctl(event: FileDescriptor, request: int, argument: int) -> None:
    import fcntl  # Unix only; purebpf imports anywhere

    fcntl.ioctl(event.fileno(), sys.ioctl_request(request), argument)


def single(request: Request, event: FileDescriptor) -> Link:
    """A link of one event."""
    return Link(request.program, *attach(request, event))
