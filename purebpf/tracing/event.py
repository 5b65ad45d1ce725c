"""A traced event as plain values: what each output format, filter and schema takes."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

from .containers import container_of

# Flat, in the order of output. Text is str, decoded with surrogateescape: every byte survives.
Row = dict[str, Any]

# struct head of bpf/tracer.h.
HEAD = "3Q10I16s16s"
HEAD_SIZE = struct.calcsize("=" + HEAD)
NONE = 0xFFFFFFFF  # of a login uid: nobody logged in (include/linux/uidgid.h, INVALID_UID)


def text(data: bytes) -> str:
    """Any bytes; `encode("utf-8", "surrogateescape")` gives them back."""
    return data.decode("utf-8", "surrogateescape")


@lru_cache(4096)
def comm(field: bytes) -> str:
    """A task's name, without the padding."""
    return text(field.partition(b"\0")[0])


@lru_cache(1024)
def cgroup(names: bytes) -> tuple[str, str | None]:
    """The path of a cgroup, from its names, innermost first, each with its NUL; and the container that it belongs to."""
    path = "/" + "/".join(reversed(text(names).split("\0")[:-1]))
    return path, container_of(path)
