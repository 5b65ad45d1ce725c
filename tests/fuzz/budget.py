"""How long a fuzzer runs, and with which seeds: options that all of them have."""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Iterator


def add_options(parser: argparse.ArgumentParser, count: int) -> None:
    parser.add_argument("--count", type=int, default=count, help="so many inputs (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="so long, whatever the count, and other inputs each time")
    parser.add_argument("--seed", type=int, help="of the first input; the others' follow")


def seeds(options: argparse.Namespace) -> Iterator[int]:
    """One for each input, until the time is up or the count reached."""
    timed = options.seconds is not None
    first = options.seed if options.seed is not None else secrets.randbits(48) if timed else 0
    end = time.monotonic() + options.seconds if timed else 0.0
    done = 0
    while (time.monotonic() < end or not done) if timed else done < options.count:
        yield first + done
        done += 1
