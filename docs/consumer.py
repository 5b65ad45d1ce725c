"""A consumer of a BPF ring buffer on nothing but the standard library; docs/consumer.md builds it up, step by step.

Run as root, `python consumer.py exec.bpf.o` prints the events of docs/tutorial.md until Ctrl-C.
"""

import ctypes
import mmap
import os
import select
import struct
import sys
from contextlib import suppress

import purebpf  # loads the object, and has no part in reading the ring


def map_ring(fd, size):
    """Three views of a ring's memory: the consumer position, the producer position, the data area, twice."""
    page = mmap.PAGESIZE
    first = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    rest = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
    return memoryview(first)[:8].cast("Q"), memoryview(rest)[:8].cast("Q"), memoryview(rest)[page:]


HEADER, BUSY, DISCARD = 8, 1 << 31, 1 << 30


def walk(data, start, end):
    """Where in `data` the payloads between two positions are, and the position that was reached."""
    words, mask, found = data.cast("I"), len(data) // 2 - 1, []
    while start < end:
        offset = start & mask
        word = words[offset // 4]
        if word & BUSY:
            break
        length = word & ~DISCARD
        if not word & DISCARD:
            found.append(slice(offset + HEADER, offset + HEADER + length))
        start += (HEADER + length + 7) // 8 * 8
    return found, start


MACHINE = os.uname().machine
MEMBARRIER = {"x86_64": 324, "s390x": 356, "ppc64le": 365}.get(MACHINE, 283)
LIBC = ctypes.CDLL(None, use_errno=True)


def barrier():
    """All loads and stores above happen before all below: membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED)."""
    if LIBC.syscall(ctypes.c_long(MEMBARRIER), ctypes.c_long(2), ctypes.c_long(0)):
        raise OSError(ctypes.get_errno(), "membarrier")


def keep_order():
    """The same, but for loads below stores: x86-64 and s390x keep all other orders by themselves."""
    if MACHINE not in ("x86_64", "s390x"):
        barrier()


def take(ring):
    """Copies of the payloads before the first busy record. The space of all that was walked is handed back."""
    consumer, producer, data = ring
    start, end = consumer[0], producer[0]
    keep_order()  # the position, then headers
    found, reached = walk(data, start, end)
    keep_order()  # headers, then payloads
    payloads = [bytes(data[where]) for where in found]
    keep_order()  # payloads, then the position
    consumer[0] = reached
    return payloads


def is_ready(ring):
    """Is the next record there, and not busy?"""
    consumer, producer, data = ring
    start, end = consumer[0], producer[0]
    keep_order()
    return start != end and walk(data, start, end)[1] != start


def events(ring, fd):
    """Each payload, for ever."""
    epoll = select.epoll()
    epoll.register(fd, select.EPOLLIN | select.EPOLLET)
    while True:
        yield from take(ring)
        barrier()  # the position is handed back, then the ring is looked at once more
        if not is_ready(ring):
            epoll.poll()


if __name__ == "__main__":
    with purebpf.load(sys.argv[1]) as obj, suppress(KeyboardInterrupt):
        fd, size = obj.maps["events"].fileno(), obj.maps["events"].spec.max_entries
        obj.attach()
        for payload in events(map_ring(fd, size), fd):
            pid, comm = struct.unpack("=I16s", payload)
            print(pid, comm.rstrip(b"\0").decode(errors="replace"), flush=True)
