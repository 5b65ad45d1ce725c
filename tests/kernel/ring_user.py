"""A process with a ring of its own, which does what it is told, line by line: see test_ring_watch.py.

Events are numbered. "take" takes what there is; "sleep" does so in a thread, which waits for it, and "woken" tells what that got.
"""

from __future__ import annotations

import json
import struct
import sys
import threading
from typing import Any

import purebpf

SOURCE = """
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } events SEC(".maps");
__u64 sent, lost;
SEC("raw_tp/task_rename") int send(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 *event;
    int i;
    for (i = 0; i < 1000 && i < ctx->args[0]; i++) {
        event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
        if (event) {
            *event = sent++;
            bpf_ringbuf_submit(event, 0);
        } else {
            lost++;
        }
    }
    return 0;
}
"""


def main(path: str) -> None:
    """Answer each command with a line of JSON."""
    with purebpf.load(path) as obj:
        ring = obj.ring("events")
        slept: list[list[int]] = []
        sleepers: list[threading.Thread] = []

        def sleep(_n: int) -> int | None:
            sleepers.append(threading.Thread(target=lambda: slept.append(_numbers(ring.poll(timeout=30)))))
            sleepers[-1].start()
            return sleepers[-1].native_id

        def woken(_n: int) -> list[int]:
            sleepers.pop().join()
            return slept.pop()

        def churn(rounds: int) -> int:
            """Send 1,000 and take them, so many times."""
            count = 0
            for _ in range(rounds):
                obj.programs["send"].test_run(context=struct.pack("=QQ", 1000, 0))
                count += len(ring.consume())
            return count

        commands = {
            "churn": churn,
            "id": lambda _n: obj.maps["events"].info().id,
            "send": lambda n: obj.programs["send"].test_run(context=struct.pack("=QQ", n, 0)).return_value,
            "take": lambda n: _numbers(ring.consume(n or None)),
            "sleep": sleep,
            "woken": woken,
            "positions": lambda _n: [ring.consumer_position, ring.producer_position],
            "lost": lambda _n: obj.globals.lost,
        }
        for line in sys.stdin:
            name, _, number = line.partition(" ")
            print(json.dumps(commands[name.strip()](int(number or 0))), flush=True)


def _numbers(batch: Any) -> list[int]:
    return [number for (number,) in batch.unpack("=Q")]


if __name__ == "__main__":
    main(sys.argv[1])
