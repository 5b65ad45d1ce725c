"""Damaged rings through the parser and its consumer: RingCorrupt or the records that a plain walk finds, in bounded time.

    python tests/fuzz/fuzz_ring.py [--count N | --seconds S] [--seed S]

A failure prints the seed of its input, which `--seed S --count 1` runs again.
"""

from __future__ import annotations

import argparse
import random
import signal
import struct
import sys
import time
import traceback
from collections import Counter

from budget import add_options, seeds
from ring_reference import BUSY, DISCARD, Sample, check

try:
    import numpy as np
except ImportError:
    np = None

SLOWEST = 10  # seconds for one input, then it hangs
END = 1 << 64


def sample(chance: random.Random) -> Sample:
    """A valid ring, a damaged or an arbitrary one."""
    size = 8 << (chance.randrange(10) if chance.random() < 0.98 else chance.choice((13, 13, 13, 13, 17)))
    area = bytearray(chance.randbytes(size) if chance.random() < 0.8 else size)
    start = chance.choice((0, END - 8 * chance.randrange(1, 50), 8 * chance.randrange(1 << 40)))
    headers = filled(area, start, chance)
    consumer, producer = start, (start + headers.pop()) % END
    damage = chance.randrange(4)
    for _ in range(damage):
        at = chance.choice(headers) if headers and chance.random() < 0.7 else 8 * chance.randrange(size // 8)
        struct.pack_into("=I", area, (start + at) % size, word(size, chance))
    if chance.random() < damage * 0.1:
        consumer = (consumer + distance(size, chance)) % END
    if chance.random() < damage * 0.1:
        producer = (producer + distance(size, chance)) % END
    limit = chance.choice((None, None, None, 1, 3, 20)) if size < 1 << 17 else None
    return Sample(bytes(area), consumer, producer, limit)


def filled(area: bytearray, start: int, chance: random.Random) -> list[int]:
    """Write headers from `start` on; the payloads are what is there. Gives their distances from `start`, and the end's."""
    most = chance.choice((len(area), 64, 64, 16))
    alike = chance.choice((0.0, 0.5, 0.97))
    flags = chance.choice(((0,), (0, 0, 0, DISCARD), (0,) * 50 + (DISCARD, BUSY)))
    headers, length = [0], chance.randrange(most)
    for _ in range(chance.choice((1, 10, len(area)))):
        length = length if chance.random() < alike else chance.randrange(most)
        after = headers[-1] + (length + 15) // 8 * 8
        if after > len(area):
            break
        struct.pack_into("=I", area, (start + headers[-1]) % len(area), length | chance.choice(flags))
        headers.append(after)
    return headers


def word(size: int, chance: random.Random) -> int:
    near = chance.choice((0, size, chance.randrange(2 * size)))
    return chance.choice(
        (
            near % (1 << 32),
            max(near - 8 + chance.randrange(-1, 2), 0),
            chance.choice((DISCARD, BUSY, BUSY | DISCARD)) | near,
            DISCARD - 1 - chance.randrange(9),
            chance.randrange(1 << 32),
        )
    )


def distance(size: int, chance: random.Random) -> int:
    return chance.choice((8, -8, 1, -4, size, -size, 8 * chance.randrange(size), 1 << 63, chance.randrange(END)))


def attempt(seed: int) -> tuple[str, str]:
    """(outcome, "" or what went wrong)."""
    made = sample(random.Random(seed))
    sys.modules["numpy"] = np if seed % 2 else None  # the parser uses it where a program has loaded it
    signal.alarm(SLOWEST)
    try:
        return check(made), ""
    except Exception:
        return "wrong", f"{made}\n{traceback.format_exc()}"
    finally:
        signal.alarm(0)


def too_slow(_number: int, _frame: object) -> None:
    raise TimeoutError(f"still at it after {SLOWEST} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, count=100_000)
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, too_slow)
    outcomes = Counter[str]()
    begin = time.monotonic()
    for seed in seeds(options):
        outcome, wrong = attempt(seed)
        outcomes[outcome] += 1
        if wrong:
            print(f"seed {seed}: {wrong}", flush=True)
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
    print(f"{sum(outcomes.values())} rings in {time.monotonic() - begin:.0f} s: {kinds}")
    sys.exit(bool(outcomes["wrong"]))


if __name__ == "__main__":
    main()
