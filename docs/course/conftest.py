"""Set-up for all exercises: the option that tries the solutions, and hypothesis without chance or time limits."""

from __future__ import annotations

import course
import hypothesis
import pytest
from hypothesis import Phase

hypothesis.settings.register_profile(
    "course",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],  # and not Phase.explain, which takes ten times as long
)
hypothesis.settings.load_profile("course")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --solutions."""
    parser.addoption(
        "--solutions", action="store_true", help="test the files in solutions/ instead of the exercises' own"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have `course.answer` know."""
    course.solutions = config.getoption("--solutions")
