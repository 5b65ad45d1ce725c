"""The course: its solutions pass its tests, and nothing else does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest
from wrong_answers import WRONG

COURSE = Path(__file__).parents[2] / "docs" / "course"
EXERCISES = sorted(path.name for path in COURSE.glob("exercise*"))


class Result(NamedTuple):
    """Of a test: what it raised, "" if nothing, and all that pytest says of it."""

    error: str
    output: str


Results = Mapping[str, Mapping[str, Result]]  # by folder and test


def run(course: Path, *arguments: str) -> Results:
    """Run the tests in a copy of the course."""
    report = course / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not kernel", f"--junitxml={report}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(COURSE.parents[1])}
    subprocess.run(command, cwd=course, env=environment, stdout=subprocess.PIPE, check=False)
    results: dict[str, dict[str, Result]] = {}
    for case in ET.parse(report).iter("testcase"):
        folder = case.attrib["classname"].split(".")[-2]
        failure = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        result = Result("", "") if failure is None else Result(failure.attrib["message"], failure.text or "")
        results.setdefault(folder, {})[case.attrib["name"]] = result
    return results


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, in which each wrong answer is an exercise of its own."""
    copy = tmp_path_factory.mktemp("course")
    shutil.copytree(COURSE, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for number, wrong in enumerate(WRONG):
        folder = copy / "wrong" / name(number)
        shutil.copytree(copy / wrong.exercise, folder)
        solution = (copy / "solutions" / wrong.file).read_text()
        assert wrong.right in solution, wrong
        answer = solution.replace(wrong.right, wrong.wrong, 1)
        compile(answer, wrong.mistake, "exec")
        (folder / wrong.file).write_text(answer)
    return copy


def name(number: int) -> str:
    return f"{WRONG[number].exercise}_{number}"


@pytest.fixture(scope="module")
def failures(course: Path) -> Results:
    """Of untouched exercises, and of each wrong answer the test that must find it. Without the search for the simplest
    example, which is for people."""
    settings = course / "conftest.py"
    settings.write_text(settings.read_text().replace(", Phase.shrink", ""))
    tests = [f"wrong/{name(number)}/test_{wrong.file}::{wrong.found_by}" for number, wrong in enumerate(WRONG)]
    return run(course, *EXERCISES, *tests)


@pytest.mark.parametrize("number", range(len(WRONG)), ids=[f"{wrong.exercise}: {wrong.mistake}" for wrong in WRONG])
def test_a_wrong_answer_is_found(failures: Results, number: int) -> None:
    """By a test of what was asked for: not because a name is missing, or a call is wrong."""
    errors = [result.error for result in failures[name(number)].values() if result.error]
    assert errors
    assert not [error for error in errors if error.startswith(("NameError", "ImportError", "TypeError", "SyntaxError"))]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_an_untouched_exercise_fails_because_nothing_has_been_written(failures: Results, exercise: str) -> None:
    for test, result in failures[exercise].items():
        assert f"NotImplementedError: exercise {exercise[8]}" in result.error, (test, result)


def test_solutions_pass(course: Path) -> None:
    results = run(course, "--solutions", *EXERCISES)
    assert sorted(results) == EXERCISES
    for of_exercise in results.values():
        assert not [(test, result) for test, result in of_exercise.items() if result.error]
