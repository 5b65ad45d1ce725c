"""Events below their ancestors, as they come.

A line cannot know who follows, so each event is drawn below the branch that leads to it. Of that branch only what the line
before does not stand on is drawn again, dimly and without a time; and all of it after a screenful, so that whoever looks
at the last lines sees where they belong.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Optional

from . import proc
from .event import Row, text
from .shell import quote
from .table import styled

_DIM, _BAD = "2", "31"  # SGR
_KNOWN = 16384  # processes whose parent is remembered
_DEEPEST = 32  # generations that are drawn
_SCREEN = 30  # lines
_CLOCK = slice(11, 23)  # of the time: 01:38:30.123
_NO_CLOCK = " " * 12

# pid -> its parent's pid and its own name, if it still lives
ParentOf = Callable[[int], Optional["tuple[int, str]"]]


def parent_from_proc(pid: int) -> tuple[int, str] | None:
    """None if the process has gone, or cannot be seen."""
    name = proc.read(pid, "comm")
    return (proc.parent(pid), text(name[:-1])) if name else None


class Tree:
    """Remembers who is whose child: from events, and, for those without one, from `parent_of`.

    `pids()` are the processes that there are at first: an ancestor may be gone when its descendant is drawn.
    """

    def __init__(
        self,
        command: Callable[[Row], str],
        parent_of: ParentOf,
        colour: bool,
        pids: Callable[[], Iterable[int]] = proc.pids,
    ) -> None:
        self._command, self._parent_of, self._colour = command, parent_of, colour
        self._known: OrderedDict[int, tuple[int, str]] = OrderedDict()  # the one that was of use last is the last
        for pid in pids():
            self._look_up(pid)
        self._drawn: list[int] = []  # the branch that the last line stands on
        self._since = 0  # lines since the whole branch was drawn

    def draw(self, rows: Sequence[Row]) -> str:
        """Lines for events that were read together: what a later one tells of a parent is known for the first."""
        for row in rows:
            if not self._known_parent(row["pid"]):
                self._meet(row["ppid"], row["parent_comm"])
                self._learn(row["pid"], row["ppid"], row["comm"])
        return "".join(line + "\n" for row in rows for line in self._lines(row))

    def _lines(self, row: Row) -> list[str]:
        """The ancestors that are not above already, and the event."""
        pid, parent = row["pid"], row["ppid"]
        if row["event"] == "exit":  # an orphan has another parent since
            parent = self._known_parent(pid)
        if parent == row["ppid"]:
            self._meet(parent, row["parent_comm"])
        self._learn(pid, parent, row["comm"])
        branch = self._branch(parent)
        lines = []
        for depth in range(self._above(branch), len(branch)):
            ancestor = branch[depth]
            name = f"{quote(self._known[ancestor][1])}({ancestor})"
            lines.append(f"{_NO_CLOCK}  {_stem(depth)}{styled(name, _DIM, self._colour)}")
        what, style = self._what(row)
        clock = styled(row["time"][_CLOCK], _DIM, self._colour)
        lines.append(f"{clock}  {_stem(len(branch))}{styled(f'{pid} {what}', style, self._colour)}")
        self._drawn = [*branch, pid]
        self._since += len(lines)
        return lines

    def _what(self, row: Row) -> tuple[str, str]:
        """What happened, and its style."""
        if row["event"] == "exit":
            return _ending(row), _BAD if row["signal"] or row["exit_code"] else _DIM
        error = row.get("errno")
        return (f"{self._command(row)}  ({error})", _BAD) if error else (self._command(row), "")

    def _above(self, branch: list[int]) -> int:
        """How many of the branch, from the first, can be seen above."""
        if self._since >= _SCREEN:
            self._drawn, self._since = [], 0
        return _common(branch, self._drawn)

    def _branch(self, pid: int) -> list[int]:
        """From the first ancestor that is known to `pid`."""
        branch: list[int] = []
        while pid and pid not in branch and len(branch) < _DEEPEST:
            if pid not in self._known:
                self._look_up(pid)
            if pid not in self._known:
                break
            branch.append(pid)
            self._known.move_to_end(pid)
            pid = self._known[pid][0]
        return branch[::-1]

    def _known_parent(self, pid: int) -> int:
        """0 if it is not known."""
        return self._known.get(pid, (0, ""))[0]

    def _meet(self, pid: int, name: str) -> None:
        """A parent. If it has another name now, it may be another process of the same number."""
        parent, known = self._known.get(pid, (0, None))
        if pid and name != known:
            found = self._parent_of(pid)
            self._learn(pid, found[0] if found else parent, name)

    def _look_up(self, pid: int) -> None:
        found = self._parent_of(pid)
        if found:
            self._learn(pid, *found)

    def _learn(self, pid: int, parent: int, name: str) -> None:
        self._known[pid] = parent, name
        self._known.move_to_end(pid)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many items are the same, from the first."""
    count = 0
    for item, peer in zip(one, other):
        if item != peer:
            break
        count += 1
    return count


def _stem(depth: int) -> str:
    return "   " * (depth - 1) + "└─ " if depth else ""


def _ending(row: Row) -> str:
    how = f"killed by {row['signal']}" if row["signal"] else f"exit {row['exit_code']}"
    core = ", core dumped" if row["core_dumped"] else ""
    return f"{quote(row['comm'])}: {how} after {row['lifetime_ns'] / 1e9:.3f} s{core}"
