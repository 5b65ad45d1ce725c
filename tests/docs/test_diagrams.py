"""docs/diagrams/ is current, says to everybody what it shows, and can be read in light and dark."""

from __future__ import annotations

import runpy
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path

import pytest
from browser import Browser

from purebpf.lessons.scenario import run
from purebpf.lessons.scenarios import scenario
from purebpf.lessons.simulated import simulated

DOCS = Path(__file__).parents[2] / "docs"
MAKER = runpy.run_path(str(DOCS / "diagrams.py"))
NAMES = ("submit", "wrap", "busy", "discard", "full", "memory")
SVG = "{http://www.w3.org/2000/svg}"

each_diagram = pytest.mark.parametrize("name", NAMES)


def root(name: str) -> ET.Element:
    return ET.fromstring((DOCS / "diagrams" / f"{name}.svg").read_text(encoding="utf-8"))


def texts(name: str, kind: str = "") -> list[str]:
    """Of this class, in the order in which they are drawn."""
    return [one.text or "" for one in root(name).iter(f"{SVG}text") if kind in one.get("class", "").split() or not kind]


def test_the_diagrams_are_current_and_small() -> None:
    committed = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "diagrams").glob("*.svg")}
    assert committed == MAKER["drawings"](), "run: make pictures"
    assert set(committed) == set(NAMES)
    assert max(map(len, committed.values())) < 20_000


@pytest.mark.parametrize("diagram", MAKER["DIAGRAMS"])
def test_the_steps_went_as_expected_and_positions_and_calls_are_theirs(
    diagram: tuple[str, tuple[int, ...], int],
) -> None:
    name, steps, size, _ = diagram
    outcomes = list(run(scenario(name), partial(simulated, size=size)))
    assert all(outcome.as_expected for outcome in outcomes[: steps[-1]])
    marks = [text for text in texts(name, "bold") if text[:2] in ("C ", "P ")]
    states = [outcomes[number - 1].states[0] for number in steps]
    assert marks == [mark for state in states for mark in (f"C {state.consumer}", f"P {state.producer}")]
    written = " ".join(" ".join(texts(name, "code")).split())
    assert written == " ".join(outcomes[number - 1].call for number in steps)


@each_diagram
def test_readers_who_do_not_see_it_are_told(name: str) -> None:
    drawn = root(name)
    assert drawn.get("role") == "img"
    told = [drawn.find(f"{SVG}{kind}") for kind in ("title", "desc")]
    assert drawn.get("aria-labelledby", "").split() == [one.get("id") for one in told if one is not None]
    assert all(one is not None and one.text for one in told)


@each_diagram
def test_nothing_is_fetched_and_nothing_runs(name: str) -> None:
    elements = list(root(name).iter())
    assert not [one for one in elements if one.tag in (f"{SVG}script", f"{SVG}image", f"{SVG}use")]
    assert not [key for one in elements for key in one.attrib if "href" in key or key.startswith("on")]


@pytest.mark.needs("chromium")
@each_diagram
def test_every_text_is_within_the_picture_and_none_hides_another(chromium: Browser, name: str) -> None:
    chromium.look(800, 800)
    chromium.open(DOCS / "diagrams" / f"{name}.svg")
    script = """[...document.querySelectorAll("text")].map((one) => { const box = one.getBBox();
        return [one.textContent, box.x, box.y + 3, box.x + box.width, box.y + box.height - 3]; })"""
    boxes = chromium.evaluate(script)
    width, height = (float(root(name).get(side, "0")) for side in ("width", "height"))
    assert len(boxes) == len(texts(name))
    for text, left, top, right, bottom in boxes:
        assert 0 <= left < right <= width, text
        assert 0 <= top < bottom <= height, text
    for number, (text, left, top, right, bottom) in enumerate(boxes):
        over = [o[0] for o in boxes[:number] if o[1] < right and left < o[3] and o[2] < bottom and top < o[4]]
        assert over == [], text
