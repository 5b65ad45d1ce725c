"""The last test of the course's exercise 4: the solution reads a ring of this kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COURSE = Path(__file__).parents[2] / "docs" / "course"


@pytest.mark.kernel
def test_the_solution_reads_a_ring_of_this_kernel() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-q",
        "-m",
        "kernel",
        "--solutions",
        str(COURSE),
    ]
    environment = {**os.environ, "PYTHONPATH": str(COURSE.parents[1])}
    done = subprocess.run(command, cwd=COURSE.parents[1], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
