"""Rings, programs and tracers as Prometheus metrics: `pip install 'purebpf[metrics]'`.

A ring of any program, in three lines:

    with purebpf.load("prog.bpf.o") as obj, obj.ring("events", lost="lost") as ring:
        with purebpf.metrics.serve("127.0.0.1:9435", RingCollector(ring)):
            ...

A scrape reads positions from the ring's pages, in a thread of its own: the consumer is not disturbed.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from .errors import Error, KernelError, ObjectError
from .kernel import sys
from .kernel.ringbuf import RingBuffer

try:
    from prometheus_client import CollectorRegistry, make_wsgi_app
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
    from prometheus_client.registry import Collector
except ImportError as missing:
    raise Error("metrics need prometheus_client", hint="pip install 'purebpf[metrics]'") from missing

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from .kernel.program import Program
    from .object import Object

    Family = type[GaugeMetricFamily] | type[CounterMetricFamily]

_LOOPBACK = "127.0.0.1"
_ADDRESS = re.compile(r"(?:([^][:]*):|\[([^][]+)\]:)?([0-9]{1,5})")
_SILENCE = 10  # seconds after which a client that says nothing is hung up on
_OF_RINGS: dict[str, tuple[Family, str]] = {
    "up": (GaugeMetricFamily, "1, or 0 of a ring that is closed or corrupt, which has no other samples."),
    "size_bytes": (GaugeMetricFamily, "Size of the data area."),
    "available_bytes": (GaugeMetricFamily, "Reserved or committed, and not yet consumed."),
    "fill_ratio": (GaugeMetricFamily, "Available bytes as a part of the size."),
    "consumed_bytes": (CounterMetricFamily, "Consumer position."),
    "produced_bytes": (CounterMetricFamily, "Producer position."),
    "read_batches": (CounterMetricFamily, "Times that records were taken out."),
    "read_records": (CounterMetricFamily, "Records that were taken out."),
    "lost_records": (CounterMetricFamily, "Records that found the ring full, as the programs count them."),
}
_OF_PROGRAMS: dict[str, tuple[Family, str]] = {
    "runs": (CounterMetricFamily, "Runs, while the kernel counted them (sysctl kernel.bpf_stats_enabled)."),
    "run_seconds": (CounterMetricFamily, "Time that these runs took."),
    "recursion_misses": (CounterMetricFamily, "Runs that the kernel left out, for the program was running already."),
}
_OF_EVENTS = {
    "truncated": "Events whose arguments were cut.",
    "fault": "Events of which something was not in memory.",
    "lost": "Events that were lost.",
}


class RingCollector(Collector):
    """What rings hold, have had, and have lost. The label is the name of a ring's map, or the keyword's.

    One takes all rings of a registry: `RingCollector(ring, other)`, `RingCollector(first=ring, second=other)`. Raises
    Error for two of one name.
    """

    def __init__(self, *rings: RingBuffer[Any], **named: RingBuffer[Any]) -> None:
        self._rings = named
        for ring in rings:
            if named.setdefault(ring.name, ring) is not ring:
                raise Error(
                    f"there are two rings {ring.name!r}",
                    hint="name them apart: RingCollector(first=ring, second=other)",
                )

    def collect(self) -> Iterable[Metric]:
        """Called for each scrape."""
        return _families("ringbuf", "ring", _OF_RINGS, ((name, _of_ring(ring)) for name, ring in self._rings.items()))


def _of_ring(ring: RingBuffer[Any]) -> dict[str, float]:
    try:
        values = {
            "up": 1,
            "size_bytes": ring.size,
            "available_bytes": ring.available,
            "fill_ratio": ring.fill,
            "consumed_bytes": ring.consumer_position,
            "produced_bytes": ring.producer_position,  # after the consumer's, which is not to be ahead of it
            "read_batches": ring.batches,
            "read_records": ring.records,
        }
        with suppress(ObjectError):  # its reader was not told where the programs count them
            values["lost_records"] = ring.lost
    except Error:
        return {"up": 0}
    return values


class ProgramCollector(Collector):
    """What the programs of an object cost, labelled with their names.

    The kernel counts runs only while `sysctl kernel.bpf_stats_enabled` is 1: without any, there are no samples of them.
    """

    def __init__(self, obj: Object) -> None:
        self._programs = obj.programs

    def collect(self) -> Iterable[Metric]:
        """Called for each scrape."""
        programs = self._programs.items()
        return _families("bpf", "prog", _OF_PROGRAMS, ((name, _of_program(program)) for name, program in programs))


def _of_program(program: Program) -> dict[str, float]:
    try:
        info = program.info()
    except Error:  # closed
        return {}
    values: dict[str, float] = {"recursion_misses": info.recursion_misses}
    if info.run_count:
        values.update(runs=info.run_count, run_seconds=info.run_time_ns / 1e9)
    return values


def _families(
    prefix: str,
    label: str,
    kinds: Mapping[str, tuple[Family, str]],
    samples: Iterable[tuple[str, Mapping[str, float]]],
) -> Iterable[Metric]:
    """A family of metrics for each of the `kinds`, which has the samples of all that has a name."""
    made = {kind: family(f"purebpf_{prefix}_{kind}", text, labels=[label]) for kind, (family, text) in kinds.items()}
    for name, values in samples:
        for kind, value in values.items():
            made[kind].add_metric([name], value)
    return made.values()


class EventCollector(Collector):
    """The events of a tracer: `counts` has their number by kind ("exec") and result ("ok" or "failed").

    How many were "truncated", had a "fault", or were "lost" is in it under these names, with the result "".
    """

    def __init__(self, counts: Mapping[tuple[str, str], int]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape."""
        counts = dict(self._counts)  # at once: the tracer goes on counting
        events = CounterMetricFamily("purebpf_events", "Events that were reported.", labels=["event", "result"])
        for (event, result), count in counts.items():
            if result:
                events.add_metric([event, result], count)
        yield events
        for name, text in _OF_EVENTS.items():
            if (name, "") in counts:
                yield CounterMetricFamily(f"purebpf_events_{name}", text, value=counts[name, ""])


class _Build(Collector):
    def collect(self) -> Iterable[Metric]:
        from . import __version__

        value = {"version": __version__, "kernel": os.uname().release}
        yield InfoMetricFamily("purebpf_build", "The versions of purebpf and of the kernel.", value=value)


class _Handler(WSGIRequestHandler):
    timeout = _SILENCE

    def log_message(self, *_arguments: Any) -> None:
        """Scrapes are nothing to speak of."""


class _Listener(ThreadingMixIn, WSGIServer):
    """Not prometheus_client's start_http_server: that cannot be stopped before 0.20 (Debian 12 has 0.16), and prints a
    traceback when a client hangs up.
    """

    daemon_threads = True
    allow_reuse_port = False  # a second tracer on the port is to hear of it

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        self.address_family, *_type, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        super().__init__((str(place[0]), port), _Handler)
        self.set_app(make_wsgi_app(registry))

    def handle_error(self, *_arguments: Any) -> None:
        """A client has hung up. (What a collector raises is printed elsewhere, and answered with status 500.)"""


class Server:
    """Serves /metrics until it is closed. `address` is where: host and port."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        try:
            self._listener = _Listener(host, port, registry)
        except (socket.gaierror, ValueError) as error:  # an unknown host, and one that cannot even be asked for
            raise Error(
                f"cannot serve metrics at {_place(host, port)}: {error.args[-1]}",
                hint="name an address of this machine, for example 127.0.0.1:9435",
            ) from error
        except OSError as error:
            raise _refusal(_place(host, port), error) from error
        self._thread = Thread(target=self._listener.serve_forever, name="purebpf metrics", daemon=True)
        # A thread, and those that it starts, inherit what is blocked: signals are for the one that waits for them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.address: tuple[str, int] = (host, self._listener.server_port)

    @property
    def url(self) -> str:
        """What a browser, or curl, takes."""
        return f"http://{_place(*self.address)}/metrics"

    def close(self) -> None:
        """Stop, and free the port. Twice is harmless."""
        with suppress(OSError):  # ends the thread's wait, which else looks up every half second
            self._listener.socket.shutdown(socket.SHUT_RDWR)
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _refusal(place: str, error: OSError) -> KernelError:
    number = error.errno or 0
    hint = "name an address of this machine, for example 127.0.0.1:9435"
    if number == errno.EADDRINUSE:
        hint = "another program listens there: name another port; with port 0 the kernel chooses a free one"
    if number == errno.EACCES:
        hint = "name a port above 1023: those below take CAP_NET_BIND_SERVICE"
    reason = f"{sys.errno_name(number)} ({os.strerror(number)})"
    return KernelError(f"cannot serve metrics at {place}: {reason}", errno=number, hint=hint)


def serve(address: str, *collectors: Collector) -> Server:
    """Serve them at "HOST:PORT", ":PORT" or "PORT" (this machine only), "[::1]:PORT"; port 0 takes a free one.

    Raises Error for an address that is none, KernelError for one that is not to be had, and ValueError for two collectors
    of the same metrics.
    """
    host, port = parse_address(address)
    registry = CollectorRegistry(auto_describe=True)
    for collector in (_Build(), *collectors):
        registry.register(collector)
    return Server(host, port, registry)


def parse_address(text: str) -> tuple[str, int]:
    """Host and port; without a host the loopback address, for metrics may tell strangers too much. Raises Error."""
    found = _ADDRESS.fullmatch(text)
    if not found or int(found[3]) > 0xFFFF:
        raise Error(f"{text!r} is no address for metrics", hint="for example 127.0.0.1:9435, [::1]:9435 or :9435")
    return found[1] or found[2] or _LOOPBACK, int(found[3])
