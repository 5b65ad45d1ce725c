"""Strategies of hypothesis for rings: valid ones, hostile ones, and what producers and consumers do with one.

For tests of whatever reads a ring or decodes its records: no kernel, no privileges, any OS. docs/fuzzing.md has examples.
All values are built up from small parts, so that hypothesis shrinks a failure to a ring of a few bytes with one record.
Needs hypothesis: `pip install 'purebpf[testing]'`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Union

from .formats.batch import Batch
from .formats.pieces import HEADER, stride
from .formats.ring import BUSY, DISCARD, LENGTH, Ring
from .formats.ring import records as parse
from .formats.ring_producer import FORCE_WAKEUP, NO_WAKEUP, Reservation, SimulatedRing

try:
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy
except ImportError as error:
    raise ImportError("purebpf.testing needs hypothesis: pip install 'purebpf[testing]'") from error

__all__ = [
    "Consume",
    "Discard",
    "Operation",
    "Output",
    "Query",
    "Replay",
    "Reserve",
    "RingImage",
    "Submit",
    "ValidRing",
    "hostile_rings",
    "operations",
    "rings",
]

_END = 1 << 64
_RECORDS = st.binary(max_size=64) | st.binary(min_size=24, max_size=64)
_STARTS = st.one_of(
    st.just(0),
    st.integers(0, _END // HEADER - 1).map(lambda n: HEADER * n),
    st.integers(1, 64).map(lambda n: _END - HEADER * n),
)


@dataclass(frozen=True)
class RingImage:
    """A ring that nobody writes: the bytes of its data area, once, and the two positions."""

    area: bytes
    consumer: int
    producer: int

    @property
    def data(self) -> bytes:
        """The data area as a consumer sees it, twice back to back."""
        return self.area * 2

    def records(self, limit: int | None = None) -> Batch[memoryview]:
        """The committed records, as `formats.ring.records` finds them. Raises RingCorrupt."""
        return parse(self.data, self.consumer, self.producer, limit)[0]

    def ring(self) -> Ring:
        """A consumer over a copy, which moves the position as it reads. Raises RingCorrupt."""
        pages = [memoryview(bytearray(struct.pack("=Q", position))) for position in (self.consumer, self.producer)]
        return Ring(pages[0], pages[1].toreadonly(), memoryview(self.data))


@dataclass(frozen=True)
class ValidRing(RingImage):
    """A ring as the kernel could have left it, and what its consumer must make of it.

    `payloads` are those of the committed records before the first busy one, without the discarded; `end` is the position
    that the consumer gets to: the first busy record's, or the producer position.
    """

    payloads: list[bytes]
    end: int


class _Group(NamedTuple):
    """Equal records, one behind the other. `fate` is 0 for submitted ones, or DISCARD, or BUSY."""

    payload: bytes
    fate: int
    times: int


# What may become of records; one that is busy early hides all the others, hence seldom.
_FATES = st.sampled_from([(0,), (0, 0, DISCARD), (0, 0, 0, DISCARD, BUSY)])
_TIMES = st.one_of(st.just(1), st.integers(2, 8), st.integers(9, 100))


@st.composite
def rings(
    draw: st.DrawFn, records: SearchStrategy[bytes] = _RECORDS, sizes: SearchStrategy[int] | None = None
) -> ValidRing:
    """Valid rings: empty to full, with records that wrap, discarded and busy ones, at any position up to 2**64.

    `records` makes the payloads, in bytes. `sizes` makes the sizes of the data area, powers of two from 8 on (the kernel
    wants whole pages; small rings find more); by default the smallest that holds the largest record, to 16 times that.
    Records that find no room are left out, as the kernel does.
    """
    fates = st.sampled_from(draw(_FATES))
    groups = draw(st.lists(st.builds(_Group, records, fates, _TIMES), max_size=20))
    size = draw(_sizes_for(groups) if sizes is None else sizes)
    ring = SimulatedRing(size, start=draw(_STARTS))
    ring.data[:] = _tiled(draw(st.binary(max_size=2 * HEADER)), size) * 2
    return _produced(ring, groups)


def _sizes_for(groups: list[_Group]) -> SearchStrategy[int]:
    largest = max((stride(len(group.payload)) for group in groups), default=0)
    smallest = 1 << largest.bit_length() if largest else HEADER  # no record takes all of a ring
    return st.integers(0, 4).map(lambda n: smallest << n)


def _tiled(pattern: bytes, size: int) -> bytes:
    """What the ring held before: zeros, or one pattern again and again, which can look like headers."""
    return ((pattern or b"\0") * size)[:size]


def _produced(ring: SimulatedRing, groups: list[_Group]) -> ValidRing:
    consumer = ring.query(3)
    payloads: list[bytes] = []
    busy: list[int] = []
    for payload, fate, times in groups:
        for _ in range(times):
            record = ring.reserve(len(payload))
            if record is None:
                break
            record.payload[:] = payload
            if fate == BUSY:
                busy.append(record.position)
            elif fate == DISCARD:
                record.discard()
            else:
                record.submit()
                payloads += [] if busy else [payload]
    producer = ring.query(3)
    return ValidRing(bytes(ring.data[: ring.size]), consumer, producer, payloads, busy[0] if busy else producer)


_WORDS = st.one_of(  # for length words
    st.integers(0, 4096),
    st.sampled_from([DISCARD, BUSY, BUSY | DISCARD, LENGTH, DISCARD | LENGTH, BUSY | DISCARD | LENGTH]),
    st.integers(0, (1 << 32) - 1),
)
_DISTANCES = st.one_of(  # for positions that are not where they should be
    st.sampled_from([HEADER, -HEADER, 1, 4, -1, 1 << 32, 1 << 63]),
    st.integers(-4096, 4096),
    st.integers(0, _END - 1),
)


def hostile_rings(records: SearchStrategy[bytes] = _RECORDS) -> SearchStrategy[RingImage]:
    """Rings that no kernel makes, and some that it could: valid ones of `records` with false length words and positions;
    others of arbitrary content; data areas that are no power of two."""
    return st.one_of(_damaged(records), _arbitrary(), _misshapen())


@st.composite
def _damaged(draw: st.DrawFn, records: SearchStrategy[bytes]) -> RingImage:
    valid = draw(rings(records))
    image = RingImage(valid.area, valid.consumer, valid.producer)
    for which, word in draw(st.lists(st.tuples(st.integers(0, 100), _WORDS), max_size=3)):
        image = _with_word(image, _headers(valid), which, word)
    consumer, producer = draw(st.one_of(st.just((0, 0)), st.tuples(st.just(0) | _DISTANCES, st.just(0) | _DISTANCES)))
    return replace(image, consumer=(image.consumer + consumer) % _END, producer=(image.producer + producer) % _END)


def _headers(image: ValidRing) -> list[int]:
    """The offsets of the headers in the data area; that of the consumer position if there is no record."""
    size, found, at = len(image.area), [], image.consumer
    while at != image.producer:
        found.append(at % size)
        (word,) = struct.unpack_from("=I", image.area, at % size)
        at = (at + stride(word & LENGTH)) % _END
    return found or [at % size]


def _with_word(image: RingImage, headers: list[int], which: int, word: int) -> RingImage:
    area = bytearray(image.area)
    struct.pack_into("=I", area, headers[which % len(headers)], word)
    return replace(image, area=bytes(area))


@st.composite
def _arbitrary(draw: st.DrawFn) -> RingImage:
    size = HEADER << draw(st.integers(0, 6))
    unit = _WORDS.map(lambda word: struct.pack("=Q", word)) | st.binary(min_size=HEADER, max_size=HEADER)
    area = b"".join(draw(st.lists(unit, max_size=size // HEADER))).ljust(size, b"\0")
    consumer = draw(_STARTS)
    ahead = draw(st.integers(0, size // HEADER + 1).map(lambda n: HEADER * n) | _DISTANCES)
    return RingImage(area, consumer, (consumer + ahead) % _END)


def _misshapen() -> SearchStrategy[RingImage]:
    return st.builds(RingImage, st.binary(max_size=100), _STARTS, _STARTS)


class Reserve(NamedTuple):
    """Reserve a place for `payload`, and write it there. Gives the Reservation, or None where there is no room."""

    payload: bytes
    flags: int = 0


class Submit(NamedTuple):
    """Submit one of the records that are reserved: number `which`, modulo how many they are, the oldest first.

    Tells whether the consumer is woken; None if none is reserved.
    """

    which: int = 0
    flags: int = 0


class Discard(NamedTuple):
    """Discard one of the records that are reserved, otherwise as Submit."""

    which: int = 0
    flags: int = 0


class Output(NamedTuple):
    """Send `payload` as bpf_ringbuf_output does. Gives 0 or a negative errno."""

    payload: bytes
    flags: int = 0


class Query(NamedTuple):
    """Ask as bpf_ringbuf_query does. Gives the number."""

    flag: int


class Consume(NamedTuple):
    """Consume what is committed, at most `limit` records. Gives the list of their payloads."""

    limit: int | None = None


Operation = Union[Reserve, Submit, Discard, Output, Query, Consume]


def operations(records: SearchStrategy[bytes] = _RECORDS) -> SearchStrategy[list[Operation]]:
    """What producers and a consumer do with a ring, step by step: for a `Replay`, or for your own ring.

    Any sequence can be applied to any ring. Small rings are wrapped and filled soonest: 64 bytes to 1024.
    """
    flags = st.sampled_from([0, 0, 0, 0, 0, 0, NO_WAKEUP, FORCE_WAKEUP, 4])
    output, consume = st.builds(Output, records, flags), st.builds(Consume, st.none() | st.integers(0, 4))
    which = st.integers(0, 8)
    submit, discard = st.builds(Submit, which, flags), st.builds(Discard, which, flags)
    reserve = st.builds(Reserve, records, st.sampled_from([0] * 9 + [1]))
    query = st.builds(Query, st.integers(0, 4))
    # More is committed than reserved, and all is consumed now and then: otherwise a ring is soon full, and stays so.
    frequent: list[SearchStrategy[Operation]] = [output, consume, submit, reserve, submit, consume]
    frequent += [output, discard, submit, consume, query]
    operation = st.sampled_from(frequent).flatmap(lambda strategy: strategy)
    return st.one_of(st.lists(operation, max_size=10), st.lists(operation, min_size=40, max_size=120))


class Replay:
    """Applies operations to a simulated ring, and knows what its consumer must get.

    `reserved` are the records that are neither submitted nor discarded, `consumer` is the reader that Consume uses. Use it
    or another one; a ring has one consumer at a time.
    """

    def __init__(self, ring: SimulatedRing) -> None:
        self.ring, self.consumer = ring, ring.ring()
        self.reserved: list[Reservation] = []
        self._sent: dict[int, tuple[bytes, int]] = {}  # by position: payload and BUSY, DISCARD or 0

    @property
    def due(self) -> list[bytes]:
        """The payloads that a consumer must get now: committed, not consumed, before the first busy record."""
        consumer, found = self.ring.query(2), list[bytes]()
        unread = self.ring.query(0)
        for position, (payload, fate) in self._sent.items():
            if (position - consumer) % _END >= unread:
                continue
            if fate == BUSY:
                break
            found += [payload] if not fate else []
        return found

    def apply(self, operation: Operation) -> Any:
        """Do it. Gives what the operation says it gives."""
        if isinstance(operation, Reserve):
            return self._reserve(operation)
        if isinstance(operation, Output):
            return self._output(operation)
        if isinstance(operation, (Submit, Discard)):
            return self._commit(operation) if self.reserved else None
        if isinstance(operation, Query):
            return self.ring.query(operation.flag)
        return [bytes(payload) for payload in self.consumer.consume(operation.limit)]

    def _reserve(self, operation: Reserve) -> Reservation | None:
        record = self.ring.reserve(len(operation.payload), operation.flags)
        if record:
            record.payload[:] = operation.payload
            self.reserved.append(record)
            self._sent[record.position] = operation.payload, BUSY
        return record

    def _output(self, operation: Output) -> int:
        position = self.ring.query(3)
        error = self.ring.output(operation.payload, operation.flags)
        if not error:
            self._sent[position] = operation.payload, 0
        return error

    def _commit(self, operation: Submit | Discard) -> bool:
        record = self.reserved.pop(operation.which % len(self.reserved))
        payload, _busy = self._sent[record.position]
        if isinstance(operation, Submit):
            self._sent[record.position] = payload, 0
            return record.submit(operation.flags)
        self._sent[record.position] = payload, DISCARD
        return record.discard(operation.flags)
