"""The samples of the documentation run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["rings.md"])
def test_the_samples_of_a_page_run_as_one_program(page: str) -> None:
    samples = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    assert samples
    result = subprocess.run([sys.executable, "-c", "\n".join(samples)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
