"""What trace-exec makes of a record, without a kernel."""

from __future__ import annotations

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import purebpf
from purebpf.tools.text import escape
from purebpf.tools.trace_exec import Exec, as_json, as_text, decode


def record(pid: int, name: bytes) -> bytes:
    """As the BPF program writes it: old bytes of the ring may follow the name."""
    return struct.pack("=Ii", pid, len(name) + 1) + name + b"\0" + b"old bytes"


names = st.binary(min_size=0, max_size=300).filter(lambda name: b"\0" not in name)


@given(st.integers(1, 2**22), names)
def test_a_record_gives_back_pid_and_name(pid: int, name: bytes) -> None:
    assert decode(record(pid, name)) == Exec(pid, name, 0)


@given(names)
def test_text_is_printable_and_loses_nothing(name: bytes) -> None:
    shown = escape(name)
    assert shown.isprintable()
    assert shown.encode().decode("unicode_escape").encode("latin-1") == name


@given(names)
def test_json_is_ascii_and_loses_nothing(name: bytes) -> None:
    line = as_json(Exec(7, name, 0))
    assert line.isascii()
    assert "\n" not in line
    row = json.loads(line)
    assert row["pid"] == 7
    exact = base64.b64decode(row["filename_b64"]) if "filename_b64" in row else row["filename"].encode()
    assert exact == name


def test_a_name_that_could_not_be_read_is_said_so() -> None:
    event = decode(struct.pack("=Ii", 5, -14))
    assert as_text(event) == "5       <not readable: EFAULT>"
    assert json.loads(as_json(event)) == {"pid": 5, "filename": "", "filename_error": "EFAULT"}


@pytest.mark.parametrize("damaged", [b"", b"\1\0\0\0", struct.pack("=Ii", 5, 9) + b"short"])
def test_what_is_no_exec_event_is_refused(damaged: bytes) -> None:
    with pytest.raises(purebpf.Error, match="no exec event"):
        decode(damaged)
