"""One core produces as fast as it can, another one consumes: how many records a second, and how many are lost.

A record is lost when the ring is full: the producer counts it and goes on. Peers get the same load.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import paths
from results import Report, Result
from rig import Rig, rig

RUNS = 5
SECONDS = 3.0
BURST = 1 << 16  # records that one run of the program tries to send
RATE = 20.0  # million records a second, wanted


class Outcome(NamedTuple):
    """`rate` in million records a second, the lost ones not counted."""

    rate: float
    lost: int
    taken: int

    def __str__(self) -> str:
        part = self.lost / (self.lost + self.taken)
        return f"{self.rate:.1f} million records/s taken, {self.lost:,} lost ({part:.1%})"


def sustained(report: Report) -> None:
    """The batch path, best of RUNS, then the peers."""
    cpus = sorted(os.sched_getaffinity(0))
    with rig(report) as made:
        if made is None or paths.np is None or len(cpus) < 2:
            report.note("Not measured: a sustained load; it needs clang, NumPy and two CPUs.")
            return
        runs = [ours(made, cpus[0], cpus[1]) for _ in range(RUNS)]
        rate = max((run.rate for run in runs if not run.lost), default=0.0)
        what = "sustained, batch path, none lost"
        report.results.append(Result("ring.sustained", what, rate, "million/s", "wanted", RATE, rate / RATE, 1))
        for run in runs:
            report.note(f"Sustained for {SECONDS:.0f} s, purebpf: {run}")
        for name in ("libbpf", "BCC", "BCC, event_of() kept and 0 returned"):
            found = theirs(made, name, cpus[0], cpus[1])
            if found:
                report.note(f"Sustained for {SECONDS:.0f} s, {name}: {found}")


def ours(made: Rig, consuming: int, producing: int) -> Outcome:
    """purebpf takes what there is, again and again, until the producer has ended."""
    total = 0
    with made.producer.object.ring("events") as ring, pinned(consuming):
        child, begin = produce(made, producing), time.monotonic()
        while not os.waitpid(child, os.WNOHANG)[0]:
            total += paths.column(ring)
        total += paths.column(ring)
        spent = time.monotonic() - begin
    made.confirm("purebpf", total)
    return outcome(made, spent)


def theirs(made: Rig, name: str, consuming: int, producing: int) -> Outcome | None:
    """The same by a peer, or None if it is not here."""
    peer = made.start(name, "flat out", cpu=consuming)
    if peer is None:
        return None
    child, begin = produce(made, producing), time.monotonic()
    os.waitpid(child, 0)
    peer.stop()
    spent = time.monotonic() - begin
    made.confirm(name)
    return outcome(made, spent)


def outcome(made: Rig, seconds: float) -> Outcome:
    total = made.producer.total
    return Outcome(total.sent / seconds / 1e6, total.lost, total.sent)


def produce(made: Rig, cpu: int) -> int:
    """Produce on this CPU for SECONDS, in a child process, whose id is returned."""
    made.producer.reset(BURST)
    child = os.fork()
    if child:
        return child
    os.sched_setaffinity(0, {cpu})
    run, end = made.producer.object.programs["same"].test_run, time.monotonic() + SECONDS
    while time.monotonic() < end:
        run()
    os._exit(0)


@contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Run this process on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
