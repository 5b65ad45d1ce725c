"""RLIMIT_MEMLOCK, against which kernels before 5.11 count the memory of BPF objects.

They answer EPERM when it is used up, and its default, 64 KiB, is soon. Newer kernels count in the memory
cgroup, and there the limit is nobody's business. Which it is can be seen from a helper that came with the
same release, bpf_ktime_get_coarse_ns (include/uapi/linux/bpf.h, number 160): can a program call it?
"""

from __future__ import annotations

import errno
import functools
import mmap
import os
import sys as _python
from typing import Callable, TypeVar

from ..errors import NotPermitted
from ..formats import attr, insn
from ..formats.abi import Cmd, MapType, ProgType
from ..formats.insn import Instruction
from . import capabilities, sys

_COARSE_NS = 160
_T = TypeVar("_T")


def retry(call: Callable[[], _T], size: int = 1 << 32) -> _T:
    """Make the call; if it fails with EPERM because of the limit, lift that and make it once more.

    `size` is how many bytes the kernel counts for it at most, by default more than any limit has: one that has room for
    them is not to blame.

    Raises NotPermitted if the limit cannot be lifted far enough. Other OSErrors of `call` pass through.
    """
    try:
        return call()
    except PermissionError as error:
        # Without the capabilities the limit is not to blame.
        if error.errno != errno.EPERM or not capabilities.complete() or not _to_blame():
            raise
    try:
        return call()
    except PermissionError as error:
        import resource  # Unix only; purebpf imports anywhere

        limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        if error.errno != errno.EPERM or limit == resource.RLIM_INFINITY or not _is_used_up(limit, size):
            raise
        raise _used_up(limit) from error


@functools.cache
def _to_blame() -> bool:
    """Is memory counted so? If it is, the limit is as high as this process may set it now."""
    answer = _probe()
    if answer == 0:
        return False
    import resource

    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    after = _raise(before)
    if after != before:
        answer = _probe()
    counted = answer != 0 if answer != errno.EPERM else _lacks_coarse_ns()
    if not counted:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)
    return counted


def _lacks_coarse_ns() -> bool:
    """The probe had no memory, or is refused whatever the kernel can: what do its symbols say?"""
    from . import kallsyms

    return bool(kallsyms.syscall_symbol("bpf")) and not kallsyms.functions("bpf_ktime_get_coarse_ns")


def _is_used_up(limit: int, size: int) -> bool:
    """Or does somebody else refuse? A filter may refuse all calls, and an array of that size may still be made."""
    if _errno(Cmd.MAP_LOOKUP_ELEM, attr.map_element(0xFFFFFFFF, 0, 0)) == errno.EPERM:  # needs no memory: EBADF
        return False
    page = mmap.PAGESIZE
    pages = min(size, limit + page) // page + 1
    return _errno(Cmd.MAP_CREATE, attr.map_create(MapType.ARRAY, 4, page, pages, 0, "probe")) == errno.EPERM


def _used_up(limit: int) -> NotPermitted:
    return NotPermitted(
        f"the limit of locked memory ({limit >> 10} KiB) is used up, and without CAP_SYS_RESOURCE it cannot be raised",
        errno=errno.EPERM,
        hint="before Linux 5.11 BPF needs: ulimit -l unlimited (systemd: LimitMEMLOCK=infinity; docker: --ulimit memlock=-1)",
    )


def _raise(before: tuple[int, int]) -> tuple[int, int]:
    """To no limit; without CAP_SYS_RESOURCE to the hard one."""
    import resource

    for after in ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), (before[1], before[1])):
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, after)
        except (OSError, ValueError):
            continue
        return after
    return before


def _probe() -> int:
    """The errno of loading a program that calls the helper, 0 if it loads."""
    code = [Instruction(0x85, 0, 0, 0, _COARSE_NS), Instruction(0xB7, 0, 0, 0, 0), Instruction(0x95, 0, 0, 0, 0)]
    instructions, license = sys.Buffer(insn.encode(code, _python.byteorder)), sys.Buffer(b"GPL\0")
    load = attr.prog_load(ProgType.SOCKET_FILTER, len(code), instructions.address, license.address)
    return _errno(Cmd.PROG_LOAD, load)


def _errno(cmd: Cmd, request: bytes) -> int:
    """0 if something can be made, which is let go again."""
    try:
        os.close(sys.bpf(cmd, request))
    except OSError as error:
        return error.errno or errno.EPERM
    return 0
