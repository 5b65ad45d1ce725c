"""What all maps have in common: a descriptor, what the kernel says of it, pins, and raw access to elements.

The commands are those of bpf(2); kernel/bpf/syscall.c has what each returns. ENOENT means everywhere that
there is no such element, and is an answer, not an error.
"""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from ...errors import KernelError, NotPermitted, ObjectError
from ...formats import attr
from ...formats.abi import Cmd, MapType, UpdateFlags
from ...formats.spec import MapSpec
from .. import bpffs, sys
from ..fd import FileDescriptor
from . import forms
from .forms import Form, Slot
from .info import MapInfo, read_info

NOT_THERE = frozenset({errno.EINVAL, errno.EOPNOTSUPP, sys.ENOTSUPP})  # what a kernel says to a command that it lacks

_DOING = {
    Cmd.MAP_LOOKUP_ELEM: "looking up an element of",
    Cmd.MAP_UPDATE_ELEM: "setting an element of",
    Cmd.MAP_DELETE_ELEM: "deleting an element of",
    Cmd.MAP_LOOKUP_AND_DELETE_ELEM: "taking an element out of",
    Cmd.MAP_GET_NEXT_KEY: "walking the keys of",
    Cmd.MAP_LOOKUP_BATCH: "reading elements of",
    Cmd.MAP_LOOKUP_AND_DELETE_BATCH: "taking elements out of",
    Cmd.MAP_UPDATE_BATCH: "setting elements of",
    Cmd.MAP_FREEZE: "freezing",
}
_LOCKED = "the map is frozen, or was made read-only or write-only for user space (BPF_F_RDONLY, BPF_F_WRONLY)"
_HINTS = {
    errno.E2BIG: "it is full, or the key is beyond its last index",
    errno.EBUSY: "it is in use: close what maps it into memory, or try again",
    errno.EEXIST: "the key is there already, and the flags say NOEXIST",
    errno.EOPNOTSUPP: "maps of this type do not have this operation",
    sys.ENOTSUPP: "maps of this type do not have this operation",
}
_Self = TypeVar("_Self", bound="Map")


class Map:
    """A map in the kernel. `spec` says what the kernel has, `pinned` where it is pinned, if it is known to be.

    This class alone serves types that have no elements to be reached from user space. Closed with its object,
    in a `with` statement or by `close`.
    """

    KEY = staticmethod(forms.plain)
    VALUE = staticmethod(forms.plain)
    USE = "read or written by programs only"
    HINTS: ClassVar[dict[tuple[Cmd, int], str]] = {}

    def __init__(self, spec: MapSpec, fd: int, pinned: str = "") -> None:
        self.spec = spec
        self.pinned = pinned
        self._what = f"map {spec.name!r}"
        self._fd = FileDescriptor(fd, self._what)
        self._forms: tuple[Form, Form] | None = None

    @property
    def kind(self) -> str:
        """The type's name."""
        return MapType(self.spec.type).name if self.spec.type in set(MapType) else f"type {self.spec.type}"

    def fileno(self) -> int:
        """Its descriptor, owned by the map. Raises ClosedError after close."""
        return self._fd.fileno()

    def close(self) -> None:
        """Give up this reference; programs and pins keep the map in the kernel. Twice is harmless."""
        self._fd.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def info(self) -> MapInfo:
        """What the kernel says of it. Raises KernelError."""
        return read_info(self.fileno(), self._what)

    def freeze(self) -> None:
        """Forbid user space to write to it from now on, for ever; programs still may (BPF_MAP_FREEZE, Linux 5.2).

        Raises KernelError: EBUSY while a writable mapping of it is left.
        """
        try:
            sys.bpf(Cmd.MAP_FREEZE, attr.map_freeze(self.fileno()))
        except OSError as error:
            raise self._refused(Cmd.MAP_FREEZE, error) from error

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Keep it beyond this process, under a path on a bpffs. Raises KernelError, NotPermitted."""
        bpffs.pin(self.fileno(), path, self._what)
        self.pinned = os.path.abspath(path)

    def unpin(self) -> None:
        """Remove the pin. Raises ObjectError if `pinned` is empty, KernelError."""
        if not self.pinned:
            raise ObjectError(f"{self._what} is not pinned, as far as is known here")
        bpffs.unpin(self.pinned, self._what)
        self.pinned = ""

    def lookup(self, key: bytes, flags: int = 0) -> bytes | None:
        """The bytes under `key` (exactly key_size bytes); None where there is nothing.

        They are value_size bytes, or for per-CPU maps each possible CPU's, rounded up to 8, one behind the other.
        Raises ObjectError for a key of another size, KernelError.
        """
        key_form, value_form = self._shapes()
        if len(key) != key_form.size:
            raise ObjectError(f"{key_form.what} has {key_form.size} bytes, not {len(key)}")
        value = sys.Buffer(value_form.size)
        return value.bytes() if self._element(Cmd.MAP_LOOKUP_ELEM, key, value, flags) else None

    def _shapes(self) -> tuple[Form, Form]:
        """The forms of keys and values; made when first asked for, as most maps of an object are never read."""
        if self._forms is None:
            spec = self.spec
            key = Slot(f"{self._what}: a key", spec.key_size, spec.key_type, spec.btf)
            value = Slot(f"{self._what}: a value", spec.value_size, spec.value_type, spec.btf)
            self._forms = self.KEY(key), self.VALUE(value)
        return self._forms

    def _element(self, cmd: Cmd, key: bytes, value: sys.Buffer | None = None, flags: int = 0) -> bool:
        """One command on one element; an empty key is passed as NULL. False where there is no such element."""
        memory = sys.Buffer(key)
        addresses = memory.address if key else 0, value.address if value else 0
        try:
            sys.bpf(cmd, attr.map_element(self.fileno(), *addresses, flags))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise self._refused(cmd, error) from error
        return True

    def _refused(self, cmd: Cmd, error: OSError) -> KernelError:
        doing, number = f"{_DOING[cmd]} {self._what} ({self.kind})", error.errno or 0
        if number == errno.EPERM:  # the map says no, not the process's privileges
            return NotPermitted(f"{doing}: EPERM ({os.strerror(number)})", errno=number, hint=_LOCKED)
        return sys.refusal(doing, error, self.HINTS.get((cmd, number)) or _HINTS.get(number, ""))

    def __getitem__(self, key: Any) -> Any:
        value = self.lookup(self._key(key))
        if value is None:
            raise KeyError(key)
        return self._shapes()[1].decode(value)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def put(self, key: Any, value: Any, flags: UpdateFlags = UpdateFlags.ANY) -> None:
        """Set an element: with NOEXIST a new one (else KernelError, EEXIST), with EXIST an old one (else KeyError).

        Raises ObjectError for what does not fit, and if the map has no keys; KernelError.
        """
        key_bytes, memory = self._key(key), sys.Buffer(self._shapes()[1].encode(value))
        if not self._element(Cmd.MAP_UPDATE_ELEM, key_bytes, memory, flags):
            raise KeyError(key)

    def memory(self) -> memoryview:
        """The elements in shared memory; see ArrayMap. Raises ObjectError where they cannot be."""
        raise ObjectError(
            f"{self._what} ({self.kind}) cannot be mapped", hint="arrays can, with the flag BPF_F_MMAPABLE"
        )

    def __contains__(self, key: object) -> bool:
        return self.lookup(self._key(key)) is not None

    def _key(self, key: Any) -> bytes:
        raise ObjectError(f"{self._what} ({self.kind}) has no element {key!r}, nor others by key: it is {self.USE}")

    def __bool__(self) -> bool:
        return True  # even without elements: counting them takes a walk, and `if map:` asks whether there is one

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)
