"""Hooks: one file each, one row in ATTACHERS."""

from __future__ import annotations

from collections.abc import Callable

from ...formats.abi import ProgType
from . import tracepoint
from .link import Link

# Program type -> attach(program name, program descriptor, target).
ATTACHERS: dict[ProgType, Callable[[str, int, str], Link]] = {
    ProgType.TRACEPOINT: tracepoint.attach,
}


def attacher(program_type: ProgType) -> Callable[[str, int, str], Link]:
    """The function that attaches programs of this type."""
    return ATTACHERS[program_type]


__all__ = ["ATTACHERS", "Link", "attacher"]
