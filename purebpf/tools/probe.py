"""probe: what this kernel has, found out by trying."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import NotPermitted
from ..formats.abi import MapType, ProgType
from ..formats.btf_write import REPLACEMENTS
from ..formats.helpers import HELPERS
from ..kernel import attach, mounts, probe, vmlinux
from ..kernel.sys import require_supported
from ..tracing.output import Output

DESCRIPTION = "Try which map types, program types, helpers and other features this kernel has. Needs root."

_WORDS = {True: "yes", False: "no", None: "refused"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of probe."""
    parser.add_argument("--json", action="store_true", help="one JSON object; null for what the kernel refused to tell")
    parser.add_argument("--helpers", action="store_true", help="which helpers each program type may call, too")


def run(options: argparse.Namespace) -> None:
    """Print to standard output. Raises NotPermitted if nothing can be tried."""
    require_supported()
    mounts.require("/sys")  # or the kernel would seem to have no types and no probes
    report = describe(options.helpers)
    Output().write(json.dumps(report, indent=2) + "\n" if options.json else _text(report))


def describe(helpers: bool) -> dict[str, Any]:
    """Answers by group and name: True, False, or None where the kernel would not say."""
    probe.has_map_type(MapType.ARRAY)  # fails where nothing is permitted
    report: dict[str, Any] = {
        "map_types": {kind.name: _ask(partial(probe.has_map_type, kind)) for kind in MapType},
        "prog_types": {kind.name: _ask(partial(probe.has_prog_type, kind)) for kind in ProgType},
        "btf": {
            "vmlinux": vmlinux.has_vmlinux(),
            **{name: _ask(partial(probe.has_btf, name)) for name in REPLACEMENTS},
        },
        "attach": {name: _ask(present) for name, present in attach.AVAILABLE.items()},
        "features": {name: _ask(present) for name, present in probe.FEATURES.items()},
    }
    if helpers:
        loadable = [kind for kind in ProgType if report["prog_types"][kind.name]]
        report["helpers"] = {kind.name: _helpers(kind) for kind in loadable}
    return report


def _ask(present: Callable[[], bool]) -> bool | None:
    try:
        return present()
    except NotPermitted:
        return None


def _helpers(kind: ProgType) -> list[str]:
    return [f"bpf_{HELPERS[n]}" for n in range(1, len(HELPERS)) if _ask(partial(probe.has_helper, kind, n))]


def _text(report: dict[str, Any]) -> str:
    titles = {
        "map_types": "map types",
        "prog_types": "program types",
        "btf": "BTF",
        "attach": "attaching",
        "features": "features",
    }
    lines = []
    for group, title in titles.items():
        lines.append(f"{title}\n")
        for name, answer in report[group].items():
            lines.append(f"  {name.lower():<28} {_WORDS[answer]}{_since(group, name, answer)}\n")
    for kind, names in report.get("helpers", {}).items():
        lines.append(f"helpers of {kind.lower()}\n" + "".join(f"  {name}\n" for name in names))
    return "".join(lines)


def _since(group: str, name: str, answer: bool | None) -> str:
    known = group == "map_types" and answer is False and MapType[name] in probe.SINCE
    return f" (Linux {probe.SINCE[MapType[name]]} brought it)" if known else ""
