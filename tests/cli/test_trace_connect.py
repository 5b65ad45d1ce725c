"""`python -m purebpf trace-connect` as its users run it, with real sockets on the loopback device."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import purebpf
from purebpf.tools import trace_connect
from purebpf.tracing.clock import Clock

COMMAND = [sys.executable, "-m", "purebpf", "trace-connect"]
Row = dict[str, Any]
kernel = pytest.mark.kernel


def run(*options: str, code: str, port: int) -> subprocess.CompletedProcess[str]:
    """trace-connect of a Python program; `port` is there, and connect(), which gives the socket and an errno."""
    program = f"""
import errno, os, socket, sys
port = {port}
def connect(host="127.0.0.1", to=port, family=socket.AF_INET, wait=True):
    s = socket.socket(family)
    s.setblocking(wait)
    return s, s.connect_ex((host, to))
{code}
"""
    command = [sys.executable, "-c", program]
    return subprocess.run([*COMMAND, *options, "--", *command], capture_output=True, text=True, timeout=60)


def connects(*options: str, code: str, port: int) -> list[Row]:
    """Rows; nothing was said on standard error. What the program printed is left out."""
    done = run("--json", *options, code=code, port=port)
    assert (done.stderr, done.returncode) == ("", 0)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@contextmanager
def server(host: str = "127.0.0.1", family: int = socket.AF_INET) -> Iterator[int]:
    """The port of one that listens."""
    with socket.create_server((host, 0), family=family) as listening:
        yield listening.getsockname()[1]


@contextmanager
def nobody() -> Iterator[int]:
    """A port that is taken, and where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextmanager
def deaf() -> Iterator[int]:
    """The port of a server whose queue is full: the kernel drops each SYN (tcp_conn_request)."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        stack.enter_context(socket.create_connection(listening.getsockname()))
        yield listening.getsockname()[1]


@kernel
def test_a_row_says_who_connected_to_whom_and_how_long_it_took() -> None:
    before = time.monotonic_ns()
    with server() as port:
        (row,) = connects(code="s, _ = connect(); print(os.getpid(), s.getsockname()[1], flush=True)", port=port)
    assert tuple(row) == trace_connect.TOOL.fields
    assert (row["event"], row["family"], row["connected"], row["errno"]) == ("connect", "ipv4", True, None)
    assert (row["source"], row["destination"], row["destination_port"]) == ("127.0.0.1", "127.0.0.1", port)
    assert 0 < row["latency_ns"] < row["monotonic_ns"] - before
    assert before < row["start_ns"] < row["monotonic_ns"] < time.monotonic_ns()
    assert (row["uid"], row["tid"]) == (os.getuid(), row["pid"])
    assert row["comm"].startswith("python")
    assert row["cgroup"].startswith("/")


@kernel
@pytest.mark.parametrize("with_port", ["s.bind(('127.0.0.1', 0)); s.connect", "s.connect"])
def test_the_own_port_is_that_of_the_socket_also_when_it_was_refused(with_port: str) -> None:
    code = f"""
s = socket.socket()
try: {with_port}(("127.0.0.1", {{}}))
except ConnectionRefusedError: pass
else: print(s.getsockname()[1], flush=True)
"""
    with server() as port:
        done = run("--json", code=code.format(port), port=port)
    own, row = sorted(done.stdout.splitlines(), key=len)
    assert json.loads(row)["source_port"] == int(own)
    with nobody() as port:
        (row,) = connects(code=code.format(port), port=port)
    assert row["source_port"] > 0


@kernel
def test_a_refused_connection_has_its_error() -> None:
    with nobody() as port:
        (row,) = connects(code="assert connect()[1] == errno.ECONNREFUSED", port=port)
    assert (row["connected"], row["errno"], row["destination_port"]) == (False, "ECONNREFUSED", port)
    assert row["latency_ns"] > 0


@kernel
def test_nobody_answers_until_the_time_is_over() -> None:
    code = """
s = socket.socket()
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 100)
assert s.connect_ex(("127.0.0.1", port)) == errno.ETIMEDOUT
"""
    with deaf() as port:
        (row,) = connects(code=code, port=port)
    assert (row["connected"], row["errno"]) == (False, "ETIMEDOUT")
    assert row["latency_ns"] > 100_000_000


@kernel
def test_a_socket_that_is_closed_before_an_answer_has_no_error() -> None:
    with deaf() as port:
        (row,) = connects(
            code="s, error = connect(wait=False); assert error == errno.EINPROGRESS; s.close()", port=port
        )
        line = run(code="connect(wait=False)", port=port).stdout.splitlines()[1]
    assert (row["connected"], row["errno"], row["destination_port"]) == (False, None, port)
    assert line.split()[-1] == "closed"


@kernel
def test_the_process_is_the_one_that_asked_even_if_it_does_not_wait() -> None:
    """A thread asks, and the answer comes from wherever it comes."""
    code = """
import select, threading
def ask():
    s, error = connect(wait=False)
    select.select([], [s], [])
    print(os.getpid(), threading.get_native_id(), flush=True)
thread = threading.Thread(target=ask)
thread.start()
thread.join()
"""
    with server() as port:
        done = run("--json", code=code, port=port)
    ids, row = sorted(done.stdout.splitlines(), key=len)
    assert [json.loads(row)[name] for name in ("pid", "tid")] == [int(number) for number in ids.split()]
    assert json.loads(row)["connected"] is True


HAS_IPV6 = os.path.exists("/proc/net/if_inet6")


@kernel
@pytest.mark.skipif(not HAS_IPV6, reason="the kernel has no IPv6, or it is switched off")
def test_ipv6() -> None:
    with server("::1", socket.AF_INET6) as port:
        (row,) = connects(code="connect('::1', family=socket.AF_INET6)", port=port)
        line = run(code="connect('::1', family=socket.AF_INET6)", port=port).stdout.splitlines()[1]
    assert (row["family"], row["source"], row["destination"]) == ("ipv6", "::1", "::1")
    assert (row["destination_port"], row["connected"]) == (port, True)
    assert f"  [::1]:{port}  " in line


@kernel
@pytest.mark.skipif(not HAS_IPV6, reason="the kernel has no IPv6, or it is switched off")
def test_a_mapped_address_is_one_of_ipv4_as_on_the_wire() -> None:
    with server() as port:
        (row,) = connects(code="connect('::ffff:127.0.0.1', family=socket.AF_INET6)", port=port)
    assert (row["family"], row["source"], row["destination"]) == ("ipv4", "127.0.0.1", "127.0.0.1")
    assert row["connected"] is True


@kernel
def test_a_thousand_connections_are_a_thousand_rows() -> None:
    code = """
for i in range(1000):
    s, _ = connect()
    sys.stdout.write(f"{s.getsockname()[1]}\\n")
    sys.stdout.flush()
    s.close()
"""
    with socket.create_server(("127.0.0.1", 0), backlog=2000) as listening:
        done = run("--json", code=code, port=listening.getsockname()[1])
    lines = done.stdout.splitlines()
    ports = [int(line) for line in lines if line.isdigit()]
    assert [json.loads(line)["source_port"] for line in lines if not line.isdigit()] == ports
    assert (len(ports), done.stderr) == (1000, "")


STORM = """
import struct, threading
def accept():
    while True:
        listening.accept()[0].close()
def ask():
    for i in range(5000):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # the port is free at once
        s.connect(("127.0.0.1", port))
        s.close()
    os._exit(0)
listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
port = listening.getsockname()[1]
children = [os.fork() or ask() for _ in range(4)]
threading.Thread(target=accept, daemon=True).start()  # after the forks: Python 3.12 and later warn of the other order
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"""


@kernel
def test_connections_that_interrupt_each_other_are_all_there_and_nothing_is_said_to_be_lost() -> None:
    rows = connects("--buffer-size", "32M", code=STORM, port=0)
    assert Counter((row["event"], row["connected"]) for row in rows) == {("connect", True): 20000}
    assert Counter(Counter(row["pid"] for row in rows).values()) == {5000: 4}


@kernel
def test_what_is_asked_for_is_shown() -> None:
    with server() as heard, nobody() as refused:
        code = f"connect(); connect(to={refused}); connect()"
        chosen = {
            (): [heard, refused, heard],
            ("--failed",): [refused],
            ("--port", str(heard)): [heard, heard],
            ("--port", str(refused), "--port", str(heard)): [heard, refused, heard],
            ("--port", str(heard), "--failed"): [],
            ("--comm", "somebody"): [],
        }
        for options, ports in chosen.items():
            rows = connects(*options, code=code, port=heard)
            assert [row["destination_port"] for row in rows] == ports, options


@kernel
def test_other_sockets_are_not_shown() -> None:
    """Datagrams, sockets that listen, and the accepting side of a connection."""
    code = """
socket.socket(type=socket.SOCK_DGRAM).connect(("127.0.0.1", port))
listening = socket.create_server(("127.0.0.1", 0))
s, _ = connect(to=listening.getsockname()[1])
other, _ = listening.accept()
"""
    with server() as port:
        rows = connects(code=code, port=port)
    assert [row["destination_port"] == port for row in rows] == [False]


MANY = 4096 + 104  # `attempts` of the program has 4096


@kernel
def test_those_that_there_is_no_room_to_wait_for_are_shown_without_an_outcome() -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < MANY + 100:
        pytest.skip("this process may not open enough sockets (ulimit -Hn)")
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
kept = [connect(wait=False) for _ in range({MANY})]
assert all(error == errno.EINPROGRESS for _, error in kept)
"""
    with deaf() as port:
        rows = connects(code=code, port=port)
    assert Counter((row["connected"], row["latency_ns"] is None, row["errno"]) for row in rows) == {
        (None, True, None): MANY - 4096,
        (False, False, None): 4096,
    }
    assert {row["destination_port"] for row in rows} == {port}


@kernel
def test_the_other_forms() -> None:
    with nobody() as port:

        def lines(*options: str) -> list[str]:
            return run(*options, code="connect()", port=port).stdout.splitlines()

        header, line = lines()
        assert header.split() == ["TIME", "PID", "COMM", "UID", "LOCAL", "REMOTE", "LATENCY", "RESULT"]
        assert line.split()[5] == f"127.0.0.1:{port}"
        assert line.split()[6].endswith("ms")
        assert line.split()[7] == "ECONNREFUSED"
        names, values = lines("--csv")
        assert names.split(",") == [*trace_connect.TOOL.fields]
        assert f",127.0.0.1,{port},false,ECONNREFUSED," in values
        assert lines("--format", "{family} {command}")[0].endswith(f": 127.0.0.1:{port}")
        assert lines("--tree-view")[-1].endswith(f": 127.0.0.1:{port}  (ECONNREFUSED)")


@kernel
def test_the_count_ends_it_and_so_does_the_duration() -> None:
    with server() as port:
        tracer = subprocess.Popen(
            [*COMMAND, "--json", "-n", "3", "--port", str(port)], stdout=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 30
        while tracer.poll() is None:
            assert time.monotonic() < deadline
            socket.create_connection(("127.0.0.1", port)).close()
            time.sleep(0.01)
        out, _ = tracer.communicate()
    assert [json.loads(line)["pid"] for line in out.splitlines()] == [os.getpid()] * 3
    assert tracer.returncode == 0
    assert subprocess.run([*COMMAND, "--duration", "0.1"], timeout=60, capture_output=True).returncode == 0


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http"])
def test_a_port_that_cannot_be_is_a_wrong_command_line(port: str) -> None:
    done = subprocess.run([*COMMAND, f"--port={port}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"invalid port value: '{port}'" in done.stderr


@kernel
def test_more_ports_than_the_program_looks_for_are_refused() -> None:
    done = subprocess.run([*COMMAND, *["--port=1"] * 17], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("purebpf: 17 ports are too many to look for: at most 16\n")


@given(st.ip_addresses(v=6) | st.ip_addresses(v=4).map(lambda ip: ipaddress.IPv6Address(f"::ffff:{ip}")))
def test_an_address_is_shown_as_the_standard_library_reads_it(ip: ipaddress.IPv6Address) -> None:
    assert ipaddress.ip_address(trace_connect.address(ip.packed)) == (ip.ipv4_mapped or ip)


@pytest.mark.parametrize("size", [0, 95, 151])
def test_a_record_that_is_too_short_is_refused(size: int) -> None:
    decode = trace_connect.Decoder(argparse.Namespace(), Clock())
    with pytest.raises(purebpf.ObjectError, match="no connect event"):
        decode(bytes(size))
