"""RLIMIT_MEMLOCK, against which kernels before 5.11 count the memory of BPF objects.

They answer EPERM when it is used up, and its default, 64 KiB, is soon. Newer kernels count in the memory
cgroup, and there the limit is nobody's business. Which it is can be seen from a helper that came with the
same release, bpf_ktime_get_coarse_ns (include/uapi/linux/bpf.h, number 160): can a program call it?
"""

from __future__ import annotations

import errno
import functools
import os
import sys as _python
from typing import Callable, TypeVar

from ..formats import attr, insn
from ..formats.abi import Cmd, ProgType
from ..formats.insn import Instruction
from . import capabilities, sys

_COARSE_NS = 160
_T = TypeVar("_T")


def retry(call: Callable[[], _T]) -> _T:
    """Make the call; if it fails with EPERM because of the limit, lift that and make it once more.

    OSErrors of `call` pass through.
    """
    try:
        return call()
    except PermissionError as error:
        # Without the capabilities the limit is not to blame.
        if error.errno != errno.EPERM or not capabilities.complete() or not _lifted():
            raise
    return call()


@functools.cache
def _lifted() -> bool:
    """Was the limit to blame, and is it higher now?

    The probe itself may fail for want of memory, so it is asked again under the higher limit.
    """
    if _probe() == 0:
        return False
    import resource  # Unix only; purebpf imports anywhere

    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    after = _raise(before)
    if after == before:
        return False
    if _probe() in (0, errno.EPERM):  # memory is not counted so, or a privilege is missing
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)
        return False
    return True


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
    try:
        os.close(sys.bpf(Cmd.PROG_LOAD, load))
    except OSError as error:
        return error.errno or errno.EPERM
    return 0
