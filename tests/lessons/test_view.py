"""The live view without a terminal: what keys do to it, and that it fits any screen."""

from __future__ import annotations

import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purebpf.formats.ring_producer import SimulatedRing
from purebpf.lessons import layout, render
from purebpf.lessons.operations import Output
from purebpf.lessons.pane import SHOWN
from purebpf.lessons.scenario import Scenario, Step, run
from purebpf.lessons.scenarios import SCENARIOS, scenario
from purebpf.lessons.simulated import simulated
from purebpf.lessons.stage import Plan
from purebpf.lessons.state import KINDS, OVERWRITE, PERF, Recorder, ring_state
from purebpf.lessons.view import (
    BINDINGS,
    FASTEST,
    HELP,
    LIST,
    SLOWEST,
    Look,
    Reel,
    View,
    filmed,
    interval,
    looked,
    opened,
    press,
    refused,
    tick,
    watching,
)
from purebpf.testing import RingImage, hostile_rings

TITLES = tuple((name, scenario(name).title) for name in SCENARIOS)
KEYS = st.sampled_from([key for binding in BINDINGS for key in binding.keys]) | st.text(max_size=2)
SIZES = st.tuples(st.integers(1, 60), st.integers(1, 200))


@cache
def reel(name: str) -> Reel:
    return filmed(scenario(name), simulated)


def view(name: str = "busy", *keys: str) -> View:
    shown = opened(View(scenarios=TITLES), reel(name))
    for key in keys:
        shown = press(shown, key)
    return shown


def text(shown: View, rows: int = 24, columns: int = 80) -> list[str]:
    return render.plain(layout.lines(shown, rows, columns)).splitlines()


def assert_fits(shown: View, rows: int, columns: int) -> None:
    drawn = layout.lines(shown, rows, columns)
    assert len(drawn) <= rows
    known = {*render.STYLES, *layout.STYLES}
    for line in drawn:
        assert sum(len(span.text) for span in line) <= columns
        assert all(span.text.isascii() and span.text.isprintable() for span in line)
        assert all(set(span.style.split()) <= known for span in line)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SCENARIOS), st.lists(KEYS | st.just("TICK"), max_size=24), SIZES, st.booleans())
def test_any_keys_in_any_order_give_a_view_that_fits_any_screen(
    name: str, keys: list[str], size: tuple[int, int], chosen_first: bool
) -> None:
    shown = View(scenarios=TITLES) if chosen_first else view(name)
    for number, key in enumerate(keys):
        shown = tick(shown) if key == "TICK" else press(shown, key)
        if shown.wanted:
            shown = opened(shown, reel(shown.wanted)) if number % 3 else refused(shown, "no \x1b[31m caf\xe9 " * 20)
        assert 0 <= shown.at <= shown.last
        assert SLOWEST <= shown.speed <= FASTEST
        if number % 4 == 0:
            assert_fits(shown, *size)
    assert_fits(shown, *size)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(hostile_rings(), KEYS), min_size=1, max_size=4),
    st.sampled_from([kind for kind in KINDS if kind != PERF]),
    st.sampled_from(SHOWN),
    SIZES,
)
def test_any_ring_that_is_watched_fits_any_screen(
    seen: list[tuple[RingImage, str]], kind: str, what: str, size: tuple[int, int]
) -> None:
    shown = None
    for image, key in seen:
        consumer, producer = (position.to_bytes(8, "little") for position in (image.consumer, image.producer))
        states = (ring_state(consumer, producer, image.data, kind, most=3),)
        look = Look(states, "now", "a word on it " * (image.consumer % 9))
        shown = looked(shown, look) if shown else watching("\x1b[2J", "caf\xe9\n", look, 4.0)
        while shown.shown != what:
            shown = press(shown, "v")
        shown = press(shown, key)
        assert_fits(shown, *size)


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_step_says_first_what_to_expect_then_what_happened(name: str) -> None:
    shown = view(name)
    for outcome in run(scenario(name), simulated):
        before = shown.frame.states
        shown = press(shown, "space")
        drawn = " ".join(" ".join(text(shown)).split())
        assert (shown.frame.states, outcome.expectation in drawn, outcome.happened in drawn) == (before, True, False)
        shown = press(shown, "space")
        drawn = " ".join(" ".join(text(shown)).split())
        assert (shown.frame.states, outcome.expectation in drawn, outcome.happened in drawn) == (
            outcome.states,
            True,
            True,
        )
        assert outcome.call in drawn
        assert outcome.because in drawn
        assert text(shown)[0].endswith(f" {outcome.number} of {outcome.of}")
    assert press(shown, "space") == shown


@pytest.mark.parametrize("name", SCENARIOS)
def test_positions_and_records_of_each_step_are_on_a_small_screen(name: str) -> None:
    shown = view(name)
    while shown.at < shown.last:
        shown = press(shown, "down")
        drawn = text(shown)
        for state in shown.frame.states:
            where = [line.replace("*", "") + " " for line in drawn]
            words = [("consumer position", state.consumer), ("producer position", state.producer)]
            if state.kind == PERF:
                words = [("data_tail", state.consumer), ("data_head", state.producer)]
            for word, value in words:
                assert any(word in line and f" {value} " in line for line in where), (shown.at, word, value)
            for record in state.records:
                row = f" {record.position:>9}{record.offset:>8}  "
                assert any(row in line and record.state in line for line in where), (shown.at, record)
            assert any(f"wake-ups {state.notifications} " in line for line in where)
            assert any(f"lost {state.losses} " in line for line in where)


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_of_a_scenario_is_cut_off_on_a_usual_screen(name: str) -> None:
    shown = view(name)
    while shown.at < shown.last:
        words = [line for line in text(shown) if line[:9].strip() in ("", "Expect", "Call", "Happened", "Because")]
        assert not [line for line in words if line.endswith("...")]
        assert not [line for line in text(shown) if re.match(r"  and \d+ more", line)]
        shown = press(shown, "space")


def test_going_back_shows_the_same_as_before() -> None:
    shown, seen = view("overwrite"), []
    while shown.at < shown.last:
        seen.append(text(shown))
        shown = press(shown, "right")
    for expected in reversed(seen):
        shown = press(shown, "left")
        assert text(shown) == expected


@pytest.mark.parametrize(
    ("keys", "at"),
    [
        (("space",), 1),
        (("l", "n", "enter", "right"), 4),
        (("space", "b"), 0),
        (("b",), 0),
        (("j",), 2),
        (("space", "j"), 2),
        (("j", "j", "k"), 2),
        (("j", "space", "up"), 2),
        (("end",), 20),
        (("G", "space"), 20),
        (("G", "home"), 0),
        (("x", "", "escape", "\xe9"), 0),
    ],
)
def test_keys_go_on_and_back_by_frames_and_by_steps(keys: tuple[str, ...], at: int) -> None:
    assert view("busy", *keys).at == at


def test_it_runs_by_itself_to_the_end_at_the_chosen_speed() -> None:
    shown = view("busy", "r")
    assert interval(shown) == 1.0  # half a step a second, and two frames a step
    assert interval(press(shown, "+")) == 0.5
    assert interval(press(press(shown, "-"), "-")) == 4.0
    frames = []
    while interval(shown):
        shown = tick(shown)
        frames.append(shown.at)
    assert frames == list(range(1, 21))
    assert (press(shown, "r").at, press(shown, "r").running) == (0, True)


@pytest.mark.parametrize("key", ["space", "r", "left", "down", "s", "?", "home", "end"])
def test_keys_that_go_somewhere_pause_it(key: str) -> None:
    shown = press(view("busy", "j", "r"), key)
    assert interval(shown) is None
    assert tick(shown) == shown


def test_the_space_bar_pauses_where_it_is() -> None:
    assert view("busy", "j", "r", "space").at == 2


def test_speed_has_ends() -> None:
    assert view("busy", *"+" * 50).speed == FASTEST
    assert view("busy", *"-" * 50).speed == SLOWEST


def test_a_scenario_is_chosen_from_a_list() -> None:
    shown = View(scenarios=TITLES)
    assert [line[3:].split()[0] for line in text(shown)[2:12]] == list(SCENARIOS)
    shown = press(press(press(shown, "down"), "down"), "up")
    assert text(shown)[3].startswith(" > wrap")
    shown = press(shown, "enter")
    assert shown.wanted == "wrap"
    shown = opened(shown, reel("wrap"))
    assert text(shown)[0].startswith(" wrap: ")
    assert press(press(shown, "j"), "s").chosen == 1
    assert press(press(press(shown, "j"), "s"), "escape") == replace_running(press(shown, "j"))


def replace_running(shown: View) -> View:
    """The same, with what is shown chosen in the list."""
    return press(press(shown, "s"), "s")


def test_what_cannot_be_opened_is_said_in_the_list() -> None:
    shown = refused(press(View(scenarios=TITLES), "enter"), "not permitted (run it as root)")
    assert "not permitted (run it as root)" in text(shown)
    assert (shown.page, shown.wanted) == (LIST, "")
    assert "not permitted" not in "".join(text(press(shown, "down")))


def test_a_list_that_is_longer_than_the_screen_moves_with_the_choice() -> None:
    shown = View(scenarios=tuple((f"name{number}", "A title") for number in range(100)))
    for _ in range(70):
        shown = press(shown, "down")
    assert [line for line in text(shown) if line.startswith(" > name70 ")]


def test_help_names_all_keys_and_any_key_leaves_it() -> None:
    shown = view("busy", "j", "?")
    drawn = text(shown)
    assert shown.page == HELP
    assert all(any(binding.does in line for line in drawn) for binding in BINDINGS)
    assert press(shown, "x") == view("busy", "j")
    assert press(shown, "q").left


def test_records_header_bits_and_payloads_are_shown_in_turn() -> None:
    shown = view("busy", "j", "j", "j", "j")
    assert any(line.split()[:4] == ["B*", "32", "32", "0x00000018"] for line in text(shown))
    shown = press(shown, "v")
    row = next(line.split() for line in text(shown) if line.startswith("B*"))
    assert sorted(row[2:6]) == ["00", "00", "00", "18"]
    assert row[10:] == ["0", "0", f"{24:030b}"]
    shown = press(shown, "tab")
    assert any("71 75 69 63 6b" in line and "quick....." in line for line in text(shown))
    assert press(shown, "v").shown == SHOWN[0]


def test_what_a_step_changed_is_marked_and_nothing_else() -> None:
    drawn = layout.lines(view("busy", "j", "j", "j", "j"), 24, 80)  # B is submitted
    marked = [span for line in drawn for span in line if span.style.startswith("changed")]
    assert [span.text for span in marked] == ["B###", "0x00000018", "0", "committed"]
    drawn = layout.lines(view("busy", "j", "j"), 24, 80)  # B is reserved
    assert "P producer position 32 -> 64*" in text(view("busy", "j", "j"))[12]
    marked = [span for line in drawn for span in line if span.style.startswith("changed")]
    assert [span.text for span in marked][:3] == ["64*", "64*", "B~~~"]
    drawn = layout.lines(view("busy", "j", "j", "space"), 24, 80)  # nothing yet
    assert not [span for line in drawn for span in line if span.style.startswith("changed")]


def test_a_step_that_goes_otherwise_is_said_aloud() -> None:
    step = Step("It fails.", Output("A", 8, "text"), lambda m: m.answer.value == -1)
    wrong = opened(View(), filmed(Scenario("wrong", "Wrong", "Nothing.", Plan(), (step,)), simulated))
    drawn = layout.lines(press(wrong, "j"), 24, 80)
    assert [span.style for line in drawn for span in line if span.text.startswith("NOT AS EXPECTED. ")] == ["alarm"]
    assert not wrong.held
    assert opened(wrong, reel("busy")).held is False


@pytest.mark.parametrize(("rows", "columns"), [(24, 59), (15, 80), (1, 1), (2, 200)])
def test_a_screen_that_is_too_small_is_told_so_in_a_line(rows: int, columns: int) -> None:
    said = f"needs 60x16, has {columns}x{rows}; q quits"
    assert text(view("busy"), rows, columns) == [said[:columns].rstrip()]


def test_a_small_screen_has_the_keys_that_matter_most() -> None:
    assert text(view("busy"), 16, 60)[-1].split() == [
        "space:on",
        "b:back",
        "v:show",
        "s:list",
        "r:run",
        "?:help",
        "q:quit",
    ]


def test_a_large_screen_has_the_lesson_too_and_a_finer_strip() -> None:
    drawn = text(view("busy", "j"), 50, 160)
    assert any(line.startswith("Lesson   Any number of programs") for line in drawn)
    assert any(line.startswith("|A~~~" + "." * 124 + "|") for line in drawn)
    assert not any(line.startswith("Lesson") for line in text(view("busy", "j")))


class Watched:
    """A ring, and what a look at it gives."""

    def __init__(self, size: int = 4096) -> None:
        self.ring, self._recorder = SimulatedRing(size), Recorder()

    def look(self, when: str = "now", note: str = "") -> Look:
        pages = self.ring.consumer_page, self.ring.producer_page, self.ring.data
        return Look((self._recorder.state(*pages),), when, note)


def test_a_watched_ring_is_followed_until_somebody_goes_back() -> None:
    watched = Watched()
    shown = watching("events", "a map", watched.look("10:00:00"), 4.0)
    assert looked(shown, watched.look("10:00:01")) == shown  # nothing has changed
    for second in range(3):
        watched.ring.output(b"event")
        shown = looked(shown, watched.look(f"10:01:0{second}"))
    assert (shown.at, shown.frame.place) == (3, "10:01:02")
    assert "The producer position moved by 16 bytes. 1 new record." in text(shown)[1]
    shown = press(shown, "b")
    watched.ring.output(b"event")
    shown = looked(shown, watched.look("10:02:00"))
    assert (shown.at, shown.last, shown.frame.place) == (2, 4, "10:01:01")
    assert interval(shown) == 0.25  # it is still looked at
    assert press(shown, "r").frame.place == press(shown, "G").frame.place == "10:02:00"
    assert press(shown, "G").running


def test_how_a_watched_ring_is_now_is_said_of_its_newest_state_alone() -> None:
    watched = Watched()
    shown = watching("events", "a map", watched.look(), 4.0)
    watched.ring.output(b"event")
    shown = looked(looked(shown, watched.look()), watched.look(note="nobody has read for 7.0 s"))
    assert (shown.last, "Now      nobody has read for 7.0 s" in text(shown)) == (1, True)
    assert "Now" not in "".join(text(press(shown, "b")))
    assert "Now" not in "".join(text(looked(shown, watched.look())))
    assert "wake-ups" not in "".join(text(shown))  # nobody has counted them


def test_of_a_watched_ring_nobody_has_counted_what_was_overwritten() -> None:
    ring = SimulatedRing(4096, overwrite=True)
    state = ring_state(ring.consumer_page, ring.producer_page, ring.data, OVERWRITE)
    drawn = "".join(text(watching("events", "a map", Look((state,), "now"), 4.0)))
    assert "O overwrite 0" in drawn
    assert "overwritten unread" not in drawn


def test_records_that_are_not_listed_are_drawn_and_counted() -> None:
    ring = SimulatedRing(4096)
    for _ in range(4):
        ring.output(bytes(8))
    state = ring_state(ring.consumer_page, ring.producer_page, ring.data, most=2)
    drawn = text(watching("events", "a map", Look((state,), "now"), 4.0))
    assert any(line.startswith("|####++++....") for line in drawn)
    assert "  and 32 bytes of records that are not listed" in drawn
    assert "+ unlisted" in drawn[-2]


def test_only_the_last_thousand_frames_of_a_watched_ring_are_kept() -> None:
    watched = Watched(64)
    shown = watching("events", "a map", watched.look("0"), 4.0)
    for number in range(1, 1006):
        watched.ring.output(b"")
        watched.ring.ring().consume()
        shown = looked(shown, watched.look(str(number)))
        if number == 998:  # frames 0 to 998 are there
            shown = press(shown, "b")
    assert (shown.last, shown.at) == (999, 991)
    assert shown.frame.place == "997"


def test_a_watched_ring_has_no_scenarios_to_choose_from() -> None:
    shown = watching("events", "a map", Watched().look(), 4.0)
    assert press(shown, "s") == shown
    assert "s:list" not in text(shown)[-1]
