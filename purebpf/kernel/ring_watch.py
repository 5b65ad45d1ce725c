"""A ring that others use, looked at: by its map's id, or by a path where it is pinned.

The pages are mapped to be read alone, and nothing else is done: no position is stored, no epoll instance is registered, so
nothing is taken from the consumer, not even a wake-up, and a look takes no system call. The watcher keeps the map in the
kernel while it watches. (A descriptor with BPF_F_RDONLY would say the same to the kernel, but it cannot be mapped: mmap(2)
takes VM_SHARED from a file that is not open for writing, and bpf_map_mmap insists on it.)
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace

from ..errors import ObjectError
from ..formats.abi import MapFlags, MapType
from ..formats.pieces import HEADER, POSITIONS
from ..lessons.state import OVERWRITE, RING, USER, Recorder, RingState
from . import sys
from .maps import Map, open_id, open_pinned
from .ring_pages import RingPages

MOST = 256  # records that are listed, so that a look at a large ring is quick, too
_LOOKS = 3


def watch_id(number: int) -> RingWatch:
    """Watch the ring that is the map of this id (`bpftool map list`).

    Raises KernelError (ENOENT if there is none), NotPermitted (it takes CAP_SYS_ADMIN), NotLinux, ObjectError if it is no
    ring.
    """
    sys.require_supported()
    with closing(open_id(number)) as found:
        return RingWatch(found)


def watch_pinned(path: str | os.PathLike[str]) -> RingWatch:
    """Watch the ring that is pinned there. Raises KernelError (ENOENT if nothing is), NotPermitted, NotLinux, ObjectError if
    it is no ring."""
    sys.require_supported()
    with closing(open_pinned(path)) as found:
        return RingWatch(found)


class RingWatch:
    """Looks at a ring buffer or at a user ring buffer. A context manager; the map may be closed before.

    `name` and `id` are the map's, `size` is in bytes, `kind` as RingState has it. Raises ObjectError for a map of another type.
    """

    def __init__(self, ring_map: Map) -> None:
        spec = ring_map.spec
        if spec.type not in (MapType.RINGBUF, MapType.USER_RINGBUF):
            raise ObjectError(f"map {spec.name!r} is a {ring_map.kind}, no ring buffer", hint=_hint(spec.type))
        self.name, self.id, self.size = spec.name, ring_map.info().id, spec.max_entries
        overwrites = OVERWRITE if spec.flags & MapFlags.RB_OVERWRITE else RING
        self.kind = USER if spec.type == MapType.USER_RINGBUF else overwrites
        self._recorder = Recorder(self.kind, most=MOST)
        self._pages = RingPages(ring_map)

    def state(self) -> RingState:
        """The ring now, with its first MOST records; `label` is its name.

        What was written over while it was looked at is looked at again; if that happens each time, `torn` says so. The
        wake-ups and losses are 0: they leave no trace in the ring. So is `overwritten`: not all that is thrown away has been
        seen. `pending` is None as long as the page has 0 there.
        """
        for _ in range(_LOOKS):
            state = self._look()
            if not state.torn:
                break
        return replace(state, label=self.name, pending=state.pending or None, overwritten=0)

    def _look(self) -> RingState:
        pages = self._pages
        state = self._recorder.state(pages.consumer, pages.producer, pages.data)
        sys.load_fence()
        producer, _pending, overwrite = pages.producer[:24].cast("Q")
        if (producer - state.begin) & POSITIONS > state.size or (
            state.overwrite is not None and overwrite > state.begin
        ):
            return replace(state, torn="it was written over while it was looked at", torn_at=None)
        # The past is written over first. The kernel writes the next header before it moves the producer position.
        whole = tuple(
            record for record in state.past if (producer - record.position) & POSITIONS <= state.size - HEADER
        )
        return replace(state, past=whole)

    def close(self) -> None:
        """Unmap it. Twice is harmless."""
        self._pages.close()

    def __enter__(self) -> RingWatch:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _hint(kind: int) -> str:
    if kind == MapType.PERF_EVENT_ARRAY:
        return "the rings of a perf event array are those of the process that opened them"
    return "bpftool map list shows ids and types"
