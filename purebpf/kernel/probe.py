"""What this kernel has, found out by trying. Versions are never compared.

Each probe makes the smallest thing of its kind and lets it go again. What the kernel refuses because of a privilege
is not known to be missing: that raises NotPermitted. Conclusive answers are kept for the life of the process.
"""

from __future__ import annotations

import errno
import functools
import mmap
import os
import struct
import sys as python
from collections.abc import Callable

from ..errors import KernelError
from ..formats import attr, insn
from ..formats.abi import AttachType, Cmd, MapFlags, MapType, ProgFlags, ProgType
from ..formats.btf import MAGIC
from ..formats.btf_write import info
from ..formats.insn import Instruction
from ..formats.kinds import Kind
from . import memlock, sys

_EXIT = [Instruction(0xB7, 0, 0, 0, 0), Instruction(0x95, 0, 0, 0, 0)]  # r0 = 0; exit
_UNKNOWN = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS})  # the answer is not about what was asked

# Map type -> the attributes of the smallest one, where they differ from key 4, value 8, one entry, no flags.
_MAPS: dict[MapType, tuple[int, int, int, int]] = {
    MapType.PROG_ARRAY: (4, 4, 1, 0),
    MapType.PERF_EVENT_ARRAY: (4, 4, 1, 0),
    MapType.CGROUP_ARRAY: (4, 4, 1, 0),
    MapType.ARRAY_OF_MAPS: (4, 4, 1, 0),
    MapType.HASH_OF_MAPS: (4, 4, 1, 0),
    MapType.DEVMAP: (4, 4, 1, 0),
    MapType.DEVMAP_HASH: (4, 4, 1, 0),
    MapType.SOCKMAP: (4, 4, 1, 0),
    MapType.SOCKHASH: (4, 4, 1, 0),
    MapType.CPUMAP: (4, 4, 1, 0),
    MapType.XSKMAP: (4, 4, 1, 0),
    MapType.LPM_TRIE: (8, 8, 1, MapFlags.NO_PREALLOC),
    MapType.CGROUP_STORAGE: (16, 8, 0, 0),
    MapType.PERCPU_CGROUP_STORAGE: (16, 8, 0, 0),
    MapType.QUEUE: (0, 4, 1, 0),
    MapType.STACK: (0, 4, 1, 0),
    MapType.BLOOM_FILTER: (0, 4, 1, 0),
    MapType.SK_STORAGE: (4, 4, 0, MapFlags.NO_PREALLOC),
    MapType.INODE_STORAGE: (4, 4, 0, MapFlags.NO_PREALLOC),
    MapType.TASK_STORAGE: (4, 4, 0, MapFlags.NO_PREALLOC),
    MapType.CGRP_STORAGE: (4, 4, 0, MapFlags.NO_PREALLOC),
    MapType.RINGBUF: (0, 0, mmap.PAGESIZE, 0),
    MapType.USER_RINGBUF: (0, 0, mmap.PAGESIZE, 0),
    MapType.ARENA: (0, 0, 1, MapFlags.MMAPABLE),
}
_STORAGE = frozenset({MapType.SK_STORAGE, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE})

# Which release brought a map type (Documentation/bpf/, and git tags of the commits that added them).
SINCE: dict[MapType, str] = {
    MapType.HASH: "3.19",
    MapType.ARRAY: "3.19",
    MapType.PROG_ARRAY: "4.2",
    MapType.PERF_EVENT_ARRAY: "4.3",
    MapType.PERCPU_HASH: "4.6",
    MapType.PERCPU_ARRAY: "4.6",
    MapType.STACK_TRACE: "4.6",
    MapType.CGROUP_ARRAY: "4.8",
    MapType.LRU_HASH: "4.10",
    MapType.LRU_PERCPU_HASH: "4.10",
    MapType.LPM_TRIE: "4.11",
    MapType.ARRAY_OF_MAPS: "4.12",
    MapType.HASH_OF_MAPS: "4.12",
    MapType.DEVMAP: "4.14",
    MapType.SOCKMAP: "4.14",
    MapType.CPUMAP: "4.15",
    MapType.XSKMAP: "4.18",
    MapType.SOCKHASH: "4.18",
    MapType.CGROUP_STORAGE: "4.19",
    MapType.REUSEPORT_SOCKARRAY: "4.19",
    MapType.PERCPU_CGROUP_STORAGE: "4.20",
    MapType.QUEUE: "4.20",
    MapType.STACK: "4.20",
    MapType.SK_STORAGE: "5.2",
    MapType.DEVMAP_HASH: "5.4",
    MapType.STRUCT_OPS: "5.6",
    MapType.RINGBUF: "5.8",
    MapType.INODE_STORAGE: "5.10",
    MapType.TASK_STORAGE: "5.11",
    MapType.BLOOM_FILTER: "5.16",
    MapType.USER_RINGBUF: "6.1",
    MapType.CGRP_STORAGE: "6.2",
    MapType.ARENA: "6.9",
}


@functools.cache
def has_map_type(map_type: MapType) -> bool:
    """Can a map of this type be made? Raises NotPermitted where that cannot be found out."""
    key, value, entries, flags = _MAPS.get(map_type, (4, 8, 1, 0))
    if map_type == MapType.STRUCT_OPS:  # ENOTSUPP for a type id that is not there; EINVAL for no such map type
        return _errno(lambda: _map(map_type, key, value, 1, flags, vmlinux_value_type=1)) != errno.EINVAL
    if map_type in _STORAGE:
        return _with_types(lambda btf: _map(map_type, key, value, entries, flags, btf_fd=btf, key_type=1, value_type=1))
    if map_type in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
        return _with_inner(lambda inner: _map(map_type, key, value, entries, flags, inner_map_fd=inner))
    number = _errno(lambda: _map(map_type, key, value, entries, flags))
    return number not in (errno.EINVAL, errno.EOPNOTSUPP)


def _map(map_type: int, key: int, value: int, entries: int, flags: int, **more: int) -> int:
    return sys.bpf(Cmd.MAP_CREATE, attr.map_create(map_type, key, value, entries, flags, "probe", **more))


def _with_inner(make: Callable[[int], int]) -> bool:
    return _with(lambda: _map(MapType.ARRAY, 4, 4, 1, 0), lambda inner: not _errno(lambda: make(inner)))


def _with_types(make: Callable[[int], int]) -> bool:
    return _with(lambda: _btf(_INT), lambda btf: not _errno(lambda: make(btf)))


def _with(make: Callable[[], int], ask: Callable[[int], bool]) -> bool:
    """Ask with a descriptor of what has to be there first; False if the kernel does not have even that."""
    fd, number = _made(make)
    if number:
        return False
    try:
        return ask(fd)
    finally:
        os.close(fd)


def _errno(make: Callable[[], int]) -> int:
    """0 if it can be made, and the errno else. Raises what `_made` does."""
    fd, number = _made(make)
    if not number:
        os.close(fd)
    return number


def _made(make: Callable[[], int]) -> tuple[int, int]:
    """(descriptor, 0) or (-1, errno). Raises NotPermitted where a privilege is missing, KernelError without bpf(2)."""
    try:
        return memlock.retry(make), 0
    except OSError as error:
        if isinstance(error, KernelError) or error.errno in _UNKNOWN:
            raise sys.refusal("probing the kernel", error) from error
        return -1, error.errno or errno.EINVAL


# Program types that do not load without one of these.
_ATTACH_TYPES = {
    ProgType.CGROUP_SOCK_ADDR: AttachType.CGROUP_INET4_CONNECT,
    ProgType.CGROUP_SOCKOPT: AttachType.CGROUP_GETSOCKOPT,
    ProgType.SK_LOOKUP: AttachType.SK_LOOKUP,
    ProgType.NETFILTER: AttachType.NETFILTER,
    ProgType.TRACING: AttachType.TRACE_RAW_TP,
    ProgType.LSM: AttachType.LSM_MAC,
}


@functools.cache
def has_prog_type(prog_type: ProgType) -> bool:
    """Can programs of this type be loaded? Raises NotPermitted where that cannot be found out.

    A kernel without the type refuses before it verifies; a word in the verifier's log means that it is there.
    """
    number, log = _load(prog_type, _EXIT)
    if number in _UNKNOWN and not log:
        raise sys.refusal(f"probing programs of type {prog_type.name}", OSError(number, ""))
    return not number or bool(log) or number not in (errno.EINVAL, errno.EOPNOTSUPP)


@functools.cache
def has_helper(prog_type: ProgType, number: int) -> bool:
    """May programs of this type call the helper of this number? False too if there is no such type."""
    code = [Instruction(insn.CALL, 0, 0, 0, number), *_EXIT]
    result, log = _load(prog_type, code)
    if result in _UNKNOWN and not log:
        raise sys.refusal(f"finding out whether programs may call bpf_{_name(number)}", OSError(result, ""))
    return not result or (bool(log) and not has_no_helper(log))


def _name(helper: int) -> str:
    from ..formats.helpers import HELPERS  # late: only a refusal needs it

    return HELPERS[helper] if helper < len(HELPERS) else f"helper#{helper}"


def has_no_helper(log: str) -> bool:
    """Does the verifier's log say that the program may not call a helper?"""
    return any(words in log for words in ("invalid func ", "unknown func ", "cannot use helper"))


def _load(prog_type: ProgType, code: list[Instruction], context: int = 0) -> tuple[int, str]:
    """(errno or 0, verifier's log, "" if that gives no reason). Raises NotPermitted if the memory limit is used up."""
    instructions = sys.Buffer(insn.encode(code, python.byteorder))
    license, log = sys.Buffer(b"GPL\0"), sys.Buffer(8192)
    load = attr.prog_load(
        prog_type,
        len(code),
        instructions.address,
        license.address,
        log_level=1,
        log_size=8192,
        log=log.address,
        flags=ProgFlags.SLEEPABLE if prog_type == ProgType.SYSCALL else 0,
        expected_attach_type=_ATTACH_TYPES.get(prog_type, context),
    )
    try:
        os.close(memlock.retry(lambda: sys.bpf(Cmd.PROG_LOAD, load), len(code) * insn.SIZE))
    except KernelError as error:  # the memory limit, or no call was made: a number would not say so
        raise sys.refusal(f"probing programs of type {prog_type.name}", error) from error
    except OSError as error:
        from ..formats import verifier_log  # late: only a refusal needs it

        words = log.bytes().split(b"\0")[0].decode("utf-8", "replace")
        return error.errno or errno.EINVAL, words if verifier_log.telling(words).lines else ""
    return 0, ""


_INT = [0, info(Kind.INT), 4, 32]
_INT_NAMED = [1, info(Kind.INT), 4, 32]
# Feature -> the words of a BTF that has it; its strings are "\0a\0b\0". Keys are those of btf_write.REPLACEMENTS.
_BTF: dict[str, list[int]] = {
    "func": [*_INT_NAMED, 0, info(Kind.FUNC_PROTO, 1), 0, 1, 1, 3, info(Kind.FUNC), 2],
    "datasec": [*_INT_NAMED, 3, info(Kind.VAR), 1, 0, 1, info(Kind.DATASEC, 1), 4, 2, 0, 4],
    "func_global": [*_INT_NAMED, 0, info(Kind.FUNC_PROTO, 1), 0, 1, 1, 3, info(Kind.FUNC, 1), 2],
    "float": [1, info(Kind.FLOAT), 4],
    "decl_tag": [*_INT_NAMED, 3, info(Kind.VAR), 1, 0, 1, info(Kind.DECL_TAG), 2, 0xFFFFFFFF],
    "type_tag": [*_INT_NAMED, 1, info(Kind.TYPE_TAG), 1, 0, info(Kind.PTR), 2],
    "enum64": [1, info(Kind.ENUM64, 1), 8, 3, 1, 0],
}


@functools.cache
def has_btf(feature: str) -> bool:
    """Does the kernel take BTF with this, a key of btf_write.REPLACEMENTS?"""
    return not _errno(lambda: _btf(_BTF[feature]))


def _btf(words: list[int]) -> int:
    strings = b"\0a\0b\0"
    types = struct.pack(f"={len(words)}I", *words)
    blob = struct.pack("=HBBIIIII", MAGIC, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings
    memory = sys.Buffer(blob)
    return sys.bpf(Cmd.BTF_LOAD, attr.btf_load(memory.address, len(blob)))


def _has_array_mmap() -> bool:
    return not _errno(lambda: _map(MapType.ARRAY, 4, 4, 1, MapFlags.MMAPABLE))


def _has_perf_link() -> bool:
    """LINK_CREATE of a perf event looks for the event before it looks at the rest (libbpf's probe_perf_link)."""
    code = sys.Buffer(insn.encode(_EXIT, python.byteorder))
    license = sys.Buffer(b"GPL\0")
    load = attr.prog_load(ProgType.TRACEPOINT, 2, code.address, license.address)

    def link(program: int) -> int:
        return sys.bpf(Cmd.LINK_CREATE, attr.link_create(program, 0xFFFFFFFF, AttachType.PERF_EVENT))

    return _with(lambda: sys.bpf(Cmd.PROG_LOAD, load), lambda program: _errno(lambda: link(program)) == errno.EBADF)


def _has_syscall_wrapper() -> bool:
    """Are system calls entered through __x64_sys_… and the like? (arch/*/include/asm/syscall_wrapper.h)"""
    from . import kallsyms

    return kallsyms.syscall_symbol("bpf").startswith("__") and not kallsyms.syscall_symbol("bpf").startswith("__se_")


# What else a loader asks for. Each is called; the answer is kept.
FEATURES: dict[str, Callable[[], bool]] = {
    "array_mmap": functools.cache(_has_array_mmap),  # 5.5
    "probe_read_kernel": lambda: has_helper(ProgType.TRACEPOINT, 113),  # 5.5
    "ringbuf": lambda: has_map_type(MapType.RINGBUF),  # 5.8
    "memcg_accounting": lambda: has_helper(ProgType.SOCKET_FILTER, 160),  # 5.11
    "bpf_cookie": lambda: has_helper(ProgType.KPROBE, 174),  # 5.15
    "perf_link": functools.cache(_has_perf_link),  # 5.15
    "syscall_wrapper": functools.cache(_has_syscall_wrapper),  # 4.17
}
