"""The kinds of maps. A kind is a class here and a row in CLASSES; a type without a row is a KeyedMap.

What distinguishes them is in kernel/bpf/: arraymap.c, hashtab.c, queue_stack_maps.c, bloom_filter.c, lpm_trie.c,
stackmap.c, map_in_map.c, devmap.c, cpumap.c, bpf_local_storage.c, and net/core/sock_map.c.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, ClassVar

from ...formats.abi import Cmd, MapFlags, MapType, UpdateFlags
from ...formats.spec import MapSpec
from .. import sys
from ..fd import mapped
from . import forms, info
from .keyed import KeyedMap
from .map import Map


class HashMap(KeyedMap):
    """A hash table; with a type's own limits also an LRU one, which drops elements when it is full."""

    BATCHES = True


class SlotsMap(KeyedMap):
    """Slots under the integers from 0 on, which may be empty: those with something in them are the elements."""

    KEY = staticmethod(forms.number)
    VALUE = staticmethod(forms.number)

    def _raw_keys(self) -> Iterator[bytes]:
        return (key for key, _value in self._raw_items())


class ReferenceMap(SlotsMap):
    """Slots for programs, perf events, sockets, cgroups: assign what has `fileno()`, or a descriptor's number.

    Reading gives an id, where the kernel lets user space read the type at all.
    """

    VALUE = staticmethod(forms.Reference)


class SocketHash(KeyedMap):
    """Sockets by key."""

    VALUE = staticmethod(forms.Reference)


class StorageMap(KeyedMap):
    """A value for each socket, task, inode or cgroup: the key is a descriptor (a pidfd), or what has `fileno()`."""

    KEY = staticmethod(forms.Reference)


class StackTraceMap(KeyedMap):
    """Stacks by number: a list of addresses, innermost first; with STACK_BUILD_ID bytes."""

    KEY = staticmethod(forms.number)
    VALUE = staticmethod(forms.stack)


class ArrayMap(KeyedMap):
    """Values under the integers from 0 to max_entries - 1, all there from the start."""

    KEY = staticmethod(forms.number)
    BATCHES = True
    HINTS: ClassVar = {(Cmd.MAP_DELETE_ELEM, errno.EINVAL): "an array's elements are always there: set it to zeros"}

    def __init__(self, spec: MapSpec, fd: int, pinned: str = "") -> None:
        super().__init__(spec, fd, pinned)
        self._mapping: mmap.mmap | None = None
        self._view: memoryview | None = None

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.spec.max_entries))

    def __len__(self) -> int:
        return self.spec.max_entries

    def _drain(self) -> list[tuple[bytes, bytes]]:
        del self[0]  # which the kernel refuses
        return []

    def memory(self) -> memoryview:
        """The elements in shared memory, each value_size rounded up to 8 bytes; read-only if the map is.

        The same view each time. It is released when the map is closed. Raises ObjectError for a map made without
        BPF_F_MMAPABLE (Linux 5.5), KernelError.
        """
        if not self.spec.flags & MapFlags.MMAPABLE:
            return super().memory()
        if self._view is None:
            length = self.spec.max_entries * ((self.spec.value_size + 7) & ~7)
            try:
                self._mapping = _mapped(self.fileno(), length)
            except OSError as error:
                raise sys.refusal(f"mapping {self._what}", error) from error
            self._view = memoryview(self._mapping)
        return self._view

    def close(self) -> None:
        """Also releases `memory()`."""
        view, mapping, self._view, self._mapping = self._view, self._mapping, None, None
        if view is not None and mapping is not None:
            view.release()
            with suppress(BufferError):  # a slice is still in use: the mapping goes with the last one
                mapping.close()
        super().close()


class PerCpuHashMap(HashMap):
    """A hash table whose values are lists, one entry for each possible CPU."""

    VALUE = staticmethod(forms.PerCpu)


class PerCpuArrayMap(ArrayMap):
    """An array whose values are lists, one entry for each possible CPU."""

    VALUE = staticmethod(forms.PerCpu)


class PerCpuStorageMap(KeyedMap):
    """A list with an entry for each possible CPU, for each cgroup and attach type."""

    VALUE = staticmethod(forms.PerCpu)


class _OfMaps(KeyedMap):
    """Assign a map, or its descriptor's number; reading gives a map's id, and `inner` the map itself."""

    VALUE = staticmethod(forms.Reference)

    def inner(self, key: Any) -> Map:
        """Open the map under `key`, typed as the template. The caller closes it. Raises KeyError, KernelError."""
        return open_id(self[key], self.spec.inner)


class ArrayOfMaps(_OfMaps, SlotsMap):
    """Maps in slots."""


class HashOfMaps(_OfMaps, HashMap):
    """Maps by key."""


class QueueMap(Map):
    """Values without keys, in the order in which they came (QUEUE) or in reverse (STACK)."""

    USE = "used with push, pop and peek"
    HINTS: ClassVar = {(Cmd.MAP_UPDATE_ELEM, errno.E2BIG): "it is full: pop first, or push with replace=True"}

    def push(self, value: Any, *, replace: bool = False) -> None:
        """Add a value; if the map is full, in the place of the oldest with `replace`, else KernelError (E2BIG)."""
        flags = UpdateFlags.EXIST if replace else UpdateFlags.ANY
        self._element(Cmd.MAP_UPDATE_ELEM, b"", sys.Buffer(self._shapes()[1].encode(value)), flags)

    def pop(self) -> Any:
        """Take the next value out. Raises IndexError if there is none."""
        return self._next(Cmd.MAP_LOOKUP_AND_DELETE_ELEM)

    def peek(self) -> Any:
        """The next value, which stays. Raises IndexError if there is none."""
        return self._next(Cmd.MAP_LOOKUP_ELEM)

    def drain(self) -> Iterator[Any]:
        """Take values out until there is none."""
        with suppress(IndexError):
            while True:
                yield self.pop()

    def _next(self, cmd: Cmd) -> Any:
        value = sys.Buffer(self._shapes()[1].size)
        if not self._element(cmd, b"", value):
            raise IndexError(f"{self._what} is empty")
        return self._shapes()[1].decode(value.bytes())


class BloomFilter(Map):
    """A set that may say yes to what was never added, but never no to what was: `push` and `in`."""

    USE = "used with push and `in`"

    def push(self, value: Any) -> None:
        """Add a value."""
        self._element(Cmd.MAP_UPDATE_ELEM, b"", sys.Buffer(self._shapes()[1].encode(value)))

    def __contains__(self, value: object) -> bool:
        return self._element(Cmd.MAP_LOOKUP_ELEM, b"", sys.Buffer(self._shapes()[1].encode(value)))


class RingBufMap(Map):
    """A ring buffer; read by kernel.ringbuf.RingBuffer."""

    USE = "read as a ring"


CLASSES: dict[int, type[Map]] = {
    MapType.HASH: HashMap,
    MapType.LRU_HASH: HashMap,
    MapType.ARRAY: ArrayMap,
    MapType.PERCPU_HASH: PerCpuHashMap,
    MapType.LRU_PERCPU_HASH: PerCpuHashMap,
    MapType.PERCPU_ARRAY: PerCpuArrayMap,
    MapType.LPM_TRIE: KeyedMap,
    MapType.STACK_TRACE: StackTraceMap,
    MapType.QUEUE: QueueMap,
    MapType.STACK: QueueMap,
    MapType.BLOOM_FILTER: BloomFilter,
    MapType.ARRAY_OF_MAPS: ArrayOfMaps,
    MapType.HASH_OF_MAPS: HashOfMaps,
    MapType.PROG_ARRAY: ReferenceMap,
    MapType.PERF_EVENT_ARRAY: ReferenceMap,
    MapType.CGROUP_ARRAY: ReferenceMap,
    MapType.SOCKMAP: ReferenceMap,
    MapType.REUSEPORT_SOCKARRAY: ReferenceMap,
    MapType.XSKMAP: ReferenceMap,
    MapType.SOCKHASH: SocketHash,
    MapType.DEVMAP: SlotsMap,
    MapType.DEVMAP_HASH: SlotsMap,
    MapType.CPUMAP: SlotsMap,
    MapType.CGROUP_STORAGE: KeyedMap,
    MapType.PERCPU_CGROUP_STORAGE: PerCpuStorageMap,
    MapType.SK_STORAGE: StorageMap,
    MapType.INODE_STORAGE: StorageMap,
    MapType.TASK_STORAGE: StorageMap,
    MapType.CGRP_STORAGE: StorageMap,
    MapType.STRUCT_OPS: KeyedMap,
    MapType.RINGBUF: RingBufMap,
    MapType.USER_RINGBUF: Map,
    MapType.ARENA: Map,
}


def wrap(spec: MapSpec, fd: int, pinned: str = "") -> Map:
    """The descriptor of a map as an object of its kind, which owns it."""
    return CLASSES.get(spec.type, KeyedMap)(spec, fd, pinned)


def open_id(number: int, like: MapSpec | None = None) -> Map:
    """Open a map by its id. It is typed as `like` is, or by the BTF that the kernel has of it.

    The caller closes it. Raises KernelError (ENOENT if there is none), NotPermitted.
    """
    fd = info.fd_of(number)
    try:
        spec = info.describe(fd)
        if like is not None and (like.key_size, like.value_size) == (spec.key_size, spec.value_size):
            spec.btf, spec.key_type, spec.value_type = like.btf, like.key_type, like.value_type
    except BaseException:
        os.close(fd)
        raise
    return wrap(spec, fd)


def _mapped(fd: int, length: int) -> mmap.mmap:
    try:
        return mapped(fd, length, mmap.PROT_READ | mmap.PROT_WRITE)
    except PermissionError:  # frozen, or made with RDONLY or RDONLY_PROG
        return mapped(fd, length, mmap.PROT_READ)
