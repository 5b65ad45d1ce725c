"""Mutated objects through all of the pure code: only ObjectError may come out, in bounded time and memory.

    python tests/fuzz/fuzz.py OBJECT… [--count N | --seconds S] [--seed S]

Half of the mutations go anywhere in the file; half are aimed at a section: types, relocations, symbols, headers.
A failure prints the seed of its input, which `--seed S --count 1` runs again.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from budget import add_options, seeds

import purebpf
from purebpf.formats import btf_c, disasm, elf, link
from purebpf.formats.core_relo import Resolver, Target

SLOWEST = 2.0  # seconds for one input
LARGEST = 200 << 10  # KiB of memory in all
AIMED = (".BTF", ".BTF.ext", ".symtab", ".strtab", ".maps", "license")


def mutated(original: bytes, places: list[tuple[int, int]], chance: random.Random) -> bytes:
    """The object with a few bytes or 32-bit words changed, cut out or doubled."""
    data = bytearray(original)
    for _ in range(chance.randint(1, 10)):
        start, size = chance.choice(places) if chance.random() < 0.5 else (0, len(data))
        at = min(start + chance.randrange(max(1, size)), len(data) - 1)
        how = chance.random()
        if how < 0.5:
            data[at] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
        elif how < 0.9:
            word = chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, chance.randrange(1 << 32), chance.randrange(200)))
            data[at & ~3 : (at & ~3) + 4] = struct.pack(chance.choice("<>") + "I", word)
        elif how < 0.95 and len(data) > 200:
            del data[at : at + chance.randrange(64)]
        else:
            data[at:at] = data[at : at + chance.randrange(64)]
    return bytes(data)


def sections(data: bytes) -> list[tuple[int, int]]:
    """(offset, size) of the sections that are worth aiming at, and of the headers."""
    file = elf.read(data)
    order = "<" if file.byte_order == "little" else ">"
    found = [(0, 64), (struct.unpack_from(f"{order}Q", data, 40)[0], 64 * struct.unpack_from(f"{order}H", data, 60)[0])]
    aimed = (
        section.data
        for section in file.sections
        if section.name in AIMED or section.name.startswith(".rel") or section.executable
    )
    return found + [(data.find(content), len(content)) for content in aimed if content]


def exercise(data: bytes) -> None:
    """Everything that can be done with an object without a kernel. Raises ObjectError."""
    spec = purebpf.parse(data, "fuzzed")
    for variable in spec.variables.values():
        quietly(lambda v=variable: v.value)
    resolver = Resolver(spec.btf, Target(spec.btf)) if spec.btf else None
    for program in spec.programs.values():
        if resolver:
            quietly(lambda p=program, r=resolver: link.assemble(spec, p, r.resolve))
        quietly(lambda p=program: disasm.disassemble(p.code, spec.byte_order))
    if spec.btf:
        btf = spec.btf
        quietly(lambda: btf_c.dump(btf))


def quietly(action: Callable[[], object]) -> None:
    with suppress(purebpf.ObjectError):
        action()


def attempt(original: bytes, places: list[tuple[int, int]], seed: int) -> tuple[float, str]:
    """(seconds, "" or what went wrong)."""
    data = mutated(original, places, random.Random(seed))
    begin, wrong = time.monotonic(), ""
    try:
        exercise(data)
    except purebpf.ObjectError:
        pass
    except Exception:
        wrong = traceback.format_exc()
    seconds = time.monotonic() - begin
    if seconds > SLOWEST:
        wrong = wrong or f"{seconds:.1f} s"
    return seconds, wrong


def peak_memory() -> int:
    """In KiB. getrusage would tell that of the process that started this one, if it had more."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("objects", nargs="+", type=Path)
    add_options(parser, count=100_000)
    options = parser.parse_args()
    sources = [(path, path.read_bytes()) for path in options.objects]
    known = [(path, data, sections(data)) for path, data in sources]
    slowest, failures, count = 0.0, 0, 0
    for seed in seeds(options):
        count += 1
        path, data, places = known[seed % len(known)]
        seconds, wrong = attempt(data, places, seed)
        slowest = max(slowest, seconds)
        if wrong:
            failures += 1
            print(f"seed {seed}, {path}:\n{wrong}", flush=True)
    memory = peak_memory()
    print(f"{count} inputs, {failures} failures, slowest {slowest:.2f} s, {memory >> 10} MB at most")
    sys.exit(bool(failures) or memory > LARGEST)


if __name__ == "__main__":
    main()
