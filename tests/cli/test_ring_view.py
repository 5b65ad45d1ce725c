"""ring on a terminal, for real: a pseudo-terminal, keys that are typed, and what an emulator (pyte) then has on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import pyte
import pytest

import purebpf
from purebpf.lessons.scenario import Outcome, run
from purebpf.lessons.scenarios import SCENARIOS, scenario
from purebpf.lessons.simulated import simulated

RIGHT = {"vt100": "\x1bOC", "xterm": "\x1bOC", "linux": "\x1b[C", "screen": "\x1bOC"}
TERMINALS = tuple(RIGHT)
RING = "from purebpf.cli import main; main(['ring', 'busy'])"


class Screen(pyte.Screen):
    """With what pyte lacks of an xterm: REP, the last character again."""

    _last = ""

    def draw(self, data: str) -> None:
        self._last = data[-1:]
        super().draw(data)

    def repeat(self, count: int = 1) -> None:
        self.draw(self._last * count)


class Stream(pyte.ByteStream):
    csi: ClassVar[dict[str, str]] = {**pyte.ByteStream.csi, "b": "repeat"}
    events = pyte.ByteStream.events | {"repeat"}


class Terminal:
    """A terminal in whose foreground a Python runs: `ring` with arguments, or `code`. What it shows is read while waiting."""

    def __init__(self, *arguments: str, rows: int = 24, columns: int = 80, code: str = "", **environment: str) -> None:
        self.screen = Screen(columns, rows)
        self._stream = Stream(self.screen)
        self.written = b""
        self._ours, self.theirs = pty.openpty()
        self._resize(rows, columns)
        self.settings = termios.tcgetattr(self.theirs)
        what = ["-c", code] if code else ["-m", "purebpf", "ring", *arguments]
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, *what],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            env={**kept, "TERM": "xterm", "LC_ALL": "C", **environment},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def _resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows: int, columns: int) -> None:
        self.screen.resize(rows, columns)
        self._resize(rows, columns)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    def _read(self, seconds: float) -> None:
        if select.select([self._ours], [], [], seconds)[0]:
            content = os.read(self._ours, 1 << 16)
            self.written += content
            self._stream.feed(content)

    def until(self, is_so: Callable[[], object]) -> None:
        end = time.monotonic() + 30
        while not is_so():
            assert time.monotonic() < end, "\n".join(self.lines)
            self._read(0.05)

    def shows(self, check: Callable[[Terminal], None]) -> None:
        """Wait until the check holds: a screen comes in pieces."""

        def holds() -> bool:
            try:
                check(self)
            except AssertionError:
                return False
            return True

        end = time.monotonic() + 30
        while not holds() and time.monotonic() < end:
            self._read(0.05)
        check(self)

    def until_title(self, start: str, end: str = "") -> None:
        self.until(lambda: self.lines[0].startswith(start) and self.lines[0].endswith(end))

    def end(self) -> int:
        """The exit status, as a shell would have it."""
        self.until(lambda: self.process.poll() is not None)
        while select.select([self._ours], [], [], 0)[0]:
            self._read(0)
        status = self.process.wait()
        return 128 - status if status < 0 else status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self.theirs)

    def is_clean(self) -> bool:
        """As it was: its settings, the cursor, and nothing reversed."""
        plain = not (self.screen.cursor.attrs.reverse or self.screen.cursor.attrs.bold)
        return termios.tcgetattr(self.theirs) == self.settings and not self.screen.cursor.hidden and plain


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def opens(*arguments: str, **options: object) -> Terminal:
        opened.append(Terminal(*arguments, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield opens
    for one in opened:
        one.close()


def outcomes(name: str) -> Sequence[Outcome]:
    return list(run(scenario(name), simulated))


def state_of(outcome: Outcome) -> Callable[[Terminal], None]:
    """Positions, header words and the strip are those of the state, which the scenario had without a terminal."""

    def check(terminal: Terminal) -> None:
        shown = [line.replace("*", "") for line in terminal.lines]
        (state,) = outcome.states
        assert any(re.search(rf"C consumer position (\d+ -> )?{state.consumer}\b", line) for line in shown)
        assert any(re.search(rf"P producer position (\d+ -> )?{state.producer}\b", line) for line in shown)
        strip = next((line for line in shown if line.startswith("|")), "")
        for record in state.all_records:
            row = next((line.split() for line in shown if line.startswith(f"{record.name} ")), [])
            assert row[1:7] == [
                *(str(number) for number in (record.position, record.offset)),
                f"{record.word:#010x}",
                *(str(number) for number in (int(record.busy), int(record.discard), record.length)),
            ]
            sign = {"busy": "~", "committed": "#", "discarded": "x", "consumed": "-"}[record.state]
            cells = record.stride // 8
            assert strip[1 + record.offset // 8 :][:cells] == record.name + sign * (cells - 1)
        assert strip[1 + state.producer // 8 : 65].strip(".") == ""

    return check


@pytest.mark.parametrize("term", TERMINALS)
def test_each_step_is_on_the_screen_as_the_scenario_has_it(terminal: Callable[..., Terminal], term: str) -> None:
    shown = terminal("busy", TERM=term)
    shown.until_title(" busy: Two producers", " 0 of 10")
    for outcome in outcomes("busy"):
        shown.type(" ")
        shown.until_title(" busy", f" {outcome.number} of 10")
        shown.until(lambda: "Happened Think first; then press space." in shown.lines)
        assert shown.lines[1].startswith(f"Expect   {outcome.expectation[:40]}")
        shown.type(RIGHT[term])
        shown.until(lambda: any(line.startswith("Happened As expected. ") for line in shown.lines))
        shown.shows(state_of(outcome))
    for number in range(9, -1, -1):
        shown.type("k")
        shown.until_title(" busy", f" {number} of 10")
    shown.type("q")
    assert shown.end() == 0
    assert shown.is_clean()
    assert b"Traceback" not in shown.written


def test_what_changed_is_reversed(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("busy", TERM="vt100")
    shown.until_title(" busy", " 0 of 10")
    shown.type("jjjj")
    shown.until_title(" busy", " 4 of 10")

    def check(terminal: Terminal) -> None:
        row = next((y for y, line in enumerate(terminal.lines) if line.startswith("B* ")), 0)
        cells = (terminal.screen.buffer[row][x] for x in range(80))
        assert "".join(cell.data if cell.reverse else " " for cell in cells).split() == ["0x00000018", "0", "committed"]

    shown.shows(check)


@pytest.mark.parametrize(
    ("term", "environment", "coloured"),
    [("xterm", {}, True), ("xterm", {"NO_COLOR": "1"}, False), ("vt100", {}, False)],
)
def test_colours_are_used_where_there_are_some_and_they_are_wanted(
    terminal: Callable[..., Terminal], term: str, environment: dict[str, str], coloured: bool
) -> None:
    shown = terminal("busy", TERM=term, **environment)
    shown.until_title(" busy", " 0 of 10")
    shown.type("j")
    shown.until(lambda: any(line.startswith("A* ") and line.endswith(" busy") for line in shown.lines))
    colours = {cell.fg for row in shown.screen.buffer.values() for cell in row.values()}
    assert (colours != {"default"}) == coloured


def test_a_scenario_is_chosen_where_none_is_named(terminal: Callable[..., Terminal]) -> None:
    shown = terminal()
    shown.until(lambda: shown.lines[23])
    assert [line[3:].split()[0] for line in shown.lines[2:12]] == list(SCENARIOS)
    shown.type("\x1bOB\r")
    shown.until_title(" wrap: ")
    shown.type("s")
    shown.until_title(" The BPF")
    shown.type("G\n")
    shown.until_title(" user: ")
    shown.type("?")
    shown.until_title(" Keys")
    shown.type("q")
    assert shown.end() == 0


def test_another_size_is_drawn_at_once_and_none_is_too_small(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("busy")
    shown.until_title(" busy")
    shown.resize(40, 150)
    shown.until(lambda: any(line.startswith("|" + "." * 128 + "|") for line in shown.lines) and shown.lines[39])
    shown.resize(10, 40)
    shown.until(lambda: shown.lines == ["needs 60x16, has 40x10; q quits", *[""] * 9])
    shown.resize(1, 1)
    shown.until(lambda: shown.lines == ["n"])
    shown.type(" ")
    shown.resize(24, 80)
    shown.until_title(" busy", " 1 of 10")
    shown.type("q")
    assert (shown.end(), shown.is_clean()) == (0, True)


def test_it_runs_by_itself(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("busy", "--speed", "50")
    shown.until(lambda: any(line.endswith(" simulated, the end --") for line in shown.lines))
    shown.shows(state_of(outcomes("busy")[-1]))
    shown.type("q")
    assert shown.end() == 0


@pytest.mark.parametrize("term", ["vt100", "xterm"])
def test_ctrl_c_is_130_and_leaves_a_clean_terminal(terminal: Callable[..., Terminal], term: str) -> None:
    shown = terminal("busy", "--speed", "10", TERM=term)
    shown.until_title(" busy", " 2 of 10")
    shown.type("\x03")
    assert (shown.end(), shown.is_clean()) == (130, True)
    assert b"Traceback" not in shown.written


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_is_told_in_the_status_and_leaves_a_clean_terminal(
    terminal: Callable[..., Terminal], number: signal.Signals
) -> None:
    shown = terminal("busy")
    shown.until_title(" busy")
    shown.process.send_signal(number)
    assert (shown.end(), shown.is_clean()) == (128 + number, True)
    assert b"\x1b[?1049l" in shown.written  # the other screen is left


def test_several_signals_at_once_leave_a_clean_terminal(terminal: Callable[..., Terminal]) -> None:
    several = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
    shown = terminal("busy")
    shown.until_title(" busy")
    for number in (signal.SIGSTOP, *several, signal.SIGCONT):
        shown.process.send_signal(number)
    assert shown.end() in {128 + number for number in several}
    assert shown.is_clean()
    assert b"Traceback" not in shown.written


def test_it_ends_when_the_terminal_of_its_input_is_closed(terminal: Callable[..., Terminal]) -> None:
    closing = """
import os, pty
from purebpf.tools import screen
ours, theirs = pty.openpty()
os.dup2(theirs, 0)
os.close(theirs)
press = screen.press
def closes(view, key):
    if view.at == 2:
        os.close(ours)
    return press(view, key)
screen.press = closes
from purebpf.cli import main; main(['ring', 'busy', '--speed', '50'])
"""
    shown = terminal(code=closing)
    assert (shown.end(), shown.is_clean()) == (128 + signal.SIGPIPE, True)


def test_an_exception_leaves_a_clean_terminal_and_is_told_after_it(terminal: Callable[..., Terminal]) -> None:
    broken = "from purebpf.tools import screen; screen.press = lambda view, key: 1 // 0\n"
    shown = terminal(code=broken + RING)
    shown.until_title(" busy")
    shown.type(" ")
    assert (shown.end(), shown.is_clean()) == (1, True)
    assert shown.written.rindex(b"\x1b[?1049l") < shown.written.index(b"ZeroDivisionError")  # the other screen is left


def test_what_a_stage_refuses_is_told_in_the_list(terminal: Callable[..., Terminal]) -> None:
    refusing = """
from purebpf import NotPermitted
from purebpf.tools import ring
def refused(plan): raise NotPermitted("creating a ring is not permitted", hint="run it as root")
ring.simulated = refused
from purebpf.cli import main; main(['ring'])
"""
    shown = terminal(code=refusing)
    shown.until_title(" The BPF")
    shown.type("\n")
    shown.until(lambda: "creating a ring is not permitted (run it as root)" in shown.lines)
    shown.type("\x03")
    assert (shown.end(), shown.is_clean()) == (130, True)


def test_a_ring_that_others_use_is_watched(terminal: Callable[..., Terminal]) -> None:
    watching = """
from purebpf.cli import catch_signals
from purebpf.formats.ring_producer import SimulatedRing
from purebpf.lessons.state import Recorder
from purebpf.lessons.view import Look
from purebpf.tools import screen
ring, recorder = SimulatedRing(4096), Recorder()
def look():
    if ring.query(3) < 160:
        ring.output(b"event")
    return Look((recorder.state(ring.consumer_page, ring.producer_page, ring.data),), "now")
catch_signals()
screen.watch("events", "of somebody", look, 4.0)
"""
    shown = terminal(code=watching)
    shown.until_title(" events: of somebody")
    shown.type("+++")
    shown.until(lambda: any("P producer position 144 -> 160*" in line for line in shown.lines))
    shown.type("g")
    shown.until(lambda: any("P producer position 16 " in line + " " for line in shown.lines))
    shown.type("q")
    assert (shown.end(), shown.is_clean()) == (0, True)


@pytest.mark.kernel
@pytest.mark.needs("syscall_program", "userfaultfd")
def test_the_kernels_own_ring_is_gone_through_in_the_same_way(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("busy", "--kernel")
    shown.until_title(" busy", " 0 of 10")
    shown.until(lambda: any(line.endswith(f" Linux {os.uname().release} --") for line in shown.lines))
    for outcome in outcomes("busy")[:6]:
        shown.type("j")
        shown.until_title(" busy", f" {outcome.number} of 10")
        shown.shows(state_of(outcome))
    shown.type("kkk")
    shown.shows(state_of(outcomes("busy")[2]))
    shown.type("q")
    assert (shown.end(), shown.is_clean()) == (0, True)


@pytest.mark.kernel
def test_the_ring_of_a_running_program_is_watched(terminal: Callable[..., Terminal]) -> None:
    with purebpf.load(purebpf.prebuilt("ring_output")) as owner:
        shown = terminal("--map-id", str(owner.maps["events"].info().id), "--interval", "0.05")
        shown.until_title(" events: map ")
        for number in range(1, 4):
            owner.programs["output"].test_run()
            shown.until(lambda expected=32 * number: any(f" {expected}* of " in line for line in shown.lines))
        shown.until(lambda: any(line.startswith("Now      the consumer has not moved") for line in shown.lines))
        with owner.ring("events") as ring:
            assert len(ring.consume()) == 3
            shown.until(lambda: any("consumer position 0 -> 96*" in line for line in shown.lines))
        shown.type("b")
        shown.until(lambda: any(" 96* of " in line for line in shown.lines))
        shown.type("q")
        assert (shown.end(), shown.is_clean()) == (0, True)


def plain() -> str:
    command = [sys.executable, "-m", "purebpf", "ring", "busy"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_output(terminal: Callable[..., Terminal]) -> None:
    expected = plain()
    for term in ("dumb", "unknown", ""):
        shown = terminal("busy", TERM=term)
        assert shown.end() == 0
        assert shown.written.decode().replace("\r\n", "\n") == expected


def test_a_python_without_curses_gives_plain_output(terminal: Callable[..., Terminal]) -> None:
    shown = terminal(code="import sys; sys.modules['_curses'] = None\n" + RING)
    assert shown.end() == 0
    assert shown.written.decode().replace("\r\n", "\n") == plain()


@pytest.mark.parametrize(
    "arguments", [("busy", "--json"), ("--list",), ("all",)], ids=lambda arguments: " ".join(arguments)
)
def test_what_is_for_programs_is_printed_on_a_terminal_too(
    terminal: Callable[..., Terminal], arguments: tuple[str, ...]
) -> None:
    shown = terminal(*arguments)
    assert shown.end() == 0
    assert b"\x1b" not in shown.written


def test_curses_is_not_imported_where_nothing_is_shown() -> None:
    code = "import sys; sys.argv = ['', 'ring', 'busy']; import atexit; from purebpf.cli import main\n"
    code += "atexit.register(lambda: print('curses' in sys.modules, file=sys.stderr)); main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stderr == "False\n"


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf", "fast", "1000"])
def test_a_speed_that_is_none_is_refused(speed: str) -> None:
    command = [sys.executable, "-m", "purebpf", "ring", "busy", "--speed", speed]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "number of steps" in result.stderr
