"""The short form of the stress test (tests/stress/stress.py), which checks each record; here the sums, once more."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from features import examples

pytestmark = [pytest.mark.kernel, pytest.mark.needs("syscall_program")]

STRESS = Path(__file__).parents[1] / "stress" / "stress.py"
Counts = dict[str, int]


def stress(phase: str, records: int) -> Counts:
    """Run one phase, and check that the sums are exact."""
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    command = [sys.executable, str(STRESS), phase, "--records", str(records), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    counts: Counts = json.loads(done.stdout)
    assert counts["seen"] == counts["submitted"] >= records
    assert counts["attempted"] == counts["seen"] + counts["discarded"] + counts["lost"]
    return counts


@pytest.mark.parametrize("phase", ["batch", "lease", "iterate", "group", "turns", "async"])
def test_each_record_is_seen_once_in_order_or_counted(phase: str) -> None:
    assert stress(phase, examples(200_000))["discarded"] > 0


@pytest.mark.volume  # where all is emulated the consumer seldom gets to sleep
def test_a_sleeping_consumer_is_woken_each_time() -> None:
    assert stress("wait", examples(50_000))["sleeps"] > examples(1_000)


def test_a_ring_of_one_page_goes_round_and_round() -> None:
    stress("page", examples(50_000))


def test_records_as_large_as_the_ring_go_through_one_at_a_time() -> None:
    stress("large", examples(5_000))


def test_empty_records_are_counted() -> None:
    stress("empty", examples(200_000))


def test_what_a_lease_keeps_for_long_is_not_overwritten_but_lost() -> None:
    assert stress("late", examples(20_000))["lost"] > 0


def test_a_stopped_consumer_sees_nothing_twice_and_what_it_missed_was_counted() -> None:
    counts = stress("stop", examples(300_000))
    assert counts["stops"] > 0
    assert counts["lost"] > 0
