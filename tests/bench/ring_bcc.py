"""The peer in Python: a consumer on BCC of the ring whose descriptor is the first argument. Run by /usr/bin/python3.

BCC compiles a program of its own, which tells it the event's type; its table is then given our descriptor, so that all
consumers drain the same ring. The second argument chooses the callback. For each line on stdin: drain the ring and
print the nanoseconds that it took. With a third argument: drain it without a pause until SIGTERM.
"""

import ctypes
import signal
import sys
import time

import bcc

b = bcc.BPF(
    text="""
struct event { u32 pid; char filename[16]; };
BPF_RINGBUF_OUTPUT(events, 4096);
int declare(void *ctx) {
    struct event event = {};
    events.ringbuf_output(&event, sizeof(event), 0);
    return 0;
}"""
)
b["events"].map_fd = int(sys.argv[1])
stopped = False


def pid(_ctx, data, _size):  # as BCC's documentation has it, here and below: it returns nothing
    event = b["events"].event(data)
    _member = event.pid


def both(_ctx, data, _size):
    event = b["events"].event(data)
    _members = event.pid, event.filename


def copied(_ctx, data, size):
    ctypes.string_at(data, size)


def quick(_ctx, data, _size):
    _member = event_of(data).pid
    return 0


def stop(*_):
    global stopped
    stopped = True


event_of = b["events"].event
b["events"].open_ring_buffer(globals()[sys.argv[2]])
signal.signal(signal.SIGTERM, stop)
print(bcc.__version__, flush=True)
if len(sys.argv) > 3:
    while not stopped:
        b.ring_buffer_consume()
    b.ring_buffer_consume()
else:
    for _ in sys.stdin:
        begin = time.perf_counter_ns()
        b.ring_buffer_consume()
        print(time.perf_counter_ns() - begin, flush=True)
