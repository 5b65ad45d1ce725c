"""Producers on every CPU against the ring consumer: each record exactly once, in order, or counted as lost.

    python tests/stress/stress.py [PHASE…] [--records N] [--json]

Each producer is a process on a CPU of its own that runs a BPF program (BPF_PROG_RUN) which reserves, and then submits or
discards; this process consumes. A record names its producer, its sequence number (every attempt uses one up) and how
many of the producer's attempts were lost or discarded before it, which leaves the number of records that must have been
seen: checked at each record, as are its length and all its bytes. Reservations that fail are counted in a map.
In the end, for each producer: attempted = seen + discarded + lost.

Wake-ups are the kernel's default ones, in all phases. A wait that lasts as long as its time-out while producers are at
work is a stall, and a failure. Needs root, clang, and Linux 5.19 (bpf_ringbuf_reserve_dynptr).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import cycle, islice
from types import FrameType
from typing import Any

from producers import (
    HEAD,
    LONGEST,
    NOISE,
    PHASES,
    PLAN,
    Mismatch,
    at_work,
    compiled,
    plan_of,
    produce,
    stop_again_and_again,
)

import purebpf
from purebpf.formats.batch import Batch
from purebpf.kernel.cpus import online_cpus
from purebpf.kernel.ringbuf import RingBuffer, RingGroup

PATIENCE = 20.0  # seconds without a record that are a stall
TICK = 2.0  # seconds between reports


class Checker:
    """What must come next from each producer, and what has."""

    def __init__(self, plan: list[int], noise: bytes, share: int, producers: int) -> None:
        self.plan, self.noise = [what & LONGEST for what in plan], noise
        self.seen = [0] * producers
        self.left = share * producers

    def one(self, record: memoryview) -> bool:
        """True if it was the last."""
        self._all([HEAD.unpack_from(record)], [record])
        return not self.left

    def batch(self, batch: Batch[memoryview]) -> None:
        """Its records, and the tuples that they are unpacked to."""
        self._all(batch.unpack(HEAD.format), batch)

    def _all(self, heads: Iterable[tuple[int, ...]], records: Sequence[memoryview]) -> None:
        """Compare them with what was produced: heads as they were unpacked, records byte by byte."""
        seen, plan, noise, pack, before = self.seen, self.plan, self.noise, HEAD.pack, sum(self.seen)
        for head, record in zip(heads, records):
            producer, length, sequence, lost, discarded = head
            tail = plan[(sequence + producer * 31337) & (PLAN - 1)]
            start = (sequence * 2654435761 >> 16) & (NOISE - 1)
            if record.tobytes() != pack(*head) + noise[start : start + tail] or length != HEAD.size + tail:
                raise Mismatch(f"record {head} of {len(record)} bytes is damaged: {record.tobytes().hex()}")
            if sequence != seen[producer] + lost + discarded:
                raise Mismatch(f"record {head} comes when {seen[producer]} of this producer's have been seen")
            seen[producer] += 1
        count = sum(seen) - before
        if count != len(records):
            raise Mismatch(f"a batch of {len(records)} records is iterated or unpacked to {count}")
        self.left -= count

    def empty(self, batch: Batch[memoryview]) -> None:
        """The same for empty records, which name no producer."""
        lengths = [len(record) for record in batch]
        if any(lengths) or len(lengths) != len(batch):
            raise Mismatch(f"{len(batch)} empty records have lengths {lengths}")
        self.left -= len(batch)


class Consumer:
    """The ways to consume. `sleeps` counts the waits that began with an empty ring."""

    def __init__(self, ring: RingBuffer[memoryview], check: Checker, hold: float) -> None:
        self.ring, self.check, self.hold = ring, check, hold
        self.sleeps = 0
        self.limits = cycle((None, None, 1000, None, 1, None, 33, None, 0))

    def awake(self) -> None:
        """Wait for a record. A wait that is ended by its time-out finds records, too: it looks once more."""
        self.sleeps += not self.ring.available
        begin = time.monotonic()
        if not self.ring.wait(PATIENCE) or time.monotonic() - begin >= PATIENCE:
            raise Mismatch(f"stalled: a wait ended by its time-out, with {self.ring.available} bytes in the ring")

    def batch(self) -> None:
        """Copies in bulk."""
        while self.check.left:
            self.awake()
            self.check.batch(self.ring.consume(next(self.limits)))

    def empty(self) -> None:
        """The same with empty records."""
        while self.check.left:
            self.awake()
            self.check.empty(self.ring.consume(next(self.limits)))

    def lease(self) -> None:
        """Views into the ring, which must stay what they are until it is handed back, however late."""
        while self.check.left:
            self.awake()
            with self.ring.lease(next(self.limits)) as batch:
                if self.hold:
                    before = batch.memory.tobytes()
                    time.sleep(self.hold)
                    if batch.memory.tobytes() != before:
                        raise Mismatch("leased memory was written to")
                self.check.batch(batch)

    def iterate(self) -> None:
        """Record by record; what stalls is ended by Watch."""
        for record in self.ring:
            if self.check.one(record):
                break

    def group(self) -> None:
        """Record by record to a callback."""
        with RingGroup() as group:
            group.add(self.ring, self.check.one)
            while self.check.left:
                group.poll(limit=next(self.limits))

    def turns(self) -> None:
        """All ways in any order, each of which goes on where the one before stopped."""
        chance = random.Random(0)
        while self.check.left:
            limit, way = next(self.limits), chance.randrange(4)
            if way == 0:
                with self.ring.lease(limit) as batch:
                    self.check.batch(batch)
            elif way == 1:
                self.check.batch(self.ring.poll(PATIENCE, limit))
            else:
                for record in islice(self.ring.drain() if way == 2 else self.ring, min(50, self.check.left)):
                    self.check.one(record)

    def asynchronous(self) -> None:
        """Record by record on asyncio's loop."""

        async def iterate() -> None:
            async for record in self.ring:
                if self.check.one(record):
                    break

        asyncio.run(iterate())


CONSUME: dict[str, Callable[[Consumer], None]] = {
    "batch": Consumer.batch,
    "empty": Consumer.empty,
    "lease": Consumer.lease,
    "iterate": Consumer.iterate,
    "group": Consumer.group,
    "turns": Consumer.turns,
    "async": Consumer.asynchronous,
}


class Watch:
    """Reports, and raises where nothing comes any more. The signals that it is woken by disturb all waits."""

    def __init__(self, name: str, check: Checker, quiet: bool) -> None:
        self.name, self.check, self.quiet = name, check, quiet
        self.total = self.before = check.left
        self.changed = self.begin = time.monotonic()
        self.stops = 0

    def __enter__(self) -> Watch:
        signal.signal(signal.SIGALRM, self.tick)
        signal.signal(signal.SIGCONT, self.continued)
        signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in (signal.SIGALRM, signal.SIGCONT):
            signal.signal(number, signal.SIG_DFL)

    def continued(self, _number: int, _frame: FrameType | None) -> None:
        self.stops += 1

    def tick(self, _number: int, _frame: FrameType | None) -> None:
        now, done = time.monotonic(), self.total - self.check.left
        if self.check.left != self.before:
            self.changed, self.before = now, self.check.left
        elif now - self.changed > PATIENCE + 2 * TICK:
            raise Mismatch(f"stalled: {self.check.left} records are missing; seen of each producer: {self.check.seen}")
        if not self.quiet:
            print(f"  {self.name:8} {done:12,} of {self.total:12,}  {done / (now - self.begin):12,.0f}/s", flush=True)


def run(name: str, records: int, spec: purebpf.ObjectSpec, quiet: bool) -> dict[str, Any]:
    """One phase. Raises Mismatch; else what was counted."""
    phase, chance, cpus = PHASES[name], random.Random(name), online_cpus()
    plan, noise = plan_of(phase, chance), chance.getrandbits(8 * (NOISE + LONGEST)).to_bytes(NOISE + LONGEST, "little")
    spec.variables["plan"].value, spec.variables["noise"].value = plan, noise
    spec.maps["events"].max_entries = phase.ring
    share = -(-records // len(cpus))
    check = Checker(plan, noise, share, len(cpus))
    with purebpf.load(spec) as obj:
        work = [partial(produce, obj, producer, phase, share) for producer in range(len(cpus))]
        disturb = partial(stop_again_and_again, phase.stop) if phase.stop else None
        with at_work(work, disturb), Watch(name, check, quiet) as watch:
            ring = obj.ring("events")
            consumer = Consumer(ring, check, phase.hold)
            CONSUME[phase.consume](consumer)
            seconds = time.monotonic() - watch.begin
        accounts = [obj.maps["accounts"][producer] for producer in range(len(cpus))]
        settle(check, accounts, share, ring, phase.plan == "empty")
    sums = {what: sum(getattr(account, what) for account in accounts) for what in accounts[0]._fields}
    counted = {"sleeps": consumer.sleeps, "stops": watch.stops}
    return {"phase": name, "seen": share * len(cpus), **sums, **counted, "seconds": round(seconds, 2)}


def settle(check: Checker, accounts: list[Any], share: int, ring: RingBuffer[memoryview], unnamed: bool) -> None:
    """The sums are exact, and nothing is left."""
    for account, seen in zip(accounts, check.seen):
        if account.submitted != share or (seen != share and not unnamed):
            raise Mismatch(f"{seen} records seen of {account}")
        if account.attempted != account.submitted + account.discarded + account.lost:
            raise Mismatch(f"{account} does not add up")
    if check.left or ring.available or ring.wait(0) or len(ring.consume()):
        raise Mismatch(f"{ring.available} bytes are left in the ring, {check.left} records were not seen")


def line(done: dict[str, Any]) -> str:
    """For people."""
    rate = done["seen"] / done["seconds"]
    numbers = "".join(f"{what} {done[what]:,}  " for what in ("seen", "discarded", "lost", "sleeps", "stops"))
    return f"{done['phase']:8} {numbers} {done['seconds']:,.1f} s  {rate:,.0f} records/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phases", nargs="*", metavar="PHASE", help=f"of {', '.join(PHASES)}; all by default")
    parser.add_argument("--records", type=int, default=100_000_000, help="to be seen, in all (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print what was counted, a line for each phase")
    options = parser.parse_args()
    names = options.phases or list(PHASES)
    spec, whole, results = compiled(), sum(PHASES[name].percent for name in names), []
    for name in names:
        records = round(options.records * PHASES[name].percent / whole)
        results.append(run(name, records, spec, options.json))
        print(json.dumps(results[-1]) if options.json else line(results[-1]), flush=True)
    if not options.json:
        totals = {what: sum(row[what] for row in results) for what in results[0] if what != "phase"}
        print(line({"phase": "all", **totals}))
        print("each record was seen exactly once, in order and whole, or counted as lost or discarded")


if __name__ == "__main__":
    try:
        main()
    except Mismatch as wrong:
        sys.exit(f"stress: {wrong}")
