"""From the start of the process: to the first event, and to an object that is relocated against the kernel's BTF."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import Report, less_is_better

RUNS = 9
TRACE_EXEC = [sys.executable, "-m", "purebpf", "trace-exec"]
HERE = Path(__file__).parent
EXECVE = [sys.executable, "-m", "purebpf", "run", str(HERE.parents[1] / "prebuilt" / "execve.bpf.o")]
NAME = b"/bin/true"
# bpf/execve.bpf.c, as one writes it for BCC.
BCC = """
from bcc import BPF
b = BPF(text='''
#include <uapi/linux/limits.h>
#define SHORT_NAME 248
struct head { u32 pid; s32 size; };
struct short_event { struct head head; char filename[SHORT_NAME]; };
struct long_event { struct head head; char filename[PATH_MAX]; };
BPF_RINGBUF_OUTPUT(events, 256);
BPF_PERCPU_ARRAY(lost, u64, 1);
static int count_lost(void) {
    u32 zero = 0;
    u64 *count = lost.lookup(&zero);
    if (count) *count += 1;
    return 0;
}
TRACEPOINT_PROBE(syscalls, sys_enter_execve) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    struct long_event *whole;
    struct short_event *event = events.ringbuf_reserve(sizeof(*event));
    if (!event) return count_lost();
    event->head.pid = pid;
    event->head.size = bpf_probe_read_user_str(event->filename, SHORT_NAME, args->filename);
    if (event->head.size != SHORT_NAME) {
        events.ringbuf_submit(event, 0);
        return 0;
    }
    events.ringbuf_discard(event, 0);
    whole = events.ringbuf_reserve(sizeof(*whole));
    if (!whole) return count_lost();
    whole->head.pid = pid;
    whole->head.size = bpf_probe_read_user_str(whole->filename, PATH_MAX, args->filename);
    events.ringbuf_submit(whole, 0);
    return 0;
}''')
import ctypes
def show(ctx, data, size):
    print(ctypes.string_at(data + 8, size - 8).split(b"\\0")[0].decode(), flush=True)
b["events"].open_ring_buffer(show)
while True: b.ring_buffer_poll()
"""
CORE = """
import sys, time
from pathlib import Path
from purebpf import parse
from purebpf.formats.btf import Btf
from purebpf.formats.core_relo import Resolver, Target
from purebpf.formats.link import assemble
spec = parse(Path(sys.argv[1]).read_bytes())
begin = time.perf_counter()
target = Target(Btf(Path("/sys/kernel/btf/vmlinux").read_bytes()))
assemble(spec, spec.programs["fifty"], Resolver(spec.btf, target).resolve)
print(time.perf_counter() - begin, next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
"""
PLAIN = """
import struct, time
begin = time.perf_counter()
data = open("/sys/kernel/btf/vmlinux", "rb").read()
length, start, size = struct.unpack_from("=III", data, 4)
fixed = {1: 4, 3: 12, 14: 4, 17: 4}
each = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
at, end, offsets = length + start, length + start + size, []
while at < end:
    info = struct.unpack_from("=I", data, at + 4)[0]
    kind = info >> 24 & 31
    offsets.append(at)
    at += 12 + fixed.get(kind, 0) + each.get(kind, 0) * (info & 0xFFFF)
print(time.perf_counter() - begin, len(offsets))
"""


def first_event(command: list[str]) -> tuple[float, float] | None:
    """(seconds to the first exec of /bin/true printed, peak MB), or None where the tool does not start."""
    begin = time.monotonic()
    tool = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert tool.stdout is not None
    os.set_blocking(tool.stdout.fileno(), False)
    seen = b""
    try:
        while NAME not in seen and NAME.hex(" ").encode() not in seen:
            if tool.poll() is not None or time.monotonic() - begin > 30:
                return None
            os.waitpid(os.posix_spawn("/bin/true", ["/bin/true"], {}), 0)
            seen += tool.stdout.read() or b""
            time.sleep(0.002)  # leaves the tool a CPU
        return time.monotonic() - begin, peak_memory(tool.pid)
    finally:
        tool.kill()
        tool.wait()
        tool.stdout.close()


def peak_memory(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def best(results: list[tuple[float, float] | None]) -> tuple[float, float] | None:
    """The least time and the most memory, or None if the tool did not start each time."""
    found = [result for result in results if result]
    return (min(r[0] for r in found), max(r[1] for r in found)) if len(found) == len(results) else None


def start(report: Report) -> None:
    """Start purebpf and BCC on the same program, in turns; time, and peak memory."""
    first_event(EXECVE)  # byte code is cached, as it is where purebpf is installed
    commands = EXECVE, ["/usr/bin/python3", "-c", BCC]
    runs = [[first_event(command) for command in commands] for _ in range(RUNS)]
    ours, peer = (best([run[i] for run in runs]) for i in range(2))
    if ours is None:
        sys.exit("purebpf does not start here; run it to see why")
    if peer is None:
        report.note("BCC does not run its program here (python3-bpfcc and kernel headers are needed).")
    seconds, memory = peer or (None, None)
    report.results += [
        less_is_better("start", "start to the first event", ours[0], "s", "BCC", seconds, 5),
        less_is_better("start.memory", "its peak memory", ours[1], "MB", "BCC", memory, 4),
    ]


def numbers(code: str, *arguments: str) -> list[float]:
    command = [sys.executable, "-c", code, *arguments]
    return [float(n) for n in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def core(report: Report) -> None:
    """Index the kernel's BTF and relocate 50 times, against a plain pass over all types."""
    clang = shutil.which("clang")
    if clang is None or not os.path.exists("/sys/kernel/btf/vmlinux"):
        report.note("Not measured: BTF index and relocations; needs clang and a kernel with BTF.")
        return
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/fifty.o"
        include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
        subprocess.run(
            [clang, "-g", "-O2", "-target", "bpf", include, "-c", str(HERE / "fifty.bpf.c"), "-o", made], check=True
        )
        runs = [(numbers(CORE, made), numbers(PLAIN)) for _ in range(RUNS)]
    seconds, memory = min(ours[0] for ours, _ in runs), max(ours[1] for ours, _ in runs) / 1024
    plain = min(peer[0] for _, peer in runs)
    what = f"BTF index and 50 relocations ({memory:.0f} MB at most)"
    report.results.append(less_is_better("core", what, seconds, "s", "a plain pass over the types", plain, 0.6))
