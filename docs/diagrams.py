"""Makes diagrams/*.svg out of what the simulator did: python docs/diagrams.py

Each shows a few steps of a scenario, one below the other; memory.svg the pages that a consumer maps, at one moment.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from functools import partial
from html import escape
from pathlib import Path
from typing import NamedTuple

from purebpf.formats.pieces import HEADER
from purebpf.lessons.scenario import Outcome, run
from purebpf.lessons.scenarios import scenario
from purebpf.lessons.simulated import simulated
from purebpf.lessons.state import RecordState, RingState

FOLDER = Path(__file__).with_name("diagrams")
WIDTH = 760
_LEFT, _ROW = 312, 80  # where the strips begin; from one step to the next
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1c2430 } .code { font-family: ui-monospace, Menlo, "DejaVu Sans Mono", monospace }
.soft { fill: #59636f; font-size: 11px } .state { font-size: 10px } .middle { text-anchor: middle } .end { text-anchor: end } .bold { font-weight: 700 }
.paper { fill: #fafaf7 } .line { stroke: #d5d8d3; fill: none } .edge { stroke: #1c2430; fill: none } .free { fill: #fff }
.committed { fill: #bfe3c8 } .busy { fill: #ffe0b0 } .discarded { fill: #dcdde2 } .consumed { fill: #f3f3f0 }
.header { fill: #1c2430; opacity: .12 } .again { opacity: .35 } .hatch { stroke-width: 1; fill: none }
.busy-hatch { stroke: #e39a2d } .discarded-hatch { stroke: #8d919c } .consumed-hatch { stroke: #c9ccc6 }
.consumer { fill: #1556c0 } .producer { fill: #9b1c6b }
@media (prefers-color-scheme: dark) {
text { fill: #e6e9ec } .soft { fill: #a3adb8 } .paper { fill: #14181d } .line { stroke: #38424d } .edge { stroke: #e6e9ec }
.free { fill: #1c2229 } .committed { fill: #1f5a37 } .busy { fill: #5c3c10 } .discarded { fill: #3a3f47 } .consumed { fill: #20272e }
.header { fill: #fff } .busy-hatch { stroke: #a06a1c } .discarded-hatch { stroke: #6d7480 } .consumed-hatch { stroke: #47525e }
.consumer { fill: #8ab6ff } .producer { fill: #f3a0d3 } }
"""
_HATCHES = {
    "busy": "M-2 2l4-4M0 8l8-8M6 10l4-4",
    "discarded": "M0 0l8 8M0 8l8-8",
    "consumed": "M4 3v2",
}


class Diagram(NamedTuple):
    """Steps of a scenario, in a ring of so many bytes. `twice` shows both mappings of the data area."""

    scenario: str
    steps: tuple[int, ...]
    size: int = 64
    twice: bool = False


DIAGRAMS = (
    Diagram("submit", (1, 3, 4, 5)),
    Diagram("wrap", (2, 3, 4, 6, 7), twice=True),
    Diagram("busy", (1, 2, 4, 5, 9, 10), size=128),
    Diagram("discard", (2, 3, 5, 6)),
    Diagram("full", (3, 4, 5, 6, 8, 9)),
)


def drawings() -> dict[str, str]:
    """The diagrams as they are committed: the names of their files, without the ending, and their texts."""
    return {diagram.scenario: "".join(_steps(diagram)) for diagram in DIAGRAMS} | {"memory": "".join(_memory())}


# ---- Steps


def _steps(diagram: Diagram) -> Iterator[str]:
    shown = scenario(diagram.scenario)
    outcomes = list(run(shown, partial(simulated, size=diagram.size)))
    told = [outcomes[number - 1] for number in diagram.steps]
    desc = " ".join(f"{outcome.call} {outcome.happened}" for outcome in told)
    height = 40 + _ROW * len(told) + 30
    yield from _opened(height, shown.title, desc)
    strip = _Strip(_LEFT, WIDTH - _LEFT - 14, diagram.size, diagram.twice)
    yield from strip.axis(32)
    for top, outcome in zip(range(40, height, _ROW), told):
        yield _path(f"M12 {top}H{WIDTH - 14}", "line")
        yield from _told(outcome, top)
        yield from strip.draw(outcome.states[0], top + 22)
    key = (
        f"A ring of {diagram.size} bytes, in cells of 8; shaded: a header.  C: consumer position, P: producer position."
    )
    yield _text(12, height - 12, key, "soft")
    yield "</svg>\n"


def _told(outcome: Outcome, top: int) -> Iterator[str]:
    """The call, and what it gave: the first sentence of what happened."""
    call = textwrap.wrap(outcome.call, 40, subsequent_indent="    ", break_long_words=False)
    given = textwrap.wrap(outcome.happened.partition(". ")[0].rstrip(".") + ".", 46)
    for number, line in enumerate(call):
        yield _text(12, top + 26 + 15 * number, line, "code")
    for number, line in enumerate(given):
        yield _text(12, top + 28 + 15 * len(call) + 14 * number, line, "soft")


class _Strip:
    """A data area from `left` on, `width` wide."""

    height = 34

    def __init__(self, left: int, width: int, size: int, twice: bool) -> None:
        self.left, self.size, self.end = left, size, 2 * size if twice else size
        self.scale = width / self.end

    def x(self, offset: int) -> float:
        """Where an offset is."""
        return round(self.left + self.scale * offset, 1)

    def axis(self, y: int) -> Iterator[str]:
        """The offsets."""
        for offset in range(0, self.end, 16 if self.end > 64 else 8):
            yield _text(self.x(offset), y, str(offset), "soft middle" if offset else "soft")
        if self.end > self.size:
            yield _text(self.x(self.size), y - 15, "the same pages again", "soft")

    def draw(self, state: RingState, top: int) -> Iterator[str]:
        """Cells, records, positions."""
        yield _rect(self.x(0), top, self.x(self.end) - self.x(0), self.height, "free")
        ticks = "".join(f"M{self.x(offset)} {top}v{self.height}" for offset in range(HEADER, self.end, HEADER))
        yield _path(ticks, "line")
        for record in state.all_records:
            for begin in (record.offset - self.size, record.offset, record.offset + self.size):
                yield from self._piece(record, begin, top)
        yield _path(f"M{self.x(0)} {top}H{self.x(self.end)}v{self.height}H{self.x(0)}z", "edge")
        if self.end > self.size:
            yield _path(f"M{self.x(self.size)} {top - 4}v{self.height + 8}", "edge")
        yield from self._mark("C", "consumer", state.consumer, top - 1, -1)
        yield from self._mark("P", "producer", state.producer, top + self.height + 1, 1)

    def _piece(self, record: RecordState, begin: int, top: int) -> Iterator[str]:
        """What of the record is to be seen if it begins there: in the first mapping it is itself, elsewhere a repetition."""
        low, high = max(0, begin), min(self.end, begin + record.stride)
        if low >= high:
            return
        again = begin != record.offset and self.end > self.size
        x, width = self.x(low), self.x(high) - self.x(low)
        yield f'<g class="{"again" if again else "once"}">' + _rect(x, top, width, self.height, record.state)
        if record.state in _HATCHES:
            yield f'<rect x="{x}" y="{top}" width="{width:.1f}" height="{self.height}" fill="url(#{record.state})"/>'
        if low == begin:
            yield _rect(x, top, self.scale * HEADER, self.height, "header")
            yield _text(x + max(self.scale * HEADER / 2, 10), top + 22, record.name, "middle bold")
        room = x + (self.scale * HEADER if low == begin else 0)
        if not again and x + width - room > 48:
            yield _text((room + x + width) / 2, top + 21, record.state, "middle state")
        yield _path(f"M{x} {top}v{self.height}M{x + width:.1f} {top}v{self.height}", "edge") + "</g>"

    def _mark(self, letter: str, kind: str, position: int, y: int, down: int) -> Iterator[str]:
        """An arrowhead at the position's offset, from above (down: -1) or below (1), with letter and position."""
        x = self.x(position % self.size)
        yield f'<path class="{kind}" d="M{x} {y}l-5 {9 * down}h10z"/>'
        near_the_end = x > WIDTH - 80
        text = f"{letter} {position}"
        yield _text(
            x - 8 if near_the_end else x + 8, y + (10 if down > 0 else -2), text, "bold end" if near_the_end else "bold"
        )


# ---- The map of the memory


def _memory() -> Iterator[str]:
    outcome = next(outcome for outcome in run(scenario("wrap"), simulated) if outcome.number == 4)
    state = outcome.states[0]
    page, size, record = state.page_size, state.size, state.records[0]
    desc = (
        f"From the map's descriptor a consumer maps the consumer page at offset 0, for reading and writing, and for reading the"
        f" producer page at {page} and the data area twice, at {2 * page} and {2 * page + size}. Record {record.name} of"
        f" {record.stride} bytes begins at {record.offset} of {size} and is in one piece across the border."
    )
    yield from _opened(232, "The pages that a consumer maps", desc)
    top, height = 50, 102
    begins = (12, 138, 290, 519, 748)
    offsets = (0, page, 2 * page, 2 * page + size, 2 * page + 2 * size)
    for x, offset in zip(begins, offsets):
        yield _text(x, top - 8, str(offset), "soft end" if offset == offsets[-1] else "soft")
    yield _text(12, 18, "offset in the map's file", "soft")
    for x, end, name in zip(begins, begins[1:], ("consumer page", "producer page", "data", "data, the same pages")):
        yield _rect(x, top, end - x, height, "free")
        yield _text(x + 8, top + 17, name, "bold")
    yield from _words(20, top + 40, {"consumer position": state.consumer})
    yield from _words(146, top + 40, {"producer position": state.producer, "pending position": state.pending or 0})
    strip = _Strip(begins[2], begins[4] - begins[2], size, True)
    strip.height = 40
    for one in state.all_records:
        for begin in (one.offset - size, one.offset, one.offset + size):
            yield from strip._piece(one, begin, top + height - strip.height)
    for x, end in zip(begins, begins[1:]):
        yield _path(f"M{x} {top}H{end}v{height}H{x}z", "edge")
    below = top + height + 10
    for x, end, access in ((12, 132, "mmap: read, write"), (138, 748, "mmap: read only")):
        yield _path(f"M{x} {below}v6H{end}v-6", "edge")
        yield _text((x + end) / 2, below + 21, access, "middle")
    text = f"{record.name}: {record.stride} bytes from position {record.position}, offset {record.offset} of {size}, in one piece"
    yield _text(begins[4], below + 48, text, "soft end")
    yield "</svg>\n"


def _words(x: int, y: int, words: dict[str, int]) -> Iterator[str]:
    for number, (name, value) in enumerate(words.items()):
        yield _text(x, y + 32 * number, name, "soft")
        yield _text(x, y + 14 + 32 * number, str(value), "code")


# ---- SVG


def _opened(height: int, title: str, desc: str) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' role="img" aria-labelledby="title desc">\n<!-- Made by docs/diagrams.py: do not edit. -->\n'
        f'<title id="title">{escape(title)}</title>\n<desc id="desc">{escape(desc)}</desc>\n<style>{_STYLE}</style>\n<defs>'
    )
    for state, path in _HATCHES.items():
        yield f'<pattern id="{state}" width="8" height="8" patternUnits="userSpaceOnUse">'
        yield f'<path class="hatch {state}-hatch" d="{path}"/></pattern>'
    yield "</defs>\n" + _rect(0, 0, WIDTH, height, "paper")


def _text(x: float, y: float, text: str, classes: str) -> str:
    kept = ' xml:space="preserve"' if "  " in text else ""
    return f'<text x="{x:g}" y="{y:g}" class="{classes}"{kept}>{escape(text)}</text>\n'


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:.1f}" height="{height:g}"/>\n'


def _path(path: str, kind: str) -> str:
    return f'<path class="{kind}" d="{path}"/>\n'


if __name__ == "__main__":
    for _name, _drawing in drawings().items():
        (FOLDER / f"{_name}.svg").write_text(_drawing, encoding="utf-8")
