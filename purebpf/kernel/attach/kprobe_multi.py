"""kprobe.multi and kprobe.session: many functions with one link (Linux 5.18; sessions 6.10).

A pattern is expanded with tracefs's available_filter_functions, the list of what can be traced, or where that cannot
be read with all functions of the kernel.
"""

from __future__ import annotations

import errno
import fnmatch
import itertools
import re
import struct

from ...errors import NotSupported
from .. import kallsyms, sys, tracefs
from .link import Link, Request, create

_RETURN = 1  # BPF_F_KPROBE_MULTI_RETURN


def attach(request: Request) -> Link:
    """Attach to all functions that match "pattern". Raises NotSupported, NotPermitted, KernelError."""
    names = _traceable(request.target)
    if not names:
        raise NotSupported(
            f"{request.doing}: no function of this kernel matches {request.target!r}",
            hint=kallsyms.similar(request.target),
        )
    starts = [0, *itertools.accumulate(len(name.encode()) + 1 for name in names)]
    strings = sys.Buffer("".join(f"{name}\0" for name in names).encode())
    addresses = sys.Buffer(struct.pack(f"={len(names)}Q", *(strings.address + start for start in starts[:-1])))
    cookies = sys.Buffer(struct.pack("=Q", request.cookie) * len(names))
    flags = _RETURN if request.hook == "kretprobe.multi" else 0
    tail = struct.pack("=IIQQQ", flags, len(names), addresses.address, 0, cookies.address if request.cookie else 0)
    try:
        return Link(request.program, create(request, tail=tail))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            raise NotSupported(
                f"{request.doing}: {sys.errno_name(error.errno)}: this kernel cannot attach to many functions at once",
                errno=error.errno,
                hint="it needs CONFIG_FPROBE, Linux 5.18, for sessions 6.10",
            ) from error
        raise sys.refusal(request.doing, error) from error


def _traceable(pattern: str) -> list[str]:
    try:
        with tracefs.root() as (root, _path), open(f"/proc/self/fd/{root}/available_filter_functions") as file:
            names = {line.split()[0] for line in file if not line.startswith("__ftrace_invalid_address__")}
    except OSError:  # TracefsUnavailable is one
        return kallsyms.functions(pattern)
    matches = re.compile(fnmatch.translate(pattern)).match
    return sorted(filter(matches, names))
