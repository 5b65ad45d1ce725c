"""A program and the functions that it calls -> one piece of code, as the kernel takes it.

The kernel knows no functions from elsewhere: each that a program calls, directly or not, is appended to its code
once, and the calls are made relative (BPF_PSEUDO_CALL; for addresses of callbacks BPF_PSEUDO_FUNC). Function and line
information moves along, and so does the record of what CO-RE poisoned.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ..errors import RelocationError
from . import insn
from .abi import Pseudo, PseudoCall
from .insn import SIZE
from .spec import CoreRelocation, FunctionSpec, Line, ObjectSpec, ProgramSpec, Reference, ReferenceKind

if TYPE_CHECKING:
    from .core_relo import Outcome

POISONED_KFUNC = 2002000000  # libbpf's number for a call to a kernel function that is not there
_HALF = (1 << 32) - 1

# bpf_probe_read_user, _kernel, _user_str, _kernel_str (5.5) -> what older kernels have for both kinds of memory.
OLD_PROBE_READS = {112: 4, 113: 4, 114: 45, 115: 45}


class Extern(NamedTuple):
    """What an extern comes to: an address, or a type id in the BTF behind `btf_fd` (0: the kernel's own).

    A weak one that the kernel lacks is all zeros.
    """

    address: int = 0
    btf_id: int = 0
    btf_fd: int = 0


class Code:
    """Linked code, in which descriptors and addresses are still missing (see `bind`).

    `functions` are (first slot, function) in their order, and `lines` count slots from the start of the whole.
    `poisoned` says why an instruction was made unusable, by slot.
    """

    def __init__(self, byte_order: str) -> None:
        self.byte_order = byte_order
        self.code = bytearray()
        self.functions: list[tuple[int, FunctionSpec]] = []
        self.references: list[Reference] = []
        self.lines: list[Line] = []
        self.poisoned: dict[int, str] = {}
        self._order = "<" if byte_order == "little" else ">"

    def line(self, slot: int) -> Line | None:
        """The source line that a slot comes from."""
        before = bisect_right(self.lines, (slot + 1,))
        return self.lines[before - 1] if before else None

    def set(self, slot: int, source: int, imm: int, offset: int = 0) -> None:
        """Change an instruction's source register, offset and immediate."""
        at = slot * SIZE
        registers = self.code[at + 1]
        low = self.byte_order == "little"
        self.code[at + 1] = registers & 0x0F | source << 4 if low else registers & 0xF0 | source
        struct.pack_into(self._order + "hI", self.code, at + 2, offset, imm & _HALF)

    def set_wide(self, slot: int, source: int, low: int, high: int) -> None:
        """Change both halves of an ld_imm64. Raises RelocationError if it is none."""
        at = slot * SIZE
        if at + 2 * SIZE > len(self.code) or self.code[at] != insn.LD_IMM64:
            raise RelocationError(f"instruction {slot}: only an ld_imm64 can refer to a map or a variable")
        self.set(slot, source, low)
        struct.pack_into(self._order + "I", self.code, at + SIZE + 4, high & _HALF)


Resolve = Callable[[CoreRelocation], "Outcome"]


def assemble(spec: ObjectSpec, program: ProgramSpec, resolve: Resolve) -> Code:
    """Link a program. `resolve` is asked for each CO-RE relocation (Resolver.resolve).

    Raises RelocationError for a reference to nothing, a contradictory relocation, or code of odd length.
    """
    code = Code(spec.byte_order)
    starts: dict[str, int] = {}
    wanted = [program.name]
    while wanted:
        name = wanted.pop()
        if name not in starts:
            starts[name] = len(code.code) // SIZE
            function = spec.programs.get(name) or spec.functions.get(name)
            if function is None:
                raise RelocationError(f"program {program.name!r} calls {name!r}, which the object does not have")
            called = _append(code, function, resolve)
            wanted += reversed([name for name in called if name not in starts])
    for reference in code.references:
        if reference.kind in (ReferenceKind.CALL, ReferenceKind.FUNCTION):
            distance = starts[reference.name] - reference.slot - 1
            if reference.kind == ReferenceKind.CALL:
                code.set(reference.slot, PseudoCall.CALL, distance)
            else:
                code.set_wide(reference.slot, Pseudo.FUNC, distance, 0)
    return code


def _append(code: Code, function: FunctionSpec, resolve: Resolve) -> list[str]:
    """Put a function behind the code. The names of the functions that it calls or takes the address of."""
    start = len(code.code) // SIZE
    own = bytearray(function.code)
    if len(own) % SIZE:
        raise RelocationError(f"function {function.name!r} has {len(own)} bytes: not a multiple of {SIZE}")
    if function.relocations:
        from .core_relo import patch  # late, for most objects that have none
    for relocation in function.relocations:
        where = f"function {function.name!r}, instruction {relocation.slot}"
        reason = patch(own, resolve(relocation), code.byte_order, where)
        if reason:
            code.poisoned[start + relocation.slot] = reason
    code.code += own
    code.functions.append((start, function))
    code.lines += [line._replace(slot=line.slot + start) for line in function.lines]
    moved = [r._replace(slot=r.slot + start) for r in function.references if start + r.slot not in code.poisoned]
    code.references += moved
    return [r.name for r in moved if r.kind in (ReferenceKind.CALL, ReferenceKind.FUNCTION)]


def bind(
    code: Code, map_fds: Mapping[str, int], extern: Callable[[str], Extern], kfunc_slot: Callable[[int], int]
) -> None:
    """Fill in the descriptors of maps and what externs come to.

    `extern` raises for a strong one that the kernel lacks. `kfunc_slot` gives the place in the program's fd_array of
    the BTF of a kernel module.
    """
    for reference in code.references:
        if reference.kind in (ReferenceKind.MAP, ReferenceKind.DATA):
            if reference.name not in map_fds:
                raise RelocationError(
                    f"instruction {reference.slot}: refers to map {reference.name!r}, which the object does not have"
                )
            kind = Pseudo.MAP_FD if reference.kind == ReferenceKind.MAP else Pseudo.MAP_VALUE
            code.set_wide(reference.slot, kind, map_fds[reference.name], reference.addend)
        elif reference.kind == ReferenceKind.EXTERN:
            _bind_extern(code, reference, extern(reference.name), kfunc_slot)


def _bind_extern(code: Code, reference: Reference, found: Extern, kfunc_slot: Callable[[int], int]) -> None:
    if code.code[reference.slot * SIZE] == insn.CALL:
        if found.btf_id:
            slot = kfunc_slot(found.btf_fd) if found.btf_fd else 0
            code.set(reference.slot, PseudoCall.KFUNC, found.btf_id, slot)
        else:
            code.set(reference.slot, PseudoCall.HELPER, POISONED_KFUNC)
            code.poisoned[reference.slot] = f"the kernel has no function {reference.name}"
    elif found.btf_id:
        code.set_wide(reference.slot, Pseudo.BTF_ID, found.btf_id, found.btf_fd)
    else:
        code.set_wide(reference.slot, 0, found.address, found.address >> 32)


def _helper(code: Code, slot: int) -> int:
    number: int = struct.unpack_from("<i" if code.byte_order == "little" else ">i", code.code, slot * SIZE + 4)[0]
    return number


def calls(code: Code, helpers: Collection[int]) -> bool:
    """Does it call one of these helpers?"""
    return any(_helper(code, slot) in helpers for slot in insn.helper_calls(bytes(code.code), code.byte_order))


def replace_helpers(code: Code, replacements: Mapping[int, int]) -> None:
    """Call other helpers instead: for kernels that lack the newer ones."""
    for slot in insn.helper_calls(bytes(code.code), code.byte_order):
        number = _helper(code, slot)
        if number in replacements:
            code.set(slot, PseudoCall.HELPER, replacements[number])
