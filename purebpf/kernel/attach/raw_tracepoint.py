"""Raw tracepoints: by name, without tracefs and without perf events; the context is the tracepoint's arguments."""

from __future__ import annotations

import errno
import os

from ...errors import NotSupported
from ...formats import attr
from ...formats.abi import Cmd
from .. import sys, tracefs
from ..fd import FileDescriptor
from .link import Link, Request, refused


def attach(request: Request) -> Link:
    """Attach to the tracepoint "name" (a category before it is ignored). Raises NotSupported if there is none."""
    name = request.target.rpartition("/")[2]
    memory = sys.Buffer(os.fsencode(name) + b"\0")
    try:
        fd = sys.bpf(Cmd.RAW_TRACEPOINT_OPEN, attr.raw_tracepoint_open(memory.address, request.fd, request.cookie))
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise NotSupported(
                f"{request.doing}: this kernel has no tracepoint {name}",
                errno=error.errno,
                hint=tracefs.similar(name),
            ) from error
        raise refused(request, error) from error
    return Link(request.program, FileDescriptor(fd, f"link of {request.program!r}"))
