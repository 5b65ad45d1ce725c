"""A guest under QEMU, emulated: no KVM is needed."""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guests import Guest
from images import BOUND, Image, image, project
from services import Services


@dataclass
class Run:
    """What came of a guest: `results` by name, how long it took in seconds, and the log of its console."""

    guest: Guest
    seconds: float
    log: Path
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Did it come to its end?"""
        return "end" in self.results


def boot(guest: Guest, pyz: Path, build: Path, parameters: str, timeout: float) -> Run:
    """Boot it, let it do the checks that `parameters` choose, and wait for its end or `timeout` seconds."""
    log = build / f"{guest.name}.log"
    made, disk = image(guest), project(guest, pyz, build)
    begin = time.monotonic()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            Services(guest, f"{folder}/port") as services,
            open(log, "wb") as console,
        ):
            _run(command(guest, made, disk, f"{folder}/port", parameters), console, timeout)
            services.shutdown()
    finally:
        disk.unlink()
    return Run(guest, time.monotonic() - begin, log, services.results)


def _run(command: list[str], console: Any, timeout: float) -> None:
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console) as qemu:
        try:
            qemu.wait(timeout)
        except subprocess.TimeoutExpired:
            console.write(b"\nthe time is over\n")
            qemu.kill()


def command(guest: Guest, made: Image, disk: Path, port: str, parameters: str) -> list[str]:
    """QEMU's command line. The disks are left as they are: what the guest writes is forgotten."""
    machine = guest.machine
    append = (
        f"console={machine.console} quiet panic=-1 nowatchdog lsm=lockdown,yama,bpf {machine.parameters} {parameters}"
    )
    return [
        *BOUND,
        *machine.qemu,
        *("-accel", machine.accel, "-m", "2048", "-smp", "2", "-nographic", "-no-reboot", "-nic", "none"),
        *("-kernel", str(made.kernel), "-initrd", str(made.initramfs), "-append", append),
        *(word for file in (made.root, disk) for word in ("-drive", f"file={file},format=raw,if=virtio,snapshot=on")),
        *("-chardev", f"socket,id=host,path={port}", "-device", machine.serial),
        *("-device", "virtserialport,chardev=host,name=purebpf"),
    ]
