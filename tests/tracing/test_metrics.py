"""Addresses, the server, and what a tracer counts: all of the metrics that needs no kernel."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

import purebpf
from purebpf.errors import Error, KernelError
from purebpf.metrics import EventCollector, Server, parse_address, serve

Samples = dict[tuple[str, str], float]
PORTS = st.integers(0, 0xFFFF)
HOSTS = st.text("abcxyz0189.-_%*", min_size=1)


@pytest.fixture(autouse=True)
def _all_threads_end() -> Iterator[None]:
    """Each scrape has a thread and a socket for a moment longer than its client."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()


def text(server: Server) -> str:
    with urllib.request.urlopen(server.url, timeout=10) as answer:
        body: bytes = answer.read()
    return body.decode()


def scraped(*collectors: Collector) -> Samples:
    """Value of each sample, by its name and its labels' values."""
    with serve(":0", *collectors) as server:
        families = list(text_string_to_metric_families(text(server)))
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value for made in families for sample in made.samples
    }


# Addresses


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("127.0.0.1:9435", ("127.0.0.1", 9435)),
        ("0.0.0.0:9435", ("0.0.0.0", 9435)),
        (":9435", ("127.0.0.1", 9435)),
        ("9435", ("127.0.0.1", 9435)),
        ("[::1]:9435", ("::1", 9435)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_an_address_without_a_host_is_this_machine_only(address: str, place: tuple[str, int]) -> None:
    assert parse_address(address) == place


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":",
        "localhost",
        "localhost:",
        "1.2.3.4:65536",
        "1.2.3.4:-1",
        "1.2.3.4:²",
        "1.2.3.4:٣",
        "::1",
        "::1:9435",
        "[]:9435",
        "[::1",
        "[::1]9435",
        "]:9435",
        "http://127.0.0.1:9435",
        "127.0.0.1:9435/metrics",
        "127.0.0.1:9435\n",
    ],
)
def test_what_is_no_address_is_refused_with_examples(address: str) -> None:
    with pytest.raises(Error, match="is no address") as caught:
        parse_address(address)
    assert ":9435" in caught.value.hint


@given(HOSTS, PORTS)
def test_hosts_and_ports_come_back(host: str, port: int) -> None:
    assert parse_address(f"{host}:{port}") == (host, port)
    assert parse_address(f"[{host}::1]:{port}") == (f"{host}::1", port)


@given(st.text("[]:0129a "))
def test_any_text_is_an_address_or_refused(address: str) -> None:
    try:
        host, port = parse_address(address)
    except Error:
        return
    digits = address.rpartition(":")[2]
    assert int(digits) == port <= 0xFFFF
    forms = {f"[{host}]:{digits}", f"{host}:{digits}"}
    assert address in (forms | {f":{digits}", digits} if host == "127.0.0.1" else forms)


# The server


def test_a_page_has_the_versions_and_parses() -> None:
    samples = scraped()
    assert samples == {("purebpf_build_info", f"{os.uname().release} {purebpf.__version__}"): 1} or samples == {
        ("purebpf_build_info", f"{purebpf.__version__} {os.uname().release}"): 1
    }


def test_the_port_that_was_chosen_is_told() -> None:
    with serve("0") as server:
        assert server.address[0] == "127.0.0.1"
        assert server.address[1] > 0
        assert server.url == f"http://127.0.0.1:{server.address[1]}/metrics"


def test_ipv6_is_served() -> None:
    if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6")
    with serve("[::1]:0") as server:
        assert server.url.startswith("http://[::1]:")
        assert "purebpf_build_info" in text(server)


def test_closing_stops_the_thread_and_frees_the_port_at_once() -> None:
    before = threading.active_count()
    took = []
    for _ in range(5):
        server = serve(":0")
        assert threading.active_count() == before + 1
        start = time.monotonic()
        server.close()
        took.append(time.monotonic() - start)
    assert min(took) < 0.1
    assert threading.active_count() == before
    server.close()
    with serve(f":{server.address[1]}") as again:
        assert again.address == server.address


def test_a_busy_port_is_an_error_with_the_errno() -> None:
    with serve(":0") as server:
        port = server.address[1]
        with pytest.raises(KernelError, match=rf"127\.0\.0\.1:{port}: EADDRINUSE") as caught:
            serve(f":{port}")
    assert caught.value.errno == errno.EADDRINUSE
    assert "another port" in caught.value.hint


def test_an_address_of_another_machine_is_an_error_with_the_errno() -> None:
    with pytest.raises(KernelError, match="EADDRNOTAVAIL") as caught:
        serve("192.0.2.1:0")
    assert "of this machine" in caught.value.hint


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "\udcff"])
def test_what_is_no_hosts_name_is_an_error(host: str) -> None:
    with pytest.raises(Error, match="cannot serve metrics at") as caught:
        serve(f"{host}:0")
    assert "of this machine" in caught.value.hint


def test_two_collectors_of_the_same_metrics_are_refused_before_the_port_is_taken() -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="purebpf_events"):
        serve(":0", EventCollector({}), EventCollector({}))
    assert threading.active_count() == before


class Dawdling(Collector):
    """Takes its time for each scrape but the first, which is the registry's."""

    def __init__(self) -> None:
        self.entered, self.leave, self.asked = threading.Event(), threading.Event(), 0

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self.asked += 1
        if self.asked > 1:
            self.entered.set()
            assert self.leave.wait(10)
        yield GaugeMetricFamily("dawdling", "Late.", value=1)


def test_no_thread_of_the_server_takes_a_signal() -> None:
    slow, got = Dawdling(), list[int]()
    previous = signal.signal(signal.SIGUSR1, lambda number, _frame: got.append(number))
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    try:
        with serve(":0", slow) as server:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
            assert signal.SIGUSR1 not in before, "whose thread starts the server blocks what it did before"
            scrape = threading.Thread(target=text, args=(server,))
            scrape.start()
            assert slow.entered.wait(10)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert signal.SIGUSR1 in signal.sigpending(), "a thread would have taken it"
            slow.leave.set()
            scrape.join(10)
            assert signal.sigtimedwait({signal.SIGUSR1}, 0)
    finally:
        slow.leave.set()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGUSR1, previous)
    assert got == []


def test_a_slow_scrape_holds_up_no_other_and_no_end() -> None:
    slow = Dawdling()
    with serve(":0", slow) as server:
        first = threading.Thread(target=text, args=(server,))
        first.start()
        assert slow.entered.wait(10)
        slow.entered.clear()
        second = threading.Thread(target=text, args=(server,))
        second.start()
        assert slow.entered.wait(10)
        start = time.monotonic()
        server.close()
        assert time.monotonic() - start < 5
        slow.leave.set()
        first.join(10)
        second.join(10)


def test_clients_that_hang_up_are_not_spoken_of(capfd: pytest.CaptureFixture[str]) -> None:
    at_once = struct.pack("ii", 1, 0)  # a reset instead of a farewell
    with serve(":0") as server:
        for request in (b"", b"GET /metrics HTTP/1.0\r\n\r\n"):
            with closing(socket.create_connection(server.address)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                client.sendall(request)
                time.sleep(0.05)
        assert "purebpf_build_info" in text(server)
    assert capfd.readouterr() == ("", "")


# A tracer's counts


def test_events_are_counted_by_kind_and_result_as_they_come() -> None:
    counts = {("exec", "ok"): 7, ("exec", "failed"): 2, ("exit", "ok"): 5, ("truncated", ""): 3, ("lost", ""): 0}
    collector = EventCollector(counts)
    assert events(collector) == {
        ("purebpf_events_total", "exec ok"): 7,
        ("purebpf_events_total", "exec failed"): 2,
        ("purebpf_events_total", "exit ok"): 5,
        ("purebpf_events_truncated_total", ""): 3,
        ("purebpf_events_lost_total", ""): 0,
    }
    counts["exec", "ok"] += 1
    counts["fault", ""] = 4
    again = events(collector)
    assert again["purebpf_events_total", "exec ok"] == 8
    assert again["purebpf_events_fault_total", ""] == 4


def test_a_tracer_that_has_counted_nothing_has_no_samples() -> None:
    assert events(EventCollector({})) == {}


def events(collector: EventCollector) -> Samples:
    return {key: value for key, value in scraped(collector).items() if key[0].startswith("purebpf_events")}


def test_counts_that_grow_while_they_are_collected_are_no_error() -> None:
    counts, seen = dict[tuple[str, str], int](), list[int]()
    worker = threading.Thread(target=lambda: counts.update((key, 1) for key in keys(3000)))
    often, usual = 1e-6, sys.getswitchinterval()
    sys.setswitchinterval(often)
    try:
        worker.start()
        while not seen or seen[-1] < 3000:
            seen.append(len(next(EventCollector(counts).collect()).samples))
    finally:
        worker.join()
        sys.setswitchinterval(usual)
    assert seen == sorted(seen)


def keys(number: int) -> Iterator[tuple[str, str]]:
    return ((f"kind{one}", "ok") for one in range(number))


def test_without_prometheus_client_it_is_said_what_to_install() -> None:
    code = "import sys; sys.modules['prometheus_client'] = None; import purebpf.metrics"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "purebpf.errors.Error: metrics need prometheus_client" in result.stderr
