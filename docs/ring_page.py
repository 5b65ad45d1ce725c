"""Makes ring.html, the page on which a reader steps through the scenarios: python docs/ring_page.py

What is shown is what the simulator did, in the form of `purebpf ring --json`; ring_page/ has the page around it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

from purebpf.lessons.scenario import Performance
from purebpf.lessons.scenarios import SCENARIOS, scenario
from purebpf.lessons.simulated import simulated

PAGE = Path(__file__).with_name("ring.html")
PARTS = Path(__file__).with_name("ring_page")
SIZE = 128  # bytes of the rings: as small as all scenarios allow


def page() -> str:
    """The whole page, as it is committed."""
    lines = (json.dumps(entry, separators=(",", ":")).replace("</", "<\\/") for entry in recorded())
    html, style, script = ((PARTS / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    return Template(html).substitute(style=style.strip(), script=script.strip(), recorded="[" + ",\n".join(lines) + "]")


def recorded() -> Iterator[dict[str, Any]]:
    """For each scenario its opening, and an outcome for each step."""
    for name in SCENARIOS:
        with Performance(scenario(name), partial(simulated, size=SIZE)) as performance:
            yield performance.opening()
            while performance.next:
                yield performance.step().to_dict()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
