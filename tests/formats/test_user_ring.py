"""The producer of a user ring, against the kernel's consumer written down from kernel/bpf/ringbuf.c."""

from __future__ import annotations

import errno
import struct
import threading
from contextlib import suppress
from pickle import PickleBuffer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import purebpf
from purebpf.formats.ring import BUSY, DISCARD, no_fence
from purebpf.formats.user_ring import UserRecord, UserRing

SIZE = 256
LARGEST_DYNPTR = (1 << 24) - 1


class Kernel:
    """The three buffers and bpf_user_ringbuf_drain. Positions are 64 bits wide here, too, but compared as differences."""

    def __init__(self, size: int = SIZE, start: int = 0, fence: Any = None) -> None:
        self.size = size
        self.consumer, self.producer, self.data = bytearray(4096), bytearray(4096), bytearray(2 * size)
        for page in (self.consumer, self.producer):
            struct.pack_into("=Q", page, 0, start)
        pages = memoryview(self.consumer).toreadonly(), memoryview(self.producer), memoryview(self.data)
        self.ring = UserRing(*pages, fence) if fence else UserRing(*pages)

    def peek(self) -> tuple[int, bytes | None, int]:
        """(error, payload, bytes to go on by), as __bpf_user_ringbuf_peek has them."""
        (producer,), (consumer,) = struct.unpack_from("=Q", self.producer), struct.unpack_from("=Q", self.consumer)
        if producer % 8:
            return errno.EINVAL, None, 0
        left = (producer - consumer) % 2**64
        if not left:
            return errno.ENODATA, None, 0
        word, other = struct.unpack_from("=II", self.data, consumer % self.size)
        assert other == 0
        length = word & ~(BUSY | DISCARD)
        total = (length + 8 + 7) & ~7
        if total > left:
            return errno.EINVAL, None, 0
        if total > self.size or length > LARGEST_DYNPTR:
            return errno.E2BIG, None, 0
        if word & DISCARD:
            return errno.EAGAIN, None, total
        if word & BUSY:
            return errno.ENODATA, None, 0
        begin = (consumer + 8) % self.size
        return 0, bytes(self.data[begin : begin + length]), total

    def drain(self, most: int = 128 * 1024) -> list[bytes]:
        """The payloads. Fails where the kernel would refuse the ring."""
        found: list[bytes] = []
        for _ in range(most):
            error, payload, step = self.peek()
            assert error in (0, errno.ENODATA, errno.EAGAIN), f"the kernel says {errno.errorcode[error]}"
            if payload is not None:
                found.append(payload)
            if not step:
                break
            struct.pack_into("=Q", self.consumer, 0, (struct.unpack_from("=Q", self.consumer)[0] + step) % 2**64)
        return found


def reserved(ring: UserRing, length: int) -> UserRecord:
    record = ring.reserve(length)
    assert record is not None
    return record


def test_records_come_out_in_the_order_of_reservation() -> None:
    kernel = Kernel()
    first, second = reserved(kernel.ring, 5), reserved(kernel.ring, 0)
    assert kernel.ring.output(b"third")
    second.submit()
    assert kernel.drain() == []  # the first is busy
    first.payload[:] = b"first"
    first.submit()
    assert kernel.drain() == [b"first", b"", b"third"]
    assert kernel.ring.consumer_position == kernel.ring.producer_position == 16 + 8 + 16
    assert kernel.ring.available == 0


def test_headers_are_as_libbpf_writes_them() -> None:
    kernel = Kernel()
    kernel.data[:] = b"\xff" * len(kernel.data)
    record = reserved(kernel.ring, 5)
    assert struct.unpack_from("=II", kernel.data) == (BUSY | 5, 0)
    record.submit()
    assert struct.unpack_from("=II", kernel.data) == (5, 0)
    reserved(kernel.ring, 3).discard()
    assert struct.unpack_from("=II", kernel.data, 16) == (DISCARD | 3, 0)


def test_a_discarded_record_is_passed_over() -> None:
    kernel = Kernel()
    assert kernel.ring.output(b"one")
    reserved(kernel.ring, 20).discard()
    assert kernel.ring.output(b"two")
    assert kernel.drain() == [b"one", b"two"]
    assert kernel.ring.available == 0


@pytest.mark.parametrize("start", [*range(0, SIZE, 8), 2**64 - 8, 2**64 - 104])
def test_a_record_that_wraps_is_whole(start: int) -> None:
    kernel, payload = Kernel(start=start), bytes(range(100))
    record = reserved(kernel.ring, 100)
    record.payload[:] = payload
    record.submit()
    assert kernel.ring.output(payload[::-1])
    assert kernel.drain() == [payload, payload[::-1]]


def test_the_ring_can_be_filled_to_the_last_byte() -> None:
    kernel = Kernel(start=64)
    assert reserved(kernel.ring, SIZE - 8).length == kernel.ring.largest
    assert kernel.ring.available == SIZE
    assert kernel.ring.reserve(0) is None
    assert not kernel.ring.fits(0)
    assert not kernel.ring.output(b"")


def test_room_comes_back_with_the_consumer_position() -> None:
    kernel = Kernel()
    while kernel.ring.output(bytes(24)):
        pass
    assert kernel.drain(1) == [bytes(24)]
    assert not kernel.ring.fits(25)
    assert kernel.ring.fits(24)
    assert kernel.ring.output(b"x" * 24)
    assert kernel.drain()[-1] == b"x" * 24


@pytest.mark.parametrize("length", [-1, SIZE - 7, 2**32])
def test_a_length_that_never_fits_is_refused(length: int) -> None:
    ring = Kernel().ring
    for call in (ring.reserve, ring.fits):
        with pytest.raises(purebpf.ObjectError, match="takes 0 to 248"):
            call(length)
    assert ring.producer_position == 0
    assert Kernel(1 << 25).ring.largest == LARGEST_DYNPTR


def test_a_payload_is_zero_until_it_is_written_and_reaches_the_ring_when_submitted() -> None:
    kernel = Kernel()
    kernel.data[:] = b"\xff" * len(kernel.data)
    record = reserved(kernel.ring, 4)
    assert record.payload == bytes(4)
    record.payload[1] = 7
    assert kernel.data[8:12] == b"\xff" * 4
    record.submit()
    assert kernel.drain() == [b"\0\7\0\0"]


@pytest.mark.parametrize("end", [UserRecord.submit, UserRecord.discard])
def test_a_committed_record_is_over(end: Any) -> None:
    kernel = Kernel()
    record = reserved(kernel.ring, 8)
    view, part = record.payload, record.payload[2:4]
    end(record)
    for call in (record.submit, record.discard, lambda: record.payload):
        with pytest.raises(purebpf.ClosedError, match="submitted or discarded"):
            call()
    with pytest.raises(ValueError, match="released"):
        view[0] = 1
    before = bytes(kernel.data)
    part[:] = b"!!"  # a slice outlives its view, and writes to memory that is the record's own
    assert bytes(kernel.data) == before


def test_a_record_that_something_still_refers_to_can_be_submitted() -> None:
    kernel = Kernel()
    record = reserved(kernel.ring, 2)
    kept = PickleBuffer(record.payload)  # as an array of NumPy's, keeps the view from being released
    memoryview(kept)[:] = b"hi"
    record.submit()
    memoryview(kept)[:] = b"no"
    assert kernel.drain() == [b"hi"]


def test_a_with_statement_submits_at_its_end() -> None:
    kernel = Kernel()
    with reserved(kernel.ring, 4) as record:
        record.payload[:] = b"done"
    with reserved(kernel.ring, 4) as record:
        record.discard()  # or as the body says
    assert kernel.drain() == [b"done"]


def test_a_with_statement_discards_if_its_body_raises() -> None:
    kernel = Kernel()
    with pytest.raises(ZeroDivisionError), reserved(kernel.ring, 4) as record:
        record.payload[0] = 1 // 0
    assert kernel.drain() == []
    assert kernel.ring.available == 0


def test_the_error_of_a_body_is_seen_even_if_it_closed_the_ring() -> None:
    ring = Kernel().ring

    def body() -> None:
        with reserved(ring, 4):
            ring.release()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()


def test_output_takes_whatever_has_bytes() -> None:
    kernel = Kernel()
    for data in (b"ab", bytearray(b"cd"), memoryview(b"efgh")[1:3], memoryview(struct.pack("=I", 5)).cast("I")):
        assert kernel.ring.output(data)
    assert kernel.drain() == [b"ab", b"cd", b"fg", struct.pack("=I", 5)]


def test_a_released_ring_refuses_everything() -> None:
    kernel = Kernel()
    record = reserved(kernel.ring, 4)
    ring = kernel.ring
    for _ in range(2):
        ring.release()
    for call in (record.submit, lambda: ring.reserve(1), lambda: ring.available, lambda: ring.producer_position):
        with pytest.raises(purebpf.ClosedError, match="is closed"):
            call()
    kernel.data.clear()  # nothing holds the buffers


@pytest.mark.parametrize(("consumer", "producer"), [(8, 0), (0, SIZE + 8), (4, 8), (0, 12)])
def test_contradicting_positions_are_reported_and_nothing_is_written(consumer: int, producer: int) -> None:
    kernel = Kernel()
    struct.pack_into("=Q", kernel.consumer, 0, consumer)
    struct.pack_into("=Q", kernel.producer, 0, producer)
    for call in (lambda: kernel.ring.reserve(1), lambda: kernel.ring.output(b"x"), lambda: kernel.ring.available):
        with pytest.raises(purebpf.RingCorrupt, match="cannot both be true"):
            call()
    assert kernel.data == bytes(2 * SIZE)


@pytest.mark.parametrize("size", [0, 7, 16 * 3, 100])
def test_the_data_area_must_be_twice_a_power_of_two(size: int) -> None:
    with pytest.raises(purebpf.RingCorrupt, match="power of two"):
        UserRing(memoryview(bytes(8)), memoryview(bytearray(8)), memoryview(bytearray(size)))


def test_fences_stand_before_the_header_the_position_and_the_commit() -> None:
    seen: list[tuple[int, int, bytes]] = []

    def fence() -> None:
        producer, word = struct.unpack_from("=Q", kernel.producer)[0], struct.unpack_from("=I", kernel.data)[0]
        seen.append((producer, word, bytes(kernel.data[8:10])))

    kernel = Kernel(fence=fence)
    with reserved(kernel.ring, 2) as record:
        record.payload[:] = b"hi"
    empty = bytes(2)
    assert seen == [(0, 0, empty), (0, BUSY | 2, empty), (16, BUSY | 2, b"hi")]
    seen.clear()
    kernel = Kernel(fence=fence)
    assert kernel.ring.output(b"hi")
    assert seen == [(0, 0, empty), (0, 2, b"hi")]


def test_a_signal_handler_may_not_produce_in_the_middle_of_a_call() -> None:
    errors: list[purebpf.Error] = []

    def interrupted() -> None:
        ring = kernel.ring
        for call in (lambda: ring.output(b"no"), lambda: ring.reserve(1), lambda: ring.available, other.submit):
            with pytest.raises(purebpf.Error, match="signal handler") as raised:
                call()
            errors.append(raised.value)

    kernel = Kernel()
    other = reserved(kernel.ring, 5)
    kernel.ring._fence = interrupted
    with reserved(kernel.ring, 3) as record:
        record.payload[:] = b"yes"
    assert len(errors) == 12
    kernel.ring._fence = no_fence
    other.payload[:] = b"later"
    other.submit()
    assert kernel.drain() == [b"later", b"yes"]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_signal_handler_may_release_the_ring_in_the_middle_of_a_call(at: int) -> None:
    """The call comes to its end first. What was still busy then stays so."""
    fences: list[int] = []

    def interrupted() -> None:
        if len(fences) == at:
            kernel.ring.release()
        fences.append(at)

    kernel = Kernel(fence=interrupted)
    record = reserved(kernel.ring, 3)
    with suppress(purebpf.ClosedError):
        record.submit()
    with pytest.raises(purebpf.ClosedError):
        kernel.ring.reserve(3)
    assert struct.unpack_from("=I", kernel.data)[0] == (3 if at == 2 else BUSY | 3)
    kernel.data.clear()  # nothing holds the buffers


def test_threads_produce_whole_records_each_in_its_own_order() -> None:
    kernel, each, threads = Kernel(1 << 16), 300, 4

    def produce(number: int) -> None:
        for index in range(each):
            if index % 2:
                assert kernel.ring.output(struct.pack("=II", number, index) * (1 + index % 3))
            else:
                with reserved(kernel.ring, 8) as record:
                    struct.pack_into("=II", record.payload, 0, number, index)

    started = [threading.Thread(target=produce, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    found = [struct.unpack_from("=II", payload) for payload in kernel.drain()]
    for number in range(threads):
        assert [index for thread_number, index in found if thread_number == number] == list(range(each))


@given(st.lists(st.tuples(st.binary(max_size=SIZE - 8), st.booleans()), max_size=40), st.integers(0, 2**61 - 1))
def test_what_is_produced_is_what_is_drained(messages: list[tuple[bytes, bool]], start: int) -> None:
    kernel = Kernel(start=start * 8)
    sent, found = [], []
    for message, discarded in messages:
        record = kernel.ring.reserve(len(message))
        if record is None:
            found += kernel.drain()
            record = reserved(kernel.ring, len(message))
        record.payload[:] = message
        if discarded:
            record.discard()
        else:
            sent.append(message)
            record.submit()
    assert found + kernel.drain() == sent


class Protocol(RuleBasedStateMachine):
    """Any interleaving of reservations, commits and drains: what was submitted comes out, once, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = Kernel(start=2**64 - 512)
        self.queue: list[list[Any]] = []  # [record, payload, None | "submitted" | "discarded"]

    @rule(payload=st.binary(max_size=120))
    def reserve(self, payload: bytes) -> None:
        taken = sum((record.length + 15) & ~7 for record, _payload, _state in self.queue)
        record = self.kernel.ring.reserve(len(payload))
        assert (record is None) == (taken + ((len(payload) + 15) & ~7) > SIZE)
        if record is not None:
            self.queue.append([record, payload, None])

    @precondition(lambda self: any(state is None for _record, _payload, state in self.queue))
    @rule(data=st.data(), discard=st.booleans())
    def commit(self, data: st.DataObject, discard: bool) -> None:
        entry = data.draw(st.sampled_from([entry for entry in self.queue if entry[2] is None]))
        record, payload, _state = entry
        record.payload[:] = payload
        (record.discard if discard else record.submit)()
        entry[2] = "discarded" if discard else "submitted"

    @rule(most=st.integers(1, 5))
    def drain(self, most: int) -> None:
        expected = []
        for _ in range(most):
            if self.queue and self.queue[0][2]:
                _record, payload, state = self.queue.pop(0)
                expected += [payload] if state == "submitted" else []
        assert self.kernel.drain(most) == expected

    @invariant()
    def consumer_stands_at_the_oldest_record(self) -> None:
        oldest = self.queue[0][0].position if self.queue else self.kernel.ring.producer_position
        assert self.kernel.ring.consumer_position == oldest


TestProtocol = Protocol.TestCase
