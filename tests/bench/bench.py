"""`make bench`: ratios against peers measured in the same run; a peer that is not here is named.

start    process start to the first exec printed, and peak memory, against BCC on the same program
core     index the running kernel's BTF and relocate an object with 50 CO-RE relocations, against a plain Python
         pass over all its types, and peak memory

Best of several runs, for the machine may be busy. Byte code is cached before, as it is where purebpf is installed.
"""

from __future__ import annotations

import glob
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 9
TRACE_EXEC = [str(Path(sys.executable).with_name("purebpf")), "trace-exec"]
HERE = Path(__file__).parent
# bpf/trace_exec.bpf.c, as one writes it for BCC.
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
        while b"/bin/true" not in seen:
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


def best(command: list[str]) -> tuple[float, float] | None:
    results = [result for result in (first_event(command) for _ in range(RUNS)) if result]
    return (min(r[0] for r in results), max(r[1] for r in results)) if len(results) == RUNS else None


def start() -> None:
    ours = best(TRACE_EXEC)
    if ours is None:
        sys.exit("trace-exec does not start here; run it to see why")
    print(f"start  purebpf {ours[0]:.3f} s to the first event, {ours[1]:.0f} MB at most")
    peer = best(["/usr/bin/python3", "-c", BCC])
    if peer is None:
        print("start  BCC does not run this program here (python3-bpfcc and kernel headers are needed)")
        return
    ratio, memory = peer[0] / ours[0], peer[1] / ours[1]
    print(f"start  BCC {peer[0]:.3f} s, {peer[1]:.0f} MB: {ratio:.1f} times as long, {memory:.1f} times the memory")


def numbers(code: str, *arguments: str) -> list[float]:
    command = [sys.executable, "-c", code, *arguments]
    return [float(n) for n in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def core() -> None:
    clang = shutil.which("clang")
    if clang is None or not os.path.exists("/sys/kernel/btf/vmlinux"):
        print("core   needs clang and a kernel with BTF")
        return
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/fifty.o"
        subprocess.run(
            [clang, "-g", "-O2", "-target", "bpf", include, "-c", str(HERE / "fifty.bpf.c"), "-o", made], check=True
        )
        runs = [numbers(CORE, made) for _ in range(RUNS)]
        plain = min(numbers(PLAIN)[0] for _ in range(RUNS))
    seconds, memory = min(r[0] for r in runs), max(r[1] for r in runs) / 1024
    print(
        f"core   {seconds:.3f} s for the index and 50 relocations, {memory:.0f} MB at most;"
        f" a plain pass over the types takes {plain:.3f} s: {seconds / plain:.2f} times as long"
    )


def prepare_for_bcc() -> None:
    """BCC wants tracefs and the kernel's headers; give it those of another kernel where its own are not packaged.

    Done in a mount namespace of our own, so that nothing of it stays on the machine.
    """
    if "PUREBPF_BENCH" not in os.environ:
        os.environ["PUREBPF_BENCH"] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    modules = Path("/lib/modules") / os.uname().release
    quiet = {"stderr": subprocess.DEVNULL}
    subprocess.run(["mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing"], **quiet)
    trees = sorted(p for p in glob.glob("/usr/src/linux-headers-*") if not p.endswith("-common"))
    if modules.exists() or not trees:
        return
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/lib/modules"], check=True)
    modules.mkdir()
    (modules / "build").symlink_to(trees[-1])
    (modules / "source").symlink_to(re.sub(r"-[^-]*$", "-common", trees[-1]))


def main() -> None:
    prepare_for_bcc()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    first_event(TRACE_EXEC)
    start()
    core()


if __name__ == "__main__":
    main()
