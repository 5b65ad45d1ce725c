"""Maps as dicts: what is set is what bpftool sees, on every kind that is reached by key."""

from __future__ import annotations

import errno
import resource
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import seccomp_filter
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from purebpf.errors import ClosedError, KernelError, NotPermitted, ObjectError
from purebpf.formats.abi import Cmd, MapFlags, MapType, UpdateFlags
from purebpf.formats.spec import MapSpec
from purebpf.kernel import cpus, maps, memlock
from purebpf.kernel.maps import batch

pytestmark = pytest.mark.kernel

BATCHES = (Cmd.MAP_LOOKUP_BATCH, Cmd.MAP_LOOKUP_AND_DELETE_BATCH, Cmd.MAP_UPDATE_BATCH, Cmd.MAP_DELETE_BATCH)
HASHES = [MapType.HASH, MapType.LRU_HASH, MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH]
CPUS = maps.possible_cpus()


def u32(number: int) -> bytes:
    return struct.pack("=I", number)


def u64(number: int) -> bytes:
    return struct.pack("=Q", number)


def make(kind: MapType, key: int = 4, value: int = 8, entries: int = 100, flags: int = 0, **more: Any) -> Any:
    if "LRU" in kind.name:  # it throws away before it is full: each CPU keeps free ones to itself (LOCAL_FREE_TARGET)
        entries += 128 * CPUS
    return maps.create(MapSpec("tested", kind, key, value, entries, flags, **more))


def value_for(kind: MapType, number: int) -> Any:
    return [u64(number + cpu) for cpu in range(CPUS)] if "PERCPU" in kind.name else u64(number)


def octets(texts: list[str]) -> bytes:
    return bytes(int(text, 16) for text in texts)


def dumped(bpftool: Any, made: Any) -> dict[bytes, Any]:
    """bpftool's view of a map: a per-CPU value is a list."""

    def value(row: dict[str, Any]) -> Any:
        if "values" in row:
            return [octets(part["value"]) for part in sorted(row["values"], key=lambda part: part["cpu"])]
        return octets(row["value"])

    rows = bpftool("map", "dump", "id", str(made.info().id))
    return {octets(row["key"]): value(row) for row in rows if "value" in row or "values" in row}


def without(commands: tuple[Cmd, ...], work: Callable[[], Any], answer: int = errno.EINVAL) -> Any:
    """Run `work` in a thread whose kernel answers EINVAL to these commands of bpf(2): a seccomp filter sees to it."""
    result: list[Any] = []

    def run() -> None:
        try:
            seccomp_filter.install(*seccomp_filter.bpf_answers(answer, *commands))
            result.append(work())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


@pytest.fixture(params=HASHES, ids=lambda kind: kind.name)
def table(request: Any) -> Iterator[Any]:
    with make(request.param) as made:
        yield made


def test_a_hash_table_is_a_dict(table: Any) -> None:
    one, two = value_for(table.spec.type, 1), value_for(table.spec.type, 2)
    table[b"aaaa"] = one
    assert table[b"aaaa"] == one
    assert b"aaaa" in table
    assert b"bbbb" not in table
    assert (table.get(b"bbbb"), table.get(b"bbbb", 7)) == (None, 7)
    assert table.setdefault(b"bbbb", two) == two
    assert (len(table), dict(table)) == (2, {b"aaaa": one, b"bbbb": two})
    assert sorted(table.keys()) == [b"aaaa", b"bbbb"]
    assert sorted(table.values()) == [one, two]
    assert (b"aaaa", one) in table.items()
    assert table.pop(b"bbbb") == two
    assert table.pop(b"bbbb", None) is None
    del table[b"aaaa"]
    assert len(table) == 0
    assert table  # for `if map:` asks whether there is one
    for missing in (lambda: table[b"aaaa"], lambda: table.pop(b"aaaa"), lambda: table.__delitem__(b"aaaa")):
        with pytest.raises(KeyError, match="aaaa"):
            missing()


def test_bpftool_sees_the_same_elements(table: Any, bpftool: Any) -> None:
    wanted = {u32(i): value_for(table.spec.type, i) for i in range(20)}
    table.update(wanted)
    assert dumped(bpftool, table) == wanted == dict(table.items())
    arguments = " ".join(f"{byte:#04x}" for byte in u32(7)).split()
    table.update([(u32(7), value_for(table.spec.type, 99))])
    row = bpftool("map", "lookup", "id", str(table.info().id), "key", *arguments)
    assert octets(row["values"][0]["value"] if "values" in row else row["value"]) == u64(99)


@pytest.mark.parametrize("kind", [*HASHES, MapType.ARRAY, MapType.PERCPU_ARRAY], ids=lambda kind: kind.name)
def test_without_batches_everything_is_the_same(kind: MapType) -> None:
    """The batch commands came with Linux 5.6, for per-CPU arrays with 5.13."""
    array = "ARRAY" in kind.name
    wanted = {(i if array else u32(i)): value_for(kind, i) for i in range(100)}

    def work() -> None:
        made.update(wanted)
        assert dict(made.items()) == wanted
        assert set(made) == set(wanted)
        assert len(made) == 100
        if not array:
            assert dict(made.drain()) == wanted
            assert len(made) == 0

    with make(kind) as made:
        without(BATCHES, work)


def test_without_lookup_and_delete_pop_works_in_two_steps() -> None:
    """Hash tables have it since Linux 5.14."""
    with make(MapType.HASH) as made:
        made[b"aaaa"] = u64(1)
        assert without((Cmd.MAP_LOOKUP_AND_DELETE_ELEM,), lambda: made.pop(b"aaaa")) == u64(1)
        assert without((Cmd.MAP_LOOKUP_AND_DELETE_ELEM,), lambda: made.pop(b"aaaa", None)) is None
        assert len(made) == 0


def test_a_bucket_larger_than_the_batch_is_asked_for_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(batch, "_LEAST", 1)
    monkeypatch.setattr(batch, "_BYTES", 1)
    wanted = {u32(i): u64(i) for i in range(64)}
    with make(MapType.HASH, entries=64) as made:
        made.update(wanted)
        assert dict(made.items()) == wanted
        assert dict(made.drain()) == wanted


def test_many_elements_come_in_many_batches() -> None:
    wanted = {u32(i): u64(i) for i in range(60_000)}
    with make(MapType.HASH, entries=70_000) as made:
        made.update(wanted)
        assert dict(made.items()) == wanted
        made.clear()
        assert len(made) == 0


@pytest.mark.parametrize("batches", [True, False])
def test_deleting_while_walking_ends_and_misses_nothing(batches: bool) -> None:
    def work() -> list[bytes]:
        seen = []
        for key in made:
            seen.append(key)
            del made[key]
        return seen

    with make(MapType.HASH) as made:
        made.update({u32(i): u64(i) for i in range(100)})
        seen = work() if batches else without(BATCHES, work)
        assert sorted(seen) == sorted(u32(i) for i in range(100))
        assert len(made) == 0


@pytest.mark.volume
def test_a_walk_over_a_map_that_always_changes_ends() -> None:
    """Every step deletes the key that the cursor stands on and adds another, which sends it back to the start."""

    def work() -> int:
        steps = 0
        for steps, key in enumerate(made, 1):
            made.pop(key, None)
            made[u32(steps + 1000)] = u64(0)
        return steps

    with make(MapType.HASH, entries=8) as made:
        made[u32(0)] = u64(0)
        with pytest.raises(KernelError, match="changes faster"):
            without(BATCHES, work)


@given(st.lists(st.tuples(st.sampled_from("sdpiu"), st.integers(0, 9), st.integers(0, 2**64 - 1)), max_size=60))
@settings(max_examples=examples(60), deadline=None)
def test_any_sequence_of_operations_leaves_what_a_dict_would_have(steps: list[tuple[str, int, int]]) -> None:
    with make(MapType.HASH, entries=16) as made:
        model: dict[bytes, bytes] = {}
        for what, key, value in steps:
            for target in (made, model):
                if what == "s":
                    target[u32(key)] = u64(value)
                elif what == "u":
                    target.update({u32(key): u64(value), u32(key + 1): u64(0)})
                elif what == "p":
                    target.pop(u32(key), None)
                elif what == "d" and u32(key) in target:
                    del target[u32(key)]
            assert made.get(u32(key)) == model.get(u32(key))
        assert dict(made) == dict(made.items()) == model


def test_flags_say_whether_the_key_must_be_new_or_old() -> None:
    with make(MapType.HASH) as made:
        with pytest.raises(KeyError):
            made.put(b"aaaa", u64(1), UpdateFlags.EXIST)
        made.put(b"aaaa", u64(1), UpdateFlags.NOEXIST)
        with pytest.raises(KernelError, match="EEXIST") as caught:
            made.put(b"aaaa", u64(2), UpdateFlags.NOEXIST)
        assert caught.value.errno == errno.EEXIST
        made.put(b"aaaa", u64(3), UpdateFlags.EXIST)
        assert made[b"aaaa"] == u64(3)


def test_a_full_map_says_so() -> None:
    with make(MapType.HASH, entries=2) as made:
        with pytest.raises(
            KernelError, match=r"setting elements of map 'tested' \(HASH\): E2BIG .*after 2 of 3"
        ) as caught:
            made.update({u32(i): u64(i) for i in range(3)})
        assert "full" in caught.value.hint
        assert len(made) == 2
        with pytest.raises(KernelError, match="setting an element of"):
            made[u32(9)] = u64(9)


def test_what_does_not_fit_is_named() -> None:
    with make(MapType.HASH) as made, make(MapType.PERCPU_ARRAY) as array:
        wrong: list[tuple[str, Callable[[], Any]]] = [
            ("a key has 4 bytes, not 3", lambda: made[b"abc"]),
            ("a key has 4 bytes, not 5", lambda: made.lookup(b"abcde")),
            ("a key is bytes .4 of them., not 'abcd'", lambda: made["abcd"]),
            ("a value has 8 bytes, not 1", lambda: made.put(b"abcd", b"x")),
            ("a key is an integer, not 'x'", lambda: array["x"]),
            ("a key is from 0 to 4294967295, not -1", lambda: array[-1]),
            (f"a value is a list of {CPUS}, one for each possible CPU", lambda: array.put(0, u64(1))),
            (f"a value is a list of {CPUS}, one for each possible CPU", lambda: array.put(0, [u64(1)] * (CPUS + 1))),
        ]
        for message, use in wrong:
            with pytest.raises(ObjectError, match=f"map 'tested': {message}"):
                use()


@pytest.mark.parametrize("kind", [MapType.ARRAY, MapType.PERCPU_ARRAY], ids=lambda kind: kind.name)
def test_an_array_has_all_integers_below_its_size(kind: MapType, bpftool: Any) -> None:
    with make(kind, entries=5) as made:
        zero = value_for(kind, 0) if kind == MapType.ARRAY else [u64(0)] * CPUS
        assert (list(made), len(made)) == ([0, 1, 2, 3, 4], 5)
        assert list(made.values()) == [zero] * 5
        made[3] = value_for(kind, 33)
        made[u32(4)] = value_for(kind, 44)
        assert dumped(bpftool, made) == {u32(key): value for key, value in made.items()}
        assert (made[3], made[4]) == (value_for(kind, 33), value_for(kind, 44))
        with pytest.raises(KeyError):
            made[5]
        with pytest.raises(KernelError, match="E2BIG"):
            made[5] = zero
        for emptied in (lambda: made.__delitem__(0), made.clear, made.drain, lambda: made.pop(1)):
            with pytest.raises(KernelError, match="EINVAL") as caught:
                emptied()
            assert "zeros" in caught.value.hint


def test_raw_lookup_gives_all_cpus_bytes() -> None:
    with make(MapType.PERCPU_ARRAY, value=4) as made:
        made[0] = [u32(cpu + 1) for cpu in range(CPUS)]
        assert made.lookup(u32(0)) == b"".join(u64(cpu + 1) for cpu in range(CPUS))
        assert made.lookup(u32(1000)) is None


@pytest.mark.parametrize("text", ["0", "0-1", "0-3,8", "0,2-3\n"])
def test_lists_of_cpus_may_have_gaps(text: str) -> None:
    assert cpus.parse(text) == {"0": [0], "0-1": [0, 1], "0-3,8": [0, 1, 2, 3, 8], "0,2-3\n": [0, 2, 3]}[text]


def test_a_prefix_tree_walks_and_empties(bpftool: Any) -> None:
    def prefix(length: int, *address: int) -> bytes:
        return u32(length) + bytes(address)

    wanted = {prefix(8, 10, 0, 0, 0): u64(1), prefix(16, 10, 1, 0, 0): u64(2), prefix(32, 10, 1, 2, 3): u64(3)}
    with make(MapType.LPM_TRIE, key=8, flags=MapFlags.NO_PREALLOC) as made:
        made.update(wanted)
        assert dumped(bpftool, made) == wanted == dict(made.items())
        assert made[prefix(32, 10, 9, 9, 9)] == u64(1)
        assert made[prefix(32, 10, 1, 9, 9)] == u64(2)
        assert prefix(32, 11, 0, 0, 0) not in made
        assert dict(made.drain()) == wanted
        assert len(made) == 0


def test_mapped_memory_is_the_array(bpftool: Any) -> None:
    with make(MapType.ARRAY, value=4, entries=3, flags=MapFlags.MMAPABLE) as made:
        memory = made.memory()
        assert len(memory) == 3 * 8
        assert not memory.readonly
        memory[8:12] = b"abcd"
        assert made[1] == b"abcd" == dumped(bpftool, made)[u32(1)]
        made[2] = b"efgh"
        assert memory[16:20] == b"efgh"
        assert made.memory() is memory
        with pytest.raises(KernelError, match="EBUSY"):
            made.freeze()
    with pytest.raises(ValueError, match="released"):
        memory[0]


def test_memory_of_a_frozen_map_is_read_only_and_its_slices_may_outlive_the_map() -> None:
    with make(MapType.ARRAY, entries=1, flags=MapFlags.MMAPABLE) as made:
        made[0] = b"constant"
        made.freeze()
        with pytest.raises(NotPermitted, match=r"setting an element of map 'tested'.*EPERM") as caught:
            made[0] = u64(0)
        assert "frozen" in caught.value.hint
        assert made.memory().readonly
        part = made.memory()[:8]
    assert bytes(part) == b"constant"
    part.release()
    with make(MapType.ARRAY) as made, pytest.raises(ObjectError, match="cannot be mapped"):
        made.memory()


def test_a_map_is_itself_only_and_closed_for_good() -> None:
    with make(MapType.HASH) as one, make(MapType.HASH) as other:
        assert one != other
        assert len({one, other, one}) == 2
        with maps.open_id(one.info().id) as again:
            one[b"aaaa"] = u64(5)
            assert again[b"aaaa"] == u64(5)
    one.close()
    for use in (lambda: one[b"aaaa"], lambda: list(one), one.info, one.freeze, lambda: one.pin("/sys/fs/bpf/x")):
        with pytest.raises(ClosedError, match="'tested'"):
            use()


@pytest.mark.needs("memcg_accounting")
def test_the_memory_limit_is_left_alone_where_it_does_not_count() -> None:
    before, calls = resource.getrlimit(resource.RLIMIT_MEMLOCK), []

    def refused() -> int:
        calls.append(1)
        raise PermissionError(errno.EPERM, "no")

    with pytest.raises(PermissionError):
        memlock.retry(refused)
    assert (resource.getrlimit(resource.RLIMIT_MEMLOCK), len(calls)) == (before, 1)


@pytest.mark.parametrize(
    ("answer", "lifted"),
    [
        (errno.EINVAL, True),  # a kernel before 5.11 does not know the helper
        # a privilege is missing: the limit is put back
        pytest.param(errno.EPERM, False, marks=pytest.mark.needs("memcg_accounting")),
    ],
)
def test_the_memory_limit_is_raised_where_it_counts(answer: int, lifted: bool) -> None:
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    low = (1 << 16, before[1])

    def needs_memory() -> None:
        if resource.getrlimit(resource.RLIMIT_MEMLOCK) == low:
            raise PermissionError(errno.EPERM, "used up")

    resource.setrlimit(resource.RLIMIT_MEMLOCK, low)
    memlock._to_blame.cache_clear()
    try:
        if lifted:
            without((Cmd.PROG_LOAD,), lambda: memlock.retry(needs_memory), answer)
        else:
            with pytest.raises(PermissionError):
                without((Cmd.PROG_LOAD,), lambda: memlock.retry(needs_memory), answer)
        assert (resource.getrlimit(resource.RLIMIT_MEMLOCK) != low) == lifted
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)
        memlock._to_blame.cache_clear()
