"""Tracing execs: trace-exec beside execsnoop of libbpf-tools and a one-liner of bpftrace, under the same load."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import peers
from results import Report, Result, less_is_better
from startup import TRACE_EXEC, best, first_event

from purebpf.formats.ring_producer import SimulatedRing
from purebpf.kernel.program import run_statistics
from purebpf.object import load, prebuilt, read
from purebpf.tools.trace_exec import Decoder
from purebpf.tracing.clock import Clock
from purebpf.tracing.lines import json_line

HERE = Path(__file__).parent
STORM = ["2", "10", "0", "0"]  # workers, seconds: as fast as they can
PACED = ["2", "0", "10000", "1000"]
SHORT = ["2", "4", "0", "0"]
# execsnoop-bpfcc with its kprobes replaced
BCC_CHANGES = [
    (
        """int syscall__execve(struct pt_regs *ctx,
    const char __user *filename,
    const char __user *const __user *__argv,
    const char __user *const __user *__envp)
{
""",
        """struct entry { u64 common, number; const char *filename; const char *const *argv; };
struct result { u64 common; long number, value; };
int syscall__execve(struct entry *ctx)
{
    const char *filename = ctx->filename;
    const char *const *__argv = ctx->argv;
""",
    ),
    ("submit_arg(struct pt_regs *ctx", "submit_arg(void *ctx"),
    ("do_ret_sys_execve(struct pt_regs *ctx)", "do_ret_sys_execve(struct result *ctx)"),
    ("PT_REGS_RC(ctx)", "ctx->value"),
    (
        'attach_kprobe(event=execve_fnname, fn_name="syscall__execve")',
        'attach_tracepoint(tp="syscalls:sys_enter_execve", fn_name="syscall__execve")',
    ),
    (
        'attach_kretprobe(event=execve_fnname, fn_name="do_ret_sys_execve")',
        'attach_tracepoint(tp="syscalls:sys_exit_execve", fn_name="do_ret_sys_execve")',
    ),
]
BPFTRACE = "tracepoint:syscalls:sys_enter_execve { join(args->argv) }"


class Load(NamedTuple):
    """What a tool did under a load.

    `cpu` in seconds, `bpf` in nanoseconds an exec, `maps` and `peak` in MB; `switches` are its voluntary ones of context.
    """

    generated: int
    captured: int
    lost: int
    cpu: float
    bpf: float
    maps: float
    peak: float
    switches: int


def tools() -> dict[str, list[str]]:
    """Those that are here, by what they are called in the table."""
    found = {"purebpf": [*TRACE_EXEC, "--json"]}
    if shutil.which("execsnoop"):
        found["libbpf-tools"] = ["stdbuf", "-oL", "execsnoop"]  # it would write in blocks; stdbuf becomes it
    if shutil.which("bpftrace"):
        found["bpftrace"] = ["bpftrace", "-e", BPFTRACE]
    return found


def bcc() -> list[str]:
    """BCC's execsnoop, on the tracepoints of the system call: not every kernel has kprobes, and it fails without."""
    path = shutil.which("execsnoop-bpfcc")
    if not path:
        return []
    text = Path(path).read_text()
    for old, new in BCC_CHANGES:
        if old not in text:
            return []
        text = text.replace(old, new)
    return [peers.PYTHON, "-c", text]


def execs(report: Report) -> None:
    """Everything about tracing execs."""
    compiler, bpftool = shutil.which("cc"), shutil.which("bpftool")
    if not (compiler and bpftool):
        report.note("Not measured: tracing execs; needs a C compiler and bpftool.")
        return
    throughput(report)
    found = tools()
    for name in {"libbpf-tools", "bpftrace"} - {*found}:
        report.note(f"{name} is not installed: trace-exec is not compared with it.")
    starting(report, found)
    with tempfile.TemporaryDirectory() as folder:
        storm = f"{folder}/storm"
        subprocess.run([compiler, "-O2", "-o", storm, str(HERE / "exec_storm.c")], check=True)
        paced(report, {name: loaded(command, storm, PACED) for name, command in found.items()})
        report.note(f"storm of 10 s without a tool: {generate([storm, 'none', *STORM]) / 10:.0f} execs/s")
        for name, command in found.items():
            storming = loaded(command, storm, STORM)
            describe(report, f"storm of 10 s, {name}, {storming.generated / 10:.0f} execs/s", storming)
            describe(report, f"stopped for 3 s in a storm of 4 s, {name}", loaded(command, storm, SHORT, stop=3))
        others(report, storm, found)


def starting(report: Report, found: dict[str, list[str]]) -> None:
    """Start to the first exec that is shown, in turns, and peak memory until then."""
    commands = {**found, "BCC": bcc()} if bcc() else found
    first_event(commands["purebpf"])
    runs = [[first_event(command) for command in commands.values()] for _ in range(5)]
    found_best = {name: best([run[i] for run in runs]) for i, name in enumerate(commands)}
    ours = found_best["purebpf"]
    assert ours is not None
    for name, target in (("BCC", 5.0), ("bpftrace", 1.0), ("libbpf-tools", None)):
        peer = found_best.get(name)
        what = "start of trace-exec to the first exec"
        seconds, memory = peer or (None, None)
        report.results.append(less_is_better(f"execs.start.{name}", what, ours[0], "s", name, seconds, target))
        if name == "BCC":
            what = "peak memory of trace-exec"
            report.results.append(less_is_better("execs.memory", what, ours[1], "MB", "BCC", memory, 4.0))


def paced(report: Report, loads: dict[str, Load]) -> None:
    """10,000 execs, 1,000 a second."""
    ours, peer = loads["purebpf"], loads.get("libbpf-tools")
    for tool, result in loads.items():
        describe(report, f"10,000 execs at 1,000 a second, {tool}", result)
    rows = [
        ("cpu", "CPU time of 10,000 execs", ours.cpu, "s", peer and peer.cpu, 1.0),
        ("bpf", "time in BPF of an exec", ours.bpf, "ns", peer and peer.bpf, 5.0),
        ("maps", "kernel memory of its maps", ours.maps, "MB", peer and peer.maps, None),
    ]
    for name, what, value, unit, other, target in rows:
        report.results.append(less_is_better(f"execs.{name}", what, value, unit, "libbpf-tools", other, target))
    report.results.append(Result("execs.maps.limit", "the same", ours.maps, "MB", "limit", 4.0, 4.0 / ours.maps, 1.0))


def describe(report: Report, what: str, load: Load) -> None:
    """A line of it. An exec of someone else's may be among those that were lost."""
    missed = load.generated - load.captured
    said = f"{load.lost} said to be lost ({load.lost - missed:+d})" if missed or load.lost else "none lost"
    report.note(
        f"{what}: {load.captured} of {load.generated}, {said}; CPU {load.cpu / load.generated * 1e4:.2f} s for 10,000,"
        f" BPF {load.bpf / 1000:.1f} µs each, peak {load.peak:.0f} MB, maps {load.maps:.1f} MB, {load.switches} waits"
    )


def loaded(command: list[str], storm: str, load: list[str], stop: float = 0) -> Load:
    """Start the tool, wait until it is attached, run the load, read what it says."""
    tag = f"storm{time.monotonic_ns()}"
    with tempfile.TemporaryDirectory() as folder, run_statistics():
        with running(command, folder) as tool:
            cpu, switches = cpu_of(tool.pid), switches_of(tool.pid)
            generated = generate([storm, tag, *load], tool.pid, stop)
            settle(tool.pid, Path(folder, "out"))
            cpu, switches = cpu_of(tool.pid) - cpu, switches_of(tool.pid) - switches
            time_in_bpf, maps = measured(tool.pid)
            peak = status(tool.pid, "VmHWM") / 1024
        out, err = Path(folder, "out").read_bytes(), Path(folder, "err").read_text(errors="replace")
    captured = len(set(re.findall(rf"{tag}\W+(n\d+)".encode(), out)))
    lost = sum(map(int, re.findall(r"(?im)^(?:purebpf: )?lost (\d+) events(?! in all)", err + out.decode("latin-1"))))
    return Load(generated, captured, lost, cpu, time_in_bpf / generated, maps, peak, switches)


@contextmanager
def running(command: list[str], folder: str) -> Iterator[subprocess.Popen[bytes]]:
    """The tool, once it has shown an exec of ours."""
    with open(f"{folder}/out", "wb") as out, open(f"{folder}/err", "wb") as err:
        tool = subprocess.Popen(command, stdout=out, stderr=err)
    try:
        deadline = time.monotonic() + 30
        while b"/bin/true" not in Path(folder, "out").read_bytes():
            if tool.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{command[0]} does not start here: {Path(folder, 'err').read_text()}")
            subprocess.run(["/bin/true"], check=True)
            time.sleep(0.02)
        time.sleep(0.5)
        yield tool
    finally:
        tool.send_signal(signal.SIGINT)
        tool.wait(20)


def generate(command: list[str], pid: int = 0, stop: float = 0) -> int:
    """Run the load, and say how many execs it made; the tool `pid` is stopped for `stop` seconds in the middle of it."""
    load = subprocess.Popen(command, stdout=subprocess.PIPE)
    if stop:
        time.sleep(0.5)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(stop)
        os.kill(pid, signal.SIGCONT)
    return int(load.communicate()[0])


def settle(pid: int, out: Path) -> None:
    """Until it neither works nor writes."""
    last = (0.0, -1)
    while (now := (round(cpu_of(pid), 2), out.stat().st_size)) != last:
        last = now
        time.sleep(0.6)


def cpu_of(pid: int) -> float:
    """User and system time of its threads."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0]) / 1e9
    return total


def switches_of(pid: int) -> int:
    """How often its main thread has waited."""
    return status(pid, "voluntary_ctxt_switches")


def status(pid: int, name: str) -> int:
    """A number of /proc/PID/status; sizes are in KiB."""
    with open(f"/proc/{pid}/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))


def bpftool(kind: str) -> list[dict[str, Any]]:
    told = subprocess.run(["bpftool", "-j", kind, "show"], check=True, capture_output=True, text=True).stdout
    return list(json.loads(told))


def measured(pid: int) -> tuple[float, float]:
    """Nanoseconds that the programs of a process ran, and MB of their maps."""
    held = "".join(file.read_text() for file in Path(f"/proc/{pid}/fdinfo").iterdir())
    numbers = {int(number) for number in re.findall(r"prog_id:\s*(\d+)", held)}
    programs = [p for p in bpftool("prog") if p["id"] in numbers]
    used = {number for p in programs for number in p.get("map_ids", [])}
    size = sum(m.get("bytes_memlock", 0) for m in bpftool("map") if m["id"] in used)
    return sum(p.get("run_time_ns", 0) for p in programs), size / 1e6


def others(report: Report, storm: str, found: dict[str, list[str]]) -> None:
    """What getppid() costs while a tool traces."""

    def quickest() -> float:
        return min(float(subprocess.check_output([storm, "getppid"])) for _ in range(3))

    commands = {**found, "purebpf -x": [*found["purebpf"], "-x"]}
    for name, command in commands.items():
        without = quickest()
        with tempfile.TemporaryDirectory() as folder, running(command, folder):
            cost = quickest()
        report.note(f"getppid() while tracing, {name}: {cost:.0f} ns, {cost - without:+.0f} ns")


def throughput(report: Report) -> None:
    """Events a second from a ring to lines of JSON: real records, replayed."""
    records = recorded()
    decode = Decoder(Namespace(env=[], exits=False, cwd=False), Clock())
    quickest, count = 1e9, 0
    for _ in range(7):
        simulated = SimulatedRing(1 << 20)
        count = 0
        while (slot := simulated.reserve(len(records[count % len(records)]))) is not None:
            slot.payload[:] = records[count % len(records)]
            slot.submit()
            count += 1
        ring = simulated.ring()
        begin = time.perf_counter()
        lines = "".join(json_line(row) for record in ring.consume() if (row := decode(bytes(record))))
        quickest = min(quickest, time.perf_counter() - begin)
        assert lines.count("\n") == count
    rate = count / quickest
    report.results.append(
        Result("execs.json", "JSON from a replayed ring", rate, "events/s", "wanted", 150_000, rate / 150_000, 1.0)
    )


def recorded() -> list[bytes]:
    """The records of a shell's children, as the program sends them."""
    spec = read(prebuilt("trace_exec"))
    for name, program in spec.programs.items():
        program.autoload = name == "trace_exec"
    for name in ("failure_buffers", "exit_buffers"):
        spec.maps[name].max_entries = 1
    with load(spec) as obj:
        ring = obj.ring("events")
        obj.attach()
        for i in range(200):
            subprocess.run(["/bin/echo", f"w{i % 2}.{i}", "--option=value"], check=True, stdout=subprocess.DEVNULL)
        return [bytes(record) for record in ring.drain()]
