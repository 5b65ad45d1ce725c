"""Which events are wanted: in the kernel where that is possible, so that others cost little and fill no ring.

struct wish, `tree` and `cgroups` of bpf/tracer.h are the other side.
"""

from __future__ import annotations

import argparse
import os
import struct
from collections.abc import Callable, Iterator
from fnmatch import translate
from re import compile as pattern
from re import error as re_error

from ..errors import Error, NotPermitted, NotSupported
from ..formats.spec import ObjectSpec
from ..kernel import mounts
from ..kernel.maps import HashMap
from ..object import Object
from . import containers, proc
from .event import Row

_WISHES = {"pid": 0, "ppid": 1, "user": 2}  # enum wish_kind
_WISH, _NUMBER = struct.Struct("=QQ"), struct.Struct("=I")
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_KTHREADD = 2  # there always, in that namespace, and root's with all capabilities (init/main.c, rest_init)
_MAX_CGROUPS = 16  # MAX_CGROUPS
_TREE = 16384  # processes that are followed at once


def add_arguments(parser: argparse.ArgumentParser, patterns: tuple[str, ...]) -> None:
    """The options that choose events; each may be given several times. `patterns` are the fields that take a pattern."""
    group = parser.add_argument_group(
        "which events (several of one option: any of them; different options: all of them)"
    )
    add = group.add_argument
    add("--pid", action="append", type=_number, default=[], metavar="PID", help="of this process")
    add("--ppid", action="append", type=_number, default=[], metavar="PID", help="of children of this process")
    add("--tree", action="append", type=_number, default=[], metavar="PID", help="of this process and its descendants")
    add("--user", action="append", type=_user, default=[], metavar="USER", help="of this user (name or number)")
    add("--cgroup", action="append", default=[], metavar="PATH", help="in this cgroup (version 2) or below it")
    add(
        "--container",
        action="append",
        default=[],
        metavar="ID",
        help="in this container (a running one; id or its beginning)",
    )
    for name in patterns:
        add(
            f"--{name}",
            action="append",
            type=_matcher,
            default=[],
            metavar="PATTERN",
            help=f"whose {name} matches: a glob, or a regular expression as re:…",
        )


def _number(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def _user(text: str) -> int:
    if text.isdigit():
        return int(text)
    from pwd import getpwnam

    try:
        return getpwnam(text).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(f"there is no user {text!r}") from None


def _matcher(text: str) -> Callable[[str], object]:
    """A glob has to match the whole text, a regular expression any part of it."""
    try:
        return pattern(text[3:]).search if text.startswith("re:") else pattern(translate(text)).match
    except re_error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


_number.__name__ = "number"


class Filters:
    """What was asked for on the command line."""

    def __init__(self, options: argparse.Namespace, patterns: tuple[str, ...], command: int | None) -> None:
        """`command` is the process that is traced with its descendants, if there is one."""
        self._wishes = {name: getattr(options, name) for name in _WISHES}
        self._tree: list[int] = options.tree + ([] if command is None else [command])
        self._cgroups = _folders(options)
        self._matchers = [(name, getattr(options, name)) for name in patterns if getattr(options, name)]
        self._exits: bool = getattr(options, "exits", False)  # a program that reports them keeps the tree, too
        if self._tree or self._wishes["pid"] or self._wishes["ppid"]:
            mounts.require("/proc")
            _refuse_in_namespace()
        if options.tree:  # a command that has just been forked has no descendants to look for
            _refuse_incomplete(options.tree)

    def prepare(self, spec: ObjectSpec) -> None:
        """Switch on in the programs what is needed, and have room for it."""
        for name, values in self._wishes.items():
            spec.variable({"user": "by_uid"}.get(name, f"by_{name}")).value = int(bool(values))
        spec.variable("by_tree").value = int(bool(self._tree))
        spec.variable("cgroup_count").value = len(self._cgroups)
        spec.maps["wishes"].max_entries = max(1, sum(map(len, self._wishes.values())))
        spec.maps["tree"].max_entries = _TREE if self._tree else 1
        spec.maps["cgroups"].max_entries = max(1, len(self._cgroups))
        spec.programs["follow_fork"].autoload = bool(self._tree)
        spec.programs["follow_exit"].autoload = bool(self._tree) and not self._exits

    def begin(self, obj: Object) -> None:
        """Tell the programs whom to look for. They are attached already: a child that is forked meanwhile is followed."""
        for name, values in self._wishes.items():
            for value in values:
                obj.maps["wishes"].put(_WISH.pack(value, _WISHES[name]), b"\1")
        for index, folder in enumerate(self._cgroups):
            self._enter(obj, index, folder)
        if self._tree:
            self._follow(obj)

    def _enter(self, obj: Object, index: int, folder: str) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            obj.maps["cgroups"].put(_NUMBER.pack(index), _NUMBER.pack(fd))
        finally:
            os.close(fd)

    def _follow(self, obj: Object) -> None:
        """A child that was forked before its parent was entered is found by the next look."""
        tree, entered = obj.maps["tree"], set[int]()
        assert isinstance(tree, HashMap)
        while True:
            new = set(proc.descendants(self._tree)) - entered
            if not new:
                break
            for pid in new:
                tree[pid] = 1
                if not proc.lives(pid):  # it ended before it was entered, so the program did not see it leave
                    tree.pop(pid, None)
            entered |= new

    def passes(self, row: Row) -> bool:
        """What only Python can tell: do the patterns match?"""
        return all(any(match(row[name] or "") for match in matchers) for name, matchers in self._matchers)


def _refuse_in_namespace() -> None:
    """The programs know processes by the numbers that the first PID namespace gives them."""
    if os.stat("/proc/self/ns/pid").st_ino != _FIRST_PID_NAMESPACE:
        raise NotSupported(
            "in a PID namespace of its own (a container's) purebpf cannot know the numbers that the kernel gives to processes",
            hint="leave out --pid, --ppid, --tree and -- COMMAND, or run it in the host's namespace (docker run --pid=host)",
        )


def _refuse_incomplete(roots: list[int]) -> None:
    """With hidepid (proc(5)) /proc tells only of processes that one may trace: of kthreadd only to who may trace all."""
    for pid in roots:
        if not proc.lives(pid):
            raise Error(
                f"there is no process {pid}, so it has no descendants",
                hint="name one that lives: when a process ends its children are given to another",
            )
    if not proc.shows(_KTHREADD):
        raise NotPermitted(
            "/proc hides the processes of others (hidepid), so not all descendants can be found",
            hint="run as root, or grant CAP_SYS_PTRACE",
        )


def _folders(options: argparse.Namespace) -> list[str]:
    wanted = list(_wanted_folders(options))
    if len(wanted) > _MAX_CGROUPS:
        raise Error(
            f"{len(wanted)} cgroups are too many to look for: at most {_MAX_CGROUPS}", hint="name one above them"
        )
    return wanted


def _wanted_folders(options: argparse.Namespace) -> Iterator[str]:
    if not (options.cgroup or options.container):
        return
    root = containers.hierarchy()
    if root is None:
        raise NotSupported(
            "the version 2 cgroup hierarchy is not mounted, and only its cgroups can be looked for",
            hint="mount -t cgroup2 none /sys/fs/cgroup/unified",
        )
    for path in options.cgroup:
        inside = os.path.join(root, path.lstrip("/"))
        folder = path if path.startswith(root + "/") or path == root else inside
        if not os.path.isdir(folder):
            raise Error(f"there is no cgroup {path!r} below {root}", hint=f"list them: find {root} -type d")
        yield folder
    for name in options.container:
        yield from _container(name, root)


def _container(name: str, root: str) -> list[str]:
    found = containers.folders_of(name, root)
    if not found:
        raise Error(
            f"no cgroup below {root} belongs to a container {name!r}", hint="is it running? its id, not its name"
        )
    return found
