"""Drain a full ring by each of the consumer's paths, and with each peer, in turns: nanoseconds for each record."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import paths
from results import Report, less_is_better
from rig import FORMS, Peer, Rig, rig

from purebpf.kernel.ringbuf import RingBuffer

RUNS = 7
TURNS = 5  # in each run, of those that take a millisecond


def drained(report: Report) -> None:
    """The best of RUNS: all take their turns in each, so that a busy machine does not hit one of them only.

    Everyone has the ring mapped from first to last.
    """
    with rig(report) as made, ExitStack() as running:
        if made is None:
            return
        if paths.np is None:
            report.note("NumPy is not installed: columns were summed without it.")
        chosen = {name: path for name, path in paths.PATHS.items() if paths.np or path.drain is not paths.column}
        peers = {name: peer for name in ("libbpf", *FORMS) if (peer := made.start(name))}
        for peer in peers.values():
            running.callback(peer.close)
        obj = made.producer.object
        plain, typed = running.enter_context(obj.ring("events")), running.enter_context(obj.events("events"))
        ours: dict[str, list[float]] = {name: [] for name in chosen}
        theirs: dict[str, list[float]] = {name: [] for name in peers}
        for _ in range(RUNS):
            for name, path in chosen.items():
                ring = typed if path.typed else plain
                ours[name] += [drain_ours(made, path, ring) for _ in range(turns(path.peer))]
            for name, peer in peers.items():
                theirs[name] += [drain_peer(made, name, peer) for _ in range(turns(name))]
    best = {name: min(times) for name, times in theirs.items()}
    report.results += [
        less_is_better(name, path.what, min(ours[name]), "ns/record", path.peer, best.get(path.peer), path.target)
        for name, path in chosen.items()
    ]
    if best:
        report.note("Peers, ns/record: " + ", ".join(f"{name} {found:.1f}" for name, found in best.items()))


def turns(peer: str) -> int:
    return TURNS if peer == "libbpf" else 1


def drain_ours(made: Rig, path: paths.Path, ring: RingBuffer[Any]) -> float:
    """Nanoseconds for each record."""
    sent = made.producer.fill(path.program)
    begin = time.perf_counter_ns()
    found = path.drain(ring)
    spent = time.perf_counter_ns() - begin
    made.confirm(path.what, found)
    return spent / sent


def drain_peer(made: Rig, name: str, peer: Peer) -> float:
    """Nanoseconds for each record."""
    sent = made.producer.fill("mixed" if "mixed" in name else "same")
    spent = peer.drain()
    made.confirm(name)
    return spent / sent
