"""An object file as plain values, to be looked at and edited before it is loaded.

The same bytes give equal specs on any system. Nothing here refers to the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .abi import MapType, ProgType


@dataclass
class MapSpec:
    """A map as declared. Sizes are in bytes; for a RINGBUF `max_entries` is the data area's size in bytes."""

    name: str
    type: MapType | int
    key_size: int = 0
    value_size: int = 0
    max_entries: int = 0
    flags: int = 0


@dataclass(frozen=True)
class MapReference:
    """The `ld_imm64` in slot `slot` of a program takes the map named `map`."""

    slot: int
    map: str


@dataclass
class ProgramSpec:
    """A program: its code (8 bytes a slot, in the object's byte order) and where its section says it goes.

    `type` is None when the section's name is not known; such a program can be inspected, not loaded.
    `attach_to` is what follows in the section's name, e.g. "syscalls/sys_enter_execve".
    """

    name: str
    section: str
    type: ProgType | None
    attach_to: str
    code: bytes
    references: list[MapReference] = field(default_factory=list)


@dataclass
class ObjectSpec:
    """Maps and programs by name, the licence that the programs declare, "little" or "big"."""

    maps: dict[str, MapSpec]
    programs: dict[str, ProgramSpec]
    license: str
    byte_order: str
