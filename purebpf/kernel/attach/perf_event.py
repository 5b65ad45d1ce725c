"""Samples: a program that runs each time a counter overflows, on every CPU.

The target is EVENT@HERTZ, such as cpu-clock@99, or EVENT for 99 Hz; events are those of perf(1).
"""

from __future__ import annotations

import errno

from ...errors import Error, NotSupported, ObjectError
from ...formats import attr
from .. import sys
from ..cpus import online_cpus
from ..fd import FileDescriptor
from .link import Link, Request
from .perf import attach as attach_to_event
from .perf import open_event

_DEFAULT_HERTZ = 99  # beside the tick, not in step with it
# include/uapi/linux/perf_event.h: enum perf_hw_id, enum perf_sw_ids.
EVENTS = {
    "cpu-clock": (attr.PERF_TYPE_SOFTWARE, 0),
    "task-clock": (attr.PERF_TYPE_SOFTWARE, 1),
    "page-faults": (attr.PERF_TYPE_SOFTWARE, 2),
    "context-switches": (attr.PERF_TYPE_SOFTWARE, 3),
    "cpu-migrations": (attr.PERF_TYPE_SOFTWARE, 4),
    "cpu-cycles": (attr.PERF_TYPE_HARDWARE, 0),
    "instructions": (attr.PERF_TYPE_HARDWARE, 1),
    "cache-references": (attr.PERF_TYPE_HARDWARE, 2),
    "cache-misses": (attr.PERF_TYPE_HARDWARE, 3),
    "branch-instructions": (attr.PERF_TYPE_HARDWARE, 4),
    "branch-misses": (attr.PERF_TYPE_HARDWARE, 5),
}


def attach(request: Request) -> Link:
    """Sample on every CPU that is online. Raises ObjectError, NotSupported, NotPermitted, KernelError."""
    name, _, frequency = request.target.partition("@")
    if name not in EVENTS or (frequency and not frequency.isdigit()):
        raise ObjectError(
            f"{request.doing}: {request.target!r} is no event", hint=f"EVENT@HERTZ, where EVENT is {', '.join(EVENTS)}"
        )
    kind, config = EVENTS[name]
    hertz = int(frequency or _DEFAULT_HERTZ)
    event = attr.perf_event(kind, config, sample=hertz, bits=attr.PERF_ATTR_FREQ)
    owned: list[FileDescriptor] = []
    try:
        for cpu in online_cpus():
            owned += attach_to_event(request, open_event(request, event, request.pid, cpu))
    except Error:
        _close(owned)
        raise
    except OSError as error:
        _close(owned)
        if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
            raise NotSupported(
                f"{request.doing}: this machine does not count {name}", errno=error.errno, hint="try cpu-clock"
            ) from error
        raise sys.refusal(f"{request.doing}: perf_event_open", error) from error
    return Link(request.program, *owned)


def _close(owned: list[FileDescriptor]) -> None:
    for descriptor in owned:
        descriptor.close()
