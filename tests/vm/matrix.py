"""The kernel matrix: boots guests, two at a time, and says what each found. `make vm-test` runs it.

    python tests/vm/matrix.py [GUEST…] [--tests PATH,…] [--record]

Fails if a guest did not come to its end, if purebpf.pyz did not trace each exec, if a command or a test failed, or if a
test was skipped for want of something that this kernel should have.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from boot import Run, boot
from guests import GUESTS, X86, Guest
from table import page

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "vm"
PYZ = ROOT / "dist" / "purebpf.pyz"
PAGE = ROOT / "docs" / "compatibility.md"
# Hooks, maps, programs, rings and execs as users have them; all of them are tests/kernel, which takes twice as long.
FILES = "attach function_hooks tracing uprobes hooks live globals map_kinds programs probe ringbuf ring_stress verifier_messages"
TESTS = ",".join([*(f"tests/kernel/test_{name}.py" for name in FILES.split()), "tests/cli/test_exec_cases.py"])
# What trace-exec does on a machine with these restrictions: its status, and what its message names.
RESTRICTED = {"unprivileged": (5, "CAP_BPF"), "integrity": (0, ""), "confidentiality": (8, "lockdown")}
NEED_BTF = {"trace-open", "trace-connect"}  # on a kernel without it they end with status 4
JOBS = 2  # guests at a time, each of which has two CPUs that are seldom both at work
# Program -> the Debian package that has it.
TOOLS = {"mmdebstrap": "mmdebstrap", "depmod": "kmod", "cpio": "cpio", "mke2fs": "e2fsprogs", "clang": "clang"}


def missing(guests: list[Guest]) -> str:
    """What this machine lacks to run these guests, "" if nothing."""
    if os.geteuid():
        return "images are made as root: mmdebstrap unpacks files of all owners"
    tools = {**TOOLS, **{guest.machine.qemu[0]: guest.machine.package for guest in guests}}
    tools |= {guest.machine.compiler: guest.machine.compiler_package for guest in guests}
    where = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    lacks = sorted({package for tool, package in tools.items() if not shutil.which(tool, path=where)})
    return f"apt install {' '.join(lacks)}" if lacks else ""


def problems(run: Run) -> list[str]:
    """What is wrong with a guest."""
    if not run.ended:
        return [f"did not come to its end: {run.log}"]
    return [*_of_archive(run.results), *_of_tests(run)]


def _of_archive(results: dict[str, Any]) -> Iterable[str]:
    """What purebpf.pyz did wrong, if it was tried."""
    lesser = not results["machine"]["btf"]
    traces = results.get("traces")
    if traces and (traces["found"] != traces["of"] or traces["status"] or bool(traces["errors"]) != lesser):
        yield f"trace-exec: {traces}"
    for name, (status, said, printed) in results.get("commands", {}).items():
        silent = name == "run"  # unless something is executed meanwhile
        if (status, bool(printed or silent)) != ((4, False) if lesser and name in NEED_BTF else (0, True)):
            yield f"{name}: status {status}, {printed} bytes printed: {said}"
    for name, (status, said) in results.get("odd", {}).items():
        expected, words = (6, "lockdown") if lesser and name == "confidentiality" else RESTRICTED[name]
        if status != expected or words not in said or (not words and bool(said) != lesser):
            yield f"{name}: status {status}: {said}"
    for name, (there, expected) in results.get("features", {}).items():
        if expected and not there:
            yield f"no {name}, which this Linux should have"


def _of_tests(run: Run) -> Iterable[str]:
    tests = run.results["tests"]
    for name in tests["failed"]:
        yield f"failed: {name}"
    if not tests["failed"] and (tests["status"] or not tests["passed"]):
        yield f"pytest ended with status {tests['status']} after {tests['passed']} tests: {run.log}"


def describe(run: Run) -> str:
    """A guest in some lines: what it is, figures, why tests were skipped, what is wrong."""
    lines = [f"== {run.guest.name}: {run.seconds:.0f} s"]
    if run.ended:
        machine, traces, tests = (run.results.get(name) for name in ("machine", "traces", "tests"))
        lines.append(
            f"   Linux {machine['kernel']} {machine['machine']}, pages of {machine['page_size'] >> 10} KiB, Python {machine['python']}"
        )
        if traces:
            peak = traces["peak_memory_kib"] / 1024
            lines.append(f"   purebpf.pyz: first event after {traces['first_event_seconds']} s, {peak:.0f} MiB at most")
        lines.append(
            f"   tests: {tests['passed']} passed, {len(tests['failed'])} failed, {len(tests['skipped'])} skipped"
        )
        reasons: dict[str, int] = defaultdict(int)
        for _name, reason in tests["skipped"]:
            reasons[reason] += 1
        lines += [f"   skipped {count}: {reason}" for reason, count in sorted(reasons.items())]
    return "\n".join([*lines, *(f"   WRONG {problem}" for problem in problems(run))])


def attempt(guest: Guest, options: argparse.Namespace) -> bool:
    """Run a guest, print what came of it, and keep its results. Is all well?"""
    parameters = f"purebpf.tests={options.tests}" + " purebpf.only_tests=" * options.only_tests
    try:
        run = boot(guest, PYZ, BUILD, parameters, options.timeout)
        if not run.results:  # not even its name: emulation is not perfect, and this is not what is tested
            print(f"== {guest.name} did not boot ({run.log}), once more", flush=True)
            run = boot(guest, PYZ, BUILD, parameters, options.timeout)
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or ""
        print(f"== {guest.name}\n   WRONG {error}\n{detail}", flush=True)
        return False
    print(describe(run), flush=True)
    if problems(run):
        return False
    if not partly(options):
        results = {"archive": digest(), **run.results}
        (BUILD / f"{guest.name}.json").write_text(json.dumps(results, indent=1) + "\n")
    return True


def partly(options: argparse.Namespace) -> bool:
    """Is less done in a guest than what the page tells of?"""
    return bool(options.only_tests or options.tests != TESTS)


def digest() -> str:
    """Of the archive under test."""
    return hashlib.sha256(PYZ.read_bytes()).hexdigest()


def record() -> None:
    """Write the page, out of the latest results of each guest that had this very archive."""
    kept = (BUILD / f"{name}.json" for name in GUESTS)
    found = {path.stem: json.loads(path.read_text()) for path in kept if path.exists()}
    PAGE.write_text(page({name: results for name, results in found.items() if results["archive"] == digest()}))


def end(number: int, _frame: object) -> None:
    """Guests and what makes images end with this process; their disks are removed."""
    for made in BUILD.glob("project-*"):
        if made.is_file():
            made.unlink()
        else:
            shutil.rmtree(made, ignore_errors=True)  # a thread may still copy into it
    os._exit(128 + number)


def main() -> None:
    """Run the guests that the command line names, by default the four of x86-64."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("guests", nargs="*", metavar="GUEST", help=", ".join(GUESTS))
    parser.add_argument("--tests", default=TESTS, help="which tests, separated by commas")
    parser.add_argument("--only-tests", action="store_true", help="leave purebpf.pyz out")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one guest")
    parser.add_argument("--record", action="store_true", help=f"write {PAGE.relative_to(ROOT)}, if all is well")
    options = parser.parse_args()
    if not set(options.guests) <= set(GUESTS):
        parser.error(f"guests are {', '.join(GUESTS)}")
    if options.record and partly(options):
        parser.error("--record is about all of it")
    chosen = [GUESTS[name] for name in options.guests] or list(X86)
    if lacks := missing(chosen):
        sys.exit(f"matrix: {lacks}")
    BUILD.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    begin = time.monotonic()
    with open(BUILD / "lock", "w") as lock, ThreadPoolExecutor(JOBS) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run has its archive and its disks here
        well = list(pool.map(lambda guest: attempt(guest, options), chosen))
    print(f"== {len(chosen)} guests in {time.monotonic() - begin:.0f} s: {sum(well)} well")
    if not all(well):
        sys.exit(1)
    if options.record:
        record()


if __name__ == "__main__":
    main()
