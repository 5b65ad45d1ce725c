"""From a spec to a map: made anew, or taken over from a pin.

The kernel is strict where declarations are loose; what is put right is what libbpf puts right (src/libbpf.c,
map_set_def_max_entries, adjust_ringbuf_sz, bpf_object__create_map), so that an object gets the same maps.
"""

from __future__ import annotations

import dataclasses
import errno
import mmap
import os
from contextlib import ExitStack
from typing import Any

from ...errors import KernelError, NotSupported, ObjectError
from ...formats import attr
from ...formats.abi import Cmd, MapFlags, MapType
from ...formats.spec import MapSpec
from .. import bpffs, memlock, probe, sys
from ..cpus import cpu_slots
from . import info
from .kinds import CLASSES, StorageMap, wrap
from .map import NOT_THERE, Map

_U32, _U64 = (1 << 32) - 1, (1 << 64) - 1
# Types that the kernel refuses to describe with BTF (map_check_btf in kernel/bpf/syscall.c, map_check_no_btf).
_WITHOUT_BTF = frozenset(
    {
        MapType.PERF_EVENT_ARRAY,
        MapType.CGROUP_ARRAY,
        MapType.STACK_TRACE,
        MapType.ARRAY_OF_MAPS,
        MapType.HASH_OF_MAPS,
        MapType.DEVMAP,
        MapType.DEVMAP_HASH,
        MapType.CPUMAP,
        MapType.XSKMAP,
        MapType.SOCKMAP,
        MapType.SOCKHASH,
        MapType.QUEUE,
        MapType.STACK,
        MapType.RINGBUF,
        MapType.USER_RINGBUF,
        MapType.ARENA,
    }
)
_RINGS = frozenset({MapType.RINGBUF, MapType.USER_RINGBUF})
# Sizes of key and value where the declaration leaves them out.
_SIZES: dict[int, tuple[int, int]] = {
    MapType.PERF_EVENT_ARRAY: (4, 4),
    MapType.PROG_ARRAY: (4, 4),
    MapType.CGROUP_ARRAY: (4, 4),
    MapType.ARRAY_OF_MAPS: (4, 4),
    MapType.HASH_OF_MAPS: (0, 4),
    MapType.CPUMAP: (4, 4),
}
_COMPARED = ("type", "key_size", "value_size", "max_entries", "flags", "extra")
_RACES = 3


def create(spec: MapSpec, *, btf_fd: int = 0) -> Map:
    """Make the map, typed for bpftool by the BTF behind `btf_fd`, whose type ids the spec uses; 0 for none.

    The template of a map of maps (`spec.inner`) is made and closed again on the way. Pins, `contents` and
    `values` are left to the caller. Raises ObjectError for sizes out of range, NotSupported, NotPermitted,
    KernelError.
    """
    spec = fitted(spec)
    sizes = (spec.type, spec.key_size, spec.value_size, spec.max_entries, spec.flags, spec.numa_node or 0)
    if not all(0 <= number <= _U32 for number in sizes) or not 0 <= spec.extra <= _U64:
        raise ObjectError(f"map {spec.name!r}: a size is out of range (32 bits, map_extra 64 bits): {spec}")
    with ExitStack() as stack:
        inner_fd = stack.enter_context(create(spec.inner, btf_fd=btf_fd)).fileno() if spec.inner else 0
        try:
            fd = _created(spec, inner_fd, btf_fd)
        except OSError as error:
            raise _not_created(spec, error) from error
    return wrap(spec, fd)


def create_or_reuse(spec: MapSpec, path: str | os.PathLike[str], *, btf_fd: int = 0) -> Map:
    """The map pinned at `path`, if it is as the spec says; if nothing is pinned, a new one, which is then.

    Raises ObjectError that lists the differences, and what `create` and `Map.pin` raise.
    """
    for _ in range(_RACES):
        try:
            return open_pinned(path, spec)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
        made = create(spec, btf_fd=btf_fd)
        try:
            made.pin(path)
        except KernelError as error:
            made.close()
            if error.errno != errno.EEXIST:  # else another process was faster: its map is taken
                raise
        else:
            return made
    raise KernelError(f"map {spec.name!r}: the pin at {os.fspath(path)} comes and goes", errno=errno.EEXIST)


def open_pinned(path: str | os.PathLike[str], spec: MapSpec | None = None) -> Map:
    """Open a pinned map. It must be as `spec` says, if one is given, and is typed by it, else by the kernel's BTF.

    The caller closes it. Raises KernelError (ENOENT if nothing is there), NotPermitted; ObjectError if it is no map,
    or lists what differs from the spec.
    """
    name = spec.name if spec else os.path.basename(path)
    fd = bpffs.get(path, f"map {name!r}")
    try:
        found = info.describe(fd, name)
        if spec is not None:
            spec = fitted(spec)
            _require_same(spec, found, os.fspath(path))
    except BaseException:
        os.close(fd)
        raise
    return wrap(spec or found, fd, os.path.abspath(path))


def fitted(spec: MapSpec) -> MapSpec:
    """The spec as the kernel will have the map. The one that is given stays as it is.

    A ring's size is rounded up to a power of two of pages, and `__type(value, …)` on a ring, which the kernel does
    not take, is left to the decoder of its records. Arrays by CPU get as many slots as there are CPUs.
    """
    key, value = _SIZES.get(spec.type, (0, 0))
    changes: dict[str, Any] = {"key_size": spec.key_size or key, "value_size": spec.value_size or value}
    if spec.type in _RINGS:
        changes |= {"value_size": 0, "max_entries": _ring_size(spec.max_entries)}
    elif spec.type == MapType.PERF_EVENT_ARRAY:
        changes["max_entries"] = min(spec.max_entries or _U32, cpu_slots())
    elif spec.type == MapType.CPUMAP:
        changes["max_entries"] = spec.max_entries or cpu_slots()
    return dataclasses.replace(spec, **changes)


def _ring_size(wanted: int) -> int:
    return max(mmap.PAGESIZE, 1 << (wanted - 1).bit_length()) if wanted else 0


def _created(spec: MapSpec, inner_fd: int, btf_fd: int) -> int:
    typed = btf_fd and (spec.key_type or spec.value_type) and spec.type not in _WITHOUT_BTF
    try:
        return memlock.retry(lambda: _map_create(spec, inner_fd, btf_fd if typed else 0))
    except OSError as error:
        if not typed or error.errno not in NOT_THERE:
            raise
    return memlock.retry(lambda: _map_create(spec, inner_fd, 0))  # the types are an extra


def _map_create(spec: MapSpec, inner_fd: int, btf_fd: int) -> int:
    request = attr.map_create(
        spec.type,
        spec.key_size,
        spec.value_size,
        spec.max_entries,
        spec.flags,
        spec.kernel_name or spec.name,
        inner_map_fd=inner_fd,
        numa_node=spec.numa_node or 0,
        btf_fd=btf_fd,
        key_type=spec.key_type if btf_fd else 0,
        value_type=spec.value_type if btf_fd else 0,
        map_extra=spec.extra,
    )
    return sys.bpf(Cmd.MAP_CREATE, request)


def _not_created(spec: MapSpec, error: OSError) -> KernelError:
    kind = spec.type.name if isinstance(spec.type, MapType) else f"type {spec.type}"
    if error.errno in NOT_THERE and isinstance(spec.type, MapType) and not probe.has_map_type(spec.type):
        since = f" (Linux {probe.SINCE[spec.type]} has them)" if spec.type in probe.SINCE else ""
        return NotSupported(
            f"creating map {spec.name!r}: this kernel has no maps of type {kind}{since}",
            errno=error.errno,
            hint="run on a newer kernel",
        )
    if error.errno == errno.EINVAL and spec.type == MapType.RINGBUF and spec.flags & MapFlags.RB_OVERWRITE:
        return NotSupported(
            f"creating map {spec.name!r}: this kernel has no rings that overwrite (BPF_F_RB_OVERWRITE; Linux 6.19 has them)",
            errno=error.errno,
            hint="leave the flag out; reservations then fail when the ring is full, and the program can count them",
        )
    sizes = f"key {spec.key_size}, value {spec.value_size}, {spec.max_entries} entries, flags {spec.flags:#x}"
    return sys.refusal(f"creating map {spec.name!r} ({kind}, {sizes})", error, _why(spec, error.errno or 0))


def _why(spec: MapSpec, number: int) -> str:
    if number != errno.EINVAL:
        return ""
    if issubclass(CLASSES.get(spec.type, Map), StorageMap):
        return "a storage map needs max_entries 0, BPF_F_NO_PREALLOC, and types in BTF (compile with -g)"
    if spec.type in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS) and not spec.inner:
        return "a map of maps needs a template: __array(values, ...)"
    return "" if spec.max_entries else "max_entries is 0: set it in the spec before loading"


def _require_same(spec: MapSpec, found: MapSpec, path: str) -> None:
    if found.type in (MapType.DEVMAP, MapType.DEVMAP_HASH):  # the kernel adds this flag (kernel/bpf/devmap.c)
        found = dataclasses.replace(found, flags=found.flags ^ (found.flags ^ spec.flags) & MapFlags.RDONLY_PROG)
    rows = ((name, getattr(spec, name), getattr(found, name)) for name in _COMPARED)
    different = [f"{name} is {_shown(there)}, not {_shown(wanted)}" for name, wanted, there in rows if wanted != there]
    if different:
        raise ObjectError(
            f"map {spec.name!r}: the map pinned at {path} is another: {'; '.join(different)}",
            hint="remove the pin, or pin elsewhere",
        )


def _shown(value: int) -> str:
    return value.name if isinstance(value, MapType) else str(int(value))
