"""The consumer's paths, each a function that drains the ring. They and BCC's callbacks access the same members, and keep
nothing. `same` and `mixed` are the producer's programs (ring.bpf.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, NamedTuple

if TYPE_CHECKING:
    from purebpf.kernel.ringbuf import RingBuffer

try:
    import numpy as np
except ImportError:
    np = None


class Path(NamedTuple):
    """A way to drain the ring that `program` has filled, the peer, and how many times as fast it is to be.

    `drain` returns the sum of the pids, where this costs little, else None.
    """

    what: str
    drain: Callable[[RingBuffer[Any]], int | None]
    peer: str
    target: float | None
    program: str = "same"
    typed: bool = False


def column(ring: RingBuffer[Any]) -> int:
    with ring.lease() as batch:
        return sum(int(np.asarray(run.column("I")).sum()) for run in batch.runs)


def column_without_numpy(ring: RingBuffer[Any]) -> int:
    with ring.lease() as batch:
        return sum(sum(run.column("I")) for run in batch.runs)


def tuples(ring: RingBuffer[Any]) -> None:
    for _pid, _name in ring.consume().unpack("=I16s"):
        pass


def leased_tuples(ring: RingBuffer[Any]) -> None:
    with ring.lease() as batch:
        for _pid, _name in batch.unpack("=I16s"):
            pass


def views(ring: RingBuffer[Any]) -> None:
    for record in ring.consume():
        _first = record[0]


def leased_views(ring: RingBuffer[Any]) -> None:
    with ring.lease() as batch:
        for record in batch:
            _first = record[0]


def iteration(ring: RingBuffer[Any]) -> None:
    for record in ring.drain():
        _first = record[0]


def typed(ring: RingBuffer[Any]) -> None:
    for event in ring.consume():
        _members = event.pid, event.filename


def iterated_events(ring: RingBuffer[Any]) -> None:
    for event in ring.drain():
        _members = event.pid, event.filename


PATHS = {
    "ring.column": Path("batch, headers checked, column to NumPy", column, "libbpf", 1),
    "ring.column.plain": Path("the same, summed without NumPy", column_without_numpy, "libbpf", None),
    "ring.tuples": Path("batch to Python tuples", tuples, "BCC, both members", 25),
    "ring.tuples.leased": Path("the same, of a leased batch", leased_tuples, "BCC, both members", 25),
    "ring.views": Path("one memoryview per record, of a batch", views, "BCC", 7),
    "ring.views.leased": Path("the same, of a leased batch", leased_views, "BCC", 7),
    "ring.views.iterated": Path("the same, iterating the ring", iteration, "BCC", 7),
    "ring.typed": Path("typed events with attribute access", typed, "BCC, both members", 4, typed=True),
    "ring.typed.iterated": Path("the same, iterating the ring", iterated_events, "BCC, both members", 4, typed=True),
    "ring.mixed": Path("mixed sizes, one memoryview per record", views, "BCC, mixed sizes", 5, "mixed"),
    "ring.mixed.iterated": Path("the same, iterating the ring", iteration, "BCC, mixed sizes", 5, "mixed"),
}
