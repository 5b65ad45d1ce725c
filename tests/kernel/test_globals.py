"""Global variables before and after loading, programs left out or optional, edited maps, externs."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import purebpf
from purebpf.formats.abi import MapFlags, MapType

pytestmark = pytest.mark.kernel

Build = Callable[[str], purebpf.ObjectSpec]
SOURCE = """
typedef __u16 port_t;
enum mode { OFF, SLOW = 5, FAST = -3 };
enum wide { HUGE = 1ULL << 40, SMALL = 1 };
struct point { int x, y; };
struct deep { struct point corner[2]; char name[6]; __u8 high : 3, low : 5; union { int i; unsigned u; }; };

__u64 runs, copied;
__s8 tiny;
_Bool flag;
port_t port = 443;
const volatile __u32 limit = 7;
const volatile char prefix[8] = "abc";
const volatile struct point origin = {1, -2};
int grid[2][3] = {{1, 2, 3}, {4, 5, 6}};
enum mode mode = SLOW;
enum wide wide = HUGE;
struct deep deep = {.corner = {{1, 2}, {3, 4}}, .name = "deep", .high = 5, .low = 17, .i = -1};
char text[16] = "hello";
__u8 bytes[4];
double ratio_bits_only;
void *pointer;
static volatile __u32 hidden = 9;
__u32 own SEC(".data.own") = 11;

SEC("raw_tp/sys_enter") int work(void *ctx)
{
    __sync_fetch_and_add(&runs, 1);
    copied = limit * 1000000ULL + port * 100 + prefix[0] + origin.y + hidden * 10000000000ULL + own * 1000000000000ULL;
    grid[1][2] += deep.corner[1].y;
    mode = FAST;
    hidden++;
    return grid[0][0];
}
"""


@pytest.fixture
def spec(build: Build) -> purebpf.ObjectSpec:
    return build(SOURCE)


def run(obj: purebpf.Object, name: str = "work") -> int:
    value: int = obj.programs[name].test_run(context=bytes(16)).return_value
    return value


def total(limit: int, port: int, letter: str, y: int, hidden: int, own: int) -> int:
    """What `work` copies."""
    return limit * 10**6 + port * 100 + ord(letter) + y + hidden * 10**10 + own * 10**12


def test_variables_hold_what_the_source_says(spec: purebpf.ObjectSpec) -> None:
    with purebpf.load(spec) as obj:
        readers: list[Callable[[str], Any]] = [
            lambda name: spec.variables[name].value,
            lambda name: getattr(obj.globals, name),
        ]
        for read in readers:
            assert [read(name) for name in ("runs", "tiny", "flag", "port", "limit", "hidden", "own")] == [
                0, 0, False, 443, 7, 9, 11,
            ]  # fmt: skip
            assert (read("prefix"), read("text"), read("origin")) == (b"abc", b"hello", (1, -2))
            assert read("grid") == [[1, 2, 3], [4, 5, 6]]
            deep = read("deep")
            assert (deep.corner[1].y, deep.name, deep.high, deep.low, deep.i, deep.u) == (
                4,
                b"deep",
                5,
                17,
                -1,
                2**32 - 1,
            )
            assert (read("mode").name, read("wide")) == ("SLOW", 1 << 40)
            assert read("ratio_bits_only") == 0.0


def test_what_is_set_before_loading_is_seen_by_the_program(spec: purebpf.ObjectSpec) -> None:
    values: dict[str, Any] = {
        "limit": 42, "port": 80, "prefix": b"zyx", "origin": {"x": 0, "y": -9}, "hidden": 3, "own": 4,
        "grid": [[7, 8, 9], [1, 1, 1]], "mode": 0,
    }  # fmt: skip
    for name, value in values.items():
        spec.variables[name].value = value
    with purebpf.load(spec) as obj:
        assert run(obj) == 7
        assert obj.globals.copied == total(42, 80, "z", -9, 3, 4)
        assert obj.globals.grid == [[7, 8, 9], [1, 1, 1 + 4]]
        assert obj.globals.mode.name == "FAST"


def test_two_loads_of_a_spec_do_not_share_their_variables(spec: purebpf.ObjectSpec) -> None:
    with purebpf.load(spec) as one, purebpf.load(spec) as other:
        one.globals.port = 1
        run(one)
        assert (other.globals.port, other.globals.runs, spec.variables["port"].value) == (443, 0, 443)


def test_variables_are_written_while_the_program_runs(spec: purebpf.ObjectSpec) -> None:
    with purebpf.load(spec) as obj:
        obj.globals.port = 1
        obj.globals.own = 2
        obj.globals.hidden = 3
        obj.globals.runs += 10
        obj.globals.deep = obj.globals.deep
        obj.globals.deep = {"corner": [{"x": 0, "y": 0}, {"x": 0, "y": 50}], "name": b"deep", "low": 31}
        assert run(obj) == 1
        assert obj.globals.copied == total(7, 1, "a", -2, 3, 2)
        assert (obj.globals.runs, obj.globals.hidden, obj.globals.grid[1][2]) == (11, 4, 56)
        assert (obj.globals.deep.name, obj.globals.deep.low, obj.globals.deep.high) == (b"deep", 31, 0)
        obj.globals.text = "bye"
        assert obj.globals.text == b"bye"


@pytest.mark.parametrize("flags", [MapFlags.MMAPABLE, MapFlags(0)])
def test_a_write_leaves_the_neighbours_alone_mapped_or_not(spec: purebpf.ObjectSpec, flags: MapFlags) -> None:
    for name in (".bss", ".data"):
        assert spec.maps[name].flags & MapFlags.MMAPABLE
        spec.maps[name].flags = flags
    with purebpf.load(spec) as obj:
        before = {name: getattr(obj.globals, name) for name in obj.globals}
        obj.globals.tiny = -128
        obj.globals.port = 65535
        after = {name: getattr(obj.globals, name) for name in obj.globals}
        assert after == {**before, "tiny": -128, "port": 65535}
        run(obj)
        assert obj.globals.runs == 1
        if flags:
            assert len(obj.maps[".bss"].memory()) % 8 == 0
        else:
            with pytest.raises(purebpf.ObjectError, match="cannot be mapped"):
                obj.maps[".bss"].memory()


def test_constants_are_frozen(spec: purebpf.ObjectSpec) -> None:
    with purebpf.load(spec) as obj:
        with pytest.raises(purebpf.ObjectError, match="'limit' is constant") as caught:
            obj.globals.limit = 8
        assert "spec.variables['limit'].value" in caught.value.hint
        with pytest.raises(purebpf.NotPermitted, match=r"EPERM"):
            obj.maps[".rodata"].put(0, bytes(obj.maps[".rodata"].spec.value_size))
        assert obj.globals.limit == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tiny", 128), ("tiny", "x"), ("port", -1), ("port", 65536), ("port", 1.5), ("grid", [[1, 2, 3]]),
        ("grid", 5), ("deep", {"no": 1}), ("text", b"x" * 17), ("bytes", b"12345"), ("mode", 1 << 32), ("flag", None),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_changes_nothing(spec: purebpf.ObjectSpec, name: str, value: object) -> None:
    before = spec.variables[name].value
    with pytest.raises(purebpf.ObjectError):
        spec.variables[name].value = value
    assert spec.variables[name].value == before
    with purebpf.load(spec) as obj:
        with pytest.raises(purebpf.ObjectError):
            setattr(obj.globals, name, value)
        assert getattr(obj.globals, name) == before


def test_an_unknown_variable_is_named_with_close_ones(spec: purebpf.ObjectSpec) -> None:
    with pytest.raises(purebpf.ObjectError, match="no variable 'limti'") as caught:
        spec.variable("limti")
    assert "limit" in caught.value.hint
    with purebpf.load(spec) as obj:
        with pytest.raises(AttributeError, match="no variable 'limti'; close: limit"):
            _ = obj.globals.limti
        with pytest.raises(AttributeError, match="no variable 'ports'; close: port"):
            obj.globals.ports = 1
        assert not hasattr(obj.globals, "nothing")
        assert {"runs", "limit", "hidden", "own"} <= set(dir(obj.globals)) == set(obj.globals)


def test_globals_of_a_closed_object_are_closed(spec: purebpf.ObjectSpec) -> None:
    with purebpf.load(spec) as obj:
        obj.globals.port = 1
    uses: list[Callable[[], object]] = [lambda: obj.globals.port, lambda: setattr(obj.globals, "port", 1)]
    for use in uses:
        with pytest.raises(purebpf.ClosedError):
            use()


OPTIONAL = """
SEC("raw_tp/sys_enter") int good(void *ctx) { return 0; }
SEC("raw_tp/sys_enter") int bad(void *ctx) { return *(int *)(long)bpf_get_current_task(); }
SEC("tp/no/such") int nowhere(void *ctx) { return 0; }
SEC("?raw_tp/sys_exit") int asked_for(void *ctx) { return 0; }
SEC("what/ever") int unknown(void *ctx) { return 0; }
"""


def test_a_program_that_fails_fails_the_object_unless_it_is_not_required(build: Build) -> None:
    spec = build(OPTIONAL)
    with pytest.raises(purebpf.VerifierError, match="'bad'"):
        purebpf.load(spec)
    for name in ("bad", "nowhere", "unknown"):
        spec.programs[name].required = False
    with purebpf.load(spec) as obj:
        assert set(obj.programs) == {"good", "nowhere"}
        assert [type(obj.failures[name]) for name in ("bad", "unknown")] == [purebpf.VerifierError, purebpf.ObjectError]
        assert len(obj.attach()) == 1
        assert set(obj.failures) == {"bad", "unknown", "nowhere"}
        assert "no tracepoint no/such" in str(obj.failures["nowhere"])


def test_programs_are_left_out_and_asked_for(build: Build) -> None:
    spec = build(OPTIONAL)
    for program in spec.programs.values():
        assert program.autoload == (program.name != "asked_for")
        program.autoload = program.name in ("good", "asked_for")
    with purebpf.load(spec) as obj:
        assert set(obj.programs) == {"good", "asked_for"}
        assert obj.failures == {}
        assert len(obj.attach()) == 2


def test_what_was_attached_before_a_failure_is_closed_with_the_object(build: Build) -> None:
    spec = build(OPTIONAL)
    spec.programs["bad"].autoload = spec.programs["unknown"].autoload = False
    with purebpf.load(spec) as obj, pytest.raises(purebpf.NotSupported, match="no tracepoint no/such"):
        obj.attach()


MAPS = """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); } counts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
SEC("raw_tp/sys_enter") int fill(struct bpf_raw_tracepoint_args *ctx)
{
    __u32 key = ctx->args[0];
    __u64 one = 1;
    return bpf_map_update_elem(&counts, &key, &one, BPF_ANY);
}
SEC("raw_tp/sys_enter") int write(void *ctx)
{
    __u64 content = 1;
    return bpf_ringbuf_output(&ring, &content, 8, 0);
}
"""


def test_maps_are_made_as_edited(build: Build, bpftool: Any) -> None:
    spec = build(MAPS)
    spec.maps["counts"].max_entries = 100
    spec.maps["counts"].flags |= MapFlags.NO_PREALLOC
    spec.maps["ring"].max_entries = 1 << 16
    with purebpf.load(spec) as obj:
        shown = bpftool("map", "show", "id", str(obj.maps["counts"].info().id))
        assert (shown["max_entries"], shown["flags"]) == (100, 1)
        for key in range(100):
            assert obj.programs["fill"].test_run(context=struct.pack("=Q", key)).return_value == 0
        assert obj.programs["fill"].test_run(context=struct.pack("=Q", 100)).return_value == 2**32 - 7  # E2BIG
        counts: Any = obj.maps["counts"]
        assert sorted(counts) == list(range(100))
        assert obj.maps["ring"].info().max_entries == max(1 << 16, mmap.PAGESIZE)
    spec.maps["counts"].type = MapType.LRU_HASH
    spec.maps["counts"].flags = 0
    with purebpf.load(spec) as obj:
        assert obj.programs["fill"].test_run(context=struct.pack("=Q", 100)).return_value == 0


EXTERNS = """
extern int LINUX_KERNEL_VERSION __kconfig;
extern _Bool CONFIG_BPF_SYSCALL __kconfig;
extern int CONFIG_NOT_THERE __kconfig __weak;
extern const void schedule __ksym;
extern const void not_there __ksym __weak;
extern int not_there_either(int) __ksym __weak;
__u64 version, address, missing, absent;
SEC("raw_tp/sys_enter") int look(void *ctx)
{
    version = LINUX_KERNEL_VERSION;
    absent = CONFIG_NOT_THERE;
    address = (__u64)&schedule;
    missing = (__u64)&not_there;
    if (not_there_either)
        return not_there_either(1);
    return CONFIG_BPF_SYSCALL;
}
"""
STRONG = """
extern int CONFIG_NOT_THERE __kconfig;
extern const void not_there __ksym;
extern int not_there_either(int) __ksym;
__u64 address;
SEC("raw_tp/sys_enter") int config(void *ctx) { return CONFIG_NOT_THERE; }
SEC("raw_tp/sys_enter") int symbol(void *ctx) { address = (__u64)&not_there; return 0; }
SEC("raw_tp/sys_enter") int function(void *ctx) { return not_there_either(1); }
SEC("raw_tp/sys_enter") int fine(void *ctx) { return 5; }
"""


def test_externs_have_the_kernels_values_and_weak_ones_that_are_missing_are_zero(build: Build) -> None:
    symbols = (line.split() for line in Path("/proc/kallsyms").read_text().splitlines())
    with purebpf.load(build(EXTERNS)) as obj:
        assert run(obj, "look") == 1
        values = obj.globals
        assert values.version >= 5 << 16
        assert values.address == next(int(row[0], 16) for row in symbols if row[2] == "schedule")
        assert (values.missing, values.absent) == (0, 0)


def test_a_strong_extern_that_is_missing_fails_the_program_that_uses_it(build: Build) -> None:
    spec = build(STRONG)
    said = {"config": "CONFIG_NOT_THERE", "symbol": "not_there", "function": "not_there_either"}
    for name in said:
        spec.programs[name].required = False
    with purebpf.load(spec) as obj:
        assert run(obj, "fine") == 5
        assert set(obj.failures) == set(said)
        for name, missing in said.items():
            assert isinstance(obj.failures[name], purebpf.NotSupported)
            assert missing in str(obj.failures[name])
            assert repr(name) in str(obj.failures[name])
