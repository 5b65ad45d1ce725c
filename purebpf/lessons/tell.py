"""What happened in a step, in one to three sentences, made of the answers and of the states before and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import Error
from ..formats.pieces import HEADER, stride
from ..formats.ring_producer import NO_WAKEUP
from .moment import Moment
from .operations import Consume, Discard, Drain, Forge, Output, Query, Read, Reserve, Sleep, Submit, Write
from .state import BUSY_RECORD, DISCARDED, OVERWRITE, PERF, USER, RingState

_ERRNO = {7: "E2BIG", 11: "EAGAIN", 16: "EBUSY", 22: "EINVAL", 28: "ENOSPC"}
_QUERIED = (
    "the bytes that are reserved and not handed back",
    "the size of the ring",
    "the consumer position",
    "the producer position",
    "the overwrite position",
)


def happened(moment: Moment) -> str:
    """The sentences, in ASCII. Of a ring in which the record is not to be found they say that."""
    try:
        return " ".join(filter(None, _TELLERS[type(moment.operation)](moment)))
    except Error as error:
        return f"{error}."


def count(number: int, what: str) -> str:
    """ "1 record", "2 records"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _reserved(moment: Moment) -> list[str]:
    if moment.answer.value is None:
        return ["The answer is NULL.", *_no_room(moment)]
    record = moment.record
    return [
        f"{record.name} has {_parts(moment)} at position {record.position}.",
        _moved(moment, "producer"),
        f"The length word is {record.word:#010x}: busy, {record.length} bytes." if record.busy else "",
        _thrown_away(moment),
    ]


def _written(moment: Moment) -> list[str]:
    record, text = moment.record, getattr(moment.operation, "text", "")
    if not record.payload.startswith(text.encode("ascii")):
        return [f"{count(len(text), 'byte')} went into the memory of the writer, and none into the ring yet."]
    at = record.offset + HEADER & moment.now.size - 1
    return [
        f"{count(len(text), 'byte')} stand in the ring now, from offset {at} on. {record.name} is {record.state} still."
    ]


def _committed(moment: Moment) -> list[str]:
    record, before = moment.record, moment.was.named(moment.record.name)
    old = before.word if before else 0
    return [
        f"The length word of {record.name} went from {old:#010x} to {record.word:#010x}: {record.state}.",
        *_woken(moment),
    ]


def _output(moment: Moment) -> list[str]:
    value = moment.answer.value or 0
    if value < 0:
        return [f"The answer is {_number(value)}.", *_no_room(moment)]
    record = moment.record
    lost = sum(other.lost for other in moment.now.records if other.position >= moment.was.producer)
    return [
        f"The answer is 0. {record.name} has {_parts(moment)} at position {record.position}; it is {record.state} already.",
        _moved(moment, "producer"),
        f"In front of it the kernel has put a record that says {lost} lost." if lost else "",
        _thrown_away(moment),
        *_woken(moment),
    ]


def _queried(moment: Moment) -> list[str]:
    flag = moment.operation.flag if isinstance(moment.operation, Query) else 0
    return [f"The answer is {moment.answer.value}: {_QUERIED[flag]}."]


def _consumed(moment: Moment) -> list[str]:
    if moment.plan.kind == PERF:
        return _consumed_perf(moment)
    skipped = _skipped(moment.was, moment.now.consumer)
    return [
        f"The consumer got {_texts(moment)}." if moment.texts else "The consumer got nothing.",
        f"It skipped {count(skipped, 'discarded record')}." if skipped else "",
        _moved(moment, "consumer"),
        _stopped(moment.now, moment.now.consumer),
    ]


def _consumed_perf(moment: Moment) -> list[str]:
    read = [(ring.label, sum(1 for record in ring.records if not record.lost)) for ring in moment.before]
    parts = ", ".join(f"{number} from the ring of {label}" for label, number in read)
    lost = f"The rings have told of {moment.answer.lost} lost." if moment.answer.lost else "No loss has been told."
    return [f"The consumer got {_texts(moment)}: {parts}." if moment.texts else "The consumer got nothing.", lost]


def _read(moment: Moment) -> list[str]:
    got = f"The consumer has read {_texts(moment)}." if moment.texts else "The consumer found nothing."
    return [got, f"In the ring its position is {moment.now.consumer} as before."]


def _slept(moment: Moment) -> list[str]:
    if moment.answer.woken:
        return ["epoll_wait returned at once: a notification had come before."]
    unread = moment.now.used
    return [
        f"The consumer sleeps, with {count(unread, 'byte')} in the ring."
        if unread
        else "The consumer sleeps. The ring is empty."
    ]


def _drained(moment: Moment) -> list[str]:
    value = moment.answer.value or 0
    if value < 0:
        return [
            f"The answer is {_number(value)}: {moment.now.torn}.",
            f"The consumer position stays at {moment.now.consumer}.",
        ]
    skipped = _skipped(moment.was, moment.now.consumer)
    return [
        f"The answer is {value}. "
        + (f"The callback had {_texts(moment)}." if moment.texts else "The callback had nothing."),
        f"{count(skipped, 'discarded record')} was skipped."
        if skipped == 1
        else f"{skipped} discarded records were skipped."
        if skipped
        else "",
        _moved(moment, "consumer"),
        _stopped(moment.now, moment.now.consumer),
        f"Writers that wait for room were notified ({moment.now.notifications} so far)." if moment.answer.woken else "",
    ]


def _forged(moment: Moment) -> list[str]:
    return [
        f"The header at position {moment.was.producer} claims {moment.length} bytes.",
        _moved(moment, "producer"),
        f"The picture says it, too: {moment.now.torn}." if moment.now.torn else "",
    ]


def _parts(moment: Moment) -> str:
    """How the bytes of a record divide."""
    record = moment.record
    if moment.plan.kind == PERF:
        return f"{record.stride} bytes ({HEADER} of header, 4 of length, {record.length} of data with its padding)"
    padding = record.stride - HEADER - record.length
    filled = f", {padding} of padding" if padding else ""
    return f"{record.stride} bytes ({HEADER} of header, {record.length} of payload{filled})"


def _moved(moment: Moment, which: str) -> str:
    was, now = getattr(moment.was, which), getattr(moment.now, which)
    return f"The {which} position stays at {now}." if was == now else f"The {which} position went from {was} to {now}."


def _thrown_away(moment: Moment) -> str:
    was, now = moment.was, moment.now
    if was.overwrite is None or was.overwrite == now.overwrite:
        return ""
    unread = now.overwritten - was.overwritten
    lost = (
        f"{count(unread, 'record')} was thrown away unread"
        if unread == 1
        else f"{unread} records were thrown away unread"
    )
    return f"The overwrite position went from {was.overwrite} to {now.overwrite}; {lost if unread else 'nothing unread was lost'}."


def _no_room(moment: Moment) -> list[str]:
    """Why there is none, by the rule of the ring's kind, and who knows of it."""
    ring, need = moment.was, moment.need
    who = "Only the program knows of the loss"
    if moment.plan.kind == PERF:
        need, who = stride(moment.length + 4), "The ring itself counts the loss"
    lost = f"{who} ({moment.now.losses} so far)."
    if need > ring.size:
        return [f"The record needs {need} bytes, and the ring has {ring.size}.", lost]
    if moment.plan.kind == OVERWRITE:
        oldest = next((record for record in ring.records if record.state == BUSY_RECORD), None)
        if oldest:
            span = ring.producer + need - oldest.position
            return [
                f"From {oldest.name}, which is busy, to its end there would be {span} bytes; {ring.size - 1} is the most.",
                lost,
            ]
    most = ring.size if moment.plan.kind == USER else ring.size - 1
    return [f"{ring.used} bytes in use and {need} more are {ring.used + need}; {most} is the most.", lost]


def _woken(moment: Moment) -> list[str]:
    """Whether the kernel notified the consumer, and why."""
    if moment.plan.kind == USER:
        return []
    flags, now = getattr(moment.operation, "flags", 0), moment.now
    if moment.answer.woken:
        sent = f"The kernel notified the consumer ({sum(ring.notifications for ring in moment.after)} so far)"
        return [f"{sent}, which woke up." if moment.was.asleep else f"{sent}."]
    if flags & NO_WAKEUP:
        return ["Nobody was notified: the flag says so."]
    position = moment.record.position
    return [f"Nobody was notified: this is position {position}, and the consumer position is {now.consumer}."]


def _stopped(ring: RingState, position: int) -> str:
    """At what a consumer stopped, that got to this position."""
    record = next((record for record in ring.records if record.position == position), None)
    return f"{record.name or 'The record'} at position {position} is busy." if record and record.busy else ""


def _skipped(ring: RingState, end: int) -> int:
    """Discarded records before a position."""
    return sum(1 for record in ring.records if record.state == DISCARDED and record.position < end)


def _texts(moment: Moment) -> str:
    quoted = ", ".join(f'"{text}"' for text in moment.texts)
    return f"{count(len(moment.texts), 'record')}: {quoted}"


def _number(value: int) -> str:
    return f"{value} (-{_ERRNO[-value]})" if -value in _ERRNO else str(value)


_TELLERS: dict[type, Callable[[Any], list[str]]] = {
    Reserve: _reserved,
    Write: _written,
    Submit: _committed,
    Discard: _committed,
    Output: _output,
    Query: _queried,
    Consume: _consumed,
    Read: _read,
    Sleep: _slept,
    Drain: _drained,
    Forge: _forged,
}
