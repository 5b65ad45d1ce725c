"""What an object says, as plain values that may be edited before it is loaded.

The same bytes give equal specs on any system. Nothing here refers to the kernel. What was read off the file and
must stay as it is (types, references, relocations) is frozen; what a user may wish to change is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from typing import Any, NamedTuple

from ..errors import ObjectError
from .abi import AttachType, CoreKind, MapType, Pinning, ProgType
from .btf import Btf
from .kinds import Kind
from .layout import Codec, codec


@dataclass
class MapSpec:
    """A map as declared. Sizes are in bytes; for a RINGBUF `max_entries` is the data area's size in bytes.

    `key_type` and `value_type` are ids in `btf`, 0 where the declaration gives sizes only. `inner` is the template
    of a map of maps. `values` fills slots of a map of maps or of a PROG_ARRAY by name. A data section (.rodata,
    .data, .bss, .kconfig) has its bytes in `contents`, and is frozen after loading if `read_only`.
    `kernel_name` is what bpftool shows, where it differs from `name`.
    """

    name: str
    type: MapType | int
    key_size: int = 0
    value_size: int = 0
    max_entries: int = 0
    flags: int = 0
    pinning: Pinning = Pinning.NONE
    extra: int = 0
    numa_node: int | None = None
    key_type: int = 0
    value_type: int = 0
    inner: MapSpec | None = None
    values: dict[int, str] = field(default_factory=dict)
    contents: bytearray | None = None
    read_only: bool = False
    kernel_name: str = ""
    btf: Btf | None = field(default=None, repr=False, compare=False)


class ReferenceKind(Enum):
    """What an instruction refers to."""

    MAP = "map"
    DATA = "data"  # a variable: `name` is the map of its section, `addend` the offset in it, in bytes
    CALL = "call"
    FUNCTION = "function"  # its address, for a callback
    EXTERN = "extern"


class Reference(NamedTuple):
    """The instruction in slot `slot` (8 bytes each) of a function refers to `name`."""

    slot: int
    kind: ReferenceKind
    name: str
    addend: int = 0


class Line(NamedTuple):
    """From slot `slot` on the code comes from this line; file and text are offsets in the BTF's strings."""

    slot: int
    file: int
    text: int
    position: int  # line number << 10 | column

    @property
    def number(self) -> int:
        """The line's number, from 1."""
        return self.position >> 10


class CoreRelocation(NamedTuple):
    """The instruction in slot `slot` depends on `kind` of what `access` ("0:1:2") leads to from type `type_id`."""

    slot: int
    type_id: int
    access: str
    kind: CoreKind | int


@dataclass
class FunctionSpec:
    """A function: its code (8 bytes a slot, in the object's byte order) and what that refers to.

    `type_id` is its FUNC in the object's BTF, 0 without one.
    """

    name: str
    section: str
    code: bytes
    references: list[Reference] = field(default_factory=list)
    type_id: int = 0
    lines: list[Line] = field(default_factory=list, repr=False)
    relocations: list[CoreRelocation] = field(default_factory=list, repr=False)


@dataclass
class ProgramSpec(FunctionSpec):
    """A function that the kernel calls, and where its section says it goes.

    `type` is None when the section's name is not known; such a program can be inspected, not loaded, unless you
    set it. `attach_to` is what follows in the section's name, e.g. "syscalls/sys_enter_execve". `autoload` is False
    for SEC("?…"). With `required` False a program that cannot be loaded or attached does not stop the others.
    """

    type: ProgType | None = None
    attach_type: AttachType | int = 0
    attach_to: str = ""
    flags: int = 0
    autoload: bool = True
    required: bool = True


@dataclass(frozen=True)
class ExternSpec:
    """A name that the kernel, or its configuration, must provide; `type_id` is its VAR or FUNC in the BTF.

    A .kconfig extern lies at `offset` in the map ".kconfig".
    """

    name: str
    section: str
    weak: bool
    type_id: int
    offset: int = 0
    size: int = 0


@dataclass
class VariableSpec:
    """A global variable, at `offset` in the data section that is the map `map`. `type_id` is its type in the BTF."""

    name: str
    map: MapSpec = field(repr=False)
    offset: int
    size: int
    type_id: int
    static: bool = False

    @property
    def value(self) -> Any:
        """What it holds when the programs start; ints, floats, bytes for char arrays, structs by member.

        Assigning raises ObjectError for a value that its type cannot hold.
        """
        return self.codec().decode(bytes(self._contents()[self.offset : self.offset + self.size]))

    @value.setter
    def value(self, value: Any) -> None:
        encoded = self.codec().encode(value)
        self._contents()[self.offset : self.offset + self.size] = encoded

    def codec(self) -> Codec:
        """What turns its bytes into a value and back. Raises ObjectError where it has no type."""
        if self.map.btf is None:
            raise ObjectError(f"variable {self.name!r} has no type: the object has no BTF")
        return codec(self.map.btf, self.type_id)

    def _contents(self) -> bytearray:
        if self.map.contents is None:
            raise ObjectError(f"variable {self.name!r}: map {self.map.name!r} has no contents")
        return self.map.contents


@dataclass
class ObjectSpec:
    """An object file: everything by name, the licence that the programs declare, "little" or "big".

    `functions` are what programs call. `name` is the file's up to the first dot; data maps are named after it.
    """

    maps: dict[str, MapSpec]
    programs: dict[str, ProgramSpec]
    license: str
    byte_order: str
    functions: dict[str, FunctionSpec] = field(default_factory=dict)
    variables: dict[str, VariableSpec] = field(default_factory=dict)
    externs: dict[str, ExternSpec] = field(default_factory=dict)
    btf: Btf | None = field(default=None, repr=False)
    name: str = ""

    def variable(self, name: str) -> VariableSpec:
        """The variable of this name. Raises ObjectError, with close matches, if there is none."""
        if name not in self.variables:
            close = get_close_matches(name, self.variables, 3)
            hint = f"close to it: {', '.join(close)}" if close else f"it has {', '.join(self.variables) or 'none'}"
            raise ObjectError(f"the object has no variable {name!r}", hint=hint)
        return self.variables[name]

    def struct(self, name: str) -> Codec:
        """What decodes a struct, or a typedef of one, that the object's BTF has. Raises ObjectError."""
        if self.btf is None:
            raise ObjectError(f"no struct {name!r}: the object has no BTF", hint="compile it with -g")
        for found in self.btf.find(name, frozenset({Kind.STRUCT, Kind.TYPEDEF})):
            if self.btf.resolve(found.id).kind == Kind.STRUCT:
                return codec(self.btf, found.id)
        raise ObjectError(
            f"the object's BTF has no struct {name!r}",
            hint="`purebpf inspect --types` lists them; clang leaves out a struct that only local pointers use",
        )
