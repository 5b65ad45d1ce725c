"""Loading a program, with the verifier's log when it is refused."""

from __future__ import annotations

import errno
import re

from ..errors import KernelError, ObjectError, VerifierError
from ..formats import abi, insn
from ..formats.abi import Cmd
from ..formats.spec import ProgramSpec
from . import sys
from .attach import Link, attacher
from .fd import FileDescriptor

_FIRST_LOG, _LARGEST_LOG = 1 << 16, 1 << 24  # bytes; every kernel takes 16 MiB (UINT_MAX >> 8)
_SUMMARY = 3  # lines of the log that go into the message
_STATISTICS = re.compile(r"processed \d+ insns|verification time|stack depth|^\s*$")


class Program:
    """A loaded program. `spec` is what it was made from. Made by `load`, closed with its object."""

    def __init__(self, spec: ProgramSpec, fd: int) -> None:
        self.spec = spec
        self._fd = FileDescriptor(fd, f"program {spec.name!r}")

    def fileno(self) -> int:
        """Its descriptor, owned by the program. Raises ClosedError after close."""
        return self._fd.fileno()

    def close(self) -> None:
        """Give up this reference; a link keeps the program running. Twice is harmless."""
        self._fd.close()

    def attach(self) -> Link:
        """Attach it where its section says. The program runs until the link is closed.

        Raises NotSupported where the kernel lacks the hook, TracefsUnavailable, NotPermitted, KernelError.
        """
        assert self.spec.type is not None  # `load` refuses such a program
        return attacher(self.spec.type)(self.spec.name, self.fileno(), self.spec.attach_to)


def load(spec: ProgramSpec, code: bytes, license: str) -> Program:
    """Have `code` (the spec's, with map descriptors in place) verified.

    Raises VerifierError with the log, NotPermitted, or ObjectError for a program that no SEC() row knows.
    """
    if spec.type is None:
        raise ObjectError(f"program {spec.name!r}: section {spec.section!r} is of no kind that can be loaded")
    # Without a log first: writing one slows the verifier down.
    try:
        return Program(spec, _load(spec, code, license, None))
    except OSError as error:
        raise _rejection(spec, code, license, error) from error


def _load(spec: ProgramSpec, code: bytes, license: str, log: sys.Buffer | None, log_size: int = 0) -> int:
    instructions, terminated = sys.Buffer(code), sys.Buffer(license.encode() + b"\0")
    attr = abi.prog_load(
        spec.type or 0,
        len(code) // insn.SIZE,
        instructions.address,
        terminated.address,
        1 if log else 0,
        log_size,
        log.address if log else 0,
        spec.name,
    )
    return sys.bpf(Cmd.PROG_LOAD, attr)


def _rejection(spec: ProgramSpec, code: bytes, license: str, error: OSError) -> KernelError:
    doing = f"loading program {spec.name!r}"
    log = _verifier_log(spec, code, license)
    if not log:
        return sys.refusal(doing, error)
    lines = [line for line in log.splitlines() if not _STATISTICS.search(line)]
    telling = "\n".join(f"  {line}" for line in lines[-_SUMMARY:])
    return VerifierError(
        f"{doing}: {sys.errno_name(error.errno or 0)}, the verifier says:\n{telling}",
        errno=error.errno or 0,
        log=log,
        hint=f"the whole log has {len(log.splitlines())} lines: --verifier-log prints it, in Python it is error.log",
    )


def _verifier_log(spec: ProgramSpec, code: bytes, license: str) -> str:
    """Load again for the log; larger until it fits. "" where the refusal came before the verifier."""
    size = _FIRST_LOG
    while True:
        log = sys.Buffer(size)
        try:
            Program(spec, _load(spec, code, license, log, size)).close()
        except OSError as error:
            if error.errno == errno.ENOSPC and size < _LARGEST_LOG:
                size *= 4
                continue
        return log.bytes().split(b"\0")[0].decode("utf-8", "backslashreplace").strip()
