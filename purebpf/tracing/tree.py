"""Events below their ancestors, as they come.

A line cannot know who follows, so each event is drawn below the branch that leads to it. Of that branch only what the line
before does not stand on is drawn again, dimly.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Optional

from . import proc
from .event import Row, text
from .shell import quote
from .table import styled

_DIM, _FAILED = "2", "31"
_KNOWN = 65536  # processes whose parent is remembered
_DEEPEST = 64  # generations that are drawn

# pid -> its parent's pid and its own name, if it still lives
ParentOf = Callable[[int], Optional["tuple[int, str]"]]


def parent_from_proc(pid: int) -> tuple[int, str] | None:
    """None if the process has gone, or cannot be seen."""
    name = proc.read(pid, "comm")
    return (proc.parent(pid), text(name[:-1])) if name else None


class Tree:
    """Remembers who is whose child: from events, and, for those without one, from `parent_of`."""

    def __init__(self, command: Callable[[Row], str], parent_of: ParentOf, colour: bool) -> None:
        self._command, self._parent_of, self._colour = command, parent_of, colour
        self._known: OrderedDict[int, tuple[int, str]] = OrderedDict()
        for pid in proc.pids():  # an ancestor may be gone when its descendant is drawn
            self._remember(pid, "")
        self._drawn: list[int] = []  # the branch that the last line stands on

    def draw(self, rows: Sequence[Row]) -> str:
        """Events that were read together: what a later one tells of a parent is known for the first."""
        for row in rows:
            self._learn(row["pid"], row["ppid"], row["comm"])
        return "".join(line + "\n" for row in rows for line in self._lines(row))

    def _lines(self, row: Row) -> list[str]:
        """The ancestors that are not above already, and the event."""
        pid = row["pid"]
        self._remember(row["ppid"], row["parent_comm"])
        self._learn(pid, row["ppid"], row["comm"])
        branch = self._ancestors(row["ppid"])
        common = _common(branch, self._drawn)
        lines = [
            self._line(depth, f"{branch[depth]} {quote(self._known[branch[depth]][1])}", _DIM)
            for depth in range(common, len(branch))
        ]
        style = _FAILED if row.get("retval") else ""
        lines.append(self._line(len(branch), f"{pid} {self._what(row)}", style))
        self._drawn = [*branch, pid]
        return lines

    def _what(self, row: Row) -> str:
        if row["event"] == "exit":
            ending = row["signal"] or f"exit {row['exit_code']}"
            return f"{quote(row['comm'])} ended: {ending}, {row['lifetime_ns'] / 1e9:.3f} s"
        return self._command(row) + (f"  ({row['errno']})" if row.get("errno") else "")

    def _line(self, depth: int, what: str, style: str) -> str:
        return "   " * (depth - 1) + ("└─ " if depth else "") + styled(what, style, self._colour)

    def _ancestors(self, pid: int) -> list[int]:
        """From the first to `pid`, as far as they are known."""
        branch: list[int] = []
        while pid and pid in self._known and pid not in branch and len(branch) < _DEEPEST:
            branch.append(pid)
            pid = self._known[pid][0]
            self._remember(pid, "")
        return branch[::-1]

    def _remember(self, pid: int, name: str) -> None:
        """A process that has had no event: only /proc knows its parent."""
        if pid and pid not in self._known:
            found = self._parent_of(pid)
            if found or name:
                self._learn(pid, *(found or (0, name)))

    def _learn(self, pid: int, parent: int, name: str) -> None:
        self._known[pid] = parent, name
        self._known.move_to_end(pid)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)


def _common(branch: list[int], drawn: list[int]) -> int:
    """How many of the branch are the same, from the first."""
    count = 0
    for one, other in zip(branch, drawn):
        if one != other:
            break
        count += 1
    return count
