"""The commands and samples of docs/ring.md run, on a ring whose consumer has stopped."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import purebpf

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.needs("syscall_program", "userfaultfd", "user_ringbuf"),
]

PAGE = (Path(__file__).parents[2] / "docs" / "ring.md").read_text()
COMMANDS = re.findall(r"^    (?:sudo )?\.venv/bin/python (.+)$", PAGE, re.MULTILINE)


@pytest.fixture
def stopped(bpffs: Path) -> Iterator[tuple[int, Path]]:
    """The id and the path of a ring with 300 records that nobody reads."""
    with purebpf.load(purebpf.prebuilt("ring_output")) as obj:
        for _ in range(300):
            obj.programs["output"].test_run()
        obj.maps["events"].pin(bpffs / "events")
        yield obj.maps["events"].info().id, bpffs / "events"


def told(text: str, number: int) -> str:
    """What stays the same from run to run."""
    return re.sub(r"\d\d:\d\d:\d\d\.\d{3}|\d\.\d ?s", "T", text.replace(f"map {number},", "map 42,"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_does_what_it_shows(command: str, stopped: tuple[int, Path]) -> None:
    number, path = stopped
    arguments = command.replace("--map-id 42", f"--map-id {number}").replace("/sys/fs/bpf/events", str(path))
    result = subprocess.run(
        [sys.executable, *shlex.split(arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    shown = re.search(rf"^    .*{re.escape(command)}\n\n```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    if shown:
        assert told(result.stdout, number) == told(shown[1], number)
    assert result.stdout


def test_the_page_has_commands_and_one_with_its_output() -> None:
    assert len(COMMANDS) == 7
    assert len(re.findall(r"^```$\n", PAGE, re.MULTILINE)) == 3  # and one behind the sample


def test_the_sample_of_the_page_runs(stopped: tuple[int, Path], capsys: pytest.CaptureFixture[str]) -> None:
    (sample,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    exec(sample.replace("42", str(stopped[0])), {})
    assert capsys.readouterr().out.startswith("0 9600 0.03")
