"""A program that counts, for any hook: shared by the tests of attaching.

with Hits("tp") as hits, hits.attach("syscalls/sys_enter_getpgid"):
    assert hits.of(lambda: os.getpgid(0)) == 1
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from features import require

from purebpf.formats import attr, insn
from purebpf.formats.abi import Cmd, MapType
from purebpf.formats.insn import Instruction
from purebpf.formats.sections import HOOKS
from purebpf.formats.spec import MapSpec
from purebpf.kernel import maps
from purebpf.kernel import sys as calls
from purebpf.kernel.attach import Link, Request, attach
from purebpf.kernel.fd import FileDescriptor

_Counter = TypeVar("_Counter", bound="Counter")


def load(code: list[tuple[int, ...]], hook: str, btf_id: int = 0) -> FileDescriptor:
    """A program for this hook."""
    instructions = calls.Buffer(insn.encode([Instruction(*slot) for slot in code], sys.byteorder))
    license, row = calls.Buffer(b"GPL\0"), HOOKS[hook]
    packed = attr.prog_load(
        row.type,
        len(code),
        instructions.address,
        license.address,
        name="hit",
        flags=row.flags,
        expected_attach_type=int(row.attach_type),
        attach_btf_id=btf_id,
    )
    return FileDescriptor(calls.bpf(Cmd.PROG_LOAD, packed), "program 'hit'")


def adding(map_fd: int, pid: int, cookies: bool) -> list[tuple[int, ...]]:
    """Add 1, or the cookie, to the first slot of an array; in process `pid` only, or for 0 in all."""
    add: list[tuple[int, ...]] = [
        *([(0xBF, 1, 6, 0, 0), (0x85, 0, 0, 0, 174), (0xBF, 7, 0, 0, 0)] if cookies else [(0xB7, 7, 0, 0, 1)]),
        (0x62, 10, 0, -4, 0),
        (0xBF, 2, 10, 0, 0),
        (0x07, 2, 0, 0, -4),
        (0x18, 1, 1, 0, map_fd),
        (0, 0, 0, 0, 0),
        (0x85, 0, 0, 0, 1),  # bpf_map_lookup_elem
        (0x15, 0, 0, 1, 0),
        (0xDB, 0, 7, 0, 0),  # lock *(u64 *)r0 += r7
    ]
    mine = [(0x85, 0, 0, 0, 14), (0x77, 0, 0, 0, 32), (0x55, 0, 0, len(add), pid)] if pid else []
    return [(0xBF, 6, 1, 0, 0), *mine, *add, (0xB7, 0, 0, 0, 0), (0x95, 0, 0, 0, 0)]


class Counter:
    """A program that counts hits of this process, or with `everyone` of all; with `cookies` it adds these up."""

    def __init__(self, hook: str, *, btf_id: int = 0, everyone: bool = False, cookies: bool = False) -> None:
        self.hook = hook
        self._map = maps.create(MapSpec("hits", MapType.ARRAY, 4, 8, 1))
        try:
            self.program = load(adding(self._map.fileno(), 0 if everyone else os.getpid(), cookies), hook, btf_id)
        except BaseException:
            self._map.close()
            raise

    def request(self, target: str, **more: Any) -> Request:
        row = HOOKS[self.hook]
        hook = self.hook.removesuffix(".s").removesuffix(".w")
        return Request("hit", self.program.fileno(), target, row.attach_type, hook=hook, type=row.type, **more)

    def attach(self, target: str, **more: Any) -> Link:
        return attach(self.request(target, **more))

    def of(self, trigger: Callable[[], object]) -> int:
        """What it has added after the trigger."""
        before = self._count()
        trigger()
        return self._count() - before

    def _count(self) -> int:
        key, memory = calls.Buffer(bytes(4)), calls.Buffer(8)
        calls.bpf(Cmd.MAP_LOOKUP_ELEM, attr.map_element(self._map.fileno(), key.address, memory.address))
        return int(struct.unpack("=Q", memory.bytes())[0])

    def __enter__(self: _Counter) -> _Counter:
        return self

    def __exit__(self, *_: object) -> None:
        self.program.close()
        self._map.close()


# What a hook, and a cookie at it, asks of a kernel (features.FEATURES).
HOOKS_OF_SOME = {
    "uprobe.multi": "uprobe_multi",
    "uprobe.multi.s": "uprobe_multi",
    "uretprobe.multi": "uprobe_multi",
    "uprobe.session": "uprobe_session",
}


class Hits(Counter):
    """The same in a test, which is skipped on kernels that do not load programs for such a hook, or with its cookies."""

    def __init__(self, hook: str, *, cookies: bool = False, **more: Any) -> None:
        if hook in HOOKS_OF_SOME:
            require(HOOKS_OF_SOME[hook])
        if cookies:
            require("raw_tp_cookie" if hook in ("raw_tp", "tp_btf") else "cookie")
        super().__init__(hook, cookies=cookies, **more)
