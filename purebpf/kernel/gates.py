"""Gates that hold up a BPF program in its course until user space opens them, each once and in their order.

A gate is a page of memory that is not there yet. A sleepable program that reads it (bpf_copy_from_user) sleeps in the
page fault; userfaultfd(2) tells that it has come so far, and the program goes on when the page is given. Nothing spins,
so one CPU is enough. While a program sleeps, the kernel cannot free others that sleep (rcu_tasks_trace): gates are for
milliseconds. When the memory is no longer registered, its pages are filled as any memory, and all gates are open: nothing
can hang. (To close the descriptor would not do: a process that was forked meanwhile has it, too.)

    ioctl(UFFDIO_API)         struct uffdio_api        api, features, ioctls u64
    ioctl(UFFDIO_REGISTER)    struct uffdio_register   start, length, mode, ioctls u64
    ioctl(UFFDIO_UNREGISTER)  struct uffdio_range      start, length u64
    ioctl(UFFDIO_ZEROPAGE)    struct uffdio_zeropage   start, length, mode u64, zeropage s64
    read                      struct uffd_msg          event u8, 7 bytes, flags u64, address u64, 8 bytes
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import struct
from contextlib import ExitStack

from ..errors import NotPermitted, NotSupported
from . import sys
from .fd import FileDescriptor

_API_VERSION, _MODE_MISSING = 0xAA, 1
_API, _REGISTER, _UNREGISTER, _ZEROPAGE = 0xC018AA3F, 0xC020AA00, 0x8010AA01, 0xC020AA04
_MESSAGE = struct.Struct("=B7xQQ8x")


class Gates:
    """So many gates. A context manager, which opens all that are left.

    Raises NotSupported where the kernel was built without CONFIG_USERFAULTFD, NotPermitted without CAP_SYS_PTRACE.
    """

    def __init__(self, count: int) -> None:
        self._owned = ExitStack()
        try:
            self._open(count)
        except OSError as error:
            self._owned.close()
            raise _refused(error) from error

    def _open(self, count: int) -> None:
        length = count * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._owned.callback(self._memory.close)
        self._fd = FileDescriptor(sys.userfaultfd(), "userfaultfd")
        self._owned.callback(self._fd.close)
        self._poll = select.poll()
        self._poll.register(self._fd.fileno(), select.POLLIN)
        self._start = sys.address(self._memory)
        self._ask(_API, struct.pack("=QQQ", _API_VERSION, 0, 0))
        self._ask(_REGISTER, struct.pack("=QQQQ", self._start, length, _MODE_MISSING, 0))
        self._owned.callback(self._ask, _UNREGISTER, struct.pack("=QQ", self._start, length))

    def _ask(self, request: int, argument: bytes) -> None:
        import fcntl  # Unix only; purebpf imports anywhere

        fcntl.ioctl(self._fd.fileno(), sys.ioctl_request(request), bytearray(argument))

    def address(self, number: int) -> int:
        """What a program reads that is to stop at this gate."""
        return self._start + number * mmap.PAGESIZE

    def reached(self, seconds: float) -> int | None:
        """The gate at which a program has stopped now; None if it has come to none after so long, or stops there once more."""
        if not self._poll.poll(seconds * 1000):
            return None
        try:
            message = os.read(self._fd.fileno(), _MESSAGE.size)
        except BlockingIOError:  # a signal such as SIGSTOP has taken the fault back; it comes again
            return None
        _event, _flags, address = _MESSAGE.unpack(message)
        number: int = (address - self._start) // mmap.PAGESIZE
        return number

    def open(self, number: int) -> None:
        """Let the program go on that has stopped there, or will come there."""
        try:
            self._ask(_ZEROPAGE, struct.pack("=QQQq", self.address(number), mmap.PAGESIZE, 0, 0))
        except OSError as error:
            raise sys.refusal("giving a page", error) from error

    def close(self) -> None:
        """Open all gates. A program that reads them later reads nothing, which is no harm. Twice is harmless."""
        self._owned.close()

    def __enter__(self) -> Gates:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _refused(error: OSError) -> Exception:
    doing = "opening a userfaultfd, with which BPF programs are held up"
    if error.errno == errno.ENOSYS:
        return NotSupported(
            f"{doing}: ENOSYS", errno=error.errno, hint="this kernel was built without CONFIG_USERFAULTFD"
        )
    if error.errno == errno.EPERM:
        hint = "it takes CAP_SYS_PTRACE, and no seccomp filter that forbids it (containers have one)"
        return NotPermitted(f"{doing}: EPERM", errno=error.errno, hint=hint)
    return sys.refusal(doing, error)
