"""Disassembly against the kernel's own: each instruction is loaded, and read back from the verifier's log."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from features import present

from purebpf.formats import attr, insn
from purebpf.formats.abi import Cmd, ProgType
from purebpf.formats.disasm import disassemble
from purebpf.formats.insn import Instruction
from purebpf.kernel import sys as system
from purebpf.kernel.fd import FileDescriptor

pytestmark = pytest.mark.kernel

ORDER = sys.byteorder
LINE = re.compile(r"^ *(\d+: \([0-9a-f]{2}\) .*?)\s*(?:; .*)?$", re.MULTILINE)
RANDOM = Instruction(0x85, 0, 0, 0, 7)  # call bpf_get_prandom_u32
END = [Instruction(0xB7, 0, 0, 0, 0), Instruction(0x95, 0, 0, 0, 0)]
# Makes r0, r7 and r8 numbers that the verifier does not know, r6 the context, r9 the address of a number.
START = [
    Instruction(0xBF, 6, 1, 0, 0),
    RANDOM,
    Instruction(0xBF, 7, 0, 0, 0),
    RANDOM,
    Instruction(0xBF, 8, 0, 0, 0),
    Instruction(0x7A, 10, 0, -8, 5),
    Instruction(0xBF, 9, 10, 0, 0),
    Instruction(0x07, 9, 0, 0, -8),
]

NUMBER, REGISTER = 0x00, 0x08
JUMPS = (0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xA0, 0xB0, 0xC0, 0xD0)
# Forms that are as old as 5.8, and that the verifier leaves as they are.
OLD = [
    *(Instruction(op | 7 - 3 * narrow, 7, 0, 0, 5) for op in range(0, 0xD0, 16) if op != 0x80 for narrow in (0, 1)),
    *(Instruction(op | 15 - 3 * narrow, 7, 8, 0, 0) for op in (0, 16, 32, 64, 80, 160, 176) for narrow in (0, 1)),
    *(Instruction(opcode, 7, 0, 0, 0) for opcode in (0x84, 0x87)),
    *(Instruction(opcode, 7, 0, 0, bits) for opcode in (0xD4, 0xDC) for bits in (16, 32, 64)),
    *(Instruction(op | kind | REGISTER, 7, 8, 0, 0) for op in JUMPS for kind in (5, 6)),
    *(Instruction(op | kind | NUMBER, 7, 0, 0, -9) for op in JUMPS for kind in (5, 6)),
    *(Instruction(opcode, 7, 9, 0, 0) for opcode in (0x61, 0x69, 0x71, 0x79)),
    *(Instruction(opcode, 9, 7, 0, 0) for opcode in (0x63, 0x6B, 0x73, 0x7B)),
    *(Instruction(opcode, 10, 0, -8, 300) for opcode in (0x62, 0x6A, 0x72, 0x7A)),
    *(Instruction(opcode, 10, 7, -8, 0) for opcode in (0xC3, 0xDB)),  # of the atomic ones the one that is older
]
ATOMIC = [
    *(Instruction(size, 10, 7, -8, op) for size in (0xC3, 0xDB) for op in (0x40, 0x50, 0xA0)),
    *(Instruction(size, 10, 7, -8, op) for size in (0xC3, 0xDB) for op in (1, 0x41, 0x51, 0xA1, 0xE1)),
    Instruction(0xDB, 10, 7, -8, 0xF1),
]
# Forms that the verifier rewrites, or that are newer (to 6.15).
OTHER = [
    [Instruction(0x3F, 7, 8, 0, 0)],
    [Instruction(0x9C, 7, 8, 0, 0)],
    [Instruction(0x20, 0, 0, 0, 12)],
    [Instruction(0x28, 0, 0, 0, 12)],
    [Instruction(0x30, 0, 0, 0, 12)],
    [Instruction(0x40, 0, 7, 0, 12)],
    [Instruction(0x05, 0, 0, 0, 0)],
    [Instruction(0x18, 7, 0, 0, -2), Instruction(0, 0, 0, 0, 0x12345678)],
    [Instruction(0x85, 0, 1, 0, 2), *END],  # of the END behind this one
]
NEWER = {
    "atomic": [*([form] for form in ATOMIC), [Instruction(0xC3, 10, 7, -8, 0xF1)]],
    "cpu_v4": [
        [Instruction(0x06, 0, 0, 0, 0)],
        *([Instruction(opcode, 7, 0, 1, 5)] for opcode in (0x37, 0x34, 0x97, 0x94)),
        *([Instruction(opcode, 7, 8, 1, 0)] for opcode in (0x3F, 0x3C, 0x9F, 0x9C)),
        *([Instruction(0xBF, 7, 8, bits, 0)] for bits in (8, 16, 32)),
        *([Instruction(0xBC, 7, 8, bits, 0)] for bits in (8, 16)),
        *([Instruction(0xD7, 7, 0, 0, bits)] for bits in (16, 32, 64)),
        *([Instruction(opcode, 7, 9, 0, 0)] for opcode in (0x81, 0x89, 0x91)),
    ],
    "may_goto": [[Instruction(0xE5, 0, 0, 0, 0)]],
    "load_acquire": [
        *([Instruction(opcode, 7, 9, 0, 0x100)] for opcode in (0xC3, 0xCB, 0xD3, 0xDB)),
        *([Instruction(opcode, 9, 7, 0, 0x110)] for opcode in (0xC3, 0xCB, 0xD3, 0xDB)),
    ],
}
FORMS = [
    *([form] for form in OLD),
    *OTHER,
    *(pytest.param(form, marks=pytest.mark.needs(name)) for name, forms in NEWER.items() for form in forms),
]


@contextmanager
def loaded(slots: list[Instruction]) -> Iterator[tuple[FileDescriptor, str]]:
    """A program, and what the verifier wrote about each instruction. Raises OSError."""
    code, log, license = system.Buffer(insn.encode(slots, ORDER)), system.Buffer(1 << 24), system.Buffer(b"GPL\0")
    request = attr.prog_load(
        ProgType.SOCKET_FILTER,
        len(slots),
        code.address,
        license.address,
        log_level=2,
        log_size=1 << 24,
        log=log.address,
    )
    fd = FileDescriptor(system.bpf(Cmd.PROG_LOAD, request), "a program")
    try:
        yield fd, log.bytes().split(b"\0", 1)[0].decode()
    finally:
        fd.close()


@pytest.mark.volume
@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{tuple(form[0])}")
def test_text_is_what_the_verifier_writes(form: list[Instruction]) -> None:
    code = [*START, *form, *END]
    with loaded(code) as (_fd, log):
        ours = disassemble(insn.encode(code, ORDER), ORDER)
        theirs = LINE.findall(log)
    assert ours[len(START)] in theirs
    assert not any("unknown" in line for line in ours)


def test_text_is_what_bpftool_shows_of_a_loaded_program() -> None:
    bpftool = shutil.which("bpftool") or shutil.which("bpftool", path="/usr/sbin:/sbin")
    if bpftool is None:
        pytest.skip("bpftool is not installed")
    code = [*START, *OLD, *(ATOMIC if present("atomic") else ()), *END]
    assert len({slot.opcode for slot in OLD}) >= 40
    with loaded(code) as (fd, _log):
        with open(f"/proc/self/fdinfo/{fd.fileno()}") as described:
            number = re.findall(r"prog_id:\t(\d+)", described.read())[0]
        command = [bpftool, "prog", "dump", "xlated", "id", number]
        shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    theirs = [line.strip() for line in shown.splitlines()]
    ours = disassemble(insn.encode(code, ORDER), ORDER)
    # The kernel puts the address of its function in the place of a helper's number.
    assert [re.sub("call .*", "call", line) for line in theirs] == [re.sub("call .*", "call", line) for line in ours]
