"""Numbers and layouts of the bpf(2) interface (include/uapi/linux/bpf.h).

Each function packs one variant of `union bpf_attr` in native byte order. The result is exactly as long
as its last field: the kernel takes a shorter attribute as zero-filled, and refuses (E2BIG) a longer one
whose unknown tail is not zero, so newer fields are never sent unless used. Addresses are integers.
"""

from __future__ import annotations

import struct
from enum import IntEnum

NAME_LENGTH = 16  # BPF_OBJ_NAME_LEN, terminating NUL included


class Cmd(IntEnum):
    """`enum bpf_cmd`: the first argument of bpf(2)."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    PROG_LOAD = 5
    LINK_CREATE = 28


class MapType(IntEnum):
    """`enum bpf_map_type`."""

    HASH = 1
    ARRAY = 2
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    RINGBUF = 27


class ProgType(IntEnum):
    """`enum bpf_prog_type`."""

    TRACEPOINT = 5


class AttachType(IntEnum):
    """`enum bpf_attach_type`."""

    PERF_EVENT = 41


class Pseudo(IntEnum):
    """`src_reg` of an `ld_imm64`: what its immediate means."""

    MAP_FD = 1


def kernel_name(name: str) -> bytes:
    """The name as the kernel takes it: at most 15 of `[A-Za-z0-9_.]` (kernel/bpf/syscall.c, bpf_obj_name_cpy)."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name)
    return safe.encode()[: NAME_LENGTH - 1]


def map_create(map_type: int, key_size: int, value_size: int, max_entries: int, flags: int, name: str) -> bytes:
    """BPF_MAP_CREATE: type, sizes in bytes, entries, flags, (inner_map_fd, numa_node unset), name."""
    return struct.pack("=7I16s", map_type, key_size, value_size, max_entries, flags, 0, 0, kernel_name(name))


def map_element(map_fd: int, key: int, value: int) -> bytes:
    """BPF_MAP_*_ELEM: descriptor, then the addresses of the key and of the value."""
    return struct.pack("=IIQQQ", map_fd, 0, key, value, 0)


def prog_load(
    prog_type: int, count: int, insns: int, license: int, log_level: int, log_size: int, log: int, name: str
) -> bytes:
    """BPF_PROG_LOAD: `count` instructions at `insns`, the licence at `license`, log at `log` (all 0: no log)."""
    return struct.pack(
        "=IIQQIIQII16s", prog_type, count, insns, license, log_level, log_size, log, 0, 0, kernel_name(name)
    )


def link_create(prog_fd: int, target_fd: int, attach_type: int) -> bytes:
    """BPF_LINK_CREATE: the program, what it is attached to (here a perf event), and how."""
    return struct.pack("=IIII", prog_fd, target_fd, attach_type, 0)


PERF_TYPE_TRACEPOINT = 2
PERF_FLAG_FD_CLOEXEC = 8
PERF_EVENT_IOC_ENABLE = 0x2400
PERF_EVENT_IOC_SET_BPF = 0x40042408


def perf_event_tracepoint(tracepoint_id: int) -> bytes:
    """`struct perf_event_attr` (PERF_ATTR_SIZE_VER5, 112 bytes) that counts one tracepoint, period 1."""
    head = struct.pack("=IIQQQQ", PERF_TYPE_TRACEPOINT, 112, tracepoint_id, 1, 0, 0)
    return head.ljust(112, b"\0")
