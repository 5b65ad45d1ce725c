"""tp_btf, fentry, fexit, fmod_ret, lsm: the target was given by its BTF id when the program was loaded.

BPF_LINK_CREATE knows these only since 5.13 to 5.19, by type; before, and still, BPF_RAW_TRACEPOINT_OPEN without
a name attaches them (libbpf's bpf_link_create falls back in the same way).
"""

from __future__ import annotations

import errno
import struct

from ...errors import KernelError, NotSupported
from ...formats import attr
from ...formats.abi import Cmd
from .. import sys
from ..fd import FileDescriptor
from .link import Link, Request, create, refused


def attach(request: Request) -> Link:
    """Attach to what the program was loaded for. Raises NotPermitted, NotSupported, KernelError."""
    tail = struct.pack("=IIQ", 0, 0, request.cookie) if request.cookie else b""
    try:
        return Link(request.program, create(request, tail=tail))
    except OSError as error:
        if error.errno != errno.EINVAL or request.cookie:
            raise _refused(request, error) from error
    try:
        fd = sys.bpf(Cmd.RAW_TRACEPOINT_OPEN, attr.raw_tracepoint_open(0, request.fd))
    except OSError as error:
        raise _refused(request, error) from error
    return Link(request.program, FileDescriptor(fd, f"link of {request.program!r}"))


def _refused(request: Request, error: OSError) -> KernelError:
    """ENOTSUPP: functions have no place for a call (register_fentry, kernel/bpf/trampoline.c), as on arm64 before 6.4."""
    if error.errno != sys.ENOTSUPP:
        return refused(request, error)
    return NotSupported(
        f"{request.doing}: ENOTSUPP: this kernel's functions cannot call programs",
        errno=error.errno,
        hint="arm64 can since Linux 6.4 (ftrace's direct calls), x86-64 since 5.5; take a kprobe or a tracepoint instead",
    )
