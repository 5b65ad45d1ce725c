"""What the kernel says of a map, by BPF_OBJ_GET_INFO_BY_FD (Linux 4.13), and the BTF that describes its elements.

    struct bpf_map_info (include/uapi/linux/bpf.h): type, id, key_size, value_size, max_entries, map_flags u32,
        name 16 bytes, ifindex, btf_vmlinux_value_type_id u32, netns_dev, netns_ino u64,
        btf_id, btf_key_type_id, btf_value_type_id, btf_vmlinux_id u32, map_extra u64
    struct bpf_btf_info: address of the BTF u64, btf_size u32, id u32, ...

An older kernel fills the part that it knows; the rest stays zero.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from typing import NamedTuple

from ...errors import BtfError, KernelError, ObjectError
from ...formats import attr
from ...formats.abi import Cmd, MapType
from ...formats.btf import Btf
from ...formats.spec import MapSpec
from .. import sys

_BY_ID = {
    errno.ENOENT: "no map has this id; bpftool map list shows those that there are",
    errno.EPERM: "opening a map by its id takes CAP_SYS_ADMIN: run as root, or open one that is pinned",
}
_MAP_INFO = struct.Struct("=6I16s2I2Q4IQ")
_BTF_INFO = struct.Struct("=QII")


class MapInfo(NamedTuple):
    """A map as the kernel has it. Sizes in bytes; `btf_id` 0 where it has no types; `name` has at most 15 letters."""

    id: int
    type: MapType | int
    name: str
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    extra: int
    btf_id: int
    key_type: int
    value_type: int


def map_type(number: int) -> MapType | int:
    """The type by name, or the bare number of one that is newer than the list."""
    return MapType(number) if number in set(MapType) else number


def read_info(fd: int, what: str) -> MapInfo:
    """Ask for the info. Raises KernelError."""
    fields = _MAP_INFO.unpack(_info(fd, b"", _MAP_INFO.size, f"reading the info of {what}"))
    kind, number, key_size, value_size, entries, flags, name = fields[:7]
    btf_id, key_type, value_type, _vmlinux, extra = fields[11:]
    text = name.split(b"\0")[0].decode("ascii", "replace")
    return MapInfo(
        number, map_type(kind), text, key_size, value_size, entries, flags, extra, btf_id, key_type, value_type
    )


def read_btf(number: int) -> Btf:
    """The BTF of this id. Raises KernelError (reading by id takes CAP_SYS_ADMIN), BtfError."""
    doing = f"reading BTF {number}"
    try:
        fd = sys.bpf(Cmd.BTF_GET_FD_BY_ID, attr.by_id(number))
    except OSError as error:
        raise sys.refusal(doing, error) from error
    try:
        size = _BTF_INFO.unpack(_info(fd, b"", _BTF_INFO.size, doing))[1]
        data = sys.Buffer(size)
        _info(fd, _BTF_INFO.pack(data.address, size, 0), _BTF_INFO.size, doing)
        return Btf(data.bytes())
    finally:
        os.close(fd)


def fd_of(number: int) -> int:
    """A new descriptor of the map with this id. Raises KernelError (ENOENT if there is none), NotPermitted."""
    try:
        return sys.bpf(Cmd.MAP_GET_FD_BY_ID, attr.by_id(number))
    except OSError as error:
        raise sys.refusal(f"opening map {number}", error, _BY_ID.get(error.errno or 0, "")) from error


def describe(fd: int, name: str = "") -> MapSpec:
    """A spec of the map behind a descriptor, typed if the kernel has its BTF and lets it be read.

    Raises ObjectError if it is no map, KernelError.
    """
    what = f"map {name!r}" if name else "map"
    behind = os.readlink(f"/proc/self/fd/{fd}")
    if behind != "anon_inode:bpf-map":
        raise ObjectError(f"{name!r} is no map, but {behind}")
    info = read_info(fd, what)
    spec = MapSpec(
        name or info.name, info.type, info.key_size, info.value_size, info.max_entries, info.flags, extra=info.extra
    )
    spec.kernel_name = info.name
    if info.btf_id:
        with suppress(KernelError, BtfError):  # without types keys and values are bytes
            spec.btf, spec.key_type, spec.value_type = read_btf(info.btf_id), info.key_type, info.value_type
    return spec


def _info(fd: int, content: bytes, size: int, doing: str) -> bytes:
    memory = sys.Buffer(content.ljust(size, b"\0"))
    try:
        sys.bpf_out(Cmd.OBJ_GET_INFO_BY_FD, attr.info_out(fd, memory.address, size))
    except OSError as error:
        raise sys.refusal(doing, error) from error
    return memory.bytes()
