"""The tree: each event stands below its ancestors, whatever is known of them."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purebpf.tracing.shell import command
from purebpf.tracing.tree import Tree, parent_from_proc

LIVING = {1: (0, "systemd"), 50: (1, "sshd"), 60: (50, "bash"), 70: (1, "cron")}


def tree(living: dict[int, tuple[int, str]] = LIVING, colour: bool = False) -> Tree:
    return Tree(command, living.get, colour, lambda: list(living))


def execed(pid: int, ppid: int, parent: str, name: str = "ls", **more: Any) -> dict[str, Any]:
    row = {"event": "exec", "time": "2026-11-24T01:38:30.123456+01:00", "pid": pid, "ppid": ppid, "parent_comm": parent}
    row.update({"comm": name, "filename": f"/bin/{name}", "argv": [name], "errno": None, **more})
    return row


def ended(pid: int, ppid: int, parent: str, name: str = "ls", **more: Any) -> dict[str, Any]:
    how = {"event": "exit", "exit_code": 0, "signal": None, "core_dumped": False, "lifetime_ns": 1_234_567_890}
    return {**execed(pid, ppid, parent, name), **how, **more}


def drawn(view: Tree, *rows: dict[str, Any]) -> str:
    """Each row read on its own."""
    return "\n" + "".join(view.draw([row]) for row in rows)


def test_events_stand_below_their_ancestors_which_are_drawn_once() -> None:
    events = [
        execed(80, 60, "bash"),
        execed(81, 60, "bash", "make"),
        execed(82, 81, "make", "cc"),
        execed(83, 60, "bash"),
    ]
    assert (
        drawn(tree(), *events)
        == """
              systemd(1)
              └─ sshd(50)
                 └─ bash(60)
01:38:30.123        └─ 80 /bin/ls
01:38:30.123        └─ 81 /bin/make
01:38:30.123           └─ 82 /bin/cc
01:38:30.123        └─ 83 /bin/ls
"""
    )


def test_of_another_branch_only_what_differs_is_drawn() -> None:
    events = [execed(80, 60, "bash"), execed(90, 70, "cron"), execed(81, 60, "bash")]
    assert (
        drawn(tree(), *events)
        == """
              systemd(1)
              └─ sshd(50)
                 └─ bash(60)
01:38:30.123        └─ 80 /bin/ls
              └─ cron(70)
01:38:30.123     └─ 90 /bin/ls
              └─ sshd(50)
                 └─ bash(60)
01:38:30.123        └─ 81 /bin/ls
"""
    )


def test_the_branch_is_drawn_again_after_a_screenful() -> None:
    lines = drawn(tree(), *(execed(pid, 60, "bash") for pid in range(100, 160))).splitlines()
    above = [number for number, line in enumerate(lines) if "bash(60)" in line]
    assert above[0] == 3
    assert all(20 < later - earlier < 40 for earlier, later in zip(above, above[1:]))
    assert len(lines) - above[-1] < 40


def test_a_second_exec_of_a_process_stands_where_the_first_one_does() -> None:
    assert (
        drawn(tree({}), execed(80, 60, "bash", "env"), execed(80, 60, "bash", "python"))
        == """
              bash(60)
01:38:30.123  └─ 80 /bin/env
01:38:30.123  └─ 80 /bin/python
"""
    )


def test_an_ancestor_that_has_gone_is_known_from_the_start() -> None:
    living = dict(LIVING)
    view = tree(living)
    living.clear()
    assert "└─ sshd(50)\n" in drawn(view, execed(80, 60, "bash"))


def test_an_ancestor_that_came_later_is_asked_for() -> None:
    living = dict(LIVING)
    view = tree(living)
    living[61] = (60, "make")
    assert drawn(view, execed(80, 61, "make")).endswith("""
                 └─ bash(60)
                    └─ make(61)
01:38:30.123           └─ 80 /bin/ls
""")


def test_a_parent_of_which_nothing_else_is_known_has_its_name() -> None:
    assert (
        drawn(tree({}), execed(80, 60, "my shell"))
        == """
              'my shell'(60)
01:38:30.123  └─ 80 /bin/ls
"""
    )


def test_an_event_without_a_parent_stands_alone() -> None:
    assert drawn(tree(), execed(80, 0, "")) == "\n01:38:30.123  80 /bin/ls\n"


def test_the_parent_has_the_name_that_it_had() -> None:
    view = tree()
    lines = view.draw(
        [
            execed(80, 60, "bash", "sh"),
            execed(81, 80, "sh", "ls"),
            execed(80, 60, "bash", "cat"),
            execed(90, 70, "cron"),
        ]
    )
    assert "sh(80)" not in lines  # it is above: 80 /bin/sh
    assert "sh(80)" in view.draw([execed(82, 80, "sh", "ls")])
    assert "cat(80)" in view.draw([execed(90, 70, "cron"), execed(83, 80, "cat")])


def test_what_a_later_event_of_a_batch_tells_of_a_parent_is_used() -> None:
    events = [execed(82, 81, "sh"), ended(81, 60, "bash", "sh")]
    assert drawn(tree({}), *events).startswith("\n              sh(81)\n")
    assert (
        "\n" + tree({}).draw(events)
        == """
              bash(60)
              └─ sh(81)
01:38:30.123     └─ 82 /bin/ls
01:38:30.123  └─ 81 sh: exit 0 after 1.235 s
"""
    )


def test_another_process_with_the_number_of_a_former_one_has_its_own_ancestors() -> None:
    living = dict(LIVING)
    view = tree(living)
    living[60] = (70, "run-parts")
    assert (
        drawn(view, execed(80, 60, "run-parts"))
        == """
              systemd(1)
              └─ cron(70)
                 └─ run-parts(60)
01:38:30.123        └─ 80 /bin/ls
"""
    )


def test_the_end_of_an_orphan_stands_where_its_beginning_does() -> None:
    assert (
        drawn(tree(), execed(80, 60, "bash"), ended(80, 1, "systemd", signal="SIGSEGV", core_dumped=True))
        == """
              systemd(1)
              └─ sshd(50)
                 └─ bash(60)
01:38:30.123        └─ 80 /bin/ls
01:38:30.123        └─ 80 ls: killed by SIGSEGV after 1.235 s, core dumped
"""
    )


def test_failures_are_said_and_red_and_ancestors_and_times_dim() -> None:
    view = tree({}, colour=True)
    dim_time = "\x1b[2m01:38:30.123\x1b[0m"
    assert view.draw([execed(80, 60, "sh", errno="ENOENT", retval=-2)]) == (
        f"              \x1b[2msh(60)\x1b[0m\n{dim_time}  └─ \x1b[31m80 /bin/ls  (ENOENT)\x1b[0m\n"
    )
    assert view.draw([execed(81, 60, "sh", retval=3)]) == f"{dim_time}  └─ 81 /bin/ls\n"  # a descriptor, say
    assert view.draw([ended(81, 60, "sh")]) == f"{dim_time}  └─ \x1b[2m81 ls: exit 0 after 1.235 s\x1b[0m\n"
    assert (
        view.draw([ended(80, 60, "sh", exit_code=2)]) == f"{dim_time}  └─ \x1b[31m80 ls: exit 2 after 1.235 s\x1b[0m\n"
    )


def test_names_never_control_the_terminal() -> None:
    shown = tree({5: (0, "a\x1b[2J")}).draw([execed(6, 5, "b\nc\u202e"), ended(6, 5, "b", "\x9b\udcff")])
    assert all(line.isprintable() for line in shown.splitlines())
    assert shown.count("\n") == 3


def test_processes_that_are_each_others_parents_do_not_hang_it() -> None:
    circle = {1: (3, "a"), 2: (1, "b"), 3: (2, "c"), 4: (4, "d")}
    assert tree(circle).draw([execed(9, 2, "b")]).count("\n") == 4
    assert tree(circle).draw([execed(9, 4, "d")]).count("\n") == 2


def test_a_long_chain_is_drawn_from_its_near_end() -> None:
    chain = {pid: (pid - 1, f"p{pid}") for pid in range(1, 1000)}
    lines = tree(chain).draw([execed(1000, 999, "p999")]).splitlines()
    assert "p999(999)" in lines[-2]
    assert len(lines) < 50


def test_memory_is_bounded_and_what_was_forgotten_is_asked_for_again() -> None:
    asked = []

    def parent_of(pid: int) -> tuple[int, str] | None:
        asked.append(pid)
        return LIVING.get(pid)

    view = Tree(command, parent_of, False, lambda: list(LIVING))
    asked.clear()
    for pid in range(1000, 21000):
        view.draw([execed(pid, 60, "bash")])
    assert asked == []  # what is of use is not forgotten
    for pid in range(1000, 21000):
        view.draw([execed(pid, 0, "")])
    view.draw([execed(80, 60, "bash")])
    assert sorted(set(asked)) == [1, 50, 60]
    assert len(view._known) < 20000


pids = st.integers(0, 8)
names = st.sampled_from(["sh", "ls", "a b", ""])
events = st.one_of(
    st.builds(execed, pid=st.integers(1, 8), ppid=pids, parent=names, name=names),
    st.builds(ended, pid=st.integers(1, 8), ppid=pids, parent=names, name=names),
)


@given(st.lists(st.lists(events, max_size=5), max_size=20), st.dictionaries(st.integers(1, 8), st.tuples(pids, names)))
def test_each_event_is_drawn_below_its_parent(
    batches: list[list[dict[str, Any]]], living: dict[int, tuple[int, str]]
) -> None:
    view = tree(living)
    shown = "".join(map(view.draw, batches)).splitlines()
    rows = list(itertools.chain.from_iterable(batches))
    above: list[int] = []  # the process at each depth, by the lines so far
    remaining = iter(rows)
    for line in shown:
        indent, pid, other = re.fullmatch(r"(?:.{12})  ((?:   )*(?:└─ )?)(?:(\d+) .*|.*\((\d+)\))", line).groups()
        depth = len(indent) // 3
        assert depth <= len(above)
        above[depth:] = [int(pid or other)]
        if pid:
            row = next(remaining)
            assert int(pid) == row["pid"]
            if row["event"] == "exec" and row["ppid"]:
                assert above[depth - 1] == row["ppid"]
    assert next(remaining, None) is None


def test_proc_tells_the_parent_and_the_name() -> None:
    assert parent_from_proc(os.getpid())[0] == os.getppid()
    assert parent_from_proc(1)[0] == 0
    assert parent_from_proc(2**22 + 1) is None


@pytest.mark.parametrize("name", [") S 1 (", "a b) R 7", "))", "\n", "é"])
def test_a_name_with_parentheses_does_not_mislead(name: str) -> None:
    script = f"open('/proc/self/comm', 'w').write({name!r}); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert parent_from_proc(child.pid) == (os.getpid(), name)
        child.communicate(b"\n")
