"""The texts of the course: what they show is so, and the commands in them are understood."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import weak_memory

COURSE = Path(__file__).parents[2] / "docs" / "course"
TEXTS = sorted(COURSE.rglob("README.md"))


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(sys.byteorder != "little", reason="the texts show headers as they are on little-endian machines")
@pytest.mark.parametrize(
    "text", [text for text in TEXTS if ">>>" in text.read_text()], ids=lambda text: text.parent.name
)
def test_what_python_answers_is_what_is_shown(text: Path) -> None:
    (sample,) = blocks("pycon", text.read_text())
    test = doctest.DocTestParser().get_doctest(sample, {}, text.parent.name, str(text), 0)
    result = doctest.DocTestRunner().run(test)
    assert result.failed == 0
    assert result.attempted > 1


def test_the_commands_are_understood() -> None:
    commands = sorted(
        {line for text in TEXTS for block in blocks("sh", text.read_text()) for line in block.splitlines()}
    )
    lists = [shlex.split(command) for command in commands]
    assert {tuple(words[:3]) for words in lists} == {("python", "-m", "pytest")}
    assert len(lists) == 8
    script = f"import pytest, sys\nfor words in {lists}:\n    pytest.main([*words[3:], '--collect-only', '-q']) and sys.exit(words)"
    done = subprocess.run([sys.executable, "-c", script], cwd=COURSE.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_of_a_generator_is_one() -> None:
    (sample,) = blocks("python", (COURSE / "exercise5_barriers" / "README.md").read_text())
    names: dict[str, weak_memory.Consumer] = {}
    exec(sample, names)
    assert not weak_memory.explore(names["one_record"], weak_memory.ARM64, weak_memory.Scenario(64, ())).failure


def test_links_lead_somewhere() -> None:
    for text in TEXTS:
        for link in re.findall(r"\]\((?!https?:)([^)]*)\)", text.read_text()):
            assert (text.parent / link).is_file(), (text, link)
