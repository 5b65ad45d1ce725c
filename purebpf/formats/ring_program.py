"""BPF programs made of ring buffer calls in a straight line, put together instruction by instruction.

Reservations end with the program that makes them, and the verifier follows each of them to its commit on every path. So
what interleaves reservations as somebody wishes cannot be one program that is told what to do: each order of calls is a
program of its own. What the calls answer is stored in an array, in whose value answer number i is the 8 bytes at 8 * i, and
can be read there as soon as the call has been made.
"""

from __future__ import annotations

import struct
import sys

from ..errors import ObjectError
from . import insn
from .abi import ProgFlags, ProgType
from .insn import Instruction
from .spec import ProgramSpec, Reference, ReferenceKind

# Helpers (include/uapi/linux/bpf.h, ___BPF_FUNC_MAPPER).
OUTPUT, RESERVE, SUBMIT, DISCARD, QUERY, COPY_FROM_USER = 130, 131, 132, 133, 134, 148
_MOST = 31  # slots: a program's stack has 512 bytes


class RingProgram:
    """A sleepable program of type SYSCALL, to be run by BPF_PROG_TEST_RUN. Its maps:

    RING        the ring
    CONTENT     an array of one value, of which `output` sends bytes
    ANSWERS     an array of one value, with 8 bytes for each of `answers`

    Up to `slots` records are reserved at a time, 31 at most; raises ObjectError for more.

    Whether a slot has a record is kept beside it: the verifier of 6.1 takes the record's own address for possibly NULL.
    """

    RING, CONTENT, ANSWERS = "events", "content", "answers"

    def __init__(self, slots: int) -> None:
        if slots > _MOST:
            raise ObjectError(f"a program that reserves {slots} records at a time: its stack has room for {_MOST}")
        self.answers = 0
        self._slots = slots
        self._code: list[Instruction] = []
        self._references: list[Reference] = []
        for slot in range(slots):
            self._add(0x7A, 10, 0, self._taken(slot), 0)

    def reserve(self, slot: int, length: int, flags: int = 0) -> None:
        """Answers 1, or 0 for NULL."""
        self._load_map(1, self.RING)
        self._load(2, length)
        self._load(3, flags)
        self._add(insn.CALL, imm=RESERVE)
        self._add(0x7B, 10, 0, self._record(slot))
        self._add(0xB7, 1, imm=0)
        self._add(0x15, 0, 0, 1)
        self._add(0xB7, 1, imm=1)
        self._add(0x7B, 10, 1, self._taken(slot))
        self._answer(1)

    def write(self, slot: int, content: bytes, at: int = 0) -> None:
        """Byte by byte to the payload from byte `at` on; not if the slot has no record."""
        self._add(0x79, 1, 10, self._taken(slot))
        self._add(0x15, 1, 0, len(content) + 1)
        self._add(0x79, 1, 10, self._record(slot))
        for offset, byte in enumerate(content, at):
            self._add(0x72, 1, 0, offset, byte)

    def commit(self, slot: int, helper: int, flags: int = 0) -> None:
        """SUBMIT or DISCARD; nothing if the slot has no record."""
        self._add(0x79, 1, 10, self._taken(slot))
        self._add(0x15, 1, 0, 5)
        self._add(0x79, 1, 10, self._record(slot))
        self._load(2, flags)
        self._add(insn.CALL, imm=helper)
        self._add(0x7A, 10, 0, self._taken(slot), 0)

    def output(self, start: int, length: int, flags: int = 0) -> None:
        """So many bytes of CONTENT. Answers what the helper does."""
        self._load_map(1, self.RING)
        self._load_map(2, self.CONTENT, ReferenceKind.DATA, start)
        self._load(3, length)
        self._load(4, flags)
        self._add(insn.CALL, imm=OUTPUT)
        self._answer(0)

    def query(self, flag: int) -> None:
        """Answers what the helper does."""
        self._load_map(1, self.RING)
        self._load(2, flag)
        self._add(insn.CALL, imm=QUERY)
        self._answer(0)

    def read_memory(self, address: int) -> None:
        """Read 8 bytes of the process's memory, and forget them: the program sleeps while their page is brought in."""
        self._add(0xBF, 1, 10)
        self._add(0x07, 1, imm=self._scratch)
        self._add(0xB7, 2, imm=8)
        self._load(3, address)
        self._add(insn.CALL, imm=COPY_FROM_USER)

    def spec(self, name: str) -> ProgramSpec:
        """The program, which returns 0. Every record must have been committed."""
        code = insn.encode([*self._code, Instruction(0xB7, 0, 0, 0, 0), Instruction(0x95, 0, 0, 0, 0)], sys.byteorder)
        flags = int(ProgFlags.SLEEPABLE)
        return ProgramSpec(name, "syscall", code, list(self._references), type=ProgType.SYSCALL, flags=flags)

    def _record(self, slot: int) -> int:
        """On the stack: the address of a slot's record."""
        return -8 * (slot + 1)

    def _taken(self, slot: int) -> int:
        """On the stack: whether there is one."""
        return self._record(self._slots + slot)

    @property
    def _scratch(self) -> int:
        return self._record(2 * self._slots)

    def _add(self, opcode: int, dst: int = 0, src: int = 0, offset: int = 0, imm: int = 0) -> None:
        self._code.append(Instruction(opcode, dst, src, offset, imm))

    def _load(self, register: int, number: int) -> None:
        low, high = struct.unpack("<ii", struct.pack("<Q", number))
        self._add(insn.LD_IMM64, register, imm=low)
        self._add(0, imm=high)

    def _load_map(self, register: int, name: str, kind: ReferenceKind = ReferenceKind.MAP, addend: int = 0) -> None:
        self._references.append(Reference(len(self._code), kind, name, addend))
        self._load(register, 0)

    def _answer(self, register: int) -> None:
        self._load_map(2, self.ANSWERS, ReferenceKind.DATA, 8 * self.answers)
        self._add(0x7B, 2, register)
        self.answers += 1
