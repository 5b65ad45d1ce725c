"""How a ring moves, of states that follow each other: rates, what holds its consumer up, and a word on why events are lost.

>>> from purebpf.formats.ring_producer import SimulatedRing
>>> from purebpf.lessons.state import ring_state
>>> ring, progress = SimulatedRing(4096), Progress()
>>> def look(now):
...     return progress.see(now, ring_state(ring.consumer_page, ring.producer_page, ring.data))
>>> record = ring.reserve(24)
>>> look(0.0).produced is None, look(2.0).produced, look(3.0).head_busy
(True, 0.0, 3.0)
>>> look(4.0).verdict
'the record at the head has been busy for 4.0 s: nothing behind it can be read until its producer commits it'
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..formats.pieces import HEADER, POSITIONS
from .state import OVERWRITE, USER, RecordState, RingState

_SOON = 60.0  # seconds until a ring is full that are worth a word
_MUCH = 0.5  # of the ring in use: below it, a consumer that reads now and then is none that is too slow
_AHEAD = "the producers are faster than the consumer"


@dataclass(frozen=True)
class Movement:
    """What happened since the state before. Rates are bytes a second, headers included; None for the first state.

    `head_busy` is for how many seconds the record that comes next has been seen busy, `stuck` for how many the consumer
    position has been seen unmoved although that record could be read; 0 if neither. `verdict` is a sentence, "" if the ring
    is well, as far as can be seen.
    """

    produced: float | None
    consumed: float | None
    head_busy: float
    stuck: float
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the fields."""
        return asdict(self)


class Progress:
    """Compares each state with those before it. The caller says when it was, in seconds of a clock that only goes on."""

    def __init__(self) -> None:
        self._last: tuple[float, RingState] | None = None
        self._since: tuple[float, int, bool] | None = None  # when this head was first seen so

    def see(self, now: float, state: RingState) -> Movement:
        """The state at this time. One whose positions were torn says nothing of the others, nor of what comes after it."""
        if state.torn and state.torn_at is None:
            return Movement(None, None, 0.0, 0.0, _verdict(state, None, None, 0.0, 0.0))
        produced, consumed = self._rates(now, state)
        head = state.records[0] if state.records else None
        waited = self._waited(now, head)
        busy = head is not None and head.busy
        head_busy, stuck = (waited, 0.0) if busy else (0.0, waited)
        self._last = now, state
        return Movement(produced, consumed, head_busy, stuck, _verdict(state, produced, consumed, head_busy, stuck))

    def _rates(self, now: float, state: RingState) -> tuple[float | None, float | None]:
        if self._last is None or now <= self._last[0]:
            return None, None
        seconds, before = now - self._last[0], self._last[1]
        produced, consumed = state.producer - before.producer, state.consumer - before.consumer
        return (produced & POSITIONS) / seconds, (consumed & POSITIONS) / seconds

    def _waited(self, now: float, head: RecordState | None) -> float:
        """For how long the same record has been next, as busy as it is now."""
        if head is None:
            self._since = None
        elif self._since is None or self._since[1:] != (head.position, head.busy):
            self._since = now, head.position, head.busy
        return now - self._since[0] if self._since else 0.0


def _verdict(
    state: RingState, produced: float | None, consumed: float | None, head_busy: float, stuck: float
) -> str:  # fmt: skip
    if state.torn:
        return f"torn or corrupt: {state.torn}"
    cause = _cause(state, head_busy, stuck)
    if state.kind == OVERWRITE:
        unread = state.begin - state.consumer
        return "; ".join(filter(None, [cause, f"{unread} bytes were overwritten unread" if unread else ""]))
    free = state.size - state.used - (state.kind != USER)
    largest = max((record.stride for record in state.records), default=HEADER)
    if free < largest:
        end = "must wait" if state.kind == USER else "is lost"
        full = f"the ring is full: a record of {largest} bytes finds no room, and {end}"
        return "; ".join(filter(None, [cause or ("" if produced is None else _AHEAD), full]))
    growth = (produced or 0.0) - (consumed or 0.0)
    if growth > 0 and free / growth < _SOON and (cause or state.fill > _MUCH):
        return f"{cause or _AHEAD}; the ring is full in {free / growth:.0f} s if it goes on so"
    return cause


def _cause(state: RingState, head_busy: float, stuck: float) -> str:
    if head_busy:
        what = f"the record at the head has been busy for {head_busy:.1f} s"
        return f"{what}: nothing behind it can be read until its producer commits it"
    if stuck:
        who = "no program has drained" if state.kind == USER else "the consumer has not moved"
        return f"{who} for {stuck:.1f} s, and there is something to read"
    return ""
