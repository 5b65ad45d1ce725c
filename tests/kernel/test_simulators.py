"""The simulated perf ring and the simulated drain against the kernel's: the same operations, the same answers."""

from __future__ import annotations

import mmap
import random
import struct
from collections.abc import Callable, Iterator

import pytest

import purebpf
from purebpf.formats.perf_producer import ENOSPC, SimulatedPerfRing
from purebpf.formats.ring import BUSY, DISCARD
from purebpf.formats.user_ring import UserRecord, UserRing
from purebpf.formats.user_ring_consumer import SimulatedUserRing
from purebpf.kernel.cpus import online_cpus

pytestmark = pytest.mark.kernel

PERF_SOURCE = """
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 4);
} events SEC(".maps");
char content[4096];

SEC("raw_tp/task_rename") int emit(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 size = ctx->args[0];
    return size > sizeof(content) ? -1 : bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, content, size);
}
"""
USER_SOURCE = """
struct { __uint(type, BPF_MAP_TYPE_USER_RINGBUF); __uint(max_entries, 65536); } messages SEC(".maps");

static long take(struct bpf_dynptr *message, void *context)
{
    __u64 *left = context;
    return --*left == 0;
}

SEC("raw_tp/task_rename") int drain(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 left = ctx->args[0];
    return bpf_user_ringbuf_drain(&messages, take, &left, 0);
}
"""
PAGE = mmap.PAGESIZE
ON_CPU = 1  # BPF_F_TEST_RUN_ON_CPU
Build = Callable[[str], purebpf.ObjectSpec]


@pytest.mark.parametrize("seed", range(4))
def test_a_simulated_perf_ring_answers_as_the_kernels(build: Build, seed: int) -> None:
    numbers, cpu = random.Random(seed), online_cpus()[0]
    content = numbers.randbytes(4096)
    with purebpf.load(build(PERF_SOURCE)) as obj:
        obj.globals.content = content
        buffer, ring = obj.perf("events", pages=1), SimulatedPerfRing(PAGE)
        reader, sizes, lost = ring.ring(), list[int](), 0
        for _ in range(200):
            if numbers.random() < 0.15:
                drained = reader.drain()
                lost += drained.lost
                # not the padding: the number of the kernel's event, which precedes a count of lost ones, may lie there
                there = [(len(record), record[:size]) for record, size in zip(buffer.drain(), sizes)]
                assert there == [(len(record), record[:size]) for record, size in zip(drained.records, sizes)]
                assert (len(there), buffer.lost) == (len(sizes), lost)
                sizes.clear()
            size = numbers.choice([0, 1, 4, 5, 100, 777, 1500])
            answer = obj.programs["emit"].test_run(context=struct.pack("=QQ", size, 0), flags=ON_CPU, cpu=cpu)
            assert ring.output(content[:size]) == (0 if answer.return_value == 0 else -ENOSPC)
            sizes += [size] if answer.return_value == 0 else []
    assert lost


class Both:
    """A user ring of the kernel's and a simulated one, and the same operations on them."""

    def __init__(self, obj: purebpf.Object) -> None:
        self.program, self.simulated = obj.programs["drain"], SimulatedUserRing(PAGE)
        self.rings: list[UserRing] = [obj.user_ring("messages")._ring, self.simulated.ring()]
        self.reserved: list[list[UserRecord]] = []

    def reserve(self, length: int) -> None:
        made = [ring.reserve(length) for ring in self.rings]
        records = [record for record in made if record]
        assert len(records) in (0, 2)
        self.reserved += [records] if records else []

    def commit(self, which: int, commit: Callable[[UserRecord], None]) -> None:
        for record in self.reserved.pop(which % len(self.reserved)):
            commit(record)

    def forge(self, word: int, ahead: int) -> None:
        """Write a header, and move the producer position."""
        for ring in self.rings:
            position = ring.producer_position
            ring._headers[(position & ring.size - 1) // 4] = word
            ring._producer[0] = position + ahead

    def drain(self, most: int) -> int:
        """What both returned."""
        answer = self.program.test_run(context=struct.pack("=Q", most)).return_value
        left = [most]

        def take(_payload: bytes) -> int:
            left[0] -= 1
            return int(left[0] == 0)

        assert self.simulated.drain(take) == (answer - 2**32 if answer >> 31 else answer)
        assert self.rings[0].consumer_position == self.rings[1].consumer_position
        return answer


@pytest.fixture
def both(build: Build) -> Iterator[Both]:
    spec = build(USER_SOURCE)
    spec.maps["messages"].max_entries = PAGE
    with purebpf.load(spec) as obj:
        yield Both(obj)


@pytest.mark.needs("user_ringbuf")
@pytest.mark.parametrize("seed", range(4))
def test_a_simulated_drain_takes_what_the_kernels_takes(both: Both, seed: int) -> None:
    numbers, taken = random.Random(seed), 0
    for _ in range(400):
        choice = numbers.random()
        if choice < 0.45:
            both.reserve(numbers.choice([0, 1, 8, 100, 777]))
        elif choice < 0.8 and both.reserved:
            both.commit(
                numbers.randrange(9), numbers.choice([UserRecord.submit, UserRecord.submit, UserRecord.discard])
            )
        elif choice > 0.9:
            taken += both.drain(numbers.randint(1, 5))
    assert taken


@pytest.mark.needs("user_ringbuf")
@pytest.mark.parametrize(
    ("word", "ahead", "errno"),
    [
        (8, 12, 22),
        (9, 16, 22),
        (DISCARD | 9, 16, 22),
        (BUSY | 9, 16, 22),
        (PAGE, PAGE + 8, 7),
        (1 << 24, 1 << 30, 7),
        (BUSY | 8, 16, 0),
        (BUSY | DISCARD | 8, 16, 0),
    ],
)
def test_a_simulated_drain_refuses_what_the_kernels_refuses(both: Both, word: int, ahead: int, errno: int) -> None:
    both.forge(word, ahead)
    assert [both.drain(9) for _ in range(2)] == [-errno % 2**32] * 2
