"""The CPUs that maps and perf events count (Documentation/core-api/cpu_hotplug.rst).

A per-CPU value has one part for each *possible* CPU (kernel/bpf/syscall.c, bpf_map_value_size: num_possible_cpus).
Their numbers may have gaps, so the highest can be larger than their number.
"""

from __future__ import annotations

import functools

from . import mounts

_FOLDER = "/sys/devices/system/cpu"


def parse(text: str) -> list[int]:
    """The numbers in a list such as "0-3,8" (Documentation/admin-guide/cputopology.rst)."""
    ranges = [part.split("-") for part in text.strip().split(",") if part]
    return [cpu for ends in ranges for cpu in range(int(ends[0]), int(ends[-1]) + 1)]


@functools.cache
def _possible() -> list[int]:
    return parse(mounts.text(f"{_FOLDER}/possible"))


def possible_cpus() -> int:
    """How many values a per-CPU map has under each key."""
    return len(_possible())


def online_cpus() -> list[int]:
    """Those that run now: only on them can perf events be opened."""
    return parse(mounts.text(f"{_FOLDER}/online"))


def cpu_slots() -> int:
    """How many slots an array needs that is indexed with a CPU's number."""
    return _possible()[-1] + 1
