"""tracefs: where tracepoints have their numbers (Documentation/trace/events.rst).

Looked for in this process's own mounts. Where it is mounted nowhere, an instance of our own that appears
in no folder is used for the moment of the look-up, if the process may make one (CAP_SYS_ADMIN).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from ..errors import KernelError, NotSupported, ObjectError, TracefsUnavailable
from . import capabilities, mounts, sys

_MOUNT = "mount -t tracefs tracefs /sys/kernel/tracing"
_TARGET = re.compile(r"[\w.-]+/[\w.-]+")


def tracepoint_id(target: str) -> int:
    """The number of tracepoint "category/name", for perf_event_attr.config.

    Raises ObjectError for a malformed name, NotSupported where the kernel has no such tracepoint,
    TracefsUnavailable where that cannot be found out.
    """
    if not _TARGET.fullmatch(target):
        raise ObjectError(f"{target!r} is no tracepoint; one is written category/name, e.g. sched/sched_process_exec")
    with root() as (folder, path):
        try:
            events = os.open("events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
            os.close(events)
            number = os.open(f"events/{target}/id", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError as error:
            raise NotSupported(
                f"this kernel has no tracepoint {target}", errno=error.errno, hint=_similar(target, folder, path)
            ) from error
        except OSError as error:
            raise _unreadable(path, error) from error
        with open(number) as file:
            return int(file.read())


def similar(name: str) -> str:
    """Tracepoints, without their categories, that are called nearly so; "" where there are none, or no tracefs."""
    try:
        with root() as (folder, _path):
            names = {event.partition("/")[2] for event in _events(folder)}
    except OSError:  # TracefsUnavailable is one
        return ""
    close = get_close_matches(name, names, 3)
    return f"close to it: {', '.join(close)}" if close else ""


def _similar(target: str, folder: int, path: str) -> str:
    try:
        events = _events(folder)
    except OSError:
        events = []
    name = target.partition("/")[2]
    close = [event for event in events if event.endswith("/" + name)] or get_close_matches(target, events, 3)
    return f"close to it: {', '.join(close)}" if close else f"those that it has are the folders of {path}/events"


def _events(root: int) -> list[str]:
    """All tracepoints, as category/name."""
    top = f"/proc/self/fd/{root}/events"
    folders = [entry.name for entry in os.scandir(top) if entry.is_dir()]
    return [f"{folder}/{entry.name}" for folder in folders for entry in os.scandir(f"{top}/{folder}") if entry.is_dir()]


@contextmanager
def root() -> Iterator[tuple[int, str]]:
    """A descriptor of tracefs's root, and its path for messages."""
    path = mounted()
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if path else sys.mount_tracefs()
    except OSError as error:
        raise _unreadable(path, error) if path else _not_mounted(error) from error
    try:
        yield folder, path or "/sys/kernel/tracing"
    finally:
        os.close(folder)


def mounted() -> str | None:
    """The first tracefs mount of this process. Raises KernelError without /proc."""
    return next((mount.path for mount in mounts.mounted() if mount.kind == "tracefs"), None)


def _unreadable(path: str, error: OSError) -> TracefsUnavailable:
    remedy = "it is readable by root only unless remounted: run as root, or grant CAP_DAC_READ_SEARCH"
    if error.errno == errno.EPERM and capabilities.locked_down() == "confidentiality":
        remedy = capabilities.lockdown()
    return TracefsUnavailable(
        f"cannot read tracefs at {path}: {sys.errno_name(error.errno or 0)}", errno=error.errno, hint=remedy
    )


def _not_mounted(error: OSError) -> KernelError:
    if error.errno == errno.ENODEV:
        return NotSupported(
            "this kernel has no tracefs, so no tracepoints",
            errno=error.errno,
            hint="use a kernel built with CONFIG_TRACING and CONFIG_BPF_EVENTS",
        )
    return TracefsUnavailable(
        f"tracefs is not mounted, so tracepoints cannot be looked up (mounting it here: {sys.errno_name(error.errno or 0)})",
        errno=error.errno,
        hint=f"as root: {_MOUNT}",
    )
