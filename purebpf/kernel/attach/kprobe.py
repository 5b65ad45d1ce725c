"""kprobe and kretprobe, ksyscall and kretsyscall: any function of the kernel, at its entry or return."""

from __future__ import annotations

import errno
import re

from ...errors import Error, KernelError, NotSupported, ObjectError
from .. import kallsyms, sys
from .link import Link, Request
from .probe_event import NUMBER, Place, attach_to

_TARGET = re.compile(rf"([\w.$]+)(?:\+({NUMBER}))?", re.ASCII)


def attach(request: Request) -> Link:
    """Attach to "function" or "function+offset". Raises ObjectError, NotSupported, NotPermitted, KernelError."""
    target = _TARGET.fullmatch(request.target)
    returns = request.hook == "kretprobe"
    if target is None or (returns and target[2]):
        raise ObjectError(
            f"{request.doing}: {request.target!r} is no function" + (", which may have an offset" * (not returns))
        )
    return _probe(request, target[1], int(target[2] or "0", 0), returns)


def attach_syscall(request: Request) -> Link:
    """Attach to what implements the system call "name" on this machine. Raises as `attach`."""
    symbol = kallsyms.syscall_symbol(request.target)
    if not symbol:
        raise NotSupported(f"{request.doing}: this kernel has no system call {request.target!r}")
    return _probe(request, symbol, 0, request.hook == "kretsyscall")


def _probe(request: Request, function: str, offset: int, returns: bool) -> Link:
    try:
        return attach_to(request, Place("kprobe", function, offset, returns))
    except Error:
        raise
    except OSError as error:
        raise _refused(request, function, error) from error


def _refused(request: Request, function: str, error: OSError) -> KernelError:
    if error.errno in (errno.ENOENT, errno.EINVAL, errno.EADDRNOTAVAIL, errno.EILSEQ):
        known = kallsyms.functions(kallsyms.glob_escaped(function))
        if not known:
            return NotSupported(
                f"{request.doing}: this kernel has no function {function}",
                errno=error.errno,
                hint=kallsyms.similar(function),
            )
        return NotSupported(
            f"{request.doing}: {function} cannot be probed here ({sys.errno_name(error.errno)})",
            errno=error.errno,
            hint="it may be inlined, marked notrace, or the offset is in the middle of an instruction",
        )
    return sys.refusal(request.doing, error)
