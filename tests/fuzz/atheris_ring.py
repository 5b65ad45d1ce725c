"""The ring parser, with inputs that atheris (libFuzzer) finds by the code that they reach.

    python tests/fuzz/atheris_ring.py [--seconds S] [--corpus DIRECTORY] [INPUT…] [libFuzzer's options, -runs=… say]

What must hold is what ring_reference says. A failure is written into the corpus, and run again when it is given as INPUT.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed: pip install 'purebpf[fuzz]' (CPython 3.11 or newer, where atheris has wheels)")

with atheris.instrument_imports(include=["purebpf.formats"]):
    from ring_reference import Sample, check

from fuzz_ring import sample

HEAD = struct.Struct("<BBQQ")  # size, limit, consumer position, producer position from there
EVERY = 255  # as limit: none
LARGEST = 1024  # bytes of a ring: runs of 16 and 64 equal records fit in, and thousands of rings into a second


def decoded(data: bytes) -> Sample:
    """Any bytes are a ring: what lacks is zeros."""
    exponent, limit, consumer, ahead = HEAD.unpack(data[: HEAD.size].ljust(HEAD.size, b"\0"))
    size = 8 << exponent % 8
    area = data[HEAD.size : HEAD.size + size].ljust(size, b"\0")
    return Sample(area, consumer, (consumer + ahead) % (1 << 64), None if limit == EVERY else limit + 1)


def encoded(made: Sample) -> bytes:
    ahead = (made.producer - made.consumer) % (1 << 64)
    limit = EVERY if made.limit is None else made.limit - 1
    return HEAD.pack(len(made.area).bit_length() - 4, limit, made.consumer, ahead) + made.area


def sown(corpus: Path, count: int) -> Path:
    """With rings to begin with."""
    for seed in range(count):
        made = sample(random.Random(seed))
        if len(made.area) <= LARGEST:
            (corpus / f"seed-{seed}").write_bytes(encoded(made))
    return corpus


def one_input(data: bytes) -> None:
    check(decoded(data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz-ring"))
    options, rest = parser.parse_known_args()
    options.corpus.mkdir(parents=True, exist_ok=True)
    flags = [argument for argument in rest if argument.startswith("-")]
    inputs = [argument for argument in rest if not argument.startswith("-")] or [str(sown(options.corpus, 500))]
    limits = [
        f"-max_total_time={options.seconds}",
        f"-max_len={HEAD.size + LARGEST}",
        "-timeout=10",
        "-rss_limit_mb=500",
    ]
    artifacts = f"-artifact_prefix={options.corpus}/"
    atheris.Setup([sys.argv[0], *limits, artifacts, *flags, *inputs], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
