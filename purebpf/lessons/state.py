"""What is in a ring at one moment, as plain values: positions, records, header bits, what was lost.

A state is made from the three buffers that a consumer maps (formats/ring.py says what is in them), be they the kernel's
pages or the simulator's memory:

    >>> from purebpf.formats.ring_producer import SimulatedRing
    >>> ring = SimulatedRing(4096)
    >>> record = ring.reserve(5)
    >>> state = ring_state(ring.consumer_page, ring.producer_page, ring.data)
    >>> state.producer, [(found.position, found.state, hex(found.word)) for found in state.records]
    (16, [(0, 'busy', '0x80000005')])

A ring that is written while it is read may be seen torn, and a file may hold anything: a state is made of whatever there
is, and `torn` says what contradicts itself. Nothing here raises for the content of the buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Union

from ..formats.perf import HEAD, LOST, SAMPLE, TAIL
from ..formats.pieces import HEADER, POSITIONS, stride
from ..formats.ring import BUSY, DISCARD, LENGTH

Buffer = Union[bytes, bytearray, memoryview]

RING, OVERWRITE, USER, PERF = KINDS = ("ring", "overwrite", "user", "perf")
COMMITTED, BUSY_RECORD, DISCARDED = "committed", "busy", "discarded"  # between the positions
CONSUMED, OVERWRITTEN = "consumed", "overwritten"  # before them: the bytes are still there
LOST_RECORD = "lost"  # of perf rings: the kernel's word that others were lost

_PRODUCER, _PENDING, _OVERWRITE = 0, 1, 2  # the 8-byte words of the producer page
_PERF_HEADER = struct.Struct("=IHH")  # struct perf_event_header: type, misc, size
_PERF_LOST = struct.Struct("=QQ")  # id, lost


@dataclass(frozen=True)
class RecordState:
    """One record. `position` is that of its header, `offset` the same in the data area, `stride` the bytes from there to
    the next header. `length` and `payload` are without header and padding. `name` is what a scenario calls it.

    `word` is the header's length word, `second_word` how many pages the header is away from the kernel's struct
    bpf_ringbuf (0 in user rings). In perf rings they are the record's type and the size of the whole.
    """

    position: int
    offset: int
    stride: int
    length: int
    state: str
    word: int
    second_word: int
    payload: bytes
    name: str = ""

    @property
    def busy(self) -> bool:
        """Bit 31 of the length word: reserved, not yet submitted or discarded."""
        return bool(self.word & BUSY)

    @property
    def discard(self) -> bool:
        """Bit 30 of the length word: to be skipped."""
        return bool(self.word & DISCARD)

    @property
    def lost(self) -> int:
        """Of the word about lost records in a perf ring: how many; 0 for all others."""
        return _PERF_LOST.unpack_from(self.payload)[1] if self.state == LOST_RECORD else 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the fields, the payload in hexadecimal digits, and the decoded bits."""
        return {**asdict(self), "payload": self.payload.hex(), "busy": self.busy, "discard": self.discard}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RecordState:
        """What `to_dict` has made."""
        fields = {name: values[name] for name in cls.__dataclass_fields__}
        return cls(**{**fields, "payload": bytes.fromhex(values["payload"])})


@dataclass(frozen=True)
class RingState:
    """A ring at one moment. Sizes and positions are bytes; positions only grow, modulo 2**64.

    `kind` is "ring", "overwrite" (BPF_F_RB_OVERWRITE, Linux 6.19), "user" or "perf" (one CPU's ring, which `label` names).
    `pending` is the position of the oldest record that was busy at the last reservation, None where there is none: in user
    and perf rings, and on old kernels. `overwrite` is the one behind the last record that was thrown away for
    a newer one, None in other kinds.

    `records` are those from `begin` to `producer`, which a consumer has not handed back; `past` those before it whose
    bytes are still whole, if a Recorder has seen them. `used` are the bytes between `begin` and `producer`. `unlisted` are
    those of them that lie behind `records`, because only so many records were asked for.

    `torn` is "" if all that was read fits together, or what does not, and `torn_at` the position where, None if it is the
    positions themselves; `records` then has what comes before.

    Of the scenario: `notifications` are the wake-ups that the kernel has sent, `losses` the events that found no room,
    `overwritten` the records that were thrown away unread, `asleep` whether the consumer waits for a wake-up.
    """

    kind: str
    size: int
    page_size: int
    consumer: int
    producer: int
    pending: int | None = None
    overwrite: int | None = None
    records: tuple[RecordState, ...] = ()
    past: tuple[RecordState, ...] = ()
    used: int = 0
    unlisted: int = 0
    torn: str = ""
    torn_at: int | None = None
    notifications: int = 0
    losses: int = 0
    overwritten: int = 0
    asleep: bool = False
    label: str = ""

    @property
    def begin(self) -> int:
        """Where a consumer goes on: the consumer position, or the overwrite position if that is further."""
        return _begin(self.consumer, self.overwrite)

    @property
    def fill(self) -> float:
        """The part of the ring that is in use, 0 to 1."""
        return self.used / self.size if self.size else 0.0

    @property
    def all_records(self) -> tuple[RecordState, ...]:
        """Everything that can be seen in the data area, the oldest first."""
        return self.past + self.records

    def named(self, name: str) -> RecordState | None:
        """The newest record of this name."""
        return next((record for record in reversed(self.all_records) if record.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the fields and `fill`. Positions are numbers, exact up to 2**53 for readers that know floats only."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["records"] = [record.to_dict() for record in self.records]
        fields["past"] = [record.to_dict() for record in self.past]
        return {**fields, "fill": self.fill}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RingState:
        """What `to_dict` has made, also after JSON."""
        fields = {name: values[name] for name in cls.__dataclass_fields__}
        for name in ("records", "past"):
            fields[name] = tuple(RecordState.from_dict(record) for record in values[name])
        return cls(**fields)


def ring_state(
    consumer: Buffer,
    producer: Buffer,
    data: Buffer,
    kind: str = RING,
    *,
    most: int | None = None,
) -> RingState:
    """The state of a ring, an overwriting ring or a user ring. `past` is empty and the counters are 0: a Recorder has them.

    `consumer` is the consumer page, as long as a page; `producer` the producer page, or its start; `data` the doubled
    data area. `pending` is 0 where the kernel keeps no such position (before Linux 6.10, but for kernels with the fix).
    `most` limits how many records are listed. Positions and length words are read in one access each, the consumer position
    first, so that a ring in use is seen torn only if it was filled or emptied meanwhile.
    """
    consumed, words = _words(consumer)[0], _words(producer)
    size, end = len(data) // 2, words[_PRODUCER]
    state = RingState(
        kind,
        size,
        len(consumer),
        consumed,
        end,
        words[_PENDING] if kind != USER else None,
        words[_OVERWRITE] if kind == OVERWRITE else None,
    )
    if size < HEADER or size & (size - 1) or len(data) % 2:
        return replace(state, torn=f"a data area of {len(data)} bytes is not twice a power of two")
    used = (end - state.begin) & POSITIONS
    if used > size or state.begin % HEADER or end % HEADER or (kind == OVERWRITE and state.consumer > end):
        return replace(
            state, torn=f"consumer position {state.consumer} and producer position {end} contradict each other"
        )
    records, torn = _walk(memoryview(data).cast("B"), state.begin, used, most)
    listed = sum(record.stride for record in records)
    if torn:
        return replace(state, records=records, used=used, torn=torn, torn_at=(state.begin + listed) & POSITIONS)
    return replace(state, records=records, used=used, unlisted=used - listed)


def perf_state(control: Buffer, data: Buffer, label: str = "") -> RingState:
    """The state of one CPU's perf ring (formats/perf.py): its first page, and the data area, which is not doubled.

    The consumer position is data_tail, the producer position data_head.
    """
    words = memoryview(control).cast("B")[: 8 * (TAIL + 1)].cast("Q")
    tail, head, size = words[TAIL], words[HEAD], len(data)
    state = RingState(PERF, size, len(control), tail, head, label=label)
    used = (head - tail) & POSITIONS
    if size < HEADER or size & (size - 1):
        return replace(state, torn=f"a data area of {size} bytes is no power of two")
    if used > size or tail % HEADER or head % HEADER:
        return replace(state, torn=f"data_tail {tail} and data_head {head} contradict each other")
    start, whole = tail & size - 1, bytes(data)
    records, torn = _walk_perf((whole + whole)[start : start + used], tail, size)
    at = (tail + sum(record.stride for record in records)) & POSITIONS
    return replace(state, records=records, used=used, torn=torn, torn_at=at if torn else None)


class Recorder:
    """Turns what a ring's buffers hold, time after time, into states that know what was there before.

    A record that was consumed, or thrown away for a newer one, is shown in `past` until its bytes are overwritten: its
    header is read from the ring like the others, and only where it stood is remembered. `most` as for ring_state; `past`
    has no more than so many, either.
    """

    def __init__(self, kind: str = RING, *, most: int | None = None) -> None:
        self._kind, self._most = kind, most
        self._starts: dict[int, str] = {}  # where a record starts or the next one will, and what it is called
        self._overwritten: set[int] = set()
        self._unread: tuple[RecordState, ...] = ()
        self._overwritten_ever = 0

    def name(self, position: int, name: str) -> None:
        """Call the record at this position so from the next state on."""
        self._starts[position] = name

    def state(
        self,
        consumer: Buffer,
        producer: Buffer,
        data: Buffer,
        notifications: int = 0,
        losses: int = 0,
        asleep: bool = False,
    ) -> RingState:
        """The state now; buffers as for ring_state, counters as RingState has them."""
        state = ring_state(consumer, producer, data, self._kind, most=self._most)
        state = replace(state, notifications=notifications, losses=losses, asleep=asleep)
        if state.torn and state.torn_at is None:
            return replace(state, overwritten=self._overwritten_ever)
        self._forget(state)
        self._note_overwritten(state)
        past = tuple(self._past(record) for record in self._before(state, memoryview(data).cast("B")))
        records = tuple(self._called(record) for record in state.records)
        for record in past + records:
            self._starts.setdefault(record.position, "")
        self._starts.setdefault(state.producer, "")
        self._unread = records
        return replace(state, past=past, records=records, overwritten=self._overwritten_ever)

    def _forget(self, state: RingState) -> None:
        """What newer records have been written over, and what is too far behind to be shown in `past`."""
        near = {at: name for at, name in self._starts.items() if (state.producer - at) & POSITIONS <= state.size}
        if self._most is not None:
            ages = {at: (state.begin - at) & POSITIONS for at in near}
            behind = sorted((at for at in near if ages[at] <= state.size), key=ages.__getitem__)
            for at in behind[self._most :]:
                del near[at]
        self._starts = near
        self._overwritten &= set(near)

    def _note_overwritten(self, state: RingState) -> None:
        """Records that were unread last time, and that the overwrite position has passed before the consumer did."""
        if state.overwrite is not None:
            gone = {r.position for r in self._unread if state.consumer <= r.position < state.overwrite}
            self._overwritten |= gone
            self._overwritten_ever += sum(1 for r in self._unread if r.position in gone and not r.discard)

    def _before(self, state: RingState, data: memoryview) -> tuple[RecordState, ...]:
        ages = sorted((state.begin - at) & POSITIONS for at in self._starts)
        oldest = max((age for age in ages[: self._most] if age <= state.size - state.used), default=0)
        records, torn = _walk(data, (state.begin - oldest) & POSITIONS, oldest, self._most)
        return () if torn or sum(record.stride for record in records) != oldest else records

    def _past(self, record: RecordState) -> RecordState:
        state = OVERWRITTEN if record.position in self._overwritten else CONSUMED
        return replace(self._called(record), state=state)

    def _called(self, record: RecordState) -> RecordState:
        return replace(record, name=self._starts.get(record.position, ""))


class PerfRecorder:
    """The same for one CPU's perf ring, which `label` names. What was read is shown as it was seen last."""

    def __init__(self, label: str = "") -> None:
        self._label = label
        self._names: dict[int, str] = {}
        self._seen: dict[int, RecordState] = {}

    def name_last(self, control: Buffer, data: Buffer, name: str) -> None:
        """Call the newest record so."""
        newest = perf_state(control, data).records[-1:]
        self._names.update({record.position: name for record in newest})

    def state(self, control: Buffer, data: Buffer, notifications: int = 0, losses: int = 0) -> RingState:
        """The state now; buffers as for perf_state, counters as RingState has them."""
        state = perf_state(control, data, self._label)
        records = tuple(replace(r, name=self._names.get(r.position, "")) for r in state.records)
        self._seen.update({record.position: record for record in records})
        for position in [at for at in self._seen if (state.producer - at) & POSITIONS > state.size]:
            del self._seen[position]
            self._names.pop(position, None)
        read = [r for at, r in self._seen.items() if 0 < (state.consumer - at) & POSITIONS <= state.size]
        past = tuple(replace(record, state=CONSUMED) for record in read)
        return replace(state, records=records, past=past, notifications=notifications, losses=losses)


def _begin(consumer: int, overwrite: int | None) -> int:
    """As ringbuf_avail_data_sz compares them, without a thought of 2**64."""
    return consumer if overwrite is None else max(consumer, overwrite)


def _words(page: Buffer) -> list[int]:
    """The first three 8-byte words, each read at once; 0 for what a short page has not."""
    whole = memoryview(page).cast("B")
    words = whole[: min(len(whole), 24) & ~7].cast("Q")
    return [*(words[number] for number in range(len(words))), 0, 0, 0][:3]


def _walk(data: memoryview, begin: int, used: int, most: int | None) -> tuple[tuple[RecordState, ...], str]:
    """The records of so many bytes from a position on, at most so many, and what ended them too early."""
    size = len(data) // 2
    words = data.cast("I")
    found, done = list[RecordState](), 0
    while done < used and len(found) != most:
        position = (begin + done) & POSITIONS
        offset = position & size - 1
        word = words[offset >> 2]
        length = word & LENGTH
        if stride(length) > used - done:
            left = used - done - HEADER
            return tuple(found), f"header {word:#010x} says {length} bytes where {left} are left"
        state = BUSY_RECORD if word & BUSY else DISCARDED if word & DISCARD else COMMITTED
        start = offset + HEADER & size - 1  # the first mapping, which a user ring in plain memory has in any case
        payload = bytes(data[start : start + length])
        second = words[(offset >> 2) + 1]
        found.append(RecordState(position, offset, stride(length), length, state, word, second, payload))
        done += stride(length)
    return tuple(found), ""


def _walk_perf(content: bytes, tail: int, size: int) -> tuple[tuple[RecordState, ...], str]:
    found, at = list[RecordState](), 0
    while at < len(content):
        kind, _misc, whole = _PERF_HEADER.unpack_from(content, at)
        body = content[at + HEADER : at + whole]
        length = (
            int.from_bytes(body[:4], "little" if struct.pack("=H", 1)[0] else "big") if kind == SAMPLE else len(body)
        )
        room = len(body) - 4 if kind == SAMPLE else length
        if whole < HEADER or whole % HEADER or at + whole > len(content) or length > room or _short(kind, body):
            return tuple(found), f"header says type {kind} and {whole} bytes where {len(content) - at} are left"
        payload = body[4 : 4 + length] if kind == SAMPLE else body
        state = LOST_RECORD if kind == LOST else COMMITTED
        position = (tail + at) & POSITIONS
        found.append(RecordState(position, position & size - 1, whole, len(payload), state, kind, whole, payload))
        at += whole
    return tuple(found), ""


def _short(kind: int, body: bytes) -> bool:
    return len(body) < {SAMPLE: 4, LOST: _PERF_LOST.size}.get(kind, 0)
