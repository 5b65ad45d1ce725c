"""Shared by all tests: skips that carry their reason, and a watch over descriptors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

STRICT = bool(os.environ.get("PUREBPF_NO_SKIPS"))  # set by .ci/run: there, what can run must run


def why_no_kernel() -> str | None:
    """Why programs cannot be loaded here, or None."""
    if sys.platform != "linux":
        return "not Linux"
    if os.geteuid() != 0:
        return "not root"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_no_kernel()
    for item in items:
        if reason and item.get_closest_marker("kernel"):
            item.add_marker(pytest.mark.skip(reason=f"needs a live kernel and root: {reason}"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
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
