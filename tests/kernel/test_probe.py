"""Probes agree with bpftool's, which uses libbpf's, and refusals are not taken for absence."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from features import FEATURES, present

from purebpf.formats.abi import MapType, ProgType
from purebpf.formats.helpers import HELPERS
from purebpf.kernel import probe

pytestmark = pytest.mark.kernel

# What bpftool 7.1 gets wrong or does not know, and why.
NOT_IN_BPFTOOL = {"cgrp_storage", "arena", "netfilter"}
BPFTOOL_CANNOT = {"struct_ops", "tracing", "ext", "lsm"}  # here the kernel answers EPERM to its probe programs


@pytest.fixture(scope="module")
def features() -> Any:
    import json

    path = "/usr/sbin/bpftool" if os.path.exists("/usr/sbin/bpftool") else "bpftool"
    return json.loads(
        subprocess.run([path, "-j", "feature", "probe", "kernel"], check=True, capture_output=True).stdout
    )


def test_map_types_are_as_bpftool_finds_them(features: Any) -> None:
    theirs = features["map_types"]
    compared = 0
    for kind in MapType:
        name = kind.name.lower()
        if f"have_{name}_map_type" in theirs and name not in NOT_IN_BPFTOOL | BPFTOOL_CANNOT:
            assert probe.has_map_type(kind) == theirs[f"have_{name}_map_type"], name
            compared += 1
    assert compared > 25


def test_program_types_are_as_bpftool_finds_them(features: Any) -> None:
    theirs = features["program_types"]
    compared = 0
    for kind in ProgType:
        name = kind.name.lower()
        if f"have_{name}_prog_type" in theirs and name not in NOT_IN_BPFTOOL | BPFTOOL_CANNOT:
            assert probe.has_prog_type(kind) == theirs[f"have_{name}_prog_type"], name
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("kind", [ProgType.TRACEPOINT, ProgType.KPROBE, ProgType.XDP, ProgType.SOCKET_FILTER])
def test_helpers_are_among_those_that_bpftool_finds(features: Any, kind: ProgType) -> None:
    """It finds too many: libbpf 1.1 takes the newer answer "program of this type cannot use helper" for a yes."""
    theirs = set(features["helpers"][f"{kind.name.lower()}_available_helpers"])
    ours = {f"bpf_{HELPERS[n]}" for n in range(1, len(HELPERS)) if probe.has_helper(kind, n)}
    left_out = {"bpf_trace_printk", "bpf_trace_vprintk", "bpf_probe_write_user"}  # by bpftool, unless "full"
    newer = {"bpf_cgrp_storage_get", "bpf_cgrp_storage_delete", "bpf_user_ringbuf_drain", "bpf_ktime_get_tai_ns"}
    assert ours - theirs <= left_out | newer
    assert "bpf_map_lookup_elem" in ours
    assert ("bpf_xdp_adjust_head" in ours) == (kind == ProgType.XDP)
    assert ("bpf_probe_read_kernel" in ours) == (kind != ProgType.XDP or "bpf_probe_read_kernel" in theirs)


def test_this_kernel_has_what_its_age_promises() -> None:
    major, minor = (int(n) for n in os.uname().release.split(".")[:2])
    for kind, since in probe.SINCE.items():
        first = tuple(int(n) for n in since.split("."))
        if (major, minor) >= first and kind not in (MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE):
            assert probe.has_map_type(kind), f"{kind.name} came with {since}"
    assert all(probe.has_btf(feature) for feature in ("func", "datasec"))
    assert probe.FEATURES["array_mmap"]()
    assert [
        name for name in ("float", "enum64", "perf_link", "cookie") if FEATURES[name].expected != present(name)
    ] == []


def test_what_is_refused_is_not_called_missing() -> None:
    code = (
        "import os; from purebpf.kernel import probe, sys; from purebpf.formats.abi import MapType, ProgType\n"
        "from purebpf import NotPermitted\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "for ask in (lambda: probe.has_map_type(MapType.RINGBUF), lambda: probe.has_prog_type(ProgType.KPROBE)):\n"
        "    try: print(ask())\n"
        "    except NotPermitted as error: print('refused', error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.count("refused") == 2, result.stdout + result.stderr
    assert "CAP_BPF" in result.stdout
