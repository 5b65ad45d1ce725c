"""From a spec to a map: made anew, or taken over from a pin.

The kernel is strict where declarations are loose; what is put right is what libbpf puts right (src/libbpf.c,
map_set_def_max_entries, adjust_ringbuf_sz, bpf_object__create_map), so that the same object gives the same maps.
"""

from __future__ import annotations

import dataclasses
import errno
import mmap
import os
from collections.abc import Callable
from contextlib import ExitStack

from ...errors import KernelError, NotSupported, ObjectError
from ...formats import attr
from ...formats.abi import Cmd, MapFlags, MapType
from ...formats.spec import MapSpec
from .. import bpffs, memlock, probe, sys
from . import info
from .cpus import cpu_slots, possible_cpus
from .kinds import StorageMap, wrap, CLASSES
from .map import NOT_THERE, Map

_U32 = (1 << 32) - 1
# Types whose elements the kernel does not describe with BTF: it would refuse (map_check_no_btf).
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
        MapType.REUSEPORT_SOCKARRAY,
        MapType.QUEUE,
        MapType.STACK,
        MapType.BLOOM_FILTER,
        MapType.RINGBUF,
        MapType.USER_RINGBUF,
        MapType.ARENA,
    }
)
