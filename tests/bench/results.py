"""What the benchmarks found: as a table, and for machines as build/bench.json."""

from __future__ import annotations

import json
import os
import platform
import re
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """`ratio` is written so that larger is better; `target` is the least one wanted, None for what is only told.

    `value` and `peer` (None: it is not here) are in `unit`; `against` says in words what the peer is.
    """

    name: str
    what: str
    value: float
    unit: str
    against: str
    peer: float | None
    ratio: float | None
    target: float | None

    @property
    def mark(self) -> str:
        """Was the target met?"""
        if self.target is None or self.ratio is None:
            return ""
        return "met" if self.ratio >= self.target else "**missed**"


def less_is_better(
    name: str, what: str, value: float, unit: str, against: str, peer: float | None, target: float | None = None
) -> Result:
    """A time or a size: the ratio says how many times the peer's it would be."""
    return Result(name, what, value, unit, against, peer, peer / value if peer else None, target)


@dataclass
class Report:
    """What one run of the benchmarks found."""

    results: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Something to tell besides the table; printed at once, too."""
        print(text, flush=True)
        self.notes.append(text)

    def markdown(self) -> str:
        """The table, the notes under it, and on what this was measured."""
        rows = [
            "| what | unit | purebpf | peer | | ratio | target | |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        rows += [
            f"| {r.what} | {r.unit} | {number(r.value)} | {r.against} | {number(r.peer)} | {number(r.ratio)}"
            f" | {number(r.target)} | {r.mark} |"
            for r in self.results
        ]
        notes = [f"- {note}" for note in self.notes]
        made = ", ".join(f"{name} {version}".rstrip() for name, version in {**machine(), **self.versions}.items())
        return "\n".join([*rows, "", *notes, "", f"Measured on: {made}.", ""])

    def write(self, folder: Path) -> None:
        """bench.json (what has a target) and bench.md."""
        folder.mkdir(exist_ok=True)
        found = {
            r.name: {"value": r.value, "unit": r.unit, "peer": r.peer, "ratio": r.ratio, "target": r.target}
            for r in self.results
            if r.target is not None
        }
        (folder / "bench.json").write_text(json.dumps(found, indent=2) + "\n")
        (folder / "bench.md").write_text(self.markdown())

    def record(self, document: Path) -> None:
        """Put the table in place of the one that stands between the document's marks."""
        before, _old, after = re.split("(?s)(?<=<!-- results -->\n)(.*)(?=<!-- end -->)", document.read_text())
        document.write_text(f"{before}\n{self.markdown()}\n{after}")


def number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def machine() -> dict[str, str]:
    """The processor, the kernel and the interpreter; no name of the machine."""
    model = "unknown processor"
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
    release = re.match(r"[\d.]+", os.uname().release)
    try:
        numpy = import_module("numpy").__version__
    except ImportError:
        numpy = "not installed"
    return {
        f"{os.cpu_count()} CPUs, {model}": "",
        "Linux": release[0] if release else "",
        "Python": platform.python_version(),
        "NumPy": numpy,
    }
