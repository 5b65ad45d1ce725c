"""System calls by number, through libc's syscall(2): the one place that uses ctypes.

Each function returns the result or raises OSError with the kernel's errno; what that means is said by the
caller, through `refusal`, which turns it into our own errors.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from ..errors import KernelError, NotLinux, NotPermitted, NotSupported
from ..formats.abi import Cmd
from . import capabilities

if TYPE_CHECKING:
    import mmap


class _Missing(ModuleType):
    """Stands in for a module that this Python has not. Its name is the reason."""

    def __getattr__(self, _name: str) -> NoReturn:
        raise KernelError(
            f"this Python ({sys.executable}) has no ctypes, without which no system call can be made: {self.__name__}",
            hint="use one that was built with libffi, as the distributions' are",
        )


try:
    import ctypes
except ImportError as error:  # a Python built without libffi: objects can be read all the same
    ctypes = _Missing(str(error))


class _Numbers(NamedTuple):
    bpf: int
    perf_event_open: int
    membarrier: int
    userfaultfd: int


# From each architecture's system call table (arch/*/…/syscall.tbl, include/uapi/asm-generic/unistd.h).
_NUMBERS = {
    "x86_64": _Numbers(321, 298, 324, 323),
    "aarch64": _Numbers(280, 241, 283, 282),
    "riscv64": _Numbers(280, 241, 283, 282),
    "s390x": _Numbers(351, 331, 356, 355),
    "ppc64le": _Numbers(361, 319, 365, 364),
}
# Calls newer than 5.0 have one number on all architectures.
_FSOPEN, _FSCONFIG, _FSMOUNT, _PIDFD_OPEN = 430, 431, 432, 434
_FSCONFIG_CMD_CREATE = 6
_CLOEXEC = 1  # FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC

_MEMBARRIER_CMD_GLOBAL_EXPEDITED = 2
# Loads are not reordered with loads, nor stores with earlier loads (x86 TSO; z/Architecture is stronger).
_STRONGLY_ORDERED = {"x86_64", "s390x"}
_HIDDEN = "this kernel was built without the system call (bpf: CONFIG_BPF_SYSCALL), or a seccomp filter hides it"
ENOTSUPP = 524  # the kernel's own, without a name in errno.h; BPF lets it out


@functools.cache
def _numbers() -> _Numbers:
    if sys.platform != "linux":
        raise NotLinux(
            f"BPF programs can only be loaded on Linux, and this is {sys.platform}",
            hint="reading objects (purebpf.parse) works everywhere",
        )
    machine = os.uname().machine
    if machine not in _NUMBERS:
        raise NotSupported(
            f"no system call numbers known for machine {machine!r}; known: {', '.join(_NUMBERS)}",
            hint="if it is one of these, something says otherwise, such as setarch or linux32: start Python without it",
        )
    if sys.maxsize < 1 << 32:  # a program of 32 bits has other numbers, and the kernel does not say that it is one
        raise NotSupported(f"this Python ({sys.executable}) is a 32-bit program", hint="use a 64-bit Python")
    return _NUMBERS[machine]


def require_supported() -> None:
    """Raise NotLinux; NotSupported for a machine whose system call numbers are not known; KernelError without ctypes."""
    _numbers()
    _libc()


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long  # the default, int, would cut addresses
    return libc


def _call(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | None) -> int:
    wide = (ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    result: int = _libc().syscall(ctypes.c_long(number), *wide)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Buffer:
    """Memory at a fixed address for the kernel to read or fill. Keep it referenced until the call returns."""

    def __init__(self, content: bytes | int) -> None:
        if isinstance(content, int):
            self._memory = ctypes.create_string_buffer(content)
        else:
            self._memory = ctypes.create_string_buffer(content, len(content))
        self.address = ctypes.addressof(self._memory)

    def bytes(self) -> bytes:
        """What it holds now."""
        return self._memory.raw


def bpf(cmd: Cmd, attr: bytes) -> int:
    """bpf(2). A load that a signal interrupted (EAGAIN, since 4.20) is tried again."""
    return _bpf(cmd, ctypes.create_string_buffer(attr, len(attr)))


def bpf_out(cmd: Cmd, attr: bytes) -> bytes:
    """bpf(2) for the commands that answer in the attribute: what the kernel has made of it."""
    memory = ctypes.create_string_buffer(attr, len(attr))
    _bpf(cmd, memory)
    return memory.raw


def bpf_partial(cmd: Cmd, attr: bytes) -> tuple[bytes, OSError | None]:
    """bpf(2) for the commands that do a part and then fail (batches): the attribute afterwards, and the refusal."""
    memory = ctypes.create_string_buffer(attr, len(attr))
    try:
        _bpf(cmd, memory)
    except OSError as error:
        return memory.raw, error
    return memory.raw, None


def _bpf(cmd: Cmd, memory: ctypes.Array[ctypes.c_char]) -> int:
    number = _numbers().bpf
    while True:
        try:
            return _call(number, cmd, memory, len(memory))
        except InterruptedError:
            continue
        except BlockingIOError:
            if cmd != Cmd.PROG_LOAD:
                raise


def perf_event_open(attr: bytes, pid: int, cpu: int, flags: int) -> int:
    """perf_event_open(2) without a group."""
    return _call(_numbers().perf_event_open, ctypes.create_string_buffer(attr, len(attr)), pid, cpu, -1, flags)


def ioctl_request(request: int) -> int:
    """The number of an ioctl(2) on this machine, from that of include/uapi/asm-generic/ioctl.h.

    powerpc has the direction in three bits instead of two, and another number for each (its asm/ioctl.h).
    """
    if os.uname().machine != "ppc64le":
        return request
    direction = {0: 1, 1: 4, 2: 2, 3: 6}[request >> 30]  # none, write, read, both
    return request & (1 << 29) - 1 | direction << 29


def mount_tracefs() -> int:
    """A descriptor of a tracefs instance that is mounted nowhere (fsopen, fsmount; Linux 5.2, CAP_SYS_ADMIN).

    It lets tracepoints be looked up where nobody has mounted tracefs, without changing the machine's mounts.
    """
    context = _call(_FSOPEN, ctypes.create_string_buffer(b"tracefs"), _CLOEXEC)
    try:
        _call(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)


def pidfd_open(pid: int) -> int:
    """pidfd_open(2), Linux 5.3. Pythons that were built on older kernels have no os.pidfd_open."""
    return _call(_PIDFD_OPEN, pid, 0)


def userfaultfd() -> int:
    """userfaultfd(2), Linux 4.3: a descriptor that tells of faults, of the kernel's own accesses, too; it does not block."""
    return _call(_numbers().userfaultfd, os.O_CLOEXEC | os.O_NONBLOCK)


def address(memory: mmap.mmap) -> int:
    """Where a writable mapping is."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def full_barrier() -> None:
    """Order all memory accesses of this thread: everything before against everything after.

    membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED) has a full barrier at entry and exit for the caller
    (kernel/sched/membarrier.c, since 4.16; with one CPU none is needed). The private command would not do:
    it returns at once, without a barrier, in a process with a single thread.
    """
    try:
        _call(_numbers().membarrier, _MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0)
    except OSError as error:
        raise refusal("ordering memory with membarrier(2)", error) from error


def load_fence() -> None:
    """The barrier that formats.ring asks for: none on CPUs that keep loads in order."""
    if _is_weakly_ordered():
        full_barrier()


@functools.cache
def _is_weakly_ordered() -> bool:
    return os.uname().machine not in _STRONGLY_ORDERED


def errno_name(number: int) -> str:
    """The symbol, e.g. "EINVAL"."""
    if number == errno.EOPNOTSUPP:  # which Python calls ENOTSUP
        return "EOPNOTSUPP"
    return "ENOTSUPP" if number == ENOTSUPP else errno.errorcode.get(number, f"errno {number}")


def refusal(doing: str, error: OSError, hint: str = "") -> KernelError:
    """Our error for a refused call: NotPermitted for EPERM and EACCES, NotSupported for ENOSYS; of one of ours, its kind."""
    number = error.errno or 0
    if isinstance(error, KernelError):  # its cause is known already: kernel/memlock.py, or no call could be made
        answer = f"{errno_name(number)}: {error}" if number else str(error)
        return type(error)(f"{doing}: {answer}", errno=error.errno, hint=error.hint)
    answer = f"{doing}: {errno_name(number)} ({os.strerror(number)})"
    if number in (errno.EPERM, errno.EACCES):
        missing, remedy = capabilities.diagnose()
        return NotPermitted(f"{answer}; {missing}", errno=number, hint=hint or remedy)
    if number == errno.ENOSYS:
        return NotSupported(answer, errno=number, hint=hint or _HIDDEN)
    return KernelError(answer, errno=number, hint=hint)
