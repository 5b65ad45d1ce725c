"""Options that several commands have."""

from __future__ import annotations

import argparse
import math
from mmap import PAGESIZE


def add_ending(parser: argparse.ArgumentParser, what: str) -> None:
    """--duration and --count; `what` is counted."""
    parser.add_argument("--duration", type=_seconds, metavar="SECONDS", help="stop after this time")
    parser.add_argument("-n", "--count", type=_count, metavar="N", help=f"stop after N {what}")


def add_ring(parser: argparse.ArgumentParser) -> None:
    """What tracers have in common beside filters and forms."""
    add = parser.add_argument_group("capacity, and where the programs come from").add_argument
    add(
        "--buffer-size",
        type=_ring_size,
        metavar="SIZE",
        help="of the ring, in bytes, or as 512K or 8M (2M, or room for eight of the longest events)",
    )
    add("--metrics", metavar="ADDRESS:PORT", help="serve counters to Prometheus; needs purebpf[metrics]")
    add("--btf", metavar="FILE", help="the kernel's types, where it does not give them itself")
    add("--object", metavar="FILE", help="use this object instead of the one that comes with purebpf")


def size(text: str) -> int:
    """Bytes: a number, with K or M behind it if need be."""
    units = {"K": 1 << 10, "M": 1 << 20}
    unit = units.get(text[-1:].upper(), 1)
    value = int(text[:-1] if unit > 1 else text) * unit
    if not 0 < value <= 1 << 30:
        raise ValueError
    return value


def _ring_size(text: str) -> int:
    """The kernel takes a power of 2 that is a multiple of the page (ringbuf_map_alloc): the next one up."""
    return max(PAGESIZE, 1 << (size(text) - 1).bit_length())


def add_verifier_log(parser: argparse.ArgumentParser) -> None:
    """--verifier-log, which the command line itself obeys."""
    parser.add_argument("--verifier-log", action="store_true", help="if the verifier rejects, print its whole log")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value


def interval(text: str) -> float:
    """Seconds, a hundredth at least."""
    value = _seconds(text)
    if value < 0.01:
        raise ValueError
    return value


def map_id(text: str) -> int:
    """The number of a map in the kernel: a u32."""
    value = int(text)
    if not 0 < value < 1 << 32:
        raise ValueError
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


# argparse puts these into "invalid … value".
_seconds.__name__ = interval.__name__ = "number of seconds"
_count.__name__, size.__name__, _ring_size.__name__, map_id.__name__ = "count", "size", "size", "map id"
