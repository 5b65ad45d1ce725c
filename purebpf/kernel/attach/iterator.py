"""Iterators: a program that is run over all tasks, maps, … when its link is read (Documentation/bpf/bpf_iterators.rst)."""

from __future__ import annotations

from .. import sys
from .link import IterLink, Request, create


def attach(request: Request) -> IterLink:
    """Attach to the iterator that the program was loaded for. Raises NotPermitted, KernelError."""
    try:
        return IterLink(request.program, create(request))
    except OSError as error:
        raise sys.refusal(request.doing, error) from error
