"""Seccomp filters, under which the kernel itself refuses system calls: to this thread, or to a command.

`python seccomp_filter.py CALL:ARGUMENT:ERRNO … -- COMMAND` becomes the command under the filter. CALL and ARGUMENT are numbers;
the rule is for calls whose first argument, of 32 bits, is that, or "any".
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import NamedTuple

# Offsets in struct seccomp_data (linux/seccomp.h): the call's number, the low half of its first argument.
_NUMBER, _ARGUMENT = 0, 16 if sys.byteorder == "little" else 20
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
ERRNO, ASK, _ALLOW = 0x50000, 0x7FC00000, 0x7FFF0000  # SECCOMP_RET_ERRNO (the number is added), _USER_NOTIF, _ALLOW


class Rule(NamedTuple):
    call: int
    argument: int | None
    answer: int


class _Filter:
    """`program` is a struct sock_fprog, good as long as this lives; the kernel copies it when it is installed."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        code = [(_LOAD, 0, 0, _NUMBER)]
        for call, argument, answer in rules:
            refuse = (_RETURN, 0, 0, answer)
            if argument is None:
                code += [(_EQUAL, 0, 1, call), refuse]
            else:
                chosen = [(_LOAD, 0, 0, _ARGUMENT), (_EQUAL, 0, 1, argument), refuse, (_LOAD, 0, 0, _NUMBER)]
                code += [(_EQUAL, 0, len(chosen), call), *chosen]
        code.append((_RETURN, 0, 0, _ALLOW))
        self._code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in code))
        self.program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(self._code)))


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0, ctypes.get_errno()  # PR_SET_NO_NEW_PRIVS
    return libc


def install(*rules: Rule) -> None:
    """For this thread, and what it starts. It cannot be taken back."""
    filter = _Filter(rules)
    assert _libc().prctl(22, 2, filter.program) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def listen(seccomp: int, *rules: Rule) -> int:
    """The same with seccomp(2), whose number is given: the descriptor that gets what rules ASK about."""
    filter = _Filter(rules)
    listener: int = _libc().syscall(seccomp, 1, 8, filter.program)  # SET_MODE_FILTER, FLAG_NEW_LISTENER
    assert listener >= 0, ctypes.get_errno()
    return listener


def number(call: str) -> int:
    """Of a system call, on this machine."""
    from purebpf.kernel import sys as calls  # late: a filter for a command should take no time

    if call == "seccomp":
        return {"x86_64": 317, "s390x": 348, "ppc64le": 358}.get(os.uname().machine, 277)
    newer = {"pidfd_open": calls._PIDFD_OPEN, "fsopen": calls._FSOPEN}
    return newer[call] if call in newer else getattr(calls._numbers(), call)


def bpf_answers(errno: int, *commands: int) -> tuple[Rule, ...]:
    """bpf(2) answers the errno to these commands."""
    return tuple(Rule(number("bpf"), command, ERRNO | errno) for command in commands)


def filtered(*rules: str, python: str = sys.executable, file: str = __file__) -> tuple[str, ...]:
    """What to put before a command: "bpf:any:1" is EPERM for each bpf(2), "bpf:0:22" is EINVAL for its command 0."""
    named = (rule.split(":", 1) for rule in rules)
    return (python, file, *(f"{number(call)}:{rest}" for call, rest in named), "--")


def _parsed(text: str) -> Rule:
    call, argument, errno = text.split(":")
    return Rule(int(call), None if argument == "any" else int(argument), ERRNO | int(errno))


if __name__ == "__main__":
    end = sys.argv.index("--")
    install(*map(_parsed, sys.argv[1:end]))
    os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])
