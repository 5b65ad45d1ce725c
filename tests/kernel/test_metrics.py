"""Rings and programs as Prometheus sees them: over HTTP, with the numbers that they have themselves."""

from __future__ import annotations

import mmap
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from ring_sender import SOURCE, Sender

import purebpf
from purebpf.errors import Error, RingCorrupt
from purebpf.kernel.program import run_statistics
from purebpf.metrics import EventCollector, ProgramCollector, RingCollector, Server, serve

pytestmark = pytest.mark.kernel

Samples = dict[tuple[str, str], float]
SIZE = 48  # of a record, with its header
RING = "purebpf_ringbuf_"
PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


@pytest.fixture(autouse=True)
def _all_threads_end() -> Iterator[None]:
    """Each scrape has a thread and a socket for a moment longer than its client."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
    return body.decode()


def values(server: Server) -> Samples:
    """Value of each sample, by its name and its label's value."""
    made = text_string_to_metric_families(fetch(server.url))
    samples = [sample for family in made for sample in family.samples if family.name != "purebpf_build_info"]
    return {(sample.name, "".join(sample.labels.values())): sample.value for sample in samples}


def scraped(*collectors: Collector) -> Samples:
    with serve(":0", *collectors) as server:
        return values(server)


def of(samples: Samples, ring: str) -> dict[str, float]:
    return {name[len(RING) :]: value for (name, label), value in samples.items() if label == ring}


def test_a_ring_has_its_own_numbers(sender: Sender) -> None:
    ring = sender.obj.ring("events", lost="lost")
    with serve(":0", RingCollector(ring)) as server:
        empty = {
            "up": 1,
            "size_bytes": 65536,
            "available_bytes": 0,
            "fill_ratio": 0,
            "consumed_bytes_total": 0,
            "produced_bytes_total": 0,
            "read_batches_total": 0,
            "read_records_total": 0,
            "lost_records_total": 0,
        }
        assert of(values(server), "events") == empty
        sender.send(100)
        unread = {**empty, "available_bytes": 4800, "fill_ratio": 4800 / 65536, "produced_bytes_total": 4800}
        assert of(values(server), "events") == unread
        assert (ring.available, ring.fill, ring.producer_position) == (4800, 4800 / 65536, 4800)
        assert len(ring.consume(60)) == 60
        assert len(ring.consume()) == 40
        read = {"consumed_bytes_total": 4800, "read_batches_total": 2, "read_records_total": 100}
        assert of(values(server), "events") == {**empty, "produced_bytes_total": 4800, **read}


def test_what_finds_the_ring_full_is_lost(sender: Sender) -> None:
    ring = sender.obj.ring("events", lost="lost")
    with serve(":0", RingCollector(ring)) as server:
        sender.send(1000)
        sender.send(1000)
        room = 65536 // SIZE
        samples = of(values(server), "events")
        assert samples["lost_records_total"] == ring.lost == 2000 - room
        assert samples["available_bytes"] == room * SIZE
        assert samples["fill_ratio"] == ring.fill > 0.99
        ring.consume()
        samples = of(values(server), "events")
        assert samples["lost_records_total"] + samples["read_records_total"] == 2000
        assert samples["fill_ratio"] == 0


def test_losses_that_nobody_counts_are_no_sample(sender: Sender) -> None:
    samples = of(scraped(RingCollector(sender.ring)), "events")
    assert "lost_records_total" not in samples
    assert samples["up"] == 1


def test_the_ways_of_reading_count_each_record_once(sender: Sender) -> None:
    ring = sender.obj.ring("events")
    sender.send(10)
    with ring.lease(3) as batch:
        assert len(batch) == 3
        assert (ring.batches, ring.records) == (1, 3)
    next(iter(ring))  # takes the rest out of the ring
    assert (ring.batches, ring.records) == (2, 10)
    with ring.lease(2):
        pass
    assert len(ring.consume(2)) == 2
    assert len(list(ring.drain())) == 2
    assert (ring.batches, ring.records) == (2, 10)
    ring.consume()
    ring.poll(0)
    with ring.lease():
        pass
    assert (ring.batches, ring.records) == (2, 10)
    sender.send(1)
    ring.poll(1)
    assert (ring.batches, ring.records) == (3, 11)


def test_rings_are_told_apart_by_their_names(sender: Sender) -> None:
    typed = sender.obj.ring("typed")
    sender.send(5)
    samples = scraped(RingCollector(sender.ring, typed))
    assert of(samples, "events")["size_bytes"] == 65536
    assert of(samples, "typed")["size_bytes"] == 4096
    assert of(samples, "typed")["available_bytes"] == typed.available > 0
    named = scraped(RingCollector(first=sender.ring, second=typed))
    assert of(named, "first") == of(samples, "events")
    assert of(named, "second") == of(samples, "typed")


def test_two_rings_of_one_name_are_refused(sender: Sender) -> None:
    with pytest.raises(Error, match="two rings 'events'") as caught:
        RingCollector(sender.ring, sender.obj.ring("events"))
    assert "first=" in caught.value.hint


def test_a_closed_ring_is_down_and_holds_up_no_other(sender: Sender) -> None:
    typed = sender.obj.ring("typed")
    collector = RingCollector(sender.ring, typed)
    with serve(":0", collector) as server:
        before = of(values(server), "events")
        typed.close()
        samples = values(server)
    assert of(samples, "typed") == {"up": 0}
    assert of(samples, "events") == before


def test_a_corrupt_ring_is_down_and_holds_up_no_other(sender: Sender) -> None:
    typed = sender.obj.ring("typed")
    sender.send(1)
    page = mmap.mmap(
        sender.obj.maps["typed"].fileno(), mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE
    )
    with page:
        page[:8] = struct.pack("=Q", 1 << 40)  # the consumer, far ahead of the producer
    with pytest.raises(RingCorrupt):
        _ = typed.available
    samples = scraped(RingCollector(sender.ring, typed))
    assert of(samples, "typed") == {"up": 0}
    assert of(samples, "events")["available_bytes"] == SIZE


def test_scrapes_while_another_thread_reads_are_in_order_and_end_with_the_sum(sender: Sender) -> None:
    ring = sender.obj.ring("events", lost="lost")
    rounds = 0
    scraped = threading.Event()

    def work() -> None:
        nonlocal rounds
        while rounds < 300 or not scraped.is_set():
            sender.send(100)
            ring.poll(0)
            rounds += 1

    worker = threading.Thread(target=work)
    seen = []
    with serve(":0", RingCollector(ring)) as server:
        worker.start()
        try:
            seen.extend(of(values(server), "events") for _ in range(20))
        finally:
            scraped.set()
            worker.join()
        seen.append(of(values(server), "events"))
    for one, next_one in zip(seen, seen[1:]):
        for name in ("consumed_bytes_total", "produced_bytes_total", "read_records_total", "read_batches_total"):
            assert one[name] <= next_one[name]
    for sample in seen:
        assert sample["consumed_bytes_total"] <= sample["produced_bytes_total"]
        assert sample["available_bytes"] <= 100 * SIZE
    assert seen[-1]["read_records_total"] == rounds * 100
    assert seen[-1]["consumed_bytes_total"] == rounds * 100 * SIZE
    assert seen[-1]["lost_records_total"] == 0


def test_closing_the_object_while_it_is_scraped_breaks_no_scrape(build: Callable[[str], purebpf.ObjectSpec]) -> None:
    with purebpf.load(build(SOURCE)) as obj:
        collectors = RingCollector(obj.ring("events", lost="lost")), ProgramCollector(obj)
        with serve(":0", *collectors) as server:
            closing = threading.Timer(0.1, obj.close)
            closing.start()
            while values(server)[f"{RING}up", "events"]:
                pass
            closing.join()
            assert values(server) == {(f"{RING}up", "events"): 0}


def test_the_runs_of_programs_are_there_once_they_are_counted(sender: Sender) -> None:
    collector = ProgramCollector(sender.obj)
    assert scraped(collector) == {("purebpf_bpf_recursion_misses_total", "send"): 0}
    with run_statistics():
        for _ in range(3):
            sender.send(10)
    samples, info = scraped(collector), sender.obj.programs["send"].info()
    assert samples["purebpf_bpf_runs_total", "send"] == info.run_count == 3
    assert samples["purebpf_bpf_run_seconds_total", "send"] == info.run_time_ns / 1e9 > 0


def test_a_registry_of_ones_own_takes_a_ring(sender: Sender) -> None:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(RingCollector(sender.ring))
    assert registry.get_sample_value(f"{RING}size_bytes", {"ring": "events"}) == 65536


def test_names_and_helps_follow_the_practices_and_the_documentation(sender: Sender) -> None:
    counts = {("exec", "ok"): 1, ("truncated", ""): 1, ("fault", ""): 1, ("lost", ""): 1}
    collectors = RingCollector(sender.ring), ProgramCollector(sender.obj), EventCollector(counts)
    with serve(":0", *collectors) as server:
        lines = fetch(server.url).splitlines()
    kinds = dict(line.split()[2:] for line in lines if line.startswith("# TYPE"))
    helps = {line.split()[2] for line in lines if line.startswith("# HELP") and len(line.split()) > 4}
    assert len(kinds) == len([line for line in lines if line.startswith("# TYPE")]) > 15
    assert helps == set(kinds)
    for name, kind in kinds.items():
        assert name.startswith("purebpf_")
        assert name.endswith("_total") == (kind == "counter")
    page = PAGE.read_text()
    table = {line.split("`")[1].split("{")[0] for line in page.splitlines() if line.startswith("| `purebpf_")}
    assert table == set(kinds)


def test_a_tracer_counts_what_it_shows_and_ends_by_a_signal_at_once(tmp_path: Path) -> None:
    link = tmp_path / "counted"
    link.symlink_to("/bin/true")
    command = [sys.executable, "-m", "purebpf", "trace-exec", "--json", "--metrics", ":0", "--filename", str(link)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tracer:
        try:
            assert tracer.stderr
            url = tracer.stderr.readline().split()[-1]
            while not shown(url):  # until it is attached
                subprocess.run([link], check=True)
                time.sleep(0.2)
            before = shown(url)
            for _ in range(20):
                subprocess.run([link], check=True)
            time.sleep(0.5)
            count = shown(url)
            assert 'purebpf_ringbuf_lost_records_total{ring="events"} 0.0' in fetch(url)
            start = time.monotonic()
            tracer.send_signal(signal.SIGINT)
            out, _err = tracer.communicate(timeout=20)
            assert time.monotonic() - start < 5
        finally:
            tracer.kill()
    assert before < count == len(out.splitlines())
    assert count - before >= 20


def shown(url: str) -> int:
    """Execs that the tracer has shown."""
    found = re.search(r'^purebpf_events_total{event="exec",result="ok"} (\d+)', fetch(url), re.MULTILINE)
    return int(found[1]) if found else 0


def test_the_samples_of_the_documentation_run() -> None:
    samples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    program = "\n".join(samples).replace("127.0.0.1:9435", "127.0.0.1:0") + "server.close()\n"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
