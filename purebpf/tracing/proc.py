"""What /proc tells of a process: only while it lives, so a tracer asks it for what it cannot have from the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator


def read(pid: int, file: str) -> bytes:
    """A file of the process's, empty if the process, or the file, has gone."""
    try:
        with open(f"/proc/{pid}/{file}", "rb") as opened:
            return opened.read()
    except OSError:
        return b""


def parent(pid: int) -> int:
    """0 if the process has gone. The name in stat may have blanks and parentheses (proc(5)), so the last one counts."""
    fields = read(pid, "stat").rpartition(b") ")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def lives(pid: int) -> bool:
    """Is there such a process now? /proc may hide it."""
    if pid == 0:  # which kill(2) takes for one's own process group
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def shows(pid: int) -> bool:
    """Does /proc tell of it? With hidepid=1 it has a folder, of which nothing can be read."""
    return bool(read(pid, "stat"))


def pids() -> list[int]:
    """All processes that there are now."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants(roots: Iterable[int]) -> Iterator[int]:
    """The processes given, then their children, theirs, and so on."""
    children: dict[int, list[int]] = {}
    for pid in pids():
        children.setdefault(parent(pid), []).append(pid)
    waiting, seen = list(roots), set[int]()
    while waiting:
        pid = waiting.pop()
        if pid not in seen:
            seen.add(pid)
            yield pid
            waiting += children.get(pid, [])
