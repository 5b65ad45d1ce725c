"""Stages in memory: the simulators of formats/."""

from __future__ import annotations

from ..formats.perf_producer import SimulatedPerfRing
from ..formats.ring_producer import SimulatedRing
from ..formats.user_ring_consumer import SimulatedUserRing
from .stage import Plan, Stage
from .stages import PerfStage, RingStage, UserStage
from .state import OVERWRITE, PERF, USER

_NAME = "simulated"


def simulated(plan: Plan, page_size: int = 4096, size: int | None = None) -> Stage:
    """A stage for this plan, with memory pages of this size. `size` makes the rings smaller than the kernel would, so many
    bytes, for pictures in which each one is to be seen."""
    size = plan.pages * page_size if size is None else size
    if plan.kind == USER:
        return UserStage(_NAME, SimulatedUserRing(size, page_size=page_size))
    if plan.kind == PERF:
        return PerfStage(_NAME, [SimulatedPerfRing(size, page_size=page_size) for _ in range(plan.cpus)])
    ring = SimulatedRing(size, page_size=page_size, overwrite=plan.kind == OVERWRITE)
    return RingStage(_NAME, plan.kind, ring)
