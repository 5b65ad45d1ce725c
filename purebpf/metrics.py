"""Rings and tracers as Prometheus metrics: `pip install 'purebpf[metrics]'`.

A ring of any program, in three lines:

    with purebpf.load("prog.bpf.o") as obj, obj.ring("events", lost="lost") as ring:
        with purebpf.metrics.serve("127.0.0.1:9435", RingCollector(ring)):
            ...

A scrape reads positions from the ring's pages, in a thread of its own: the consumer is not disturbed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .errors import Error, ObjectError
from .kernel.ringbuf import RingBuffer

try:
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
    from prometheus_client.registry import Collector
except ImportError as missing:
    raise Error("metrics need prometheus_client", hint="pip install 'purebpf[metrics]'") from missing

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_LABELS = ["ring"]


class RingCollector(Collector):
    """What a ring holds, has had, and has lost; labelled with its `name`, by default its map's.

    A ring that is closed, or corrupt, has no samples: those of others are not held up.
    """

    def __init__(self, ring: RingBuffer[Any], name: str = "") -> None:
        self._ring, self._name = ring, name or ring.name

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape."""
        try:
            samples = list(self._samples())
        except Error:
            return
        for family, name, text, value in samples:
            metric = family(f"purebpf_ringbuf_{name}", text, labels=_LABELS)
            metric.add_metric([self._name], value)
            yield metric

    def _samples(self) -> Iterator[tuple[Any, str, str, float]]:
        ring = self._ring
        yield GaugeMetricFamily, "size_bytes", "Size of the data area.", ring.size
        available = ring.available
        yield GaugeMetricFamily, "available_bytes", "Reserved or committed, and not yet consumed.", available
        yield GaugeMetricFamily, "fill_ratio", "Available bytes as a part of the size.", available / ring.size
        yield CounterMetricFamily, "produced_bytes", "Producer position.", ring.producer_position
        yield CounterMetricFamily, "consumed_bytes", "Consumer position.", ring.consumer_position
        yield CounterMetricFamily, "read_batches", "Times that records were taken out.", ring.batches
        with suppress(ObjectError):  # its reader was not told where the programs count them
            yield CounterMetricFamily, "lost_records", "Records that found the ring full.", ring.lost


class EventCollector(Collector):
    """The events of a tracer: `counts` has their number by kind ("exec") and result ("ok" or "failed").

    `truncated` events and what was `lost` are in it under these names, with the result "".
    """

    def __init__(self, counts: Mapping[tuple[str, str], int]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape."""
        events = CounterMetricFamily("purebpf_events", "Events that were reported.", labels=["event", "result"])
        for (event, result), count in list(self._counts.items()):
            if result:
                events.add_metric([event, result], count)
        yield events
        for name, text in (("truncated", "Events whose arguments were cut."), ("lost", "Events that were lost.")):
            yield CounterMetricFamily(f"purebpf_events_{name}", text, value=self._counts.get((name, ""), 0))


class _Build(Collector):
    def collect(self) -> Iterable[Metric]:
        from . import __version__

        yield InfoMetricFamily("purebpf_build", "", value={"version": __version__, "kernel": os.uname().release})


class Server:
    """Serves /metrics until it is closed. `address` is where: host and port."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        # The thread inherits what is blocked: signals are for the one that waits for them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise Error(
                f"cannot serve metrics at {host}:{port}: {error.strerror}",
                hint="name another port, or an address of this machine",
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.address: tuple[str, int] = (host, self._server.server_port)

    def close(self) -> None:
        """Stop, and free the port. Twice is harmless."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def serve(address: str, *collectors: Collector) -> Server:
    """Serve them at "HOST:PORT", ":PORT" or "PORT" (this machine only), "[::1]:PORT"; port 0 takes a free one.

    Raises Error for an address that is none, or is not to be had.
    """
    host, port = parse_address(address)
    registry = CollectorRegistry()
    for collector in (_Build(), *collectors):
        registry.register(collector)
    return Server(host, port, registry)


def parse_address(text: str) -> tuple[str, int]:
    """Host and port; without a host the loopback address, for metrics may tell strangers too much."""
    host, _colon, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 0xFFFF:
        raise Error(f"{text!r} is no address for metrics", hint="for example 127.0.0.1:9435, [::1]:9435 or :9435")
    return host.strip("[]") or "127.0.0.1", int(port)
