"""The kernel's side of perf rings, simulated, read by PerfRing."""

from __future__ import annotations

import doctest
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

import purebpf
from purebpf.formats import perf_producer
from purebpf.formats.perf_producer import ENOSPC, SimulatedPerfRing


def test_the_docstring_tells_the_truth() -> None:
    assert doctest.testmod(perf_producer).failed == 0


def test_one_byte_stays_free() -> None:
    ring = SimulatedPerfRing(4096)
    assert [ring.output(bytes(500)) for _ in range(8)] == [0] * 7 + [-ENOSPC]
    assert ring.notifications == 7


def test_losses_are_told_once_and_need_room_themselves() -> None:
    ring = SimulatedPerfRing(64)
    reader = ring.ring()
    assert [ring.output(bytes(28)) for _ in range(3)] == [0, -ENOSPC, -ENOSPC]
    assert reader.drain().lost == 0
    assert ring.output(bytes(36)) == -ENOSPC  # 48 bytes, and 24 that tell of two lost
    assert ring.output(bytes(20)) == 0
    assert reader.drain().lost == 3
    assert ring.output(b"") == 0
    assert reader.drain().lost == 0


def test_the_padding_is_what_the_ring_held() -> None:
    ring = SimulatedPerfRing(32)
    reader = ring.ring()
    ring.output(b"x" * 12)
    reader.drain()
    ring.output(b"")
    reader.drain()
    ring.output(b"y")
    assert reader.drain().records == [b"yxxx"]


@pytest.mark.parametrize("size", [0, 4, 24])
def test_the_size_must_be_a_power_of_two(size: int) -> None:
    with pytest.raises(purebpf.ObjectError, match=f"a perf ring of {size} bytes"):
        SimulatedPerfRing(size)


def test_a_record_has_less_than_64_kib() -> None:
    ring = SimulatedPerfRing(1 << 20)
    assert ring.output(bytes(65516)) == 0
    with pytest.raises(purebpf.ObjectError, match="65517 bytes"):
        ring.output(bytes(65517))


class Events(RuleBasedStateMachine):
    """Any interleaving: each event comes out once and in order, or is counted as lost."""

    @initialize(size=st.sampled_from([64, 256, 4096]))
    def begin(self, size: int) -> None:
        self.ring = SimulatedPerfRing(size)
        self.reader = self.ring.ring()
        self.written: deque[bytes] = deque()
        self.unread = self.told = self.untold = 0

    @rule(payload=st.binary(max_size=200))
    def output(self, payload: bytes) -> None:
        need = (len(payload) + 4 + 7) // 8 * 8 + 8 + (24 if self.untold else 0)
        fits = self.unread + need < self.ring.size
        assert self.ring.output(payload) == (0 if fits else -ENOSPC)
        if fits:
            self.written.append(payload)
            self.unread, self.told, self.untold = self.unread + need, self.told + self.untold, 0
        else:
            self.untold += 1

    @rule()
    def drain(self) -> None:
        records, lost = self.reader.drain()
        assert [record[: len(payload)] for record, payload in zip(records, self.written)] == [*self.written]
        assert (len(records), lost) == (len(self.written), self.told)
        self.written.clear()
        self.unread = self.told = 0


Events.TestCase.settings = settings(max_examples=60, deadline=None)
TestEvents = Events.TestCase
