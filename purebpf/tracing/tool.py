"""What a tool says of itself, so that the rest can be shared."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Optional

from ..formats.spec import ObjectSpec
from .clock import Clock
from .event import Row

if TYPE_CHECKING:
    from .table import Column

Decoder = Callable[[bytes], Optional[Row]]


class Tool(NamedTuple):
    """A tracer: what it has that others have not."""

    object: str  # its program's: prebuilt/OBJECT.bpf.o
    what: str  # its events are called
    fields: tuple[str, ...]  # of a row, in the order of output
    patterns: tuple[str, ...]  # fields that can be looked for by glob or regular expression
    columns: Callable[[argparse.Namespace], list[Column]]
    command: Callable[[Row], str]  # the last column, and what a tree shows
    prepare: Callable[[argparse.Namespace, ObjectSpec], None]  # sets variables, chooses programs
    decoder: Callable[[argparse.Namespace, Clock], Decoder]  # None for a record that is to be left out
    optional: dict[str, str]  # program -> what is missing if the kernel cannot attach it
    harmless: frozenset[str] = frozenset()  # programs whose runs the kernel may leave out: no event is lost then
