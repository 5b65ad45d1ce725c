"""What trace-exec makes of a record, without a kernel."""

from __future__ import annotations

import base64
import json
import os
import struct
from argparse import Namespace
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purebpf import ObjectError
from purebpf.tools import trace_exec
from purebpf.tracing import shell
from purebpf.tracing.clock import Clock
from purebpf.tracing.event import HEAD
from purebpf.tracing.lines import json_line
from purebpf.tracing.text import escape

NONE = 0xFFFFFFFF
EXEC, FAILED, EXIT = range(3)


def head(kind: int, cgroup: bytes = b"", pid: int = 77, start: int = 5, when: int = 2_000_000_000) -> bytes:
    """struct head, as bpf/tracer.h has it."""
    return struct.pack(
        f"={HEAD}", when, start, 9, kind, pid, pid, 3, 1000, 100, NONE, 4026531836, 7, len(cgroup), b"comm", b"parent"
    )


def exec_record(
    argv: list[bytes], name: bytes = b"/bin/x", kind: int = EXEC, retval: int = 0, flags: int = 0, cut: int = 0,
    cgroup: bytes = b"", cwd: bytes = b"", env: bytes = b"",
) -> bytes:  # fmt: skip
    """struct event and what follows; `cut` bytes of the arguments are not there."""
    block = b"".join(argument + b"\0" for argument in argv)
    shown = block[: len(block) - cut]
    before = name + b"\0" + cgroup + cwd
    sizes = (len(name) + 1, len(cwd), len(shown), len(block), len(env), len(env), len(before), 0)
    return head(kind, cgroup) + struct.pack("=iiII8I", retval, 1, flags, len(argv), *sizes) + before + shown + env


def row_of(record: bytes, exits: bool = False, env: tuple[str, ...] = (), cwd: bool = False) -> dict[str, Any]:
    decode = trace_exec.Decoder(Namespace(env=list(env), exits=exits, cwd=cwd), Clock())
    row = decode(record)
    assert row is not None
    return row


def exact(row: dict[str, Any], name: str) -> list[bytes]:
    """The bytes of a list, from JSON."""
    if f"{name}_b64" in row:
        return [base64.b64decode(text) for text in row[f"{name}_b64"]]
    return [text.encode() for text in row[name]]


arguments = st.binary(max_size=60).filter(lambda argument: b"\0" not in argument)


@given(st.lists(arguments, min_size=1, max_size=8))
def test_json_gives_back_each_byte_of_each_argument(argv: list[bytes]) -> None:
    line = json_line(row_of(exec_record(argv)))
    assert line.isascii()
    assert line.count("\n") == 1
    row = json.loads(line)
    assert exact(row, "argv") == argv
    assert row["argc"] == len(argv)
    assert "argv_truncated" not in row


@given(st.lists(arguments, min_size=1, max_size=8), st.data())
def test_arguments_that_were_cut_are_said_to_be_and_where(argv: list[bytes], data: st.DataObject) -> None:
    total = sum(len(argument) + 1 for argument in argv)
    cut = data.draw(st.integers(1, total))
    row = json.loads(json_line(row_of(exec_record(argv, cut=cut))))
    assert (row["argv_truncated"], row["argv_bytes"], row["argv_captured"]) == (True, total, total - cut)
    whole = b"".join(argument + b"\0" for argument in argv)
    assert whole.startswith(b"\0".join(exact(row, "argv")))
    assert shell.command(row).endswith(f" #and {cut} bytes more") or not row["argv"]


@given(st.lists(arguments, min_size=1, max_size=8))
def test_the_command_line_is_printable(argv: list[bytes]) -> None:
    assert shell.command(row_of(exec_record(argv))).isprintable()


def test_a_row_has_the_fields_of_the_tool_in_their_order() -> None:
    row = row_of(exec_record([b"/bin/x"]))
    assert list(row) == list(trace_exec.TOOL.fields)
    assert (row["event"], row["pid"], row["ppid"], row["uid"], row["gid"]) == ("exec", 77, 3, 1000, 100)
    assert (row["comm"], row["parent_comm"], row["filename"], row["loginuid"]) == ("comm", "parent", "/bin/x", None)
    assert (row["retval"], row["errno"], row["syscall"], row["ns_pid"]) == (0, None, "execve", 7)


def test_a_failed_exec_has_the_name_of_its_errno() -> None:
    row = row_of(exec_record([b"x"], kind=FAILED, retval=-13))
    assert (row["retval"], row["errno"]) == (-13, "EACCES")


def test_the_container_is_found_in_the_cgroup() -> None:
    container = b"0123456789abcdef" * 4
    row = row_of(exec_record([b"x"], cgroup=b"docker-" + container + b".scope\0system.slice\0"))
    assert row["cgroup"] == f"/system.slice/docker-{container.decode()}.scope"
    assert row["container_id"] == container.decode()


def test_directory_and_environment_are_there_when_asked_for() -> None:
    record = exec_record([b"x"], cwd=b"bin\0usr\0", env=b"A=1\0HOME=/root\0B=x=y\0")
    row = row_of(record, env=("HOME", "B", "MISSING"), cwd=True)
    assert row["cwd"] == "/usr/bin"
    assert row["env"] == {"HOME": "/root", "B": "x=y"}


@pytest.mark.parametrize(
    ("status", "code", "signal", "core"),
    [(7 << 8, 7, None, False), (9, None, "SIGKILL", False), (11 | 0x80, None, "SIGSEGV", True), (35, None, "SIG35", False)],
)  # fmt: skip
def test_an_exit_says_how_and_after_what_time(status: int, code: Any, signal: Any, core: bool) -> None:
    decode = trace_exec.Decoder(Namespace(env=[], exits=True, cwd=False), Clock())
    decode(exec_record([b"x", b"y"]))
    row = decode(head(EXIT) + struct.pack("=I4x", status))
    assert row is not None
    assert (row["exit_code"], row["signal"], row["core_dumped"]) == (code, signal, core)
    assert (row["argv"], row["lifetime_ns"]) == (["x", "y"], 2_000_000_000 - 5)


def test_an_exit_that_two_threads_report_comes_once() -> None:
    decode = trace_exec.Decoder(Namespace(env=[], exits=True, cwd=False), Clock())
    record = head(EXIT) + struct.pack("=I4x", 0)
    assert decode(record) is not None
    assert decode(record) is None
    assert decode(head(EXIT, start=6) + struct.pack("=I4x", 0)) is not None


@given(st.binary(min_size=90, max_size=160))
def test_what_is_no_record_is_refused_and_never_more(data: bytes) -> None:
    decode = trace_exec.Decoder(Namespace(env=["A"], exits=True, cwd=True), Clock())
    with suppress(ObjectError):
        decode(data)


@given(arguments)
def test_escaped_text_is_printable_and_loses_nothing(name: bytes) -> None:
    shown = escape(name)
    assert shown.isprintable()
    assert shown.encode().decode("unicode_escape").encode("latin-1") == name


def test_the_time_is_that_of_the_clock_on_the_wall() -> None:
    import time
    from datetime import datetime

    clock = Clock()
    shown = datetime.fromisoformat(clock.iso(time.monotonic_ns()))
    assert abs(shown.timestamp() - time.time()) < 0.01
    assert shown.utcoffset() is not None


def test_lines_of_a_table_say_how_an_exec_and_a_process_ended() -> None:
    options = Namespace(failures=True, failed=False, exits=True)
    result = next(column for column in trace_exec.columns(options) if column.title == "RESULT")
    decode = trace_exec.Decoder(Namespace(env=[], exits=True, cwd=False), Clock())
    for record, said in (
        (exec_record([b"x"]), "ok"),
        (exec_record([b"x"], kind=FAILED, retval=-2), "ENOENT"),
        (head(EXIT) + struct.pack("=I4x", 9), "SIGKILL 2.000s"),
    ):
        row = decode(record)
        assert row is not None
        assert result.text(row) == said
    assert os.sep in row["cgroup"]
