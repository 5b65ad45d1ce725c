"""Decoders compiled once for each type: `struct` reads all numbers of a value in C, one expression makes the value.

A codec writes the Python of its value into a `Source`: which bytes it reads, and the objects that it calls. Members of
structs within structs are read together with the outer ones. What shares bytes with something that is read already, as
the members of a union do, goes into a further layer: another format over the same bytes.

The source that is compiled has positions, numbers and names of our own in it and nothing else: no name out of a
stranger's BTF gets there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Literal

from ..errors import ObjectError

INTEGERS = {1: "b", 2: "h", 4: "i", 8: "q"}  # bytes -> struct's letter
_MOST_LAYOUTS = 64  # a ring of mixed records has as many as lengths, which are its programs' to choose


def endian(order: str) -> Literal["little", "big"]:
    """What `int.from_bytes` calls the byte order that `struct` calls `order`."""
    return "little" if order == "<" else "big"


class Source:
    """What one decoder reads and calls. `order` is struct's letter for the byte order."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.reads: dict[tuple[int, str], str] = {}
        self.objects: dict[str, Any] = {}
        self._known: dict[int, str] = {}

    def read(self, at: int, item: str) -> str:
        """The variable that holds the item, in struct's notation, from byte `at` on."""
        return self.reads.setdefault((at, item), f"v{len(self.reads)}")

    def use(self, thing: Any) -> str:
        """The name of an object."""
        name = self._known.setdefault(id(thing), f"o{len(self._known)}")
        self.objects[name] = thing
        return name

    def integer(self, at: int, size: int, signed: bool) -> str:
        """The integer of so many bytes, also of those that struct has no letter for."""
        letter = INTEGERS.get(size, "")
        if letter:
            return self.read(at, letter if signed else letter.upper())
        return f"int.from_bytes({self.read(at, f'{size}s')}, '{endian(self.order)}', signed={bool(signed)})"


class Decoder:
    """The compiled form of an expression over what `source` reads of `size` bytes."""

    def __init__(self, source: Source, expression: str, size: int) -> None:
        self._source, self._expression, self._size = source, expression, size
        self._layers = _layers(source, size)
        self._layouts: dict[tuple[int, int], list[struct.Struct]] = {}

    @cached_property
    def at(self) -> Callable[[bytes | memoryview, int], Any]:
        """(data, start) -> the value in the `size` bytes from `start` on."""
        layouts = self._laid_out(self._size, 0)
        lines = [
            f"{names} = {self._source.use(layout.unpack_from)}(data, start)"
            for (names, _items), layout in zip(self._layers, layouts)
        ]
        decoder: Callable[[bytes | memoryview, int], Any]
        decoder = self._compiled("data, start", [*lines, f"return {self._expression}"])
        return decoder

    def each(self, memory: bytes | memoryview, stride: int, skip: int) -> Iterator[Any]:
        """See `Codec.decode_each`."""
        if skip < 0 or stride < max(1, skip + self._size) or len(memory) % stride:
            raise ObjectError(
                f"a value of {self._size} bytes, {skip} bytes into each {stride} of {len(memory)}: that does not fit"
            )
        rows = [layout.iter_unpack(memory) for layout in self._laid_out(stride, skip)]
        return self._values(rows[0] if len(rows) == 1 else zip(*rows))

    @cached_property
    def _values(self) -> Callable[[Iterator[Any]], Iterator[Any]]:
        names = ", ".join(names for names, _items in self._layers)
        decoder: Callable[[Iterator[Any]], Iterator[Any]]
        decoder = self._compiled("rows", [f"for {names} in rows: yield {self._expression}"])
        return decoder

    def _laid_out(self, stride: int, skip: int) -> list[struct.Struct]:
        """A format for each layer, with the bytes around the value skipped."""
        if (stride, skip) not in self._layouts:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            rest, order = stride - skip - self._size, self._source.order
            made = [struct.Struct(f"{order}{skip}x{items}{rest}x") for _names, items in self._layers]
            self._layouts[stride, skip] = made
            return made
        return self._layouts[stride, skip]

    def _compiled(self, takes: str, lines: list[str]) -> Any:
        names = dict(self._source.objects)
        exec("\n ".join([f"def decoder({takes}):", *lines]), names)
        return names["decoder"]


def _layers(source: Source, size: int) -> list[tuple[str, str]]:
    """(the variables, the items of struct that fill them), one or more: no two items of one share bytes."""
    names: list[list[str]] = [[]]
    items: list[list[str]] = [[]]
    ends = [0]
    for (at, item), name in sorted(source.reads.items()):
        layer = next((i for i, end in enumerate(ends) if end <= at), len(ends))
        if layer == len(ends):
            names, items, ends = [*names, []], [*items, []], [*ends, 0]
        names[layer].append(f"{name}, ")
        items[layer].append(f"{at - ends[layer]}x{item}")
        ends[layer] = at + struct.calcsize(source.order + item)
    return [(f"({''.join(n)})", f"{''.join(i)}{size - end}x") for n, i, end in zip(names, items, ends)]
