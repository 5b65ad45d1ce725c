"""A traced event as plain values: what each output format, filter and schema takes."""

from __future__ import annotations

from errno import errorcode
from functools import lru_cache
from typing import Any

from .clock import Clock
from .containers import container_of

# Flat, in the order of output. Text is str, decoded with surrogateescape: every byte survives.
Row = dict[str, Any]

# struct head of bpf/tracer.h.
HEAD = "3Q10I16s16s"
HEAD_FIELDS = (
    *("event", "time", "monotonic_ns", "start_ns", "pid", "tid", "ppid", "parent_comm"),
    *("uid", "gid", "loginuid", "comm"),
)
PLACE_FIELDS = ("cgroup_id", "cgroup", "container_id", "pid_ns", "ns_pid")
KIND = slice(24, 28)  # where struct head has it
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
    path = path_of(text(names).split("\0")[:-1])
    return path, container_of(path)


def path_of(names: list[str]) -> str:
    """From names, the innermost first. An empty one at last stands for more, which were not captured."""
    return ("…" if names and not names[-1] else "") + "/" + "/".join(reversed(names)).lstrip("/")


def errno_name(number: int) -> str:
    """ "ENOENT" of 2; the number itself where it has no name, as those that the kernel keeps for itself."""
    return errorcode.get(number, str(number))


def begin(event: str, head: tuple[Any, ...], clock: Clock) -> Row:
    """HEAD_FIELDS of an event, from what HEAD unpacks to; more may follow it in the tuple."""
    loginuid = head[9]
    return {
        "event": event,
        "time": clock.iso(head[0]),
        "monotonic_ns": head[0],
        "start_ns": head[1],
        "pid": head[4],
        "tid": head[5],
        "ppid": head[6],
        "parent_comm": comm(head[14]),
        "uid": head[7],
        "gid": head[8],
        "loginuid": None if loginuid == NONE else loginuid,
        "comm": comm(head[13]),
    }


def place(row: Row, head: tuple[Any, ...], names: bytes) -> None:
    """Add PLACE_FIELDS; `names` are those of the cgroup, `cgroup_size(head)` bytes."""
    row["cgroup_id"] = head[2]
    row["cgroup"], row["container_id"] = cgroup(names)
    row["pid_ns"], row["ns_pid"] = head[10], head[11]


def cgroup_size(head: tuple[Any, ...]) -> int:
    """Bytes of the names of the cgroup."""
    size: int = head[12]
    return size
