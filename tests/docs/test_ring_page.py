"""docs/ring.html is current, and what it shows in a browser at each step is what the simulator did."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser

from purebpf.lessons.moment import text
from purebpf.lessons.scenarios import SCENARIOS
from purebpf.lessons.state import PERF, RingState

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "ring.html"
MAKER = runpy.run_path(str(DOCS / "ring_page.py"))
PHONE, DESKTOP = (360, 740), (1280, 800)
FIELDS = ("consumer", "producer", "pending", "overwrite", "used", "notifications", "losses", "overwritten")
# What can be read off the screen: texts, and for each ring its numbers, its cells with their marks, its table.
READ = """(() => {
  const text = (id) => document.getElementById(id).innerText;
  const classes = (node) => [...node.classList];
  return {
    title: text("title"), call: text("call"), expectation: text("expectation"), happened: text("happened"),
    because: text("because"), next: text("next"), where: text("where"),
    width: document.documentElement.scrollWidth,
    room: [...document.querySelectorAll("#happened, footer")].map((one) => one.getBoundingClientRect())
      .flatMap((box) => [box.top, box.bottom]),
    rings: [...document.querySelectorAll(".ring")].map((ring) => ({
      values: Object.fromEntries([...ring.querySelectorAll(".now")].map((one) => [one.dataset.field, one.textContent])),
      changed: [...ring.querySelectorAll(".changed .now")].map((one) => one.dataset.field),
      cells: [...ring.querySelectorAll(".column")].map((column) => ({
        state: classes(column.children[1]).find((name) => "STATES".split(" ").includes(name)),
        name: column.querySelector(".header b")?.textContent ?? null,
        marks: [...column.querySelectorAll(".mark")].map((mark) => mark.textContent).join(""),
      })),
      table: [...ring.querySelectorAll("tbody tr")].map((row) => Object.fromEntries(
        [...row.children].map((cell) => [cell.dataset.name, cell.innerText.trim()]))),
      tags: [...ring.querySelectorAll("em")].map((tag) => tag.textContent),
      alarm: ring.querySelector(".alarm")?.textContent ?? "",
    })),
  };
})()""".replace("STATES", "committed busy discarded consumed overwritten lost torn free")

needs_browser = pytest.mark.needs("chromium")
each_scenario = pytest.mark.parametrize("name", SCENARIOS)


def recorded() -> dict[str, list[dict[str, Any]]]:
    """The entries of each scenario, recorded anew."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SCENARIOS}
    for entry in MAKER["recorded"]():
        found[entry["scenario"]].append(entry)
    return found


RECORDED = recorded()


@pytest.fixture(scope="module")
def opened(chromium: Browser) -> Browser:
    chromium.look(*DESKTOP)
    chromium.open(PAGE)
    return chromium


@pytest.fixture
def page(opened: Browser) -> Iterator[Browser]:
    """The page on a desktop, at the start. Afterwards it must have requested nothing, and written nothing to the console."""
    opened.look(*DESKTOP)
    opened.key("1")
    yield opened
    complaints = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert [event for event in opened.events if event["method"] in complaints] == []
    urls = {
        e["params"]["request"]["url"].partition("#")[0]
        for e in opened.events
        if e["method"] == "Network.requestWillBeSent"
    }
    assert urls - {"about:blank"} == {PAGE.as_uri()}
    assert not [event for event in opened.events if event["method"] == "Network.webSocketCreated"]


def cells_of(state: RingState) -> list[str]:
    """The state that each 8 bytes of the data area are in."""
    cells = ["free"] * (state.size // 8)
    for record in state.all_records:
        for at in range(record.offset, record.offset + record.stride, 8):
            cells[at % state.size // 8] = record.state
    if state.torn_at is not None:
        for at in range(state.torn_at, state.producer, 8):
            cells[at % state.size // 8] = "torn"
    return cells


def row_of(state: RingState, number: int) -> dict[str, str]:
    """A record as the table has it."""
    record = state.all_records[number]
    row = {"record": record.name or "-", "payload": f"{record.lost} lost" if record.lost else text(record.payload)}
    row |= {"position": str(record.position), "offset": str(record.offset), "takes up": str(record.stride)}
    if state.kind == PERF:
        return row | {"type": {2: "LOST", 9: "SAMPLE"}[record.word], "size": str(record.second_word)}
    bits = {"BUSY": str(int(record.busy)), "DISCARD": str(int(record.discard)), "length": str(record.length)}
    return row | {"length word": f"{record.word:#010x}", "page offset": str(record.second_word), **bits}


def assert_shows(shown: dict[str, Any], states: list[dict[str, Any]]) -> None:
    """These rings, to the last number."""
    assert len(shown["rings"]) == len(states)
    for ring, values in zip(shown["rings"], states):
        state = RingState.from_dict(values)
        numbers = {name: str(values[name]) for name in FIELDS if values[name] is not None and name in ring["values"]}
        assert {name: value for name, value in ring["values"].items() if name != "asleep"} == numbers
        least = {"consumer", "producer", "used", "notifications", "losses"}
        assert least | {name for name in ("pending", "overwrite") if values[name] is not None} <= set(ring["values"])
        assert ring["values"].get("asleep", "awake") == ("asleep" if state.asleep else "awake")
        assert [cell["state"] for cell in ring["cells"]] == cells_of(state)
        names = {cell["name"] for cell in ring["cells"]} - {None}
        assert names == {record.name for record in state.all_records}
        marks = {"C": state.consumer, "P": state.producer, "O": state.overwrite}
        for letter, position in marks.items():
            at = [number for number, cell in enumerate(ring["cells"]) if letter in cell["marks"]]
            assert at == ([] if position is None else [position % state.size // 8]), letter
        for number, row in enumerate(ring["table"]):
            assert row.pop("state").split()[0] == state.all_records[number].state
            assert row == row_of(state, number)
        assert len(ring["table"]) == len(state.all_records)
        assert state.torn in ring["alarm"]


def assert_tells(shown: dict[str, Any], entry: dict[str, Any], *, happened: bool) -> None:
    """The texts of a step, what happened only once it has."""
    assert shown["where"].startswith(f"Step {entry['number']} of {entry['of']}.")
    assert shown["call"] == entry["call"]
    assert shown["expectation"] == f"Expect. {entry['expectation']}"
    assert shown["happened"] == (f"✓ As expected. {entry['happened']}" if happened else "")
    assert shown["because"] == (f"Why. {entry['because']}" if happened and entry["because"] else "")


def test_the_page_is_current_and_small() -> None:
    assert PAGE.read_text(encoding="utf-8") == MAKER["page"](), "run: make pictures"
    assert PAGE.stat().st_size < 300_000


def test_what_the_page_shows_went_as_expected() -> None:
    entries = [entry for entries in RECORDED.values() for entry in entries if entry["number"]]
    assert all(entry["as_expected"] for entry in entries)
    assert {name: len(entries) - 1 for name, entries in RECORDED.items()} == {
        name: RECORDED[name][0]["of"] for name in SCENARIOS
    }


@needs_browser
@each_scenario
def test_keys_lead_through_all_steps_which_show_what_was_recorded(page: Browser, name: str) -> None:
    opening, *outcomes = RECORDED[name]
    page.key("1234567890"[SCENARIOS.index(name)])
    shown = page.evaluate(READ)
    assert shown["title"] == opening["title"]
    assert_shows(shown, opening["states"])
    before = opening
    for outcome in outcomes:
        page.key(" ")
        shown = page.evaluate(READ)
        assert_tells(shown, outcome, happened=False)
        assert_shows(shown, before["states"])
        assert not any(ring["changed"] or ring["tags"] for ring in shown["rings"])
        page.key("ArrowRight")
        shown = page.evaluate(READ)
        assert_tells(shown, outcome, happened=True)
        assert_shows(shown, outcome["states"])
        for ring, old, new in zip(shown["rings"], before["states"], outcome["states"]):
            assert set(ring["changed"]) == {f for f in ring["values"] if old[f] != new[f]}
            remembered = [*old["records"], *old["past"]]
            assert len(ring["tags"]) == sum(1 for r in [*new["records"], *new["past"]] if r not in remembered)
        before = outcome


@needs_browser
@each_scenario
def test_a_finger_on_a_phone_gets_there_too_and_nothing_hangs_over_the_edge(page: Browser, name: str) -> None:
    page.look(*PHONE)
    page.click(f"#scenarios button:nth-child({SCENARIOS.index(name) + 1})")
    for outcome in RECORDED[name][1:]:
        page.click("#next")
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
        page.click("#next")
        shown = page.evaluate(READ)
        assert_tells(shown, outcome, happened=True)
        assert_shows(shown, outcome["states"])
        assert shown["width"] == PHONE[0]
        top, bottom, edge, _ = shown["room"]
        assert 0 <= top < bottom <= edge, "what happened is not on the screen"


@needs_browser
def test_one_can_go_back_to_the_start_and_to_the_end(page: Browser) -> None:
    page.key("End")
    shown = page.evaluate(READ)
    assert_tells(shown, RECORDED["submit"][-1], happened=True)
    page.key("ArrowLeft")
    assert_tells(page.evaluate(READ), RECORDED["submit"][-1], happened=False)
    page.key("ArrowLeft")
    assert_shows(page.evaluate(READ), RECORDED["submit"][-2]["states"])
    page.key("Home")
    assert page.evaluate(READ)["next"] == "Start"
    page.key("ArrowLeft")
    assert page.evaluate(READ)["next"] == "Start"
    page.click("#last")
    assert page.evaluate(READ)["next"] == "On to wrap"
    page.click("#next")
    assert page.evaluate(READ)["title"] == RECORDED["wrap"][0]["title"]
    page.click("#back")
    page.click("#first")
    assert page.evaluate(READ)["next"] == "Start"


@needs_browser
def test_at_the_very_end_nothing_more_happens(page: Browser) -> None:
    page.key("0")
    page.key("End")
    shown = page.evaluate(READ)
    assert shown["next"] == "The end"
    page.key(" ")
    page.click("#next")
    assert page.evaluate(READ) == shown


@needs_browser
def test_space_on_a_button_presses_it_once(page: Browser) -> None:
    page.click("#scenarios button:nth-child(3)")
    assert page.evaluate("document.activeElement.id") == "next"
    page.key(" ")
    assert page.evaluate(READ)["where"].startswith("Step 1 of 10.")
    assert page.evaluate(READ)["happened"] == ""
    page.key("Enter")
    assert page.evaluate(READ)["happened"] != ""


@needs_browser
def test_a_link_leads_to_a_step(page: Browser) -> None:
    page.open(PAGE, "#busy-4")
    assert_tells(page.evaluate(READ), RECORDED["busy"][4], happened=True)
    page.open(PAGE, "#nonsense")
    assert page.evaluate(READ)["title"] == RECORDED["submit"][0]["title"]


@needs_browser
def test_readers_who_do_not_see_it_are_told(page: Browser) -> None:
    page.open(PAGE, "#busy-4")
    assert page.evaluate("document.getElementById('happened').closest('[aria-live]').ariaLive") == "polite"
    assert page.evaluate("[...document.querySelectorAll('button')].every((one) => one.innerText.trim())")
    assert page.evaluate("document.querySelector('.cells').ariaLabel") == (
        "Data area of 128 bytes: A, busy, 32 bytes from offset 0; B, committed, 32 bytes from offset 32."
    )
    assert page.evaluate("document.querySelector('nav [aria-current=true]').innerText").split()[-1] == "busy"


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_letters_stand_out_from_their_ground_in_light_and_dark(page: Browser, dark: bool) -> None:
    page.look(*DESKTOP, dark=dark)
    script = """((one) => { const style = getComputedStyle(document.querySelector(one)); const light = (colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map((part) => part / 255)
          .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const [low, high] = [light(style.color), light(style.backgroundColor)].sort((a, b) => a - b);
      return (high + 0.05) / (low + 0.05); })"""
    page.open(PAGE, "#busy-9")
    for selector in ("body", "#next", "nav [aria-current=true]", "#happened", ".cell.committed", ".mark.consumer"):
        assert page.evaluate(f"{script}({selector!r})") >= 4.5, selector  # WCAG 2, 1.4.3
