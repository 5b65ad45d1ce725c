"""Shared by all tests: skips that carry their reason, and a watch over descriptors."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from features import FEATURES, LACKS, Missing, examples, require, require_absence

SLOW = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}  # others use this machine, too
hypothesis.settings.register_profile("here", max_examples=examples(100), **SLOW)
hypothesis.settings.load_profile("here")
hypothesis.settings.register_profile(  # for machines on which nothing is soon
    "emulated", deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
STRICT = bool(os.environ.get("PUREBPF_NO_SKIPS"))  # set by .ci/run: there, what can run must run


def why_no_kernel() -> str | None:
    """Why programs cannot be loaded here, or None."""
    if sys.platform != "linux":
        return "not Linux"
    if os.geteuid() != 0:
        return "not root"
    return None


def pytest_configure() -> None:
    """To what tests start, signals and output as a terminal gives them.

    nohup and a shell's & have signals ignored. With PYTHONUNBUFFERED one print() is several writes, between which another
    process that shares the pipe may write.
    """
    os.environ.pop("PYTHONUNBUFFERED", None)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in {"SIGHUP", "SIGQUIT"} & set(dir(signal)):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if unknown := LACKS - set(FEATURES):
        raise pytest.UsageError(f"PUREBPF_LACKS: there is no feature {', '.join(sorted(unknown))}")
    reason = why_no_kernel()
    for item in items:
        if reason and item.get_closest_marker("kernel"):
            item.add_marker(pytest.mark.skip(reason=f"needs a live kernel and root: {reason}"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The markers `needs` and `lacks`, whose features features.py knows."""
    if item.get_closest_marker("kernel") and why_no_kernel():
        return
    for marker in item.iter_markers("needs"):
        require(*marker.args)
    for marker in item.iter_markers("lacks"):
        require_absence(*marker.args)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    allowed = call.excinfo is not None and isinstance(call.excinfo.value, Missing)
    if STRICT and report.skipped and not allowed and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where skipping is not allowed: {report.longrepr}"


@pytest.fixture(autouse=True)
def _no_descriptor_leaks() -> Iterator[None]:
    if not os.path.isdir("/proc/self/fd"):
        yield
        return
    before = set(os.listdir("/proc/self/fd"))
    yield
    after = {
        fd: os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if fd not in before and os.path.lexists(f"/proc/self/fd/{fd}")
    }
    assert not after, f"descriptors left open: {after}"


@pytest.fixture
def bpftool() -> Any:
    """Run bpftool and return its JSON; the peer that says what is really in the kernel."""
    import json

    path = shutil.which("bpftool") or shutil.which("bpftool", path="/usr/sbin:/sbin")
    if path is None:
        pytest.skip("bpftool is not installed")

    def run(*arguments: str) -> Any:
        return json.loads(subprocess.run([path, "-j", *arguments], check=True, capture_output=True).stdout)

    return run
