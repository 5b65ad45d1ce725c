"""The stage of the running kernel: scenarios of purebpf.lessons are performed by BPF programs on rings of the kernel's.

ring     rings and overwriting rings: one program for a whole scenario, held up after each operation
user     user rings: a program drains what this process produces
perf     perf rings: a program is run on the CPU that is wanted

What a stage does with a ring is in lessons/stages.py, and the same as with a simulated one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from ..kernel.sys import require_supported
from ..lessons.scenario import Scenario
from ..lessons.stage import Plan, Stage
from ..lessons.state import PERF, USER
from . import perf, ring, user


def kernel_stage(scenario: Scenario) -> Callable[[Plan], Stage]:
    """What opens a stage for this scenario: Performance(scenario, kernel_stage(scenario)).

    The stage takes the scenario's operations in their order, as a Performance does. It raises NotPermitted, KernelError,
    and NotSupported where the kernel, or its CPUs, lack what the scenario needs.
    """
    return partial(_open, scenario)


def _open(scenario: Scenario, plan: Plan) -> Stage:
    require_supported()
    name = f"Linux {os.uname().release}"
    if plan.kind == USER:
        return user.open_stage(name, plan)
    if plan.kind == PERF:
        return perf.open_stage(name, plan)
    return ring.open_stage(name, plan, [step.operation for step in scenario.steps])
