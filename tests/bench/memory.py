"""What draining a full ring takes: how far the process's memory grows above what it was with the ring mapped.

The kernel counts the mapped ring as file-backed memory of the process (RssFile), the data area twice, for it is mapped
twice: 32 MiB that no process owns, and that are there once. They are in VmHWM, in RssAnon they are not. The
growth is what is asked of the machine: VmHWM is set back (/proc/self/clear_refs), the ring drained, VmHWM read.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paths
from results import Report, Result
from rig import SIZE, Producer, rig

MIB = 1 << 20
BOUND = 1.5  # times the ring's size, at most
FORMS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "ring.memory.consume": ("peak memory of consume() and its views", paths.views),
    "ring.memory.iteration": ("peak memory of iterating the ring", paths.iteration),
    "ring.memory.tuples": ("peak memory of consume() and its tuples", paths.tuples),
}


def memory(report: Report) -> None:
    """Each form in a process of its own."""
    with rig(report) as made:
        if made is None:
            return
        for name, (what, _drain) in FORMS.items():
            told = subprocess.run([sys.executable, __file__, made.made, name], check=True, stdout=subprocess.PIPE)
            grown, whole, files = [int(n) / 1024 for n in told.stdout.split()]
            bound = BOUND * SIZE / MIB
            ratio = bound / max(grown, 0.1)
            report.results.append(Result(name, what, grown, "MiB", "1.5 times the ring", bound, ratio, 1))
            report.note(f"{what}: {grown:.1f} MiB; VmHWM {whole:.0f} MiB, of which mapped files {files:.0f} MiB")


def growth(made: str, name: str) -> str:
    """KiB: the growth of the peak, the peak, and the mapped files at the end. For a process that has done nothing yet."""
    producer, (_what, drain) = Producer(made), FORMS[name]
    with producer.object, producer.object.ring("events") as ring:
        producer.fill("same", 100)
        drain(ring)  # what is imported and allocated once
        producer.fill("same")
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
        drain(ring)
        return f"{status('VmHWM') - before} {status('VmHWM')} {status('RssFile')}"


def status(name: str) -> int:
    """A number of /proc/self/status, in KiB."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))


if __name__ == "__main__":
    print(growth(*sys.argv[1:]))
