"""Maps as dictionaries: the class for every type whose elements are reached by key.

Walking. BPF_MAP_GET_NEXT_KEY starts again at the first key when the one it is given has been deleted. Keys that
came before are left out, and the number of steps is limited, so a walk ends on a map that programs change all the
time. Hash tables and arrays are read in batches where the kernel has them, which is faster and has no such
trouble. Either way the walk is no snapshot: what is set or deleted meanwhile may come or not.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView
from typing import Any

from ...errors import KernelError
from ...formats.abi import Cmd
from .. import sys
from . import batch
from .map import NOT_THERE, Map

_RAISE = object()
_STEPS_PER_KEY, _LEAST_STEPS = 4, 1 << 16


class _Items(ItemsView[Any, Any]):
    def __init__(self, owner: KeyedMap) -> None:
        super().__init__(owner)
        self._owner = owner

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._owner._decoded()


class _Values(ValuesView[Any]):
    def __init__(self, owner: KeyedMap) -> None:
        super().__init__(owner)
        self._owner = owner

    def __iter__(self) -> Iterator[Any]:
        return (value for _key, value in self._owner._decoded())


class KeyedMap(Map, MutableMapping[Any, Any]):
    """A map used as a dict: `m[key]`, `m[key] = value`, `del m[key]`, `in`, `len`, iteration, `items()` and so on.

    Keys and values have their BTF types, or else are bytes of exactly key_size and value_size. KeyError means
    that there is no such key, ObjectError that a key or a value does not fit, KernelError that the kernel refused.
    Counting (`len`) reads all keys. Unlike a dict a map is true when it is empty, and equal to itself only.
    """

    BATCHES = False  # is its cursor in batches safe against deletion?

    def __delitem__(self, key: Any) -> None:
        if not self._element(Cmd.MAP_DELETE_ELEM, self._key(key)):
            raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        decode = self._shapes()[0].decode
        return map(decode, self._raw_keys())

    def __len__(self) -> int:
        return sum(1 for _ in self._raw_keys())

    def items(self) -> ItemsView[Any, Any]:
        """(key, value) of each element."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """Each element's value."""
        return _Values(self)

    def pop(self, key: Any, default: Any = _RAISE) -> Any:
        """Take an element out: its value, or else `default` if there is one, or else KeyError.

        In one step where the kernel can do that (hash tables since Linux 5.14), else by looking it up and deleting it.
        """
        value = self._take(self._key(key))
        if value is not None:
            return self._shapes()[1].decode(value)
        if default is _RAISE:
            raise KeyError(key)
        return default

    def update(self, *elements: Any, **named: Any) -> None:
        """Set the elements of a mapping or of an iterable of pairs; in batches where the kernel has them.

        Raises KernelError, after which those before the refused one are set.
        """
        shapes = self._shapes()
        given = (part.items() if hasattr(part, "items") else part for part in (*elements, named))
        wanted = [(shapes[0].encode(key), shapes[1].encode(value)) for part in given for key, value in part]
        done = self._write_batch(wanted) if self.BATCHES and wanted else 0
        for key, value in wanted[done:]:
            if not self._element(Cmd.MAP_UPDATE_ELEM, key, sys.Buffer(value)):
                raise KeyError(shapes[0].decode(key))

    def clear(self) -> None:
        """Delete every element."""
        self._drain()

    def drain(self) -> list[tuple[Any, Any]]:
        """Take all elements out: their (key, value). In batches, each bucket in one step, where the kernel has them."""
        key, value = self._shapes()
        return [(key.decode(k), value.decode(v)) for k, v in self._drain()]

    def _key(self, key: Any) -> bytes:
        return self._shapes()[0].encode(key)

    def _decoded(self) -> Iterator[tuple[Any, Any]]:
        key, value = self._shapes()
        return ((key.decode(k), value.decode(v)) for k, v in self._raw_items())

    def _take(self, key: bytes) -> bytes | None:
        value = sys.Buffer(self._shapes()[1].size)
        try:
            return value.bytes() if self._element(Cmd.MAP_LOOKUP_AND_DELETE_ELEM, key, value) else None
        except KernelError as error:
            if error.errno not in NOT_THERE:
                raise
        found = self.lookup(key)
        return found if found is not None and self._element(Cmd.MAP_DELETE_ELEM, key) else None

    def _raw_keys(self) -> Iterator[bytes]:
        return (key for key, _value in self._raw_items()) if self.BATCHES else self._walk()

    def _raw_items(self) -> Iterator[tuple[bytes, bytes]]:
        if self.BATCHES:
            parts = self._batches(Cmd.MAP_LOOKUP_BATCH)
            first = next(parts, None)
            if first is not None:
                yield from first
                for part in parts:
                    yield from part
                return
        for key in self._walk():
            value = self.lookup(key)
            if value is not None:
                yield key, value

    def _drain(self) -> list[tuple[bytes, bytes]]:
        parts = self._batches(Cmd.MAP_LOOKUP_AND_DELETE_BATCH) if self.BATCHES else iter(())
        first = next(parts, None)
        if first is not None:
            return [*first, *(pair for part in parts for pair in part)]
        taken = ((key, self._take(key)) for key in self._walk())
        return [(key, value) for key, value in taken if value is not None]

    def _batches(self, cmd: Cmd) -> Iterator[list[tuple[bytes, bytes]]]:
        """Parts of the map; none at all where the kernel has no such batches, for there is always a last part."""
        key, value = self._shapes()
        try:
            yield from batch.chunks(cmd, self.fileno(), key.size, value.size, self.spec.max_entries)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise self._refused(cmd, error) from error

    def _write_batch(self, elements: list[tuple[bytes, bytes]]) -> int:
        done, error = batch.write(self.fileno(), elements)
        if error and error.errno not in NOT_THERE:
            refusal = self._refused(Cmd.MAP_UPDATE_BATCH, error)
            text = f"{refusal}, after {done} of {len(elements)}"
            raise type(refusal)(text, errno=error.errno, hint=refusal.hint) from error
        return done

    def _walk(self) -> Iterator[bytes]:
        """Each key once."""
        seen: set[bytes] = set()
        following = sys.Buffer(self._shapes()[0].size)
        current = b""  # passed as NULL: the first key is asked for
        for _ in range(max(_STEPS_PER_KEY * self.spec.max_entries, _LEAST_STEPS)):
            if not self._element(Cmd.MAP_GET_NEXT_KEY, current, following):
                return
            current = following.bytes()
            if current not in seen:
                seen.add(current)
                yield current
        raise KernelError(
            f"{self._what} changes faster than it can be walked", hint="take its elements out with drain() instead"
        )
