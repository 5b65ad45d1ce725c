"""uprobe and uretprobe, and many of them at once: functions of programs and libraries.

The target is FILE:FUNCTION, FILE:FUNCTION+OFFSET or FILE:0xOFFSET, the last an offset in the file. A file without a
slash is looked for where the shell or the dynamic loader would find it.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import stat
import struct
import sysconfig
from pathlib import Path
from typing import NamedTuple

from ...errors import Error, KernelError, NotSupported, ObjectError
from ...formats.elf_symbols import function_offsets
from .. import sys
from .link import Link, Request, create
from .probe_event import NUMBER, Place, attach_to

_TARGET = re.compile(rf"(.+):([^:+]+)(?:\+({NUMBER}))?")
_RETURN = 1  # BPF_F_UPROBE_MULTI_RETURN


class _Target(NamedTuple):
    path: str
    offsets: list[int]


def attach(request: Request) -> Link:
    """Attach to one place. Raises ObjectError, NotSupported, NotPermitted, KernelError."""
    target = _parse(request)
    if len(target.offsets) != 1:
        raise ObjectError(f"{request.doing}: {len(target.offsets)} functions match; uprobe.multi takes many")
    try:
        return attach_to(request, Place("uprobe", target.path, target.offsets[0], request.hook == "uretprobe"))
    except Error:
        raise
    except OSError as error:
        raise sys.refusal(request.doing, error) from error


def attach_multi(request: Request) -> Link:
    """Attach to all functions that match FILE:PATTERN, with one link (Linux 6.6). Raises as `attach`."""
    target = _parse(request)
    path = sys.Buffer(os.fsencode(target.path) + b"\0")
    offsets = sys.Buffer(struct.pack(f"={len(target.offsets)}Q", *target.offsets))
    cookies = sys.Buffer(struct.pack("=Q", request.cookie) * len(target.offsets))
    flags = _RETURN if request.hook == "uretprobe.multi" else 0
    tail = struct.pack(
        "=QQQQIII",
        path.address,
        offsets.address,
        0,
        cookies.address if request.cookie else 0,
        len(target.offsets),
        flags,
        os.getpid() if request.pid == 0 else max(0, request.pid),  # 0 is every process here
    )
    try:
        return Link(request.program, create(request, tail=tail))
    except OSError as error:
        raise _refused(request, error) from error


def _refused(request: Request, error: OSError) -> KernelError:
    if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
        return NotSupported(
            f"{request.doing}: {sys.errno_name(error.errno)}: this kernel cannot attach to many places at once",
            errno=error.errno,
            hint="Linux 6.6 can; use uprobe for each of them",
        )
    return sys.refusal(request.doing, error)


def _parse(request: Request) -> _Target:
    found = _TARGET.fullmatch(request.target)
    if found is None:
        raise ObjectError(f"{request.doing}: {request.target!r} is not FILE:FUNCTION", hint="e.g. libc.so.6:malloc")
    path = _find(request, found[1])
    if re.fullmatch(NUMBER, found[2]):
        return _Target(path, [int(found[2], 0)])
    data = _content(request, path)
    more = int(found[3] or "0", 0)
    try:
        return _Target(path, [offset + more for offset in function_offsets(data, found[2])])
    except ObjectError as error:
        raise type(error)(f"{request.doing}: {path}: {error}", hint=error.hint) from error


def _content(request: Request, path: str) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for, a device read for ever
            raise ObjectError(f"{request.doing}: {path} is no regular file")
        return Path(path).read_bytes()
    except OSError as error:
        raise ObjectError(f"{request.doing}: {path}: {error.strerror}") from error


def _find(request: Request, name: str) -> str:
    """The file that a name without a slash stands for: a library, or a program on the PATH."""
    if "/" in name:
        return name
    found = shutil.which(name)
    if ".so" in name:
        found = next((str(f / name) for f in _library_folders() if (f / name).exists()), None)
    if found is None:
        raise ObjectError(f"{request.doing}: no {name!r} where programs and libraries lie", hint="give its whole path")
    return os.path.realpath(found)


def _library_folders() -> list[Path]:
    triplet = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"
    own = [Path(p) for p in os.environ.get("LD_LIBRARY_PATH", "").split(":") if p]
    roots = (Path("/usr/lib"), Path("/lib"))
    return [*own, *(r / triplet for r in roots), Path("/usr/lib64"), Path("/lib64"), *roots]
