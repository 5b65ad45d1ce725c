"""docs/compatibility.md, out of what the guests of the matrix found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Results = dict[str, Any]

HEAD = """# Compatibility

What the kernel matrix found (`make vm-test ARGS=--record` writes this page). Each column is a Debian release under a kernel
of its archive, with its own Python, emulated by QEMU. The same `purebpf.pyz` traced in all of them, and tests that need a
kernel (`FILES` in `tests/vm/matrix.py`) ran as far as that kernel goes. ● is there, ○ is not: tests that need it were skipped for that reason, and would have
failed had this Linux been new enough for it and built with it.

"""
TAIL = """
Emulation is 10 to 30 times slower than the machine itself, and guests shared its CPUs with others: times are no measure of purebpf.
Tests of volume are left out, among them a consumer that has to sleep often, for which these guests were too slow.

- Before Linux 5.8 there is no ring buffer: everything that needs one ends with a message that says so.
- Machines without a column: ppc64el, with pages of 64 KiB (Debian has no arm64 kernel with such), passed the 41 tests of
  `test_ringbuf.py` and `test_ring_waits.py` on Debian 12; its kernel has no BTF, so `trace-exec` ran its lesser program. s390x traced with
  all commands, by hand. riscv64 is compiled in, and was never run.
- QEMU on x86-64 reorders less than an arm64 machine may: that the barriers stand where they must is argued in
  `purebpf/formats/ring.py`, and not proven by these runs.
"""


def page(results: dict[str, Results]) -> str:
    """The Markdown page for guests' results by name."""
    ended = {name: found for name, found in results.items() if "end" in found}
    return HEAD + "\n".join(_rows(ended)) + "\n" + TAIL


def _rows(guests: dict[str, Results]) -> Iterable[str]:
    yield _row("", guests)
    yield _row("---", ["---"] * len(guests))
    for name, value in FACTS.items():
        yield _row(name, (value(found) for found in guests.values()))
    features = next(iter(guests.values()))["features"] if guests else {}
    for name in features:
        yield _row(name, ("●" if found["features"].get(name, [False])[0] else "○" for found in guests.values()))


def _row(name: str, cells: Iterable[str]) -> str:
    return f"| {' | '.join((name, *cells))} |"


def _tests(found: Results) -> str:
    tests = found["tests"]
    return f"{tests['passed']} passed, {len(tests['skipped'])} skipped" + (
        f", **{n} failed**" if (n := len(tests["failed"])) else ""
    )


FACTS: dict[str, Callable[[Results], str]] = {
    "Linux": lambda found: found["machine"]["kernel"],
    "machine": lambda found: f"{found['machine']['machine']}, {found['machine']['byte_order']}-endian",
    "page": lambda found: f"{found['machine']['page_size'] >> 10} KiB",
    "Python": lambda found: found["machine"]["python"],
    "`purebpf.pyz trace-exec`: execs seen": lambda found: f"{found['traces']['found']} of {found['traces']['of']}",
    "first event after": lambda found: f"{found['traces']['first_event_seconds']:.1f} s",
    "peak memory": lambda found: f"{found['traces']['peak_memory_kib'] / 1024:.0f} MiB",
    "tests": _tests,
}
