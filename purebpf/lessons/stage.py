"""Where a scenario is performed: on a simulated ring, or on one of the kernel.

A stage has one ring (kind "perf": one for each CPU), a producer for each record's name, and a single consumer.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .operations import Answer, Operation
from .state import RING, RingState


class Plan(NamedTuple):
    """The ring that a scenario needs: its kind (`state.KINDS`), its size in memory pages, and for kind "perf" how many CPUs
    have one."""

    kind: str = RING
    pages: int = 1
    cpus: int = 1


class Stage(Protocol):
    """One ring, and what can be done with it. Made anew for each scenario, and closed at its end."""

    @property
    def name(self) -> str:
        """For a headline: "simulated", or the kernel's release."""

    def do(self, operation: Operation) -> Answer:
        """Do it, and say what it gave."""

    def states(self) -> tuple[RingState, ...]:
        """The ring now, with names and counters; of a perf buffer, the ring of each CPU."""

    def close(self) -> None:
        """Let go of everything."""
