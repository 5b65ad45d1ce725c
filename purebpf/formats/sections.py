"""What a program section's name means (libbpf's convention): SEC("tracepoint/syscalls/sys_enter_execve")."""

from __future__ import annotations

from typing import NamedTuple

from .abi import ProgType

# Prefix of the section's name -> program type. A new kind of program is a row here
# and a row in kernel/attach/__init__.py.
SECTIONS = {
    "tracepoint": ProgType.TRACEPOINT,
    "tp": ProgType.TRACEPOINT,
}


class Section(NamedTuple):
    """`type` is None for a name that no row knows; `target` is what follows the first slash."""

    type: ProgType | None
    target: str


def classify(name: str) -> Section:
    """Look a section's name up in SECTIONS."""
    prefix, _, target = name.partition("/")
    return Section(SECTIONS.get(prefix), target)
