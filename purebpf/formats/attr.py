"""Layouts of `union bpf_attr` and of `struct perf_event_attr`, packed in native byte order.

Trailing zeros are not sent: the kernel takes a shorter attribute as zero-filled, and refuses (E2BIG) one with
a non-zero field that it does not know. So a newer field is sent only where it is used. Attributes into which the
kernel writes (`*_OUT`) keep their length. Addresses and descriptors are integers; 0 stands for "none".
"""

from __future__ import annotations

import struct
import sys

NAME_LENGTH = 16  # BPF_OBJ_NAME_LEN, terminating NUL included


def kernel_name(name: str) -> bytes:
    """The name as the kernel takes it: at most 15 of `[A-Za-z0-9_.]` (kernel/bpf/syscall.c, bpf_obj_name_cpy)."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name)
    return safe.encode()[: NAME_LENGTH - 1]


def _trimmed(attr: bytes) -> bytes:
    used = len(attr.rstrip(b"\0"))
    return attr[: max(4, (used + 3) & ~3)]


def map_create(
    map_type: int,
    key_size: int,
    value_size: int,
    max_entries: int,
    flags: int,
    name: str,
    *,
    inner_map_fd: int = 0,
    numa_node: int = 0,
    btf_fd: int = 0,
    key_type: int = 0,
    value_type: int = 0,
    vmlinux_value_type: int = 0,
    map_extra: int = 0,
) -> bytes:
    """BPF_MAP_CREATE. Sizes in bytes; `key_type` and `value_type` are type ids of the BTF behind `btf_fd`."""
    head = struct.pack("=7I", map_type, key_size, value_size, max_entries, flags, inner_map_fd, numa_node)
    rest = struct.pack("=16s5IQ", kernel_name(name), 0, btf_fd, key_type, value_type, vmlinux_value_type, map_extra)
    return _trimmed(head + rest)


def map_element(map_fd: int, key: int, value: int, flags: int = 0) -> bytes:
    """BPF_MAP_*_ELEM and BPF_MAP_GET_NEXT_KEY: the addresses of the key and of the value, or of the next key."""
    return struct.pack("=IIQQQ", map_fd, 0, key, value, flags)


def map_batch_out(map_fd: int, in_batch: int, out_batch: int, keys: int, values: int, count: int, flags: int) -> bytes:
    """BPF_MAP_*_BATCH: addresses; the kernel writes the number of elements done to offset 32 (u32)."""
    return struct.pack("=QQQQIIQQ", in_batch, out_batch, keys, values, count, map_fd, flags, 0)


MAP_BATCH_COUNT = 32


def map_freeze(map_fd: int) -> bytes:
    """BPF_MAP_FREEZE."""
    return struct.pack("=I", map_fd)


def prog_load(
    prog_type: int,
    insn_count: int,
    insns: int,
    license: int,
    *,
    log_level: int = 0,
    log_size: int = 0,
    log: int = 0,
    kernel_version: int = 0,
    flags: int = 0,
    name: str = "",
    expected_attach_type: int = 0,
    btf_fd: int = 0,
    func_info: tuple[int, int, int] = (0, 0, 0),
    line_info: tuple[int, int, int] = (0, 0, 0),
    attach_btf_id: int = 0,
    attach_fd: int = 0,
    fd_array: int = 0,
) -> bytes:
    """BPF_PROG_LOAD. `func_info` and `line_info` are (size of a record, address, number of records).

    `attach_fd` is `attach_prog_fd` or `attach_btf_obj_fd`.
    """
    head = struct.pack(
        "=IIQQIIQII", prog_type, insn_count, insns, license, log_level, log_size, log, kernel_version, flags
    )
    names = struct.pack("=16sIII", kernel_name(name), 0, expected_attach_type, btf_fd)
    infos = struct.pack("=IQIIQI", func_info[0], func_info[1], func_info[2], line_info[0], line_info[1], line_info[2])
    rest = struct.pack("=IIIQ", attach_btf_id, attach_fd, 0, fd_array)
    return _trimmed(head + names + infos + rest)


def obj_pin(path: int, fd: int = 0, flags: int = 0) -> bytes:
    """BPF_OBJ_PIN (with `fd`) and BPF_OBJ_GET: the address of a NUL-terminated path on bpffs."""
    return _trimmed(struct.pack("=QII", path, fd, flags))


def run_out(
    prog_fd: int, data_in: tuple[int, int], data_out: tuple[int, int], ctx_in: tuple[int, int], ctx_out: tuple[int, int],
    repeat: int, flags: int = 0, cpu: int = 0,
) -> bytes:  # fmt: skip
    """BPF_PROG_TEST_RUN. Buffers are (address, size in bytes). See TEST_RUN_RESULT for what comes back."""
    sizes = struct.pack("=IIIIQQ", prog_fd, 0, data_in[1], data_out[1], data_in[0], data_out[0])
    return sizes + struct.pack("=IIIIQQIII", repeat, 0, ctx_in[1], ctx_out[1], ctx_in[0], ctx_out[0], flags, cpu, 0)


# (offset, what) of u32 results in a TEST_RUN attribute.
TEST_RUN_RETVAL, TEST_RUN_DATA_SIZE, TEST_RUN_DURATION = 4, 12, 36


def by_id(number: int, open_flags: int = 0) -> bytes:
    """BPF_*_GET_FD_BY_ID."""
    return struct.pack("=III", number, 0, open_flags)


def next_id_out(start: int) -> bytes:
    """BPF_*_GET_NEXT_ID: the next id comes back at offset 4 (u32)."""
    return struct.pack("=III", start, 0, 0)


NEXT_ID = 4


def info_out(fd: int, info: int, length: int) -> bytes:
    """BPF_OBJ_GET_INFO_BY_FD: the length that the kernel filled comes back at offset 4 (u32)."""
    return struct.pack("=IIQ", fd, length, info)


def btf_load(btf: int, size: int, log: int = 0, log_size: int = 0) -> bytes:
    """BPF_BTF_LOAD: addresses and sizes in bytes of the BTF and of a log buffer, if there is one."""
    return _trimmed(struct.pack("=QQIII", btf, log, size, log_size, 1 if log else 0))


def raw_tracepoint_open(name: int, prog_fd: int, cookie: int = 0) -> bytes:
    """BPF_RAW_TRACEPOINT_OPEN: the address of the tracepoint's name, 0 for a program of BTF-defined target."""
    return _trimmed(struct.pack("=QIIQ", name, prog_fd, 0, cookie))


def link_create(prog_fd: int, target_fd: int, attach_type: int, flags: int = 0, tail: bytes = b"") -> bytes:
    """BPF_LINK_CREATE: the program, what it is attached to, how; `tail` is the variant's part, from offset 16."""
    return _trimmed(struct.pack("=IIII", prog_fd, target_fd, attach_type, flags) + tail)


def link_fd(fd: int) -> bytes:
    """BPF_LINK_DETACH, BPF_ITER_CREATE."""
    return struct.pack("=II", fd, 0)


PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT = 0, 1, 2
PERF_FLAG_FD_CLOEXEC = 8
PERF_EVENT_IOC_ENABLE = 0x2400
PERF_EVENT_IOC_SET_BPF = 0x40042408
PERF_SAMPLE_RAW = 1 << 10
PERF_ATTR_SIZE = 112  # PERF_ATTR_SIZE_VER5, Linux 4.1
# The flag word is one of bit-fields, which C fills from the other end on a big-endian machine.
PERF_ATTR_FREQ = 1 << (10 if sys.byteorder == "little" else 63 - 10)  # sample_period is a frequency in Hz


def perf_event(
    event_type: int, config: int = 0, *, sample: int = 0, sample_type: int = 0, bits: int = 0, wakeup: int = 0,
    config1: int = 0, config2: int = 0,
) -> bytes:  # fmt: skip
    """`struct perf_event_attr` of 112 bytes. `sample` is a period, or Hz with PERF_ATTR_FREQ in `bits`."""
    head = struct.pack("=IIQQQQQ", event_type, PERF_ATTR_SIZE, config, sample, sample_type, 0, bits)
    return (head + struct.pack("=IIQQ", wakeup, 0, config1, config2)).ljust(PERF_ATTR_SIZE, b"\0")
