"""`make bench`: ratios against peers measured in the same run; a peer that is not here is named.

start      process start to the first exec printed, and peak memory, against BCC on the same program
core       index the running kernel's BTF and relocate an object with 50 CO-RE relocations, against a plain Python
           pass over all its types, and peak memory
drain      a full ring of 16 MiB, by each of the consumer's paths, against a C program on libbpf and BCC
sustained  keep up with one core that produces as fast as it can
memory     what draining a full ring takes
execs      trace-exec beside libbpf-tools' execsnoop and bpftrace: CPU time, time in BPF, losses in a storm
ring       drain, sustained and memory

Best of several runs, for the machine may be busy. What is named on the command line is measured; all, if nothing is.
Writes build/bench.json and, as a Markdown table, build/bench.md. docs/benchmarks.md explains, and has a run's results.
"""

from __future__ import annotations

import argparse
import os
import resource
from pathlib import Path

import execs
import memory
import peers
import ring
import startup
import sustained
from results import Report

PARTS = {
    "start": startup.start,
    "core": startup.core,
    "drain": ring.drained,
    "sustained": sustained.sustained,
    "memory": memory.memory,
    "execs": execs.execs,
}
ALL_OF = {"ring": ["drain", "sustained", "memory"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="one of the above")
    parser.add_argument("--no-install", action="store_true", help="do not install peers that are missing")
    parser.add_argument("--record", action="store_true", help="put the table into docs/benchmarks.md, too")
    options = parser.parse_args()
    for name in options.parts:
        if name not in PARTS and name not in ALL_OF:
            parser.error(f"no part is called {name!r}")
    if "PUREBPF_BENCH" not in os.environ and not options.no_install:
        peers.install()
    peers.enter_namespace()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    report = Report()
    lacking = peers.missing()
    if lacking:
        report.note(f"Lacks {', '.join(lacking)}: not everything can be compared.")
    for name in options.parts or ["start", "core", "ring", "execs"]:
        for part in ALL_OF.get(name, [name]):
            print(f"measuring {part}", flush=True)
            PARTS[part](report)
    root = Path(__file__).parents[2]
    report.write(root / "build")
    if options.record:
        report.record(root / "docs" / "benchmarks.md")
    print("\n" + report.markdown())


if __name__ == "__main__":
    main()
