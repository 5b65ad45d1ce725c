"""The strategies make what they say, reach what they should, and shrink to what can be read."""

from __future__ import annotations

import importlib.util
import re
import runpy
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from features import examples
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import purebpf
from purebpf.formats.ring_producer import EAGAIN, SimulatedRing
from purebpf.testing import (
    Consume,
    Operation,
    Output,
    Replay,
    Reserve,
    RingImage,
    Submit,
    ValidRing,
    hostile_rings,
    operations,
    rings,
)

ROOT = Path(__file__).parents[2]
END = 1 << 64
SIZES = st.sampled_from([16, 64, 256, 1024])


def over(_number: int, _frame: object) -> None:
    raise TimeoutError("a test of the ring hangs")


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(100)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def smallest(strategy: st.SearchStrategy[Any], condition: Callable[[Any], bool]) -> Any:
    return find(strategy, condition, settings=settings(max_examples=2000, derandomize=True, database=None))


def reach(strategy: st.SearchStrategy[Any], condition: Callable[[Any], bool]) -> None:
    """Within so many examples."""
    generate = settings(max_examples=5000, derandomize=True, database=None, phases=[Phase.generate])
    find(strategy, condition, settings=generate)


def taken(ring: RingImage) -> int:
    return (ring.producer - ring.consumer) % END


# Valid rings


@settings(max_examples=examples(300))
@given(rings())
def test_a_valid_ring_is_read_as_it_says(ring: ValidRing) -> None:
    batch, end = purebpf.formats.ring.records(ring.data, ring.consumer, ring.producer)
    assert list(batch) == list(ring.records()) == ring.payloads
    assert end == ring.end
    reader = ring.ring()
    assert reader.available == taken(ring)
    assert list(reader.consume()) == ring.payloads
    assert reader.consumer_position == ring.end
    assert list(reader.consume()) == []


@given(rings(), st.integers(1, 5))
def test_a_valid_ring_is_read_in_portions_and_leases(ring: ValidRing, limit: int) -> None:
    reader, found = ring.ring(), list[bytes]()
    for _ in range(len(ring.payloads) + 1):
        with reader.lease(limit) as batch:
            found += [bytes(record) for record in batch]
    assert found == ring.payloads


@given(rings())
def test_a_valid_ring_keeps_the_rules_of_the_producer(ring: ValidRing) -> None:
    size = len(ring.area)
    assert size.bit_count() == 1 if sys.version_info >= (3, 10) else bin(size).count("1") == 1
    assert taken(ring) <= size - 8
    assert ring.consumer % 8 == ring.producer % 8 == 0
    assert ring.data == ring.area + ring.area


EVENT = struct.Struct("=QI4s")


@given(rings(records=st.builds(EVENT.pack, st.integers(0, 9), st.just(7), st.just(b"four")), sizes=st.just(4096)))
def test_records_and_sizes_are_the_callers(ring: ValidRing) -> None:
    assert len(ring.area) == 4096
    assert all(EVENT.unpack(record)[1:] == (7, b"four") for record in ring.records())


VALID: dict[str, Callable[[ValidRing], bool]] = {
    "empty": lambda ring: taken(ring) == 0,
    "full": lambda ring: taken(ring) == len(ring.area) - 8 > 8,
    "one record that fills all but a header": lambda ring: [len(p) + 16 for p in ring.payloads] == [len(ring.area)],
    "a record that wraps": lambda ring: (
        len(ring.payloads) == 1 and ring.consumer % len(ring.area) + 8 > len(ring.area) - 8
    ),
    "an empty record": lambda ring: b"" in ring.payloads,
    "many equal records": lambda ring: len(ring.payloads) > 60 and len(set(map(len, ring.payloads))) == 1,
    "many lengths": lambda ring: len(set(map(len, ring.payloads))) > 3,
    "discarded ones only": lambda ring: not ring.payloads and taken(ring) > 16 and ring.end == ring.producer,
    "a busy one at the head": lambda ring: ring.end == ring.consumer != ring.producer,
    "a busy one behind others": lambda ring: bool(ring.payloads) and ring.end != ring.producer,
    "positions that begin anew": lambda ring: ring.producer < ring.consumer and len(ring.payloads) > 1,
    "a far position": lambda ring: 1 << 40 < ring.consumer < 1 << 60,
}


@pytest.mark.parametrize("condition", VALID.values(), ids=VALID)
def test_valid_rings_reach(condition: Callable[[ValidRing], bool]) -> None:
    reach(rings(), condition)


def test_a_failure_shrinks_to_one_record_in_a_ring_that_just_holds_it() -> None:
    ring = smallest(rings(), lambda ring: any(len(payload) >= 3 for payload in ring.payloads))
    assert (ring.consumer, ring.producer, ring.end, ring.payloads) == (0, 16, 16, [bytes(3)])
    assert len(ring.area) == 32
    assert ring.area == struct.pack("=II", 3, 3) + bytes(24)


# Hostile rings


def refused(ring: RingImage) -> purebpf.RingCorrupt | None:
    try:
        ring.records()
    except purebpf.RingCorrupt as error:
        return error
    return None


@settings(max_examples=examples(500))
@given(hostile_rings())
def test_a_hostile_ring_is_read_inside_its_positions_or_refused(ring: RingImage) -> None:
    try:
        records = ring.records()
        reader = ring.ring()
        batch = reader.consume()
    except purebpf.RingCorrupt:
        error = refused(ring)
        assert error
        assert error.position in (None, ring.consumer)
        return
    assert list(records) == list(batch)
    moved = (reader.consumer_position - ring.consumer) % END
    assert sum(-(-len(record) // 8) * 8 + 8 for record in records) <= moved <= taken(ring) <= len(ring.area)
    begin = ring.consumer % len(ring.area)
    assert all(bytes(record) in ring.data[begin : begin + moved] for record in records)


def refused_later(ring: RingImage) -> bool:
    """Good records, and behind them a damaged one."""
    if refused(ring) or not len(ring.records()):
        return False
    reader = ring.ring()
    reader.consume()
    return refused(RingImage(ring.area, reader.consumer_position, ring.producer)) is not None


def refused_for(ring: RingImage, what: str) -> bool:
    return what in str(refused(ring))


def length_refused(ring: RingImage) -> int:
    """That of a header which is refused, with the bit that says discarded; -1 if none is."""
    error = refused(ring)
    return -1 if error is None or error.header is None else error.header


def ahead(ring: RingImage) -> int:
    """Bytes from the consumer position to the producer position, which can be negative."""
    return (taken(ring) + (1 << 63)) % END - (1 << 63)


HOSTILE: dict[str, Callable[[RingImage], bool]] = {
    "no area": lambda ring: refused_for(ring, "power of two") and not ring.area,
    "an area of no power of two": lambda ring: refused_for(ring, "power of two") and len(ring.area) > 8,
    "a consumer position off the grid": lambda ring: refused_for(ring, "position") and ring.consumer % 8 != 0,
    "a producer position off the grid": lambda ring: refused_for(ring, "position") and ring.producer % 8 == 4,
    "positions that run backwards": lambda ring: refused_for(ring, "position") and -64 <= ahead(ring) < 0,
    "positions just too far apart": lambda ring: refused_for(ring, "position") and ahead(ring) == len(ring.area) + 8,
    "positions far apart": lambda ring: refused_for(ring, "position") and ahead(ring) > 1 << 40,
    "a record beyond the producer position": lambda ring: taken(ring) <= length_refused(ring) <= len(ring.area) - 8,
    "a record beyond the ring": lambda ring: len(ring.area) < length_refused(ring) < 4096,
    "the greatest length": lambda ring: length_refused(ring) == (1 << 30) - 1,
    "a discarded record beyond the producer position": lambda ring: length_refused(ring) >> 30 == 1,
    "a damaged record behind good ones": refused_later,
    "a ring that is full to the last byte": lambda ring: not refused(ring) and taken(ring) == len(ring.area) > 16,
    "a ring with records": lambda ring: not refused(ring) and len(ring.records()) > 1,
}


@pytest.mark.parametrize("condition", HOSTILE.values(), ids=HOSTILE)
def test_hostile_rings_reach(condition: Callable[[RingImage], bool]) -> None:
    reach(hostile_rings(), condition)


def test_a_refused_header_shrinks_to_a_small_ring() -> None:
    ring = smallest(hostile_rings(), lambda ring: refused_for(ring, "header"))
    assert len(ring.area) <= 64
    assert ring.consumer < ring.producer <= 64


# Operations


@settings(max_examples=examples(200))
@given(operations(), SIZES, st.integers(0, 100).map(lambda n: (END - 8 * n) % END))
def test_any_operations_can_be_replayed_and_what_is_due_comes(steps: list[Operation], size: int, start: int) -> None:
    replay = Replay(SimulatedRing(size, start=start))
    for step in steps:
        due = replay.due
        result = replay.apply(step)
        if isinstance(step, Consume):
            assert result == due[: step.limit]
            assert replay.due == due[len(result) :]
    due = replay.due
    assert list(replay.consumer.consume()) == due
    assert replay.due == []


def replayed(steps: list[Operation]) -> tuple[Replay, list[Any]]:
    replay = Replay(SimulatedRing(256))
    return replay, [replay.apply(step) for step in steps]


def room_again(steps: list[Operation]) -> bool:
    results = [result for step, result in zip(steps, replayed(steps)[1]) if isinstance(step, Output)]
    return -EAGAIN in results and 0 in results[results.index(-EAGAIN) :]


def busy_hides(steps: list[Operation]) -> bool:
    replay, _results = replayed(steps)
    committed = replay.ring.query(0) // 8 - len(replay.reserved)
    return bool(replay.reserved) and committed > 2 and replay.due == []


REACHED: dict[str, Callable[[list[Operation]], bool]] = {
    "the ring's end": lambda steps: replayed(steps)[0].ring.query(3) > 256,
    "the ring's end four times": lambda steps: replayed(steps)[0].ring.query(3) > 1024,
    "a full ring": lambda steps: -EAGAIN in replayed(steps)[1],
    "room again after a full ring": room_again,
    "a busy record before others": busy_hides,
    "several reservations": lambda steps: len(replayed(steps)[0].reserved) > 2,
    "a wake-up": lambda steps: replayed(steps)[0].ring.notifications > 2,
    "a refusal for flags": lambda steps: -22 in replayed(steps)[1],
}


@pytest.mark.parametrize("condition", REACHED.values(), ids=REACHED)
def test_operations_reach(condition: Callable[[list[Operation]], bool]) -> None:
    reach(operations(), condition)


def test_operations_shrink_to_those_that_matter() -> None:
    steps = smallest(operations(), lambda steps: len(replayed(steps)[0].due) > 1)
    assert steps == [Output(b""), Output(b"")]


def test_a_replay_tells_what_each_operation_gave() -> None:
    replay = Replay(SimulatedRing(32))
    record = replay.apply(Reserve(b"slow"))
    assert (record.position, replay.reserved) == (0, [record])
    assert replay.apply(Output(b"")) == 0
    assert replay.apply(Output(b"more")) == -EAGAIN
    assert replay.due == []
    assert replay.apply(Submit(which=5)) is True
    assert replay.apply(Submit()) is None
    assert replay.due == [b"slow", b""]
    assert replay.apply(Consume(limit=1)) == [b"slow"]
    assert replay.due == [b""]
    assert replay.apply(Reserve(b"", flags=1)) is None


# What is documented, and the tools


def samples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/fuzzing.md").read_text(), re.DOTALL | re.MULTILINE)


def run(code: str, where: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90, cwd=where)


def test_the_page_finds_the_bug_of_its_decoder(tmp_path: Path) -> None:
    decoder, test, *_others = samples()
    found = []
    for _ in range(3):  # hypothesis tries by chance, and now and then stops shrinking beside the smallest one
        found.append(run(decoder + test, tmp_path).stderr)
        assert "UnicodeDecodeError: 'utf-8' codec can't decode byte 0x80" in found[-1]
        if re.search(r"ring=ValidRing\(.*consumer=0,.*producer=24,.*x80.*end=24\)", found[-1], re.DOTALL):
            return
    pytest.fail("\n".join(found))


def test_the_page_mends_it_and_its_other_samples_pass(tmp_path: Path) -> None:
    decoder, test, mended, *others = samples()
    call = "test_every_event_is_decoded()"
    patient = (
        "from hypothesis import HealthCheck, settings\n"
        "settings.register_profile('slow', deadline=None, suppress_health_check=[HealthCheck.too_slow])\n"
        "settings.load_profile('slow')"
    )
    result = run("\n".join([patient, decoder, test.replace(f"\n{call}", ""), mended, call, *others]), tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_without_hypothesis_the_extra_is_named(tmp_path: Path) -> None:
    result = run("import sys; sys.modules['hypothesis'] = None; import purebpf.testing", tmp_path)
    assert result.stderr.endswith("ImportError: purebpf.testing needs hypothesis: pip install 'purebpf[testing]'\n")


def test_the_ring_fuzzer_finds_nothing_in_its_first_inputs() -> None:
    fuzzer = [sys.executable, str(ROOT / "tests/fuzz/fuzz_ring.py"), "--count", "2000"]
    result = subprocess.run(fuzzer, capture_output=True, text=True, timeout=90)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.match(r"2000 rings in \d+ s: header \d+, nothing \d+, positions \d+, records \d+$", result.stdout)


def test_without_atheris_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    with pytest.raises(SystemExit, match=re.escape("pip install 'purebpf[fuzz]'")):
        runpy.run_path(str(ROOT / "tests/fuzz/atheris_ring.py"))


if sys.version_info >= (3, 11):  # for older ones atheris has no wheels

    @pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris is not installed")
    def test_the_coverage_guided_run_starts_and_ends(tmp_path: Path) -> None:
        fuzzer = [sys.executable, str(ROOT / "tests/fuzz/atheris_ring.py"), "--corpus", str(tmp_path), "-runs=1000"]
        result = subprocess.run(fuzzer, capture_output=True, text=True, timeout=90)
        assert result.returncode == 0, result.stderr
        assert "Done 1000 runs" in result.stderr
