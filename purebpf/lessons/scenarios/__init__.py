"""One file, one scenario: SCENARIO."""

from __future__ import annotations

from importlib import import_module

from ...errors import Error
from ..scenario import Scenario

# In the order in which they are best seen.
SCENARIOS = ("submit", "wrap", "busy", "discard", "full", "wakeup", "output", "perf", "overwrite", "user")


def scenario(name: str) -> Scenario:
    """The scenario of this name. Raises Error if there is none."""
    if name not in SCENARIOS:
        raise Error(f"there is no scenario {name!r}", hint=f"there are: {', '.join(SCENARIOS)}")
    found: Scenario = import_module(f".{name}", __name__).SCENARIO
    return found
