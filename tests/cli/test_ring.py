"""ring: scenarios on the command line."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from purebpf.lessons.operations import Reserve
from purebpf.lessons.scenario import Scenario, Step
from purebpf.lessons.scenarios import SCENARIOS, scenario
from purebpf.lessons.stage import Plan
from purebpf.lessons.state import RingState
from purebpf.tools import ring


def ring_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "purebpf", "ring", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, "LC_ALL": "C"}, check=False
    )


@pytest.mark.parametrize("arguments", [(), ("--list",)])
def test_without_a_scenario_there_is_a_list(arguments: tuple[str, ...]) -> None:
    result = ring_command(*arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(SCENARIOS)


def test_a_scenario_tells_first_what_to_expect_then_what_happened_then_the_ring() -> None:
    result = ring_command("submit")
    assert (result.returncode, result.stderr) == (0, "")
    step = result.stdout[result.stdout.index("1/7") : result.stdout.index("2/7")]
    parts = [
        "1/7   Expect: The record takes 16 bytes",
        "a = bpf_ringbuf_reserve(&events, 5, 0);",
        "As expected. A has 16",
    ]
    places = [step.index(part) for part in [*parts, "ring: 4096 bytes", "|A~..."]]
    assert places == sorted(places)
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_all_scenarios_come_one_after_the_other() -> None:
    result = ring_command("all")
    assert (result.returncode, result.stderr) == (0, "")
    assert [line.split(":")[0] for line in result.stdout.splitlines() if line.endswith("(simulated)")] == list(
        SCENARIOS
    )
    assert "NOT AS EXPECTED" not in result.stdout


def test_json_has_an_object_for_each_state() -> None:
    result = ring_command("wakeup", "--json")
    values = [json.loads(line) for line in result.stdout.splitlines()]
    assert [value["number"] for value in values] == list(range(15))
    assert all(RingState.from_dict(state) for value in values for state in value["states"])
    assert values[0]["title"].startswith("Wake-ups")
    assert all(value["as_expected"] for value in values[1:])


def test_an_unknown_scenario_is_a_wrong_command_line_and_those_there_are_are_named() -> None:
    result = ring_command("sbumit")
    assert (result.returncode, result.stdout) == (2, "")
    assert re.search("invalid choice: 'sbumit' .*submit.*, .*wrap", result.stderr)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_step_that_goes_otherwise_is_status_1(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    steps = tuple(
        Step(text, Reserve("A", 8), lambda m: m.answer.value == 0) for text in ("It is first.", "So is this.")
    )
    monkeypatch.setattr(ring, "scenario", lambda _name: Scenario("submit", "Wrong", "Nothing.", Plan(), steps))
    parser = argparse.ArgumentParser()
    ring.add_arguments(parser)
    status = ring.run(parser.parse_args(["submit", *(["--json"] if as_json else [])]))
    output = capfd.readouterr().out
    assert status == 1
    assert output.count('"as_expected": false' if as_json else "NOT AS EXPECTED") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("busy", "--speed", "2"), "shown on a terminal"),  # it is a pipe
        (("all", "--speed", "2"), "one at a time"),
        (("busy", "--interval", "1"), "for a ring that is watched"),
        (("busy", "--count", "1"), "for a ring that is watched"),
        (("--duration", "1"), "for a ring that is watched"),
        (("busy", "--map-id", "1"), "it is one or the other"),
        (("--map-id", "1", "--speed", "2"), "for scenarios"),
        (("--pinned", "/sys/fs/bpf/events", "--list"), "for scenarios"),
    ],
)
def test_options_that_cannot_be_heeded_are_refused(arguments: tuple[str, ...], said: str) -> None:
    result = ring_command(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())


@pytest.mark.parametrize("arguments", [["busy", "--kernel"], ["--map-id", "3"], ["--pinned", "/sys/fs/bpf/events"]])
def test_the_kernels_rings_are_on_linux_only(arguments: list[str]) -> None:
    code = f"import sys; sys.platform = 'darwin'; from purebpf.cli import main; main({['ring', *arguments]})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (3, "")
    assert "this is darwin" in result.stderr


@pytest.mark.kernel
@pytest.mark.needs("syscall_program", "userfaultfd")
def test_with_kernel_it_is_performed_on_the_kernels_ring() -> None:
    result = ring_command("wrap", "--kernel")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0].endswith(f"(Linux {os.uname().release})")
    assert result.stdout.count("As expected.") == len(scenario("wrap").steps)


@pytest.mark.kernel
@pytest.mark.needs("syscall_program", "userfaultfd", "two_cpus", "user_ringbuf")
@pytest.mark.lacks("ring_overwrite")
def test_with_all_what_this_kernel_lacks_is_said_at_the_end() -> None:
    result = ring_command("all", "--kernel", "--json")
    assert result.returncode == 4
    assert result.stderr.startswith(
        "purebpf: overwrite: creating map 'events': this kernel has no rings that overwrite"
    )
    performed = {json.loads(line)["scenario"] for line in result.stdout.splitlines()}
    assert performed == set(SCENARIOS) - {"overwrite"}


@pytest.mark.kernel
@pytest.mark.needs("syscall_program", "userfaultfd")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")
@pytest.mark.parametrize(("dropped", "named"), [("-all", "lacks CAP_BPF"), ("-sys_ptrace", "CAP_SYS_PTRACE")])
def test_without_a_privilege_it_is_named(dropped: str, named: str) -> None:
    command = ["setpriv", f"--bounding-set={dropped}", sys.executable, "-m", "purebpf", "ring", "busy", "--kernel"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (5, "")
    assert named in result.stderr
    assert "hint:" in result.stderr
