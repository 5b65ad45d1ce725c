"""The errors of purebpf, one tree. Imports nothing of the package.

Error                       everything that purebpf raises on purpose
├── ObjectError             the object file, or the spec made of it, is wrong (a ValueError)
│   ├── ElfError            its ELF structure
│   ├── BtfError            its type information
│   └── RelocationError     a reference in its code
├── KernelError             the kernel said no (an OSError; `errno` is set where it gave one)
│   ├── NotPermitted        a privilege is missing (a PermissionError)
│   ├── NotSupported        this kernel lacks a feature
│   │   └── NotLinux        this is not Linux at all
│   ├── TracefsUnavailable  tracefs is not mounted or not readable
│   └── VerifierError       the verifier rejected a program; `log` has its words
├── RingCorrupt             the pages of a ring contradict the protocol
├── ViewInUse               memory of a ring was to be handed back while something still read it (a BufferError)
└── ClosedError             something closed was used (a ValueError, as closed files raise)
"""

from __future__ import annotations


class Error(Exception):
    """Base of all. `str()` says what went wrong, `hint` what the user can do ("" if nothing is known)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ObjectError(Error, ValueError):
    """An object file or a spec that cannot be used; raised before the kernel is asked."""


class ElfError(ObjectError):
    """Not a BPF ELF object, or a damaged one."""


class BtfError(ObjectError):
    """The .BTF section is damaged or says something impossible."""


class RelocationError(ObjectError):
    """An instruction refers to something that cannot be resolved."""


class KernelError(Error, OSError):
    """A system call failed. `errno` is its number, or None where none applies."""

    def __init__(self, message: str, *, errno: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno = errno


class NotPermitted(KernelError, PermissionError):
    """The process lacks a privilege; the message names the missing capabilities."""


class NotSupported(KernelError):
    """The running kernel lacks a feature that the object needs."""


class NotLinux(NotSupported):
    """BPF objects can be read on any system, but loaded on Linux only."""


class TracefsUnavailable(KernelError):
    """Tracepoints cannot be looked up: tracefs is not mounted, or not readable by this user."""


class VerifierError(KernelError):
    """The kernel refused a program. `str()` has the telling lines, `log` the verifier's whole log."""

    def __init__(self, message: str, *, errno: int, log: str, hint: str = "") -> None:
        super().__init__(message, errno=errno, hint=hint)
        self.log = log


class RingCorrupt(Error):
    """A ring's positions or headers contradict the protocol; nothing was read from the bad place.

    `position` is where it stood, in bytes since the ring was made, `header` the length word there; None where it is the
    positions or the memory that are wrong.
    """

    def __init__(self, message: str, *, position: int | None = None, header: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.position, self.header = position, header


class ViewInUse(Error, BufferError):
    """Memory of a ring cannot be handed back to its producers yet. It is, when what uses it is gone."""


class ClosedError(Error, ValueError):
    """An object, map, program, link or ring was used after it had been closed."""
