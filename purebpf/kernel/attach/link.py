"""Link: a program attached to a hook, for as long as the link is open."""

from __future__ import annotations

from types import TracebackType
from typing import NamedTuple

from ...formats.abi import AttachType
from ..fd import FileDescriptor


class Request(NamedTuple):
    """What is to be attached: the program's name and descriptor, and where. `pid` -1 is every process."""

    program: str
    fd: int
    target: str
    attach_type: AttachType | int = 0
    pid: int = -1
    cookie: int = 0



class Link:
    """Owns what keeps a program attached. The kernel detaches it when the link is closed or the process ends."""

    def __init__(self, *owned: FileDescriptor) -> None:
        self._owned = owned

    def close(self) -> None:
        """Detach. Twice is harmless."""
        for descriptor in self._owned:
            descriptor.close()

    def fileno(self) -> int:
        """The link's descriptor; a perf event's on kernels before 5.15. Raises ClosedError after close."""
        return self._owned[0].fileno()

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
