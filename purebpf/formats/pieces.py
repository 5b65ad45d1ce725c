"""What a batch of records is made of: where they stand in a memory, and how they are read there in bulk.

Most programs send records of one size. They are then at equal distances, and C code of Python's own reads thousands of
them in one call: a strided memoryview, `struct.iter_unpack`. Those of changing sizes are read one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Union

from ..errors import RingCorrupt
from .values import Codec

HEADER = 8
POSITIONS = (1 << 64) - 1  # they wrap


def stride(length: int) -> int:
    """Bytes from the header of a record to the next one's, which stands at a multiple of 8."""
    return (length + HEADER + 7) & ~7


def occupied(size: int, consumer: int, producer: int) -> int:
    """Bytes between the positions of a ring. Raises RingCorrupt for those that cannot be."""
    found = (producer - consumer) & POSITIONS
    if found > size or consumer % HEADER or producer % HEADER:
        raise RingCorrupt(
            f"ring of {size} bytes: consumer position {consumer:#x} and producer position {producer:#x} cannot both be true"
        )
    return found


class Uniform:
    """Records of one length, one behind the other: where the first one's header stands, the bytes of each payload, and
    how many they are."""

    __slots__ = ("count", "length", "start", "stride")

    def __init__(self, start: int, length: int, count: int) -> None:
        self.start, self.length, self.count = start, length, count
        self.stride = stride(length)

    @property
    def shortest(self) -> int:
        """Bytes of the shortest payload."""
        return self.length

    def cut(self, memory: memoryview) -> memoryview:
        """Their bytes, headers included."""
        return memory[self.start : self.start + self.count * self.stride]

    def part(self, first: int, last: int) -> Uniform:
        """From one record to before another."""
        return Uniform(self.start + first * self.stride, self.length, last - first)

    def behind(self, offset: int) -> Uniform:
        """The same, so many bytes later."""
        return Uniform(self.start + offset, self.length, self.count)

    def views(self, memory: memoryview) -> Iterator[memoryview]:
        """The payloads."""
        length, step, first = self.length, self.stride, self.start + HEADER
        return (memory[at : at + length] for at in range(first, first + self.count * step, step))

    def values(self, memory: memoryview, codec: Codec) -> Iterator[Any]:
        """The payloads, decoded."""
        return codec.decode_each(self.cut(memory), self.stride, HEADER)

    def rows(self, memory: memoryview, format: struct.Struct) -> Iterator[tuple[Any, ...]]:
        """The payloads' start, unpacked: all at once, by a format that skips headers, too, and what is left over."""
        given = format.format
        order, items = (given[0], given[1:]) if given[:1] in tuple("@=<>!") else ("@", given)
        whole = struct.Struct(f"{order}{HEADER}x{items}{self.stride - HEADER - format.size}x")
        return whole.iter_unpack(self.cut(memory))

    def uniform(self) -> Iterator[Uniform]:
        """Itself."""
        yield self


class Mixed:
    """Records of any lengths: where each payload starts, and its bytes."""

    __slots__ = ("lengths", "starts")

    def __init__(self, starts: list[int], lengths: list[int]) -> None:
        self.starts, self.lengths = starts, lengths

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.starts)

    @property
    def shortest(self) -> int:
        """Bytes of the shortest payload."""
        return min(self.lengths)

    def part(self, first: int, last: int) -> Mixed:
        """From one record to before another."""
        return Mixed(self.starts[first:last], self.lengths[first:last])

    def behind(self, offset: int) -> Mixed:
        """The same, so many bytes later."""
        return Mixed([start + offset for start in self.starts], self.lengths)

    def views(self, memory: memoryview) -> Iterator[memoryview]:
        """The payloads."""
        for at, length in zip(self.starts, self.lengths):
            yield memory[at : at + length]

    def values(self, memory: memoryview, codec: Codec) -> Iterator[Any]:
        """The payloads, decoded."""
        return (codec.decode_at(memory, at) for at in self.starts)

    def rows(self, memory: memoryview, format: struct.Struct) -> Iterator[tuple[Any, ...]]:
        """The payloads' start, unpacked."""
        return (format.unpack_from(memory, at) for at in self.starts)

    def uniform(self) -> Iterator[Uniform]:
        """Those that have the same length and stand one behind the other, together."""
        made = Uniform(self.starts[0] - HEADER, self.lengths[0], 0)
        for at, length in zip(self.starts, self.lengths):
            header = at - HEADER
            if length != made.length or header != made.start + made.count * made.stride:
                yield made
                made = Uniform(header, length, 0)
            made.count += 1
        yield made

    def take_back(self, count: int, length: int, at: int) -> int:
        """Give up the last `count`, if they have this length and lead to the header at `at`; how many were given up."""
        first = at + HEADER - count * stride(length)
        if not count or self.starts[-count:][:1] != [first] or self.lengths[-count:] != [length] * count:
            return 0
        del self.starts[-count:], self.lengths[-count:]
        return count


Piece = Union[Uniform, Mixed]
