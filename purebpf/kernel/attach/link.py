"""Link: a program attached to a hook, for as long as the link is open."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, TypeVar

from ...errors import KernelError, NotSupported, ObjectError
from ...formats import attr
from ...formats.abi import AttachType, Cmd, ProgType
from .. import bpffs, sys
from ..fd import FileDescriptor

_Same = TypeVar("_Same", bound="Link")


class Request(NamedTuple):
    """What is to be attached: the program's name and descriptor, and where.

    `hook` is the section's name up to the slash, without .s and .w. `pid` -1 is every process, 0 this one. `map_fd` is
    the map that an iterator over a map's elements goes through.
    """

    program: str
    fd: int
    target: str
    attach_type: AttachType | int = 0
    pid: int = -1
    cookie: int = 0
    hook: str = ""
    type: ProgType | int | None = None
    map_fd: int = 0

    @property
    def doing(self) -> str:
        """For messages."""
        return f"attaching program {self.program!r} to {self.hook} {self.target}".strip()


class LinkInfo(NamedTuple):
    """The kernel's numbers: the link's type (enum bpf_link_type) and id, and the program's id."""

    type: int
    id: int
    program_id: int


class Link:
    """Owns what keeps a program attached. The kernel detaches it when the link is closed or the process ends.

    `owned` are closed in their order, the link or the perf event of the first attachment first; `undo` is called after.
    """

    def __init__(self, program: str, *owned: FileDescriptor, undo: Callable[[], None] | None = None) -> None:
        self._what = f"link of {program!r}"
        self._owned = owned
        self._undo = undo
        self.pinned = ""

    def close(self) -> None:
        """Detach, unless the link is pinned. Twice is harmless."""
        for descriptor in self._owned:
            descriptor.close()
        undo, self._undo = self._undo, None
        if undo:
            undo()

    def fileno(self) -> int:
        """The link's descriptor; a perf event's on kernels before 5.15. Raises ClosedError after close."""
        return self._owned[0].fileno()

    def info(self) -> LinkInfo:
        """What the kernel says of it. Raises KernelError, NotSupported where it is a perf event without a link."""
        memory = sys.Buffer(64)  # struct bpf_link_info starts with type, id and prog_id
        try:
            sys.bpf_out(Cmd.OBJ_GET_INFO_BY_FD, attr.info_out(self.fileno(), memory.address, 64))
        except OSError as error:
            raise self._without_link(sys.refusal(f"asking about {self._what}", error)) from error
        return LinkInfo(*struct.unpack_from("=III", memory.bytes()))

    def detach(self) -> None:
        """Detach at once, whoever else has the link open or pinned (BPF_LINK_DETACH, 5.9).

        Raises KernelError: up to Linux 6.18 no tracing link can be detached so, only closed and unpinned.
        """
        try:
            sys.bpf(Cmd.LINK_DETACH, attr.link_fd(self.fileno()))
        except OSError as error:
            hint = "links of this kind end when they are closed and unpinned"
            raise sys.refusal(f"detaching {self._what}", error, hint) from error

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Keep the program attached beyond this process, under a path on a bpffs.

        Raises KernelError, NotPermitted, NotSupported where it is a perf event without a link.
        """
        try:
            bpffs.pin(self.fileno(), path, self._what)
        except KernelError as error:
            raise self._without_link(error) from error.__cause__
        self.pinned = os.path.abspath(path)

    def _without_link(self, error: KernelError) -> KernelError:
        """EINVAL says that the descriptor is none of BPF's: before 5.15 that of a perf event."""
        if error.errno != errno.EINVAL:
            return error
        return NotSupported(
            f"{error}; this kernel attaches to perf events without a link",
            errno=error.errno,
            hint="Linux 5.15 has links for them; here the program stays attached as long as this process keeps it",
        )

    def unpin(self) -> None:
        """Remove the pin. Raises ObjectError if `pinned` is empty, KernelError."""
        if not self.pinned:
            raise ObjectError(f"{self._what} is not pinned, as far as is known here")
        bpffs.unpin(self.pinned, self._what)
        self.pinned = ""

    def __enter__(self: _Same) -> _Same:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class IterLink(Link):
    """A link to an iterator: each `read` runs the program over all elements, and gives what it wrote."""

    def read(self) -> bytes:
        """The program's whole output (bpf_seq_write, bpf_seq_printf). Raises KernelError."""
        try:
            fd = sys.bpf(Cmd.ITER_CREATE, attr.link_fd(self.fileno()))
            with os.fdopen(fd, "rb") as file:
                return file.read()
        except OSError as error:
            raise sys.refusal(f"reading the iterator of {self._what}", error) from error


def refused(request: Request, error: OSError) -> KernelError:
    """Our error for a refused attachment. E2BIG or EINVAL is what a kernel says to a cookie that it has no place for."""
    if request.cookie and error.errno in (errno.E2BIG, errno.EINVAL):
        return NotSupported(
            f"{request.doing}: {sys.errno_name(error.errno)}: this kernel seems to take no cookie for it",
            errno=error.errno,
            hint="attach it without one",
        )
    return sys.refusal(request.doing, error)


def create(request: Request, target_fd: int = 0, flags: int = 0, tail: bytes = b"") -> FileDescriptor:
    """BPF_LINK_CREATE. OSErrors are left to the caller, who may know another way."""
    made = attr.link_create(request.fd, target_fd, int(request.attach_type), flags, tail)
    return FileDescriptor(sys.bpf(Cmd.LINK_CREATE, made), f"link of {request.program!r}")
