"""An ObjectSpec brought to life: maps, programs, links and rings, all closed together."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from .errors import ClosedError, ObjectError
from .formats import relocate
from .formats.elf import parse
from .formats.spec import ObjectSpec
from .kernel import maps as kernel_maps
from .kernel import program as kernel_program
from .kernel.attach import Link
from .kernel.maps import Map
from .kernel.program import Program
from .kernel.ringbuf import RingBuffer
from .kernel.sys import require_supported

_Owned = TypeVar("_Owned", Map, Program, Link, RingBuffer)


def read(path: str | os.PathLike[str]) -> ObjectSpec:
    """Read an object file. Raises ObjectError if it is missing, unreadable or no BPF object."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ObjectError(f"{os.fspath(path)}: {error.strerror}") from error
    try:
        return parse(data)
    except ObjectError as error:
        raise type(error)(f"{os.fspath(path)}: {error}", hint=error.hint) from error


def prebuilt(name: str) -> Path:
    """The object that comes with purebpf under this name, e.g. "trace_exec" for prebuilt/trace_exec.bpf.o.

    In an installed package the folder lies inside it, in a checkout beside it.
    """
    package = Path(__file__).parent
    inside = package / "prebuilt"
    return (inside if inside.is_dir() else package.parent / "prebuilt") / f"{name}.bpf.o"


def load(source: str | os.PathLike[str] | ObjectSpec) -> Object:
    """Create the maps and load the programs of an object file or of a spec.

    Use the result in a `with` statement, or call its `close`. Raises ObjectError, VerifierError, NotPermitted,
    NotSupported, KernelError; then nothing stays behind.
    """
    return Object(source if isinstance(source, ObjectSpec) else read(source))


class Object:
    """A loaded object. `maps` and `programs` are by name, `spec` is what it was loaded from."""

    def __init__(self, spec: ObjectSpec) -> None:
        require_supported()
        if spec.byte_order != sys.byteorder:
            raise ObjectError(f"the object is {spec.byte_order}-endian, this machine {sys.byteorder}-endian")
        self.spec = spec
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, Program] = {}
        self._owned = ExitStack()
        self._closed = False
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        for name, map_spec in self.spec.maps.items():
            self.maps[name] = self._own(kernel_maps.create(map_spec))
        descriptors = {name: made.fileno() for name, made in self.maps.items()}
        for name, spec in self.spec.programs.items():
            code = relocate.link(spec, descriptors, self.spec.byte_order)
            self.programs[name] = self._own(kernel_program.load(spec, code, self.spec.license))

    def _own(self, resource: _Owned) -> _Owned:
        self._owned.callback(resource.close)
        return resource

    def attach(self) -> list[Link]:
        """Attach every program where its SEC() says. The links are closed with the object, or singly before."""
        self._check()
        return [self._own(program.attach()) for program in self.programs.values()]

    def ring(self, name: str) -> RingBuffer:
        """Read the RINGBUF map of this name. Closed with the object. Raises ObjectError if there is none."""
        self._check()
        if name not in self.maps:
            known = ", ".join(self.maps) or "none at all"
            raise ObjectError(f"the object has no map {name!r}; it has {known}")
        return self._own(RingBuffer(self.maps[name]))

    def close(self) -> None:
        """Detach, unmap and close everything. Twice is harmless."""
        self._closed = True
        self._owned.close()

    def _check(self) -> None:
        if self._closed:
            raise ClosedError("the object is closed")

    def __enter__(self) -> Object:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
