"""From a ProgramSpec to the instructions that the kernel takes."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import RelocationError
from . import insn
from .abi import Pseudo
from .spec import ProgramSpec


def link(program: ProgramSpec, map_fds: Mapping[str, int], byte_order: str) -> bytes:
    """The program's code with map descriptors in place: each `ld_imm64` gets BPF_PSEUDO_MAP_FD and the number.

    Raises RelocationError where a reference names no map of `map_fds` or is not on an `ld_imm64`.
    """
    slots = insn.decode(program.code, byte_order)
    for reference in program.references:
        where = f"program {program.name!r}, instruction {reference.slot}"
        if reference.map not in map_fds:
            raise RelocationError(f"{where}: refers to map {reference.map!r}, which the object does not have")
        if reference.slot + 1 >= len(slots) or slots[reference.slot].opcode != insn.LD_IMM64:
            raise RelocationError(f"{where}: a map can only be loaded by an ld_imm64")
        slots[reference.slot] = slots[reference.slot]._replace(src=Pseudo.MAP_FD, imm=map_fds[reference.map])
        slots[reference.slot + 1] = slots[reference.slot + 1]._replace(imm=0)
    return insn.encode(slots, byte_order)
