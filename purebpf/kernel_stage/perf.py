"""Perf rings of the kernel's: a program that sends one event (bpf/perf_output.bpf.c) is run on the CPU that is wanted."""

from __future__ import annotations

import errno
import struct
from contextlib import ExitStack

from ..errors import KernelError, NotSupported
from ..formats.perf import PerfRing
from ..kernel.cpus import online_cpus
from ..kernel.sys import ENOTSUPP, load_fence
from ..lessons.stage import Plan
from ..lessons.stages import PerfStage
from ..object import Object, load, prebuilt_path
from .notices import Notices

_ON_CPU = 1  # BPF_F_TEST_RUN_ON_CPU


def open_stage(name: str, plan: Plan) -> PerfStage:
    """A stage for this plan. Raises NotSupported if the machine has not so many CPUs, or cannot run programs on each."""
    missing = set(range(plan.cpus)) - set(online_cpus())
    if missing:
        raise NotSupported(
            f"this scenario needs {plan.cpus} CPUs, and CPU {min(missing)} is not online",
            hint="without --kernel the rings are simulated",
        )
    with ExitStack() as owned:
        sender = _Sender(owned.enter_context(load(prebuilt_path("perf_output"))), plan.pages)
        owned.callback(sender.close)
        rings = [KernelPerfRing(sender, cpu) for cpu in range(plan.cpus)]
        for ring in rings:
            owned.callback(ring.close)
        return PerfStage(name, rings, owned.pop_all().close)


class _Sender:
    """The program, and the reader's memory for each CPU."""

    def __init__(self, obj: Object, pages: int) -> None:
        self._obj, self.buffer = obj, obj.perf("events", pages)
        self._notices = Notices(self.buffer.fileno())

    def send(self, cpu: int, content: bytes) -> int:
        """What bpf_perf_event_output returned there. Raises NotSupported, KernelError."""
        self._obj.globals.content = content
        context = struct.pack("=QQ", len(content), 0)
        try:
            result = self._obj.programs["output"].test_run(context=context, flags=_ON_CPU, cpu=cpu)
        except KernelError as error:
            if error.errno not in (ENOTSUPP, errno.EINVAL):
                raise
            what = "this kernel does not run programs on a CPU that is asked for (Linux 5.10 does)"
            raise NotSupported(what, errno=error.errno, hint="without --kernel the rings are simulated") from error
        answer: int = struct.unpack("=i", struct.pack("=I", result.return_value))[0]
        return answer

    def notified(self) -> bool:
        """Has the reader been notified since the last call?"""
        return self._notices.come()

    def close(self) -> None:
        """The rest is the object's."""
        self._notices.close()


class KernelPerfRing:
    """The ring of one CPU: see SimulatedPerfRing."""

    def __init__(self, sender: _Sender, cpu: int) -> None:
        self._sender, self._cpu = sender, cpu
        self.control, self.data = sender.buffer.memory(cpu)
        self.size, self.notifications = len(self.data), 0
        self._ring = PerfRing(self.control, self.data[:], load_fence)

    def ring(self) -> PerfRing:
        """The reader's side."""
        return self._ring

    def output(self, content: bytes) -> int:
        """bpf_perf_event_output on this CPU."""
        answer = self._sender.send(self._cpu, content)
        self.notifications += self._sender.notified()
        return answer

    def close(self) -> None:
        """Let go of the reader's memory."""
        self._ring.release()
