"""Samples: a program that runs each time a counter overflows, on every CPU.

The target is EVENT@HERTZ, such as cpu-clock@99, or EVENT for 99 Hz; events are those of perf(1). Each CPU has its own
event and link; with a pid they follow this one process, on whatever CPU it runs.
"""

from __future__ import annotations

import errno
import os
import re

from ...errors import Error, KernelError, NotSupported, ObjectError
from ...formats import attr
from .. import sys
from ..cpus import online_cpus
from ..fd import FileDescriptor
from .link import Link, Request
from .perf import attach as attach_to_event
from .perf import open_event

_DEFAULT_HERTZ = "99"  # beside the tick, not in step with it
_TARGET = re.compile(r"([\w-]+)(?:@([1-9][0-9]{0,8}))?")
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


class SampleLink(Link):
    """The links of all CPUs, closed together; `fileno` and `info` are the first one's."""

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Refused: there is a link for each CPU. Raises ObjectError."""
        raise ObjectError(f"{self._what} cannot be pinned at {os.fspath(path)}: it is one link for each CPU")


def attach(request: Request) -> Link:
    """Sample on every CPU that is online. Raises ObjectError, NotSupported, NotPermitted, KernelError."""
    target = _TARGET.fullmatch(request.target)
    if target is None or target[1] not in EVENTS:
        raise ObjectError(
            f"{request.doing}: {request.target!r} is no event", hint=f"EVENT@HERTZ, where EVENT is {', '.join(EVENTS)}"
        )
    kind, config = EVENTS[target[1]]
    event = attr.perf_event(kind, config, sample=int(target[2] or _DEFAULT_HERTZ), bits=attr.PERF_ATTR_FREQ)
    owned: list[FileDescriptor] = []
    try:
        for cpu in online_cpus():
            owned += attach_to_event(request, open_event(request, event, request.pid, cpu))
    except Error:
        _close(owned)
        raise
    except OSError as error:
        _close(owned)
        raise _refused(request, target[1], error) from error
    return SampleLink(request.program, *owned)


def _refused(request: Request, name: str, error: OSError) -> KernelError:
    if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
        return NotSupported(
            f"{request.doing}: this machine does not count {name}", errno=error.errno, hint="try cpu-clock"
        )
    hint = "the most is in /proc/sys/kernel/perf_event_max_sample_rate" if error.errno == errno.EINVAL else ""
    return sys.refusal(f"{request.doing}: perf_event_open", error, hint)


def _close(owned: list[FileDescriptor]) -> None:
    for descriptor in owned:
        descriptor.close()
