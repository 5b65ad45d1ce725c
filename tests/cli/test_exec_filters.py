"""Only what was asked for is shown, and all of it: what runs in the kernel and what runs afterwards.

The line of names says that everything is attached; what happened before the end is written before it.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from exec_tracing import tracer

from purebpf.tracing.containers import hierarchy

pytestmark = pytest.mark.kernel
CONTAINER = "fedcba9876543210" * 4
NAME = f"mine{os.getpid()}"  # filters by name see the whole machine, on which these tests may run twice


class Seen:
    """What a trace saw of the program `path`: filled at its end."""

    def __init__(self, path: str) -> None:
        self.path, self.words, self.rows = path, list[str](), list[dict[str, str]]()

    def fill(self, text: str) -> None:
        self.rows = list(csv.DictReader(text.splitlines()))
        self.words = [json.loads(row["argv"])[-1] for row in self.rows if row["filename"] == self.path]


@pytest.fixture
def mine() -> Iterator[str]:
    """A program with a name that nobody else executes, and that any user may."""
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        os.symlink("/bin/true", f"{folder}/{NAME}")
        yield f"{folder}/{NAME}"


@contextmanager
def watching(mine: str, *options: str) -> Iterator[Seen]:
    seen, folder = Seen(mine), Path(mine).parent / "trace"
    folder.mkdir()
    with tracer(folder, "--csv", *options) as made:
        yield seen
        seen.fill(made.end())
        assert made.errors == ""


@contextmanager
def waiting_shell(script: str) -> Iterator[subprocess.Popen[bytes]]:
    """A shell that goes on when its standard input is closed."""
    with subprocess.Popen(["/bin/sh", "-c", f"read x; {script}"], stdin=subprocess.PIPE) as process:
        yield process


def go(process: subprocess.Popen[bytes]) -> None:
    process.communicate()


def as_user(uid: int) -> Callable[[], object]:
    return lambda: os.setuid(uid)


def test_of_a_process(mine: str) -> None:
    with ExitStack() as stack:
        one, other, two = (stack.enter_context(waiting_shell(f"exec {mine} {n}")) for n in ("one", "other", "two"))
        seen = stack.enter_context(watching(mine, "--pid", str(one.pid), "--pid", str(two.pid)))
        for process in (one, other, two):
            go(process)
    assert seen.words == ["one", "two"]
    assert [int(row["pid"]) for row in seen.rows] == [one.pid, two.pid]


def test_of_children_of_a_process_but_not_of_theirs(mine: str) -> None:
    with (
        waiting_shell(f"{mine} child; /bin/sh -c '{mine} grandchild; :'; {mine} last") as shell,
        watching(mine, "--ppid", f"{shell.pid}") as seen,
    ):
        subprocess.run([mine, "sibling"])
        go(shell)
    assert seen.words == ["child", "last"]
    assert {int(row["ppid"]) for row in seen.rows} == {shell.pid}


def test_of_a_tree_with_children_from_before_and_from_later(mine: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    before = f"(read x <{fifo}; {mine} before; /bin/sh -c '{mine} below-before; :')"
    after = f"{mine} after; setsid /bin/sh -c '({mine} deeper; :) & wait'"
    with (
        subprocess.Popen(
            ["/bin/sh", "-c", f"{before} & read x; {after}; wait; exec {mine} itself"], stdin=subprocess.PIPE
        ) as shell,
        watching(mine, "--tree", f"{shell.pid}") as seen,
    ):
        subprocess.run([mine, "outside"])
        fifo.write_text("\n")
        go(shell)
        subprocess.run([mine, "outside"])
    assert sorted(seen.words) == ["after", "before", "below-before", "deeper", "itself"]
    assert seen.words[-1] == "itself"


def test_of_a_tree_of_which_the_root_has_gone(mine: str, tmp_path: Path) -> None:
    """Its descendants are still followed, whoever is their parent now."""
    fifo, done = tmp_path / "fifo", tmp_path / "done"
    os.mkfifo(fifo)
    os.mkfifo(done)
    with (
        waiting_shell(f"(read x <{fifo}; {mine} orphan; echo >{done}) & exit 0") as shell,
        watching(mine, "--tree", f"{shell.pid}") as seen,
    ):
        go(shell)
        fifo.write_text("\n")
        done.read_text()
    assert seen.words == ["orphan"]


def test_of_a_user_by_number_and_by_name(mine: str) -> None:
    with watching(mine, "--user", "12345", "--user", "daemon") as seen:
        for uid in (12345, 1, 12346, 0):
            subprocess.run([mine, str(uid)], preexec_fn=as_user(uid))
    assert seen.words == ["12345", "1"]


def test_whose_comm_or_file_matches(mine: str) -> None:
    for name in (f"{NAME}-a", f"{NAME}-b"):
        (Path(mine).parent / name).symlink_to("/bin/true")
    with watching(mine, "--comm", f"{NAME}-?", "--comm", f"re:^{NAME.replace('n', '.')}$") as seen:
        for path in (f"{mine}-a", mine, f"{mine}-b", "/bin/true"):
            subprocess.run([path])
    assert [row["comm"] for row in seen.rows] == [f"{NAME}-a", NAME, f"{NAME}-b"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        *(("{mine}", ["x"]), (f"*/{NAME}", ["x"]), (NAME, []), (f"re:/{NAME}$", ["x"])),
        *((f"re:/{NAME[:-1]}$", []), ("{folder}/*", ["x"])),
    ],
    ids=["path", "glob", "name", "re", "shorter", "folder"],
)
def test_whose_file_matches(pattern: str, words: list[str], mine: str) -> None:
    with watching(mine, "--filename", pattern.format(mine=mine, folder=Path(mine).parent)) as seen:
        subprocess.run(["/bin/true"])
        subprocess.run([mine, "x"])
    assert seen.words == words
    assert {row["filename"] for row in seen.rows} <= {mine}


def test_only_what_failed(mine: str) -> None:
    with (
        waiting_shell(f"{mine}; {mine}-not x; {mine}/x; :") as shell,
        watching(mine, "--failed", "--tree", f"{shell.pid}") as seen,
    ):
        go(shell)
    assert [(row["filename"], row["errno"]) for row in seen.rows] == [
        (f"{mine}-not", "ENOENT"),
        (f"{mine}/x", "ENOTDIR"),
    ]


def test_exits_are_filtered_like_execs(mine: str) -> None:
    with watching(mine, "--exits", "--user", "12345", "--filename", f"*/{NAME}") as seen:
        subprocess.run([mine, "other"])
        subprocess.run([mine, "one"], preexec_fn=as_user(12345))
        subprocess.run(["/bin/true"], preexec_fn=as_user(12345))
    assert [(row["event"], json.loads(row["argv"])[-1]) for row in seen.rows] == [("exec", "one"), ("exit", "one")]


def test_different_options_must_all_hold(mine: str) -> None:
    options = (
        "--ppid",
        str(os.getpid()),
        "--user",
        "12345",
        "--user",
        "12346",
        "--comm",
        NAME,
        "--filename",
        f"*/{NAME}",
    )
    with watching(mine, *options) as seen:
        subprocess.run([mine, "root"])
        subprocess.run([mine, "both"], preexec_fn=as_user(12345))
        subprocess.run(["/bin/true", "name"], preexec_fn=as_user(12345))
        subprocess.run(["/bin/sh", "-c", f"{mine} grandchild; :"], preexec_fn=as_user(12345))
        subprocess.run([mine, "second"], preexec_fn=as_user(12346))
    assert seen.words == ["both", "second"]
    assert len(seen.rows) == 2


def test_of_several_trees(mine: str) -> None:
    """Several of one option: any of them."""
    with (
        waiting_shell(f"{mine} other-tree") as shell,
        watching(mine, "--tree", f"{shell.pid}", "--tree", f"{os.getpid()}") as seen,
    ):
        subprocess.run([mine, "own"])
        go(shell)
    assert seen.words == ["own", "other-tree"]


# ---- control groups


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """An empty control group."""
    root = hierarchy()
    if root is None:
        pytest.skip("the version 2 hierarchy is not mounted")
    made = Path(root) / f"purebpf-filter-{os.getpid()}"
    made.mkdir()
    yield made
    for folder, _below, _files in os.walk(made, topdown=False):
        os.rmdir(folder)


def entering(folder: Path) -> Callable[[], object]:
    return lambda: (folder / "cgroup.procs").write_text("0")


@pytest.mark.parametrize("whole", [True, False])
def test_in_a_control_group_or_below_it(whole: bool, mine: str, cgroup: Path) -> None:
    (cgroup / "a" / "b").mkdir(parents=True)
    (cgroup / "ab").mkdir()
    path = str(cgroup / "a") if whole else f"/{cgroup.name}/a"
    with watching(mine, "--cgroup", path) as seen:
        for name in ("", "a", "ab", "a/b"):
            subprocess.run([mine, name], preexec_fn=entering(cgroup / name))
        (cgroup / "a" / "later").mkdir()
        subprocess.run([mine, "later"], preexec_fn=entering(cgroup / "a" / "later"))
    assert seen.words == ["a", "a/b", "later"]
    assert {row["cgroup"].split("/")[2] for row in seen.rows} == {"a"}


def test_in_a_container_by_its_id_or_the_beginning_of_it(mine: str, cgroup: Path) -> None:
    scope = cgroup / f"docker-{CONTAINER}.scope"
    (scope / "init").mkdir(parents=True)
    (cgroup / f"docker-{CONTAINER[::-1]}.scope").mkdir()
    with watching(mine, "--container", CONTAINER[:12]) as seen:
        for folder in (scope, scope / "init", cgroup, cgroup / f"docker-{CONTAINER[::-1]}.scope"):
            subprocess.run([mine, folder.name], preexec_fn=entering(folder))
    assert seen.words == [scope.name, "init"]
    assert {row["container_id"] for row in seen.rows} == {CONTAINER}


def test_in_one_of_several_control_groups_and_of_a_user(mine: str, cgroup: Path) -> None:
    def enter(name: str, uid: int) -> None:
        (cgroup / name / "cgroup.procs").write_text("0")
        os.setuid(uid)

    for name in ("a", "b", "c"):
        (cgroup / name).mkdir()
    with watching(mine, "--cgroup", str(cgroup / "a"), "--cgroup", str(cgroup / "b"), "--user", "12345") as seen:
        for name in ("a", "b", "c"):
            for uid in (0, 12345):
                subprocess.run([mine, f"{name}{uid}"], preexec_fn=partial(enter, name, uid))
    assert seen.words == ["a12345", "b12345"]
