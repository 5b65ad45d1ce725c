"""`make bench`: ratios against peers measured in the same run; a peer that is not here is named.

start    process start to the first exec printed, and peak memory, against BCC on the same program
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time

RUNS = 5
BCC = """
from bcc import BPF
b = BPF(text='''
BPF_RINGBUF_OUTPUT(events, 64);
struct event { u32 pid; char filename[256]; };
TRACEPOINT_PROBE(syscalls, sys_enter_execve) {
    struct event *event = events.ringbuf_reserve(sizeof(*event));
    if (!event) return 0;
    event->pid = bpf_get_current_pid_tgid() >> 32;
    bpf_probe_read_user_str(event->filename, sizeof(event->filename), args->filename);
    events.ringbuf_submit(event, 0);
    return 0;
}''')
def show(ctx, data, size):
    event = b["events"].event(data)
    print(event.pid, event.filename.decode(), flush=True)
b["events"].open_ring_buffer(show)
while True: b.ring_buffer_poll()
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
            subprocess.run(["/bin/true"])
            seen += tool.stdout.read() or b""
            time.sleep(0.002)
        return time.monotonic() - begin, peak_memory(tool.pid)
    finally:
        tool.kill()
        tool.wait()
        tool.stdout.close()


def peak_memory(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def median(command: list[str]) -> tuple[float, float] | None:
    results = [result for result in (first_event(command) for _ in range(RUNS)) if result]
    if len(results) < RUNS:
        return None
    return statistics.median(r[0] for r in results), statistics.median(r[1] for r in results)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ours = median([sys.executable, "-m", "purebpf", "trace-exec"])
    if ours is None:
        sys.exit("trace-exec does not start here; run it to see why")
    print(f"start  purebpf {ours[0]:.3f} s to the first event, {ours[1]:.0f} MB at most")
    peer = median(["/usr/bin/python3", "-c", BCC])
    if peer is None:
        print("start  BCC does not run this program here (python3-bpfcc and matching kernel headers are needed)")
    else:
        print(
            f"start  BCC {peer[0]:.3f} s, {peer[1]:.0f} MB: {peer[0] / ours[0]:.1f} times as long, "
            f"{peer[1] / ours[1]:.1f} times the memory"
        )


if __name__ == "__main__":
    main()
