"""The live view as plain values: a key makes a new view of a view, and a view is lines for a screen of any size.

A scenario is performed before it is shown, so going back is looking again, and nothing is undone:

    >>> from purebpf.lessons.scenarios import scenario
    >>> from purebpf.lessons.simulated import simulated
    >>> view = opened(View(), filmed(scenario("submit"), simulated))
    >>> view = press(press(view, "space"), "space")
    >>> view.frame.place, view.frame.states[0].producer
    ('1 of 7', 16)
    >>> press(press(view, "b"), "b").frame.states[0].producer
    0

Of each step two frames are shown: what is expected of it, with the rings as they are before, and what happened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from .pane import PAYLOADS, RECORDS, SHOWN
from .render import ALARM, HEADING, PLAIN
from .scenario import Outcome, Performance, Scenario
from .stage import Plan, Stage
from .state import RingState

RING, LIST, HELP = "ring", "list", "help"  # the pages
DEFAULT_SPEED = 0.5  # steps a second
SLOWEST, FASTEST = 0.01, 100.0
_KEPT = 1000  # frames of a ring that is watched
_KEPT_RECORDS = 100_000  # in all of them together


class Text(NamedTuple):
    """A paragraph, what stands in front of it, and its style."""

    label: str
    text: str
    style: str = PLAIN


class Frame(NamedTuple):
    """The rings at one moment. What differs from `before` is marked."""

    place: str
    texts: tuple[Text, ...]
    before: tuple[RingState, ...]
    states: tuple[RingState, ...]


class Reel(NamedTuple):
    """Frames to go through, forwards and back: all of a scenario, or what a ring that is `watched` has held so far.

    `lesson` is the scenario's paragraph. `held` is false if a step was not as expected.
    """

    name: str
    title: str
    stage: str
    lesson: str
    frames: tuple[Frame, ...]
    held: bool = True
    watched: bool = False


@dataclass(frozen=True)
class View:
    """What is on the screen.

    `at` is the frame, `speed` steps (of a watched ring looks) a second. While `running`, `tick` goes on, and a watched
    ring's newest frame is followed. `wanted` is the scenario that somebody else has to open now, see `opened` and
    `refused`, `note` how a watched ring is now, and `held` is false once one did not go as expected; `left` says that it is over.
    """

    reel: Reel | None = None
    scenarios: tuple[tuple[str, str], ...] = ()  # names and titles
    page: str = LIST
    at: int = 0
    running: bool = False
    speed: float = DEFAULT_SPEED
    shown: str = RECORDS
    chosen: int = 0
    wanted: str = ""
    message: str = ""
    note: str = ""
    held: bool = True
    left: bool = False

    @property
    def frame(self) -> Frame:
        """The one that is shown; an empty one if nothing has been opened."""
        return self.reel.frames[self.at] if self.reel else Frame("", (), (), ())

    @property
    def last(self) -> int:
        """The number of the last frame."""
        return len(self.reel.frames) - 1 if self.reel else 0

    @property
    def watches(self) -> bool:
        """Is it a ring that others use?"""
        return self.reel is not None and self.reel.watched


def filmed(scenario: Scenario, open_stage: Callable[[Plan], Stage]) -> Reel:
    """Perform all steps. Raises Error if the stage cannot be had."""
    with Performance(scenario, open_stage) as performance:
        states, of = performance.states, len(scenario.steps)
        frames = [Frame(f"0 of {of}", (Text("Lesson", scenario.teaches),), states, states)]
        held = True
        while performance.next:
            outcome = performance.step()
            frames += _frames(outcome, states)
            states, held = outcome.states, held and outcome.as_expected
        return Reel(scenario.name, scenario.title, performance.stage.name, scenario.teaches, tuple(frames), held)


def _frames(outcome: Outcome, before: tuple[RingState, ...]) -> tuple[Frame, Frame]:
    """Of a step: what is expected, and what happened."""
    place = f"{outcome.number} of {outcome.of}"
    step = (Text("Expect", outcome.expectation), Text("Call", outcome.call, HEADING))
    verdict, style = ("As expected.", PLAIN) if outcome.as_expected else ("NOT AS EXPECTED.", ALARM)
    happened = [Text("Happened", f"{verdict} {outcome.happened}", style)]
    happened += [Text("Because", outcome.because)] if outcome.because else []
    return (
        Frame(place, (*step, Text("Happened", "Think first; then press space.", HEADING)), before, before),
        Frame(place, (*step, *happened), before, outcome.states),
    )


class Look(NamedTuple):
    """A ring that others use, seen at a time (`when`, for the screen), and a sentence on how it is; "" if it is well."""

    states: tuple[RingState, ...]
    when: str
    note: str = ""


def watching(name: str, title: str, look: Look, speed: float) -> View:
    """A ring that is not a scenario's, seen for the first time; `looked` goes on, `speed` times a second."""
    text = Text("Seen", "Each change from now on is kept, to go back to.")
    frame = Frame(look.when, (text,), look.states, look.states)
    reel = Reel(name, title, "live", "", (frame,), watched=True)
    return View(reel, page=RING, running=True, speed=max(SLOWEST, min(speed, FASTEST)), note=look.note)


def looked(view: View, look: Look) -> View:
    """The watched ring has been looked at again. Only what has changed makes a frame."""
    reel = view.reel
    if reel is None or look.states == reel.frames[-1].states:
        return replace(view, note=look.note)
    before = reel.frames[-1].states
    frame = Frame(look.when, (Text("Seen", _differences(before, look.states)),), before, look.states)
    frames = _recent((*reel.frames, frame))
    gone = len(reel.frames) + 1 - len(frames)
    at = len(frames) - 1 if view.running else max(0, view.at - gone)
    return replace(view, reel=reel._replace(frames=frames), at=at, note=look.note)


def _recent(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """As many of the last ones as may be kept, one at least."""
    kept = records = 0
    for frame in reversed(frames[-_KEPT:]):
        records += sum(len(state.all_records) for state in frame.states)
        if kept and records > _KEPT_RECORDS:
            break
        kept += 1
    return frames[len(frames) - kept :]


def _differences(before: tuple[RingState, ...], states: tuple[RingState, ...]) -> str:
    parts = []
    for was, now in zip(before, states):
        words = [f"{now.label}:" if len(states) > 1 else ""]
        for name, moved in (("producer", now.producer - was.producer), ("consumer", now.consumer - was.consumer)):
            words.append(f"the {name} position moved by {moved} bytes." if moved else "")
        known = {record.position for record in was.all_records}
        new = sum(1 for record in now.records if record.position not in known)
        words.append(f"{new} new record{'s' * (new != 1)}." if new else "")
        words.append(f"{now.losses - was.losses} more lost." if now.losses != was.losses else "")
        parts.append(" ".join(filter(None, words)))
    told = " ".join(part for part in parts if not part.endswith(":"))
    return told[:1].upper() + told[1:] if told else "Something changed inside records."


def opened(view: View, reel: Reel) -> View:
    """The scenario that was wanted."""
    held = view.held and reel.held
    return replace(view, reel=reel, page=RING, at=0, wanted="", message="", held=held)


def refused(view: View, message: str) -> View:
    """The scenario that was wanted cannot be shown; why."""
    return replace(view, page=LIST, wanted="", message=message)


def interval(view: View) -> float | None:
    """Seconds until time has to be told (`tick`), or the watched ring to be looked at. None: it does not matter."""
    if view.watches:
        return 1 / view.speed
    return 1 / (2 * view.speed) if view.running and view.page == RING else None


def tick(view: View) -> View:
    """Half a step's time has passed."""
    return _to(view, view.at + 1, view.running) if view.running and view.page == RING else view


def press(view: View, key: str) -> View:
    """What a key makes of it: a character, or the name of a key. Keys without a meaning change nothing."""
    action = _KEYS.get(key, "")
    if view.page == HELP and key and action != "leave":
        return _close(view)
    acts = _ON_LIST if view.page == LIST else _ON_RING
    return acts[action](view) if action in acts else view


def _to(view: View, at: int, running: bool = False) -> View:
    """To a frame. At the last one a scenario stops to run."""
    at = max(0, min(at, view.last))
    return replace(view, at=at, running=running and (view.watches or at < view.last))


def _on(view: View) -> View:
    return replace(view, running=False) if view.running else _to(view, view.at + 1)


def _run(view: View) -> View:
    """From the start if it is over; of a watched ring, follow it."""
    if view.watches:
        return _to(view, view.last, not view.running)
    return replace(view, running=not view.running, at=0 if view.at == view.last else view.at)


def _last(view: View) -> View:
    return _to(view, view.last, running=True)


def _choose(view: View, number: int) -> View:
    return replace(view, chosen=max(0, min(number, len(view.scenarios) - 1)), message="")


def _open(view: View) -> View:
    return replace(view, wanted=view.scenarios[view.chosen][0], message="") if view.scenarios else view


def _list(view: View) -> View:
    """With the scenario chosen that is shown."""
    if not view.scenarios:
        return view
    names = [name for name, _title in view.scenarios]
    shown = view.reel.name if view.reel else ""
    chosen = names.index(shown) if shown in names else view.chosen
    return replace(view, page=LIST, running=False, chosen=chosen)


def _close(view: View) -> View:
    return replace(view, page=RING if view.reel else LIST)


def _show(view: View) -> View:
    return replace(view, shown=SHOWN[(SHOWN.index(view.shown) + 1) % len(SHOWN)])


def _help(view: View) -> View:
    return replace(view, page=HELP, running=view.running and view.watches)


def _leave(view: View) -> View:
    return replace(view, left=True)


class Binding(NamedTuple):
    """Keys that do the same: what it is, for the help; the names of the keys, and in words."""

    action: str
    does: str
    keys: tuple[str, ...]
    words: str


BINDINGS = (
    Binding(
        "on", "on: what to expect, then what happens", (" ", "space", "enter", "right", "l", "n"), "space enter -> l n"
    ),
    Binding("back", "back", ("left", "h", "b", "p", "backspace"), "<- h b p backspace"),
    Binding("next", "on by a whole step", ("down", "j", "page down"), "down j page-down"),
    Binding("previous", "back by a whole step", ("up", "k", "page up"), "up k page-up"),
    Binding("first", "to the start", ("home", "g", "0"), "home g 0"),
    Binding("last", "to the end", ("end", "G", "$"), "end G $"),
    Binding("run", "run by itself, or pause", ("r",), "r"),
    Binding("faster", "faster", ("+", "=", "f"), "+ f"),
    Binding("slower", "slower", ("-", "_", "d"), "- d"),
    Binding("show", f"{RECORDS}, header bits or {PAYLOADS}", ("v", "tab"), "v tab"),
    Binding("list", "choose a scenario", ("s", "c"), "s"),
    Binding("help", "this page", ("?", "f1"), "? F1"),
    Binding("close", "close this page, or the list", ("escape",), "escape"),
    Binding("leave", "quit", ("q", "Q"), "q Ctrl-C"),
)
_KEYS = {key: binding.action for binding in BINDINGS for key in binding.keys}
_ON_RING: dict[str, Callable[[View], View]] = {
    "on": _on,
    "back": lambda view: _to(view, view.at - 1),
    "next": lambda view: _to(view, view.at + (1 if view.watches else 2 - view.at % 2)),
    "previous": lambda view: _to(view, view.at - (1 if view.watches else 2 - view.at % 2)),
    "first": lambda view: _to(view, 0),
    "last": _last,
    "run": _run,
    "faster": lambda view: replace(view, speed=min(2 * view.speed, FASTEST)),
    "slower": lambda view: replace(view, speed=max(view.speed / 2, SLOWEST)),
    "show": _show,
    "list": _list,
    "help": _help,
    "leave": _leave,
}
_ON_LIST: dict[str, Callable[[View], View]] = {
    "on": _open,
    "next": lambda view: _choose(view, view.chosen + 1),
    "previous": lambda view: _choose(view, view.chosen - 1),
    "first": lambda view: _choose(view, 0),
    "last": lambda view: _choose(view, len(view.scenarios) - 1),
    "back": _close,
    "list": _close,
    "close": _close,
    "help": _help,
    "leave": _leave,
}
