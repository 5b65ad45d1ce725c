"""Options that several commands have."""

from __future__ import annotations

import argparse
import math


def add_ending(parser: argparse.ArgumentParser, what: str) -> None:
    """--duration and --count; `what` is counted."""
    parser.add_argument("--duration", type=_seconds, metavar="SECONDS", help="stop after this time")
    parser.add_argument("-n", "--count", type=_count, metavar="N", help=f"stop after N {what}")


def add_verifier_log(parser: argparse.ArgumentParser) -> None:
    """--verifier-log, which the command line itself obeys."""
    parser.add_argument("--verifier-log", action="store_true", help="if the verifier rejects, print its whole log")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


# argparse puts these into "invalid … value".
_seconds.__name__, _count.__name__ = "number of seconds", "count"
