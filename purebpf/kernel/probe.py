"""What this kernel has, found out by trying. Versions are never compared."""

from __future__ import annotations

import errno
import functools
import mmap
import os

from ..formats import abi
from ..formats.abi import Cmd, MapType
from . import sys

# Map type -> the smallest attributes that the kernel takes for it: key, value, entries.
_SMALLEST = {MapType.RINGBUF: (0, 0, mmap.PAGESIZE)}
SINCE = {MapType.RINGBUF: "5.8"}


@functools.cache
def has_map_type(map_type: MapType) -> bool:
    """Can a map of this type be made? Any refusal but EINVAL leaves it open, and counts as yes."""
    key, value, entries = _SMALLEST.get(map_type, (4, 8, 1))
    try:
        os.close(sys.bpf(Cmd.MAP_CREATE, abi.map_create(map_type, key, value, entries, 0, "probe")))
    except OSError as error:
        return error.errno != errno.EINVAL
    return True
