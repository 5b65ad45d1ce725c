"""One kernel ring of 16 MiB, filled through BPF_PROG_RUN, and the processes that drain it besides purebpf."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peers
from results import Report

import purebpf

HERE = Path(__file__).parent
SIZE = 16 << 20
# What ring_bcc.py calls its callbacks.
FORMS = {
    "BCC": "pid",
    "BCC, both members": "both",
    "BCC, mixed sizes": "pid",
    "BCC, mixed sizes, copied to bytes": "copied",
    "BCC, event_of() kept and 0 returned": "quick",
}


class Producer:
    """The object with the ring and the programs that fill it."""

    def __init__(self, made: str) -> None:
        self.object = purebpf.load(made)
        self.fd = self.object.maps["events"].fileno()

    def reset(self, wanted: int) -> None:
        """Count from zero; each run of a program is to try so many records."""
        self.object.globals.wanted = wanted
        self.object.globals.total = {"sent": 0, "lost": 0, "sum": 0}

    def fill(self, program: str, wanted: int = SIZE // 32) -> int:
        """Fill the empty ring, or put so many records there. How many were sent."""
        self.reset(wanted)
        self.object.programs[program].test_run()
        sent: int = self.total.sent
        return sent

    @property
    def total(self) -> Any:
        """What was `sent` and `lost` since the reset, and the `sum` of what was sent: of pids, or of mixed lengths."""
        return self.object.globals.total


class Peer:
    """A consumer in a process of its own, that has the ring's descriptor."""

    def __init__(self, command: list[str], fd: int, *, cpu: int | None = None) -> None:
        pinned = ["taskset", "--cpu-list", str(cpu), *command] if cpu is not None else command
        self.process = subprocess.Popen(
            pinned, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, pass_fds=[fd]
        )
        self.version = self._line()

    def drain(self) -> float:
        """Nanoseconds that it took."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        return float(self._line())

    def stop(self) -> None:
        """End one that drains without a pause, when it has taken all."""
        self.process.terminate()
        self.close()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.communicate()


class Rig:
    """The producer, and how to start its consumers."""

    def __init__(self, folder: str, report: Report) -> None:
        self.made, include = f"{folder}/ring.o", f"-I/usr/include/{os.uname().machine}-linux-gnu"
        source = str(HERE / "ring.bpf.c")
        subprocess.run(["clang", "-g", "-O2", "-target", "bpf", include, "-c", source, "-o", self.made], check=True)
        self.producer, self.report = Producer(self.made), report
        self.commands: dict[str, list[str]] = {}
        fd = str(self.producer.fd)
        if peers.has_compiler():
            peer = f"{folder}/peer"
            subprocess.run(["cc", "-O2", str(HERE / "ring_libbpf.c"), "-o", peer, "-lbpf"], check=True)
            self.commands["libbpf"] = [peer, fd]
        if os.path.exists(peers.PYTHON) and peers.has_bcc():
            for name, form in FORMS.items():
                self.commands[name] = [peers.PYTHON, str(HERE / "ring_bcc.py"), fd, form]

    def start(self, name: str, *extra: str, cpu: int | None = None) -> Peer | None:
        """Start a peer, or say that it is not here."""
        if name not in self.commands:
            return None
        peer = Peer([*self.commands[name], *extra], self.producer.fd, cpu=cpu)
        if not peer.version:
            self.report.note(f"{name} does not start here.")
            peer.close()
            return None
        self.report.versions[name.split(",")[0]] = peer.version
        return peer

    def confirm(self, who: str, took: int | None = None) -> None:
        """Exit unless the ring is empty now, and the sum that the consumer `took` the producer's."""
        with self.producer.object.ring("events") as ring:
            left, total = ring.available, self.producer.total
        if left or took not in (None, total.sum):
            sys.exit(f"{who} left {left} bytes, and has the sum {took}; sent were {total}")


@contextmanager
def rig(report: Report) -> Iterator[Rig | None]:
    """None, and a note, where the producer cannot be built."""
    if shutil.which("clang") is None:
        report.note("The ring was not measured: clang is needed.")
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Rig(folder, report)
        try:
            yield made
        finally:
            made.producer.object.close()
