"""Perf events for kprobes and uprobes: made by the kprobe or uprobe PMU (4.17), or by a line in tracefs before.

The PMU's number and the bit that asks for the return are in sysfs (Documentation/ABI/testing/
sysfs-bus-event_source-devices-format). An event in tracefs outlives the process that made it, so it is named
after the process, removed when the link is closed, and those of processes that have died are swept up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from ...errors import NotSupported
from ...formats import attr
from .. import sys, tracefs
from .link import Link, Request
from .perf import attach, open_event

NUMBER = "0x[0-9a-fA-F]{1,15}|0|[1-9][0-9]{0,16}"  # an offset as targets write it; it and a file's size fit 64 bits
_SYSFS = "/sys/bus/event_source/devices"


class Place(NamedTuple):
    """Where a probe goes: `pmu` is "kprobe" or "uprobe", `subject` a function or a file, `offset` bytes into it."""

    pmu: str
    subject: str
    offset: int
    returns: bool


def attach_to(request: Request, place: Place) -> Link:
    """Probe it. OSErrors of the probe itself are left to the caller, who knows what is probed.

    Raises NotSupported on kernels without such probes, NotPermitted, KernelError.
    """
    pmu = _pmu(place)
    if pmu is None:
        return _in_tracefs(request, place)
    kind, return_bit = pmu
    subject = sys.Buffer(os.fsencode(place.subject) + b"\0")
    event = attr.perf_event(kind, return_bit if place.returns else 0, config1=subject.address, config2=place.offset)
    return Link(
        request.program, *attach(request, open_event(request, event, request.pid, 0 if request.pid < 0 else -1))
    )


def _pmu(place: Place) -> tuple[int, int] | None:
    """(number, bit for return probes), None where the kernel has no such PMU."""
    folder = f"{_SYSFS}/{place.pmu}"
    try:
        with open(f"{folder}/type") as number, open(f"{folder}/format/retprobe") as layout:
            bit = re.fullmatch(r"config:(\d+)", layout.read().strip())
            return int(number.read()), 1 << int(bit[1]) if bit else 1
    except FileNotFoundError:
        return None


def _in_tracefs(request: Request, place: Place) -> Link:
    name = f"purebpf_{os.getpid()}/p{os.urandom(8).hex()}"  # this number may be another process's in another container
    with tracefs.root() as (root, _path), _written(place) as where:
        if not os.access(f"/proc/self/fd/{root}/{place.pmu}_events", os.F_OK):
            raise NotSupported(
                f"{request.doing}: this kernel has no {place.pmu}s",
                hint=f"it was built without CONFIG_{place.pmu.upper()}_EVENTS; use tracepoints (tp, raw_tp, tp_btf)",
            )
        _sweep(root, place.pmu)
        _write(root, place.pmu, f"{'r' if place.returns else 'p'}:{name} {where}")
        try:
            with open(os.open(f"events/{name}/id", os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)) as file:
                event = attr.perf_event(attr.PERF_TYPE_TRACEPOINT, int(file.read()), sample=1)
            opened = open_event(request, event, request.pid, 0 if request.pid < 0 else -1)
            return Link(request.program, *attach(request, opened), undo=_remover(place.pmu, name))
        except BaseException:
            _write(root, place.pmu, f"-:{name}")
            raise


@contextmanager
def _written(place: Place) -> Iterator[str]:
    """The place as tracefs reads it. A file is given by descriptor, as spaces and # in its name would end it there."""
    if place.pmu == "kprobe":
        yield f"{place.subject}+{place.offset:#x}"
        return
    file = os.open(place.subject, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{file}:{place.offset:#x}"
    finally:
        os.close(file)


def _write(root: int, pmu: str, line: str) -> None:
    fd = os.open(f"{pmu}_events", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, dir_fd=root)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


def _remover(pmu: str, name: str) -> Callable[[], None]:
    def remove() -> None:
        # A pinned link still holds it (EBUSY): it is then swept up when this process is gone, and so is the pin.
        with suppress(OSError), tracefs.root() as (root, _path):
            _write(root, pmu, f"-:{name}")

    return remove


def _sweep(root: int, pmu: str) -> None:
    """Remove what processes that no longer exist have left."""
    events = os.open("events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
    try:
        for folder in os.listdir(events):
            owner = re.fullmatch(r"purebpf_(\d+)", folder)
            if owner and not os.path.exists(f"/proc/{owner[1]}"):
                for event in os.listdir(f"/proc/self/fd/{events}/{folder}"):
                    with suppress(OSError):  # of the other kind, or another process was faster
                        _write(root, pmu, f"-:{folder}/{event}")
    finally:
        os.close(events)
