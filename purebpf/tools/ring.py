"""ring: the BPF ring buffer, seen from inside. Scenarios of purebpf.lessons, step by step."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Callable
from dataclasses import replace

from ..errors import NotSupported
from ..lessons.render import picture, plain
from ..lessons.scenario import Outcome, Performance, Scenario
from ..lessons.scenarios import SCENARIOS, scenario
from ..lessons.simulated import simulated
from ..lessons.stage import Plan, Stage
from ..lessons.view import FASTEST, SLOWEST, Reel, View, filmed, opened
from ..tracing.output import Output
from . import screen
from .options import add_ending, interval, map_id

DESCRIPTION = (
    "Show how the BPF ring buffer works: scenarios of a few steps, each with what to expect, what happened, and a picture of"
    " the ring. They run on a simulated ring, on any Unix and without root, or with --kernel on one of the kernel's."
    " Exit status 1 if a step went otherwise. Or watch the ring of a running program, whose consumer does not notice: a line for"
    " each look, which says how full it is, what holds its consumer up, and for how long. On a terminal all that is shown live,"
    " with keys to go on and back."
)

_WIDTH = 80


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ring."""
    names = (*SCENARIOS, "all")
    parser.add_argument(
        "scenario", nargs="?", choices=names, metavar="SCENARIO", help=f"{', '.join(SCENARIOS)}, or all"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--kernel", action="store_true", help="perform it on a ring of this kernel, by BPF programs; needs root"
    )
    which.add_argument("--map-id", type=map_id, metavar="ID", help="watch the ring of a running program; needs root")
    which.add_argument("--pinned", metavar="PATH", help="the same, where it is pinned")
    parser.add_argument(
        "--interval", type=interval, metavar="SECONDS", help="between looks at a ring that is watched (1)"
    )
    add_ending(parser, "looks at a ring that is watched")
    parser.add_argument("--list", action="store_true", help="the scenarios and their titles")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line for each step, with the ring's state"
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        metavar="S",
        help=f"on a terminal: run by itself, S steps a second ({SLOWEST:g} to {FASTEST:g})",
    )
    parser.set_defaults(refuse=parser.error)


def _speed(text: str) -> float:
    value = float(text)
    if not SLOWEST <= value <= FASTEST:
        raise ValueError
    return value


_speed.__name__ = "number of steps"  # argparse puts this into "invalid ... value"


def run(options: argparse.Namespace) -> int:
    """Print to standard output, or show it; 1 if a step was not as expected."""
    if options.map_id is not None or options.pinned is not None:
        return _watch(options)
    if options.interval or options.count or options.duration is not None:
        options.refuse("--interval, --count and --duration are for a ring that is watched: --map-id, --pinned")
    if not (options.json or options.list or options.scenario == "all") and screen.usable():
        return int(not _show(options).held)
    if options.speed:
        options.refuse("--speed is for scenarios that are shown on a terminal, one at a time")
    output = Output()
    if options.list or not options.scenario:
        output.write("".join(f"{name:<10} {scenario(name).title}\n" for name in SCENARIOS))
        return 0
    names = SCENARIOS if options.scenario == "all" else (options.scenario,)
    held, lacking = True, list[str]()
    for name in names:
        try:
            held &= _perform(name, options.kernel, options.json, output)
        except NotSupported as error:
            if len(names) == 1:
                raise
            lacking.append(f"{name}: {error}")
    if lacking:
        raise NotSupported("; ".join(lacking))
    return int(not held)


def _show(options: argparse.Namespace) -> View:
    """On the terminal, until the user quits; the view as it was left. Without a scenario, choose one first."""

    def perform(name: str) -> Reel:
        return filmed(scenario(name), _stage(scenario(name), options.kernel))

    view = View(scenarios=tuple((name, scenario(name).title) for name in SCENARIOS))
    if options.speed:
        view = replace(view, running=True, speed=options.speed)
    if options.scenario:
        view = opened(view, perform(options.scenario))
    return screen.show(view, perform)


def _watch(options: argparse.Namespace) -> int:
    if options.scenario:
        options.refuse(
            f"scenario {options.scenario} and a ring to be watched: it is one or the other;"
            " --kernel performs the scenario on a ring of this kernel"
        )
    if options.list or options.speed:
        options.refuse("--list and --speed are for scenarios, --interval says how often a ring is looked at")
    from . import ring_watch  # late: scenarios need nothing of the kernel

    ring_watch.run(options)
    return 0


def _stage(shown: Scenario, kernel: bool) -> Callable[[Plan], Stage]:
    """What opens the stage that the scenario is to be performed on."""
    if not kernel:
        return simulated
    from ..kernel_stage import kernel_stage  # late: the simulated stage needs nothing of the kernel

    return kernel_stage(shown)


def _perform(name: str, kernel: bool, as_json: bool, output: Output) -> bool:
    """Was every step as expected?"""
    with Performance(scenario(name), _stage(scenario(name), kernel)) as performance:
        output.write(json.dumps(performance.opening()) + "\n" if as_json else _heading(performance))
        held = True
        while performance.next:
            outcome = performance.step()
            output.write(json.dumps(outcome.to_dict()) + "\n" if as_json else _text(outcome))
            held = held and outcome.as_expected
    return held


def _heading(performance: Performance) -> str:
    shown = performance.scenario
    title = f"{shown.name}: {shown.title} ({performance.stage.name})"
    return (
        f"{title}\n{'=' * len(title)}\n{textwrap.fill(shown.teaches, _WIDTH)}\n\n{plain(picture(performance.states))}\n"
    )


def _text(outcome: Outcome) -> str:
    verdict = "As expected." if outcome.as_expected else "NOT AS EXPECTED."
    parts = [f"Expect: {outcome.expectation}", outcome.call, f"{verdict} {outcome.happened}", outcome.because]
    number = f"{outcome.number}/{outcome.of} "
    lines = [
        textwrap.fill(part, _WIDTH, initial_indent="      ", subsequent_indent="      ", break_on_hyphens=False)
        for part in parts
        if part
    ]
    lines[0] = f"{number:<6}{lines[0][6:]}"
    return "\n".join(lines) + f"\n\n{plain(picture(outcome.states))}\n"
