"""Iterators: a program that is run over all tasks, maps, … when its link is read (Documentation/bpf/bpf_iterators.rst).

What is gone through can be narrowed down (include/uapi/linux/bpf.h, union bpf_iter_link_info): to the elements of one
map, which some iterators demand, and to one process (Linux 6.1).
"""

from __future__ import annotations

import errno
import os
import struct

from ...errors import NotSupported, ObjectError
from .. import sys
from .link import IterLink, Request, create, refused

_OF_TASKS = ("task", "task_file", "task_vma")


def attach(request: Request) -> IterLink:
    """Attach to the iterator that the program was loaded for. Raises ObjectError, NotPermitted, KernelError."""
    if request.cookie:
        raise NotSupported(f"{request.doing}: iterators have no cookies")
    choice = sys.Buffer(_choice(request))
    tail = struct.pack("=QI", choice.address, len(choice.bytes())) if choice.bytes() else b""
    try:
        return IterLink(request.program, create(request, tail=tail))
    except OSError as error:
        if request.pid >= 0 and error.errno in (errno.E2BIG, errno.EINVAL):
            raise NotSupported(
                f"{request.doing}: {sys.errno_name(error.errno)}: this kernel cannot hold an iterator to a process",
                errno=error.errno,
                hint="Linux 6.1 can; let it go through all, and compare in the program",
            ) from error
        raise refused(request, error) from error


def _choice(request: Request) -> bytes:
    if request.map_fd:
        return struct.pack("=I", request.map_fd)
    if request.pid < 0:
        return b""
    if request.target not in _OF_TASKS:
        raise ObjectError(f"{request.doing}: only iterators of tasks ({', '.join(_OF_TASKS)}) can be held to a process")
    return struct.pack("=III", 0, request.pid or os.getpid(), 0)  # thread, process, pidfd: one of them
