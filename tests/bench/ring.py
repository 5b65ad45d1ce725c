"""Drain a full ring by each of the consumer's paths, and with each peer, in turns: nanoseconds for each record."""

from __future__ import annotations

import time
from contextlib import ExitStack

import paths
from results import Report, less_is_better
from rig import FORMS, Peer, Rig, rig

RUNS = 7


def drained(report: Report) -> None:
    """Best of RUNS for each; all take their turns in each round, so that a busy machine does not hit one of them only."""
    with rig(report) as made, ExitStack() as running:
        if made is None:
            return
        if paths.np is None:
            report.note("NumPy is not installed: columns were summed without it.")
        chosen = {name: path for name, path in paths.PATHS.items() if paths.np or path.drain is not paths.column}
        peers = {name: peer for name in ("libbpf", *FORMS) if (peer := made.start(name))}
        for peer in peers.values():
            running.callback(peer.close)
        ours: dict[str, list[float]] = {name: [] for name in chosen}
        theirs: dict[str, list[float]] = {name: [] for name in peers}
        for _ in range(RUNS):
            for name, path in chosen.items():
                ours[name].append(drain_ours(made, path))
            for name, peer in peers.items():
                theirs[name].append(drain_peer(made, name, peer))
    best = {name: min(times) for name, times in theirs.items()}
    report.results += [
        less_is_better(name, path.what, min(ours[name]), "ns/record", path.peer, best.get(path.peer), path.target)
        for name, path in chosen.items()
    ]
    if best:
        report.note("Peers, ns/record: " + ", ".join(f"{name} {found:.1f}" for name, found in best.items()))


def drain_ours(made: Rig, path: paths.Path) -> float:
    """Nanoseconds for each record."""
    obj = made.producer.object
    with obj.events("events") if path.typed else obj.ring("events") as ring:
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
