"""A small machine whose loads and stores may pass each other, for exercise 5. No threads: it tries all that can happen.

Two processors share a ring. The producer's does what kernel/bpf/ringbuf.c does, one load or store a step; it has all the
barriers that it needs, so its steps take place in order. The consumer's runs your code, a generator: it yields one
operation after the other, and is sent what the operation gives.

    LoadProducerPosition()       gives the producer position
    LoadLengthWord(position)     gives the length word of the header there
    CopyPayload(position, n)     receives the record there: copies the n bytes of its payload; gives None
    StoreConsumerPosition(p)     hands back all before p; gives None
    Barrier()                    a full barrier: what stands before it takes place before what stands behind it

The generator returns the position where it goes on when it finds that it may sleep. The machine then sleeps until the
producer wakes it, and calls the generator anew, with that position.

What may take place out of order depends on the machine:

    loads pass loads      A load may be done early, at any time since the last barrier: it gives what the memory held then.
                          (But of one position or length word never an older one than before.)
    stores pass loads     The loads of a copy may be done late, when a store that stands behind them has been done. (Not the
                          other loads: the code goes by what they give, and what it stores depends on it.)
    loads pass stores     A store may wait in the processor's store buffer while the loads behind it are done; the producer
                          does not see it yet. Stores leave the buffer in order.

x86-64 does the last only, arm64 all three. On arm64 a load whose address was computed from what another load gave is not
done before that one; this machine does not know that, and lets it pass. Being woken is a barrier.

`explore` tries each order of the steps of the two, and each load early, in its place or late. It searches the states of the
machine breadth first: what it finds has as few steps as can be.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple, Union

BUSY, DISCARD, LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1
_UNIT = 8  # bytes: a header, a position, and what one load or store of data moves
_MOST = 60  # operations without sleep
_STATES = 50_000  # three times what the exercise's largest scenario has


class Machine(NamedTuple):
    """What may pass what."""

    name: str
    loads_pass_loads: bool = False
    stores_pass_loads: bool = False
    loads_pass_stores: bool = False


IN_ORDER = Machine("a machine that does everything in order")
X86 = Machine("x86-64", loads_pass_stores=True)
ARM64 = Machine("arm64", loads_pass_loads=True, stores_pass_loads=True, loads_pass_stores=True)


class LoadProducerPosition(NamedTuple):
    """Gives the producer position."""


class LoadLengthWord(NamedTuple):
    """Gives the length word of the header at `position`."""

    position: int


class CopyPayload(NamedTuple):
    """Receive the record at `position`: copy the `length` bytes of its payload."""

    position: int
    length: int


class StoreConsumerPosition(NamedTuple):
    """Hand back all that stands before `position`."""

    position: int


class Barrier(NamedTuple):
    """A full barrier."""


Operation = Union[LoadProducerPosition, LoadLengthWord, CopyPayload, StoreConsumerPosition, Barrier]
Consumer = Callable[[int], Generator[Operation, Any, int]]


class Reserve(NamedTuple):
    """bpf_ringbuf_reserve, and `payload` written. Its length is a multiple of 8. Lost where there is no room."""

    payload: bytes


class Submit(NamedTuple):
    """bpf_ringbuf_submit of the record that the Reserve number `which`, from 0 on, has made."""

    which: int


class Discard(NamedTuple):
    """bpf_ringbuf_discard, likewise."""

    which: int


class Scenario(NamedTuple):
    """A new ring of `size` bytes, and what its producer does."""

    size: int
    actions: tuple[Reserve | Submit | Discard, ...]


class Outcome(NamedTuple):
    """What `explore` has found. `failure` is empty, or says what went wrong; `steps` are those that led there."""

    machine: Machine
    scenario: Scenario
    failure: str
    steps: str
    states: int  # that the machine was found in

    def __str__(self) -> str:
        actions = "\n".join(f"  {number}  {action}" for number, action in enumerate(self.scenario.actions, 1))
        return (
            f"On {self.machine.name}, with a new ring of {self.scenario.size} bytes, the producer does\n{actions}\n"
            f"What goes wrong: {self.failure or 'nothing'}\n{self.steps}"
        )


class Record(NamedTuple):
    """A record as the producer has left it. `word` is its length word."""

    position: int
    payload: bytes
    word: int

    @property
    def end(self) -> int:
        """The next record's position."""
        return self.position + _UNIT + len(self.payload)


# The producer


class _Store(NamedTuple):
    cell: int  # the offset in the data area, or PRODUCER_POSITION
    value: bytes
    text: str


class _LoadConsumerPosition(NamedTuple):
    why: str


class _Wake(NamedTuple):
    text: str = "wake the consumer"


PRODUCER_POSITION = -1
_Step = Union[_Store, _LoadConsumerPosition, _Wake]


class _Producer:
    """The steps of a scenario. `records` are those reserved so far, by number, None where there was no room."""

    def __init__(self, scenario: Scenario) -> None:
        self._size, self._actions, self._position = scenario.size, scenario.actions, 0
        self.records: list[Record | None] = []

    def run(self) -> Generator[_Step, int, None]:
        for action in self._actions:
            if isinstance(action, Reserve):
                yield from self._reserve(action.payload)
            elif self.records[action.which]:
                yield from self._commit(action.which, DISCARD if isinstance(action, Discard) else 0)

    def _reserve(self, payload: bytes) -> Generator[_Step, int, None]:
        record = Record(self._position, payload, BUSY | len(payload))
        consumer = yield _LoadConsumerPosition("is there room?")  # smp_load_acquire
        if record.end - consumer > self._size - 1:
            self.records.append(None)
            return
        yield self._header(record, "BUSY, ")
        self.records.append(record)
        self._position = record.end
        yield _Store(PRODUCER_POSITION, struct.pack("=Q", record.end), f"store producer position {record.end}")
        for at in range(0, len(payload), _UNIT):
            part = payload[at : at + _UNIT]
            offset = record.position + _UNIT + at & self._size - 1
            yield _Store(offset, part, f"store payload at offset {offset}: {part!r}")

    def _commit(self, which: int, discard: int) -> Generator[_Step, int, None]:
        record = self.records[which]
        assert record
        record = record._replace(word=len(record.payload) | discard)
        yield self._header(record, "DISCARD, " if discard else "")  # xchg, a full barrier
        self.records[which] = record
        consumer = yield _LoadConsumerPosition("does it wait here?")  # smp_load_acquire
        if consumer & self._size - 1 == record.position & self._size - 1:
            yield _Wake()

    def _header(self, record: Record, state: str) -> _Store:
        text = f"store length word at position {record.position}: {state}{len(record.payload)} bytes"
        return _Store(record.position & self._size - 1, struct.pack("=II", record.word, 3), text)


class _Produced(NamedTuple):
    """How far the producer has come: what it does next, if anything; the records that it has reserved; its stores."""

    next: _Step | None
    records: tuple[Record, ...]
    stores: tuple[_Store, ...]


def produced(scenario: Scenario, answers: tuple[int, ...]) -> _Produced:
    """After so many steps, which were sent these values."""
    producer, stores = _Producer(scenario), []
    steps = producer.run()
    step = next(steps, None)
    for answer in answers:
        if isinstance(step, _Store):
            stores.append(step)
        try:
            step = steps.send(answer)
        except StopIteration:
            step = None
    return _Produced(step, tuple(filter(None, producer.records)), tuple(stores))


# The machine


class _State(NamedTuple):
    """All that the future depends on."""

    answers: tuple[int, ...] = ()  # that the producer's steps were given: how far it has come
    # The consumer's processor
    barrier: int = 0  # how many of the producer's stores had been done at the last barrier
    loaded: frozenset[tuple[int, int]] = frozenset()  # cells loaded since; the store that made the value, from 1 on
    late: tuple[Record, ...] = ()  # whose copies may not have been done yet
    buffer: tuple[int, ...] = ()  # consumer positions that the producer does not see yet
    seen: int = 0  # the consumer position that it sees
    woken: bool = False
    asleep: bool = False
    # The consumer's code
    position: int = 0  # with which it was called
    history: tuple[Any, ...] = ()  # what it has been sent since
    received: int = 0  # records
    stored: int = 0  # the last consumer position


class _Event(NamedTuple):
    """A step, for people. `early` is the number of the producer's store before which a load was done."""

    who: str
    text: str
    early: int | None = None


_GOES_ON = _Event("consumer", "goes on")


class _Wrong(Exception):
    """What the consumer must not do, and the step with which it does it."""

    def __init__(self, failure: str, event: _Event) -> None:
        super().__init__(failure)
        self.event = event


_Moves = Iterator[tuple[_Event, _State]]


class _Explorer:
    def __init__(self, consumer: Consumer, machine: Machine, scenario: Scenario) -> None:
        self._consumer, self._machine, self._mask = consumer, machine, scenario.size - 1
        self._produced = lru_cache(maxsize=None)(partial(produced, scenario))
        self._operation = lru_cache(maxsize=None)(self._run)

    def moves(self, state: _State) -> _Moves:
        """Each step that can be next, and the state that it leads to. Raises _Wrong."""
        for record in state.late:
            self._check_copy(state, record, late=True)
        yield from self._producer_moves(state)
        if state.buffer:
            event = _Event("consumer", f"(consumer position {state.buffer[0]} leaves the store buffer)")
            yield event, state._replace(seen=state.buffer[0], buffer=state.buffer[1:])
        if not state.asleep:
            yield from self._consumer_moves(state)
        elif state.woken:
            yield _Event("consumer", "wakes up"), self._fenced(state)._replace(woken=False, asleep=False)

    def check_end(self, state: _State) -> None:
        """When nothing moves any more, there must be nothing to take. Raises _Wrong."""
        left = [record for record in self._produced(state.answers).records if record.position >= state.stored]
        if left and not left[0].word & BUSY:
            raise _Wrong(
                f"lost wake-up: the consumer sleeps for ever, and the record at position {left[0].position} is committed",
                _Event("consumer", "sleeps for ever"),
            )

    def _producer_moves(self, state: _State) -> _Moves:
        step = self._produced(state.answers).next
        if isinstance(step, _LoadConsumerPosition):
            event = _Event("producer", f"load consumer position -> {state.seen} ({step.why})")
            yield event, state._replace(answers=(*state.answers, state.seen))
        elif step:
            woken = state.woken or isinstance(step, _Wake)
            yield _Event("producer", step.text), state._replace(answers=(*state.answers, 0), woken=woken)

    def _run(self, position: int, history: tuple[Any, ...]) -> Any:
        """What the code does next: an Operation, or the position that it returns."""
        steps = self._consumer(position)
        if not isinstance(steps, Generator):
            raise TypeError(f"the consumer must be a generator, with yield for each operation; it gives {steps!r}")
        try:
            operation = next(steps)
            for value in history:
                operation = steps.send(value)
        except StopIteration as end:
            return end.value
        return operation

    def _consumer_moves(self, state: _State) -> _Moves:
        operation = self._operation(state.position, state.history)
        if len(state.history) > _MOST:
            raise _Wrong(f"{_MOST} operations without sleep: return when there is nothing to take", _GOES_ON)
        if isinstance(operation, LoadProducerPosition):
            yield from self._load(state, operation, PRODUCER_POSITION, "Q")
        elif isinstance(operation, LoadLengthWord):
            yield from self._load(state, operation, operation.position & self._mask & -_UNIT, "I")
        elif isinstance(operation, CopyPayload):
            yield self._copy(state, operation)
        elif isinstance(operation, StoreConsumerPosition):
            yield self._store(state, operation)
        elif isinstance(operation, Barrier):
            yield _event(operation), self._fenced(_sent(state))
        else:
            yield self._sleep(state, operation)

    def _load(self, state: _State, operation: Operation, cell: int, format: str) -> _Moves:
        for content, made, early in self._values(state, cell):
            (value,) = struct.unpack_from(f"={format}", content)
            loaded = frozenset({item for item in state.loaded if item[0] != cell} | {(cell, made)})
            shown = value if format == "Q" else word(value)
            yield _event(operation, f" -> {shown}", early), _sent(state, value)._replace(loaded=loaded)

    def _values(self, state: _State, cell: int) -> Iterator[tuple[bytes, int, int | None]]:
        """What a load may give: a value, the number from 1 on of the store that made it, and, if it is an old one, the
        number from 0 on of the store before which the load was done."""
        stores = self._produced(state.answers).stores
        since = max([state.barrier, *(made for loaded, made in state.loaded if loaded == cell)])
        value, made = bytes(_UNIT), 0
        for number, store in enumerate(stores):
            if store.cell == cell:
                if number >= since and self._machine.loads_pass_loads:
                    yield value, made, number
                value, made = store.value, number + 1
        yield value, made, None

    def _copy(self, state: _State, operation: CopyPayload) -> tuple[_Event, _State]:
        submitted = [record for record in self._produced(state.answers).records if not record.word & DISCARD]
        due = submitted[state.received] if state.received < len(submitted) else None
        if not due or due.word & BUSY or operation != (due.position, len(due.payload)):
            truth = f"the next one is at position {due.position}: {word(due.word)}" if due else "no record is left"
            raise _Wrong(
                f"no record: {operation.length} bytes at position {operation.position} were taken for one; {truth}",
                _event(operation),
            )
        self._check_copy(state, due, late=False)
        late = (*state.late, due) if self._machine.stores_pass_loads else ()
        return _event(operation), _sent(state)._replace(received=state.received + 1, late=late)

    def _check_copy(self, state: _State, record: Record, late: bool) -> None:
        """Whatever a copy that is done now, or early, may give must be the record's payload."""
        for at in range(0, len(record.payload), _UNIT):
            offset, right = record.position + _UNIT + at & self._mask, record.payload[at : at + _UNIT]
            values = list(self._values(state, offset))
            for value, _made, early in values[-1:] if late else values:
                if value != right:
                    when = ", done late, behind the store" if late else ""
                    event = _Event("consumer", f"copy payload at position {record.position}{when}: {value!r}", early)
                    kind = "overwritten" if late else "stale"
                    raise _Wrong(f"{kind} payload: {value!r} was received, and the record has {right!r} there", event)

    def _store(self, state: _State, operation: StoreConsumerPosition) -> tuple[_Event, _State]:
        self._check_handed_back(state, operation.position, _event(operation))
        after = _sent(state)._replace(stored=operation.position)
        if self._machine.loads_pass_stores:
            return _event(operation), after._replace(buffer=(*state.buffer, operation.position))
        return _event(operation), after._replace(seen=operation.position)

    def _check_handed_back(self, state: _State, position: int, event: _Event) -> None:
        before = [record for record in self._produced(state.answers).records if record.position < position]
        if position < state.stored or position != (before[-1].end if before else 0):
            raise _Wrong(
                f"handed back up to position {position}, where no record ends, or one that was handed back", event
            )
        if any(record.word & BUSY for record in before):
            raise _Wrong(f"handed back up to position {position}: a record before it is busy still", event)
        if sum(not record.word & DISCARD for record in before) > state.received:
            raise _Wrong(f"handed back up to position {position}: a record before it was not received", event)

    def _sleep(self, state: _State, position: object) -> tuple[_Event, _State]:
        event = _Event("consumer", f"return {position}: sleep")
        if position != state.stored:
            raise _Wrong(f"{position!r} was returned, and the position that was handed back is {state.stored}", event)
        return event, state._replace(position=state.stored, history=(), late=(), asleep=True)

    def _fenced(self, state: _State) -> _State:
        stores = len(self._produced(state.answers).stores)
        seen = state.buffer[-1] if state.buffer else state.seen
        return state._replace(barrier=stores, loaded=frozenset(), late=(), buffer=(), seen=seen)


def _sent(state: _State, value: int | None = None) -> _State:
    """The code goes on with what its operation gives."""
    return state._replace(history=(*state.history, value))


def _event(operation: Operation, result: str = "", early: int | None = None) -> _Event:
    texts = {
        LoadProducerPosition: "load producer position",
        LoadLengthWord: "load length word at position {}",
        CopyPayload: "copy payload at position {}, {} bytes",
        StoreConsumerPosition: "store consumer position {}",
        Barrier: "BARRIER",
    }
    return _Event("consumer", texts.get(type(operation), "{!r}").format(*operation) + result, early)


def word(value: int) -> str:
    """A length word, for people."""
    state = "BUSY, " * bool(value & BUSY) + "DISCARD, " * bool(value & DISCARD)
    return f"{state}{value & LENGTH} bytes"


def explore(consumer: Consumer, machine: Machine, scenario: Scenario) -> Outcome:
    """Try all that can happen. Whatever the consumer raises is let through."""
    explorer, first = _Explorer(consumer, machine, scenario), _State()
    came_from: dict[_State, tuple[_State, _Event] | None] = {first: None}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        try:
            moves = list(explorer.moves(state))
            if not moves:
                explorer.check_end(state)
            if len(came_from) > _STATES:
                raise _Wrong("no end is in sight: the consumer must return when there is nothing to take", _GOES_ON)
        except _Wrong as wrong:
            return Outcome(
                machine, scenario, str(wrong), _table([*_path(came_from, state), wrong.event]), len(came_from)
            )
        for event, after in moves:
            if after not in came_from:
                came_from[after] = state, event
                queue.append(after)
    return Outcome(machine, scenario, "", "", len(came_from))


def barriers_taken(consumer: Consumer, scenario: Scenario) -> int:
    """How many barriers the consumer takes when it begins after the producer has finished, until it sleeps."""
    explorer, state, count = _Explorer(consumer, IN_ORDER, scenario), _State(), 0
    while not state.asleep:
        event, state = next(explorer.moves(state))  # the producer's, as long as it has any
        count += event.text == "BARRIER"
    return count


def _path(came_from: dict[_State, tuple[_State, _Event] | None], state: _State) -> list[_Event]:
    """The steps that led to a state."""
    events: list[_Event] = []
    link = came_from[state]
    while link:
        events.append(link[1])
        link = came_from[link[0]]
    return events[::-1]


def _table(events: list[_Event]) -> str:
    """The steps in the order in which they were done, but for what is said of a load that was done early."""
    stores = [
        number for number, event in enumerate(events, 1) if event.who == "producer" and event.text.startswith("store")
    ]
    lines = [f"step  {'producer':<52}consumer"]
    for number, event in enumerate(events, 1):
        early = "" if event.early is None else f"   <- done early, before step {stores[event.early]}"
        lines.append(f"{number:4}  {' ' * 52 if event.who == 'consumer' else ''}{event.text}{early}")
    return "\n".join(lines)
