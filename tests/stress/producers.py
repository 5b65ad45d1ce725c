"""Producers of the stress test, one on each CPU, and what they produce.

A record's size and bytes are functions of its producer and its sequence number; stress.bpf.c says which.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import purebpf
from purebpf.kernel.cpus import online_cpus

HERE = Path(__file__).parent
HEAD = struct.Struct("=IIQII")  # struct head: producer, length, sequence, lost, discarded
ORDER = struct.Struct("=IIQ")  # struct order: producer, count, share
PLAN, NOISE, LONGEST, LINGERING, DISCARDED = 1 << 16, 1 << 16, 4095, 1 << 14, 1 << 15
MOST_AT_ONCE = 100_000  # records in one run of a program
DONE, FULL = 1, 2
PAGE = mmap.PAGESIZE


class Mismatch(Exception):
    """The ring gave something else than the producers put in, or nothing."""


class Phase(NamedTuple):
    """A way to consume, under a load. `percent` is its share of the records of a full run.

    `pauses` between runs of a few records make a producer so slow that the consumer has to sleep; `hold` is how long a
    lease is kept open, `stop` how long the consumer is stopped by a signal, and for how long not: all in seconds.
    """

    consume: str
    percent: float
    plan: str = "mixed"
    ring: int = 1 << 20
    pauses: tuple[float, ...] = ()
    hold: float = 0
    stop: float = 0


PHASES = {
    "batch": Phase("batch", 30),
    "lease": Phase("lease", 22),
    "iterate": Phase("iterate", 12),
    "group": Phase("group", 3),
    "turns": Phase("turns", 10),
    "async": Phase("async", 5),
    "empty": Phase("empty", 8, plan="empty"),
    "page": Phase("batch", 2, plan="short", ring=PAGE),
    "large": Phase("turns", 0.1, plan="large", ring=PAGE),
    "late": Phase("lease", 0.4, ring=1 << 16, hold=0.02),
    "stop": Phase("turns", 5, ring=1 << 18, stop=1),
    "wait": Phase("batch", 2.5, pauses=(0, 0, 2e-5, 1e-4)),
}


def sizes(plan: str, ring: int, chance: random.Random) -> Iterator[int]:
    """Bytes behind the head, for each record that is planned. 16 bytes of a ring cannot be had: kernel/bpf/ringbuf.c
    keeps one header's worth free, and the record has one."""
    most = min(LONGEST, ring - 16 - HEAD.size)
    while True:
        if plan == "large":
            yield chance.choice((most, most - 1, chance.randint(most // 2, most), chance.randint(0, most)))
        elif plan == "short":
            yield chance.randint(0, 300)
        elif chance.random() < 0.5:  # equal ones in a row, then mixed ones, now and then a long one
            yield from [chance.choice((0, 4, 20, 40, 100))] * chance.randint(2, 500)
        else:
            yield from [chance.randint(0, 150) for _ in range(chance.randint(2, 500))]
            yield chance.randint(0, most)


def plan_of(phase: Phase, chance: random.Random) -> list[int]:
    """The size of each record, with bits for those that stay busy for long, and for those that are discarded: single
    ones, and many in a row."""
    plan = list(islice(sizes(phase.plan, phase.ring, chance), PLAN))
    for at in chance.sample(range(PLAN), PLAN // 1000):
        plan[at] |= LINGERING
    for _ in range(400):
        start = chance.randrange(PLAN)
        for at in range(start, min(PLAN, start + chance.choice((1, 1, 2, 30)))):
            plan[at] |= DISCARDED
    return plan


def produce(obj: purebpf.Object, producer: int, phase: Phase, share: int) -> None:
    """Run the program until `share` records have been submitted."""
    program = obj.programs["produce_empty" if phase.plan == "empty" else "produce_planned"]
    chance, parent = random.Random(producer), os.getppid()
    while os.getppid() == parent:
        count = chance.randint(1, 3) if phase.pauses else MOST_AT_ONCE
        state = program.test_run(context=ORDER.pack(producer, count, share)).return_value
        if state == DONE:
            return
        pause = 2e-4 if state == FULL else chance.choice(phase.pauses or (0,))
        if pause:
            time.sleep(pause)
    raise ProcessLookupError("the consumer has died")


def stop_again_and_again(seconds: float) -> None:
    """Stop the consumer, at whatever it is about, and let it go on."""
    parent = os.getppid()
    time.sleep(0.05)
    while os.getppid() == parent:
        os.kill(parent, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(parent, signal.SIGCONT)
        time.sleep(seconds)


def forked(work: Callable[[], None], cpu: int | None = None) -> int:
    """Do it in a process of its own, whose id is returned, on this CPU."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the consumer, which ends us
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


@contextmanager
def at_work(producers: Sequence[Callable[[], None]], disturber: Callable[[], None] | None) -> Iterator[None]:
    """The producers, one for each CPU; all must end well. No process is left behind."""
    children = [forked(work, cpu) for work, cpu in zip(producers, online_cpus())]
    disturbers = [forked(disturber)] if disturber else []
    try:
        yield
        while children:
            _child, status = os.waitpid(children[0], 0)
            children.pop(0)
            if status:
                raise Mismatch(f"a producer ended with status {status}")
    finally:
        for child in children + disturbers:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def compiled() -> purebpf.ObjectSpec:
    """The producers' program."""
    with tempfile.TemporaryDirectory() as folder:
        made = os.path.join(folder, "stress.o")
        include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
        source = str(HERE / "stress.bpf.c")
        subprocess.run(["clang", "-g", "-O2", "-target", "bpf", include, "-c", source, "-o", made], check=True)
        return purebpf.parse(Path(made).read_bytes(), "stress")
