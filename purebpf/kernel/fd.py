"""One owner for each descriptor."""

from __future__ import annotations

import mmap
import os
import warnings

from ..errors import ClosedError


class FileDescriptor:
    """Owns a descriptor. `what` names it in errors: "map 'events'".

    Closing twice is harmless; `fileno` after closing raises ClosedError; one that is
    forgotten is closed with a ResourceWarning.
    """

    def __init__(self, fd: int, what: str) -> None:
        self._fd = _above_standard_streams(fd)
        self._what = what

    def fileno(self) -> int:
        """The number, for a call; it stays owned here."""
        if self._fd < 0:
            raise ClosedError(f"{self._what} is closed")
        return self._fd

    def close(self) -> None:
        """Give the descriptor back to the kernel."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            warnings.warn(f"{self._what} was not closed", ResourceWarning, stacklevel=2)
            self.close()


def _above_standard_streams(fd: int) -> int:
    """bpf(2) takes descriptor 0 in an attribute as "none", and output must not land in a map."""
    if fd > 2:
        return fd
    import fcntl  # Unix only; purebpf imports anywhere

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def mapped(fd: int, length: int, protection: int, offset: int = 0) -> mmap.mmap:
    """A shared mapping. Python keeps a duplicate of the descriptor with it, which must be no standard stream, either."""
    held = [os.dup(fd)]
    try:
        while held[-1] <= 2:
            held.append(os.dup(fd))
        return mmap.mmap(fd, length, mmap.MAP_SHARED, protection, offset=offset)
    finally:
        for number in held:
            os.close(number)
