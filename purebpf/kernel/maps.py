"""Maps in the kernel. A kind of map is a class here and a row in CLASSES."""

from __future__ import annotations

import dataclasses
import errno
import mmap

from ..errors import KernelError, NotSupported, ObjectError
from ..formats import abi
from ..formats.abi import Cmd, MapType
from ..formats.spec import MapSpec
from . import probe, sys
from .fd import FileDescriptor

_U32 = (1 << 32) - 1


class Map:
    """A map of a loaded object. `spec` says what the kernel has. Made by `create`, closed with its object."""

    def __init__(self, spec: MapSpec, fd: int) -> None:
        self.spec = spec
        self._fd = FileDescriptor(fd, f"map {spec.name!r}")

    def fileno(self) -> int:
        """Its descriptor, owned by the map. Raises ClosedError after close."""
        return self._fd.fileno()

    def close(self) -> None:
        """Give up this reference; the kernel keeps the map while programs use it. Twice is harmless."""
        self._fd.close()

    def lookup(self, key: bytes) -> bytes | None:
        """The value under `key` (exactly key_size bytes) as value_size bytes; None where there is none."""
        return self._lookup(key, self.spec.value_size)

    def _lookup(self, key: bytes, size: int) -> bytes | None:
        if len(key) != self.spec.key_size:
            raise ValueError(f"map {self.spec.name!r}: a key has {self.spec.key_size} bytes, not {len(key)}")
        key_memory, value = sys.Buffer(key), sys.Buffer(size)
        try:
            sys.bpf(Cmd.MAP_LOOKUP_ELEM, abi.map_element(self.fileno(), key_memory.address, value.address))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise sys.refusal(f"looking up a key in map {self.spec.name!r}", error) from error
        return value.bytes()


class PerCpuMap(Map):
    """A map with a value for each possible CPU."""

    def lookup(self, key: bytes) -> bytes | None:
        """The values of all possible CPUs, each rounded up to 8 bytes, one behind the other; None where none is."""
        return self._lookup(key, ((self.spec.value_size + 7) & ~7) * possible_cpus())


class RingBufMap(Map):
    """A ring buffer; read by kernel.ringbuf.RingBuffer."""


CLASSES: dict[int, type[Map]] = {
    MapType.PERCPU_HASH: PerCpuMap,
    MapType.PERCPU_ARRAY: PerCpuMap,
    MapType.LRU_PERCPU_HASH: PerCpuMap,
    MapType.RINGBUF: RingBufMap,
}


def possible_cpus() -> int:
    """How many values a per-CPU map has (/sys/devices/system/cpu/possible, e.g. "0-3")."""
    with open("/sys/devices/system/cpu/possible") as listing:
        return int(listing.read().strip().replace("-", ",").split(",")[-1]) + 1


def create(spec: MapSpec) -> Map:
    """Make the map. Raises ObjectError for sizes out of range, KernelError where the kernel refuses.

    A ring's size is rounded up to a power of two of pages, and `__type(value, …)` on a ring, which the
    kernel does not take, is left to the decoder of its records.
    """
    if spec.type == MapType.RINGBUF:
        spec = dataclasses.replace(spec, value_size=0, max_entries=_ring_size(spec.max_entries))
    numbers = (spec.type, spec.key_size, spec.value_size, spec.max_entries, spec.flags)
    if not all(0 <= number <= _U32 for number in numbers):
        raise ObjectError(f"map {spec.name!r}: a size is out of range (32 bits): {spec}")
    try:
        fd = sys.bpf(Cmd.MAP_CREATE, abi.map_create(*numbers, spec.name))
    except OSError as error:
        raise _not_created(spec, error) from error
    return CLASSES.get(spec.type, Map)(spec, fd)


def _ring_size(wanted: int) -> int:
    return max(mmap.PAGESIZE, 1 << (wanted - 1).bit_length())


def _not_created(spec: MapSpec, error: OSError) -> KernelError:
    kind = spec.type.name if isinstance(spec.type, MapType) else f"type {spec.type}"
    if error.errno == errno.EINVAL and isinstance(spec.type, MapType) and not probe.has_map_type(spec.type):
        since = f" (Linux {probe.SINCE[spec.type]} has them)" if spec.type in probe.SINCE else ""
        return NotSupported(
            f"creating map {spec.name!r}: this kernel has no maps of type {kind}{since}",
            errno=error.errno,
            hint="run on a newer kernel",
        )
    sizes = f"key {spec.key_size}, value {spec.value_size}, {spec.max_entries} entries, flags {spec.flags:#x}"
    return sys.refusal(f"creating map {spec.name!r} ({kind}, {sizes})", error)
