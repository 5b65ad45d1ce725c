"""The walk over the headers of a ring's data area: from a position to the first busy record.

A header says how long its record is, and so where the next one stands: they can only be read one after the other, in
Python at a cost of some 80 ns each. But where records are of one size, their length words are equal and at equal
distances: then a strided view of thousands of them is compared with one word in C, at 1 to 6 ns each.
"""

from __future__ import annotations

import sys
from itertools import repeat
from typing import Any, NamedTuple

from ..errors import RingCorrupt
from .pieces import HEADER, Mixed, Piece, Uniform, stride

BUSY = 1 << 31
DISCARD = 1 << 30
LENGTH = DISCARD - 1
ENDLESS = 1 << 62
_EQUAL = 16  # headers that must be alike, one behind the other, before more of them are compared at once
_MOST_ALIKE = 256  # at most so many, where runs have been short
_WORTH_NUMPY = 1024  # words: less are compared faster without
_MOST = {False: 1 << 12, True: 1 << 16}  # words that are compared at once, without and with NumPy


class Walked(NamedTuple):
    """What was found, and what it takes up in bytes, with what was discarded among it."""

    pieces: list[Piece]
    taken: int


class Walk:
    """One walk over `headers`, the 32-bit words from the first length word on, of which `available` bytes are published.

    It takes at most `limit` records, and none that begins behind `most` bytes; it ends before a busy record, before one
    that ends behind what is available, and before one with less than `least` bytes of payload.
    """

    def __init__(self, headers: memoryview, available: int, limit: int, most: int, least: int) -> None:
        self._headers, self._available, self._least = headers, available, least
        self._end, self._left = min(available, most), limit
        self._at = 0
        self._enough, self._alike = _EQUAL, 0
        self._pieces: list[Piece] = []
        self._mixed = Mixed([], [])

    def run(self) -> Walked:
        """Take what can be taken."""
        while self._at < self._end and self._left > 0:
            self._take_mixed()
            if self._at >= self._end or self._left <= 0 or not self._take_equal():
                break
        self._close_mixed()
        return Walked(self._pieces, self._at)

    def _take_mixed(self) -> None:
        """One by one, up to what is not ordinary: a record that is busy, damaged, or the last of many equal ones."""
        headers, available, end, least = self._headers, self._available, self._end, self._least
        starts, lengths = self._mixed.starts, self._mixed.lengths
        add_start, add_length, count = starts.append, lengths.append, len(starts)
        at, last, equal, enough = self._at, -1, 0, self._enough
        header, rounding, discard = HEADER, HEADER + 7, DISCARD  # looked up once
        for _ in repeat(None, self._left):
            word = headers[at >> 2]
            equal = equal + 1 if word == last else 1
            if equal == enough:
                break
            if word < discard:
                after = at + (word + rounding & ~7)  # stride, without the call
                if after > available or word < least:
                    break
                add_start(at + header)
                add_length(word)
            else:
                after = at + ((word & LENGTH) + rounding & ~7)
                if word >= BUSY or after > available:
                    break
            last, at = word, after
            if at >= end:
                break
        self._left -= len(starts) - count
        self._at, self._alike = at, equal - 1

    def _take_equal(self) -> bool:
        """The record that ended `_take_mixed`, and all behind it whose length words are the same. False for a busy one,
        a damaged one, or one that is too short."""
        word = self._headers[self._at >> 2]
        length, is_discarded = word & LENGTH, bool(word & DISCARD)
        step = stride(length)
        if word >= BUSY or self._at + step > self._available or (length < self._least and not is_discarded):
            return False
        room = (self._end - self._at) // step or 1
        count = _equal(self._headers[self._at >> 2 :: step >> 2], room if is_discarded else min(room, self._left))
        # Where runs end soon, looking for long ones costs more than it saves: then more must be alike first.
        self._enough = _EQUAL if count > 4 * self._enough else min(2 * self._enough, _MOST_ALIKE)
        if not is_discarded:
            before = self._mixed.take_back(self._alike, length, self._at)
            self._close_mixed()
            self._pieces.append(Uniform(self._at - before * step, length, before + count))
            self._left -= count
        self._at += count * step
        return True

    def _close_mixed(self) -> None:
        if self._mixed.starts:
            self._pieces.append(self._mixed)
            self._mixed = Mixed([], [])


def unusable(headers: memoryview, position: int, available: int, size: int) -> int:
    """The length of the record at `position`, whose length word is the first of `headers`, or -1 if it is busy.

    Raises RingCorrupt if it ends behind what is available.
    """
    word = headers[0]
    length: int = word & LENGTH
    if word >= BUSY:
        return -1
    if length + HEADER > available:
        raise RingCorrupt(
            f"ring of {size} bytes, position {position:#x}: header {word:#010x} says {length} bytes,"
            f" the producer position leaves {available - HEADER}",
            position=position,
            header=word,
        )
    return length


def _equal(words: memoryview, most: int) -> int:
    """How many of the first `most` words are equal to the first."""
    numpy: Any = sys.modules.get("numpy")  # compares in half the time; for programs that have it anyway
    found, count = 1, _EQUAL
    while found < most:
        count = min(count, most - found)
        part = words[found : found + count]
        alike = _by_numpy(numpy, part, words[0]) if numpy and count >= _WORTH_NUMPY else _by_bytes(part, words[0])
        found += alike
        if alike < count:
            break
        count = min(4 * count, _MOST[bool(numpy)])
    return found


def _by_numpy(numpy: Any, words: memoryview, word: int) -> int:
    """How many of the words at the start are `word`."""
    equal = numpy.asarray(words) == word
    return len(words) if equal.all() else int(equal.argmin())


def _by_bytes(words: memoryview, word: int) -> int:
    compared, pattern = words.tobytes(), word.to_bytes(4, sys.byteorder)
    low, high = 0, len(words) + 1  # so many are equal; so many are not
    if compared == pattern * len(words):
        return len(words)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if compared[: 4 * middle] == pattern * middle else (low, middle)
    return low
