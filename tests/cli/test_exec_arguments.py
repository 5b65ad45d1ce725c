"""Ten thousand random argument vectors: each comes back byte for byte, or is said to be cut, and where."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from exec_tracing import TRACE_EXEC, Row, compiled, exact, trace

pytestmark = pytest.mark.kernel
Vector = list[bytes]

VECTORS = 10_000
LONGEST = 131_071  # bytes of an argument: MAX_ARG_STRLEN without the NUL (include/uapi/linux/binfmts.h)
NASTY = [
    b"", b" ", b"\n", b"\r\n", b"\t", b"'", b'"', b"\\", b"$'", b"$(id)", b"`id`", b"${x}", b"!", b"!!", b"~", b"#", b"*", b"[a]", b";", b"&",
    b"|", b"-", b"--", b"-a", b"=", b"=ls", b"a=b", b"%s", b"\\x41", b"\\udcff", b"\\\\udc80", b"\\n", b"\x01", b"\x1b[31m", b"\x7f", b"\x80",
    b"\xff", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xed\xb3\xbf", b"\xf4\x90\x80\x80", b"\xc2", b"\xe2\x82", b"\xc2\x9b31m", b"\xe2\x80\xae",
    b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"e\xcc\x81", "日本語".encode(), "🦀".encode(), b"{a,b}", b"if", b"a\\", b"\xff7", b"\x01f", b"it's", b"it's $x",
]  # fmt: skip
ODD_NAMES = [b"", b"-", b"-x", b"\n", b"=", b"\xff", b"a b", b"(", b"exec_target", b"./exec_target", b"/", b"x/"]


def some_bytes(rng: random.Random, size: int) -> bytes:
    return bytes(rng.choices(range(1, 256), k=size))


def nasty(rng: random.Random) -> Vector:
    return [b"".join(rng.choices(NASTY, k=rng.randrange(4))) for _ in range(rng.randrange(12))]


def binary(rng: random.Random) -> Vector:
    return [some_bytes(rng, rng.randrange(200)) for _ in range(rng.randrange(1, 12))]


def many(rng: random.Random) -> Vector:
    return [b"%x" % rng.randrange(1 << 12) if rng.random() < 0.7 else b"" for _ in range(rng.randrange(1, 6000))]


def near_limits(rng: random.Random) -> Vector:
    """About a page, and about what is captured at most by default."""
    size = rng.choice([4096, 8192, 16384]) + rng.randrange(-24, 4)
    return [some_bytes(rng, 7) * (size // 7), b"x" * rng.randrange(16), b"", b"end"]


def huge(rng: random.Random) -> Vector:
    sizes = [rng.choice([LONGEST, rng.randrange(LONGEST), rng.randrange(1000)]) for _ in range(rng.randrange(1, 10))]
    return [some_bytes(rng, 13) * (size // 13) + b"e" * (size % 13) for size in sizes]


def empty(_rng: random.Random) -> Vector:
    return []


def with_name(rng: random.Random, vector: Vector) -> Vector:
    """With an argv[0], odd now and then. The empty vector has none."""
    return [rng.choice(ODD_NAMES) if rng.random() < 0.3 else b"exec_target", *vector]


def vectors(seed: int, count: int, kinds: dict[Callable[[random.Random], Vector], int]) -> list[Vector]:
    rng = random.Random(seed)
    made = [(kind, kind(rng)) for kind in rng.choices(list(kinds), list(kinds.values()), k=count)]
    return [vector if kind is empty else with_name(rng, vector) for kind, vector in made]


def written(folder: Path, made: list[Vector]) -> str:
    """As exec_many reads them."""
    path = folder / "vectors"
    path.write_bytes(b"".join(struct.pack("=I", len(v)) + b"".join(a + b"\0" for a in v) for v in made))
    return str(path)


def block(vector: Vector) -> bytes:
    """As in the process's memory. The kernel makes one empty argument of none (5.18, do_execveat_common)."""
    return b"".join(argument + b"\0" for argument in vector or [b""])


def strings(part: bytes) -> Vector:
    """Of a block of which the end may be missing."""
    return part.removesuffix(b"\0").split(b"\0")


def check(row: Row, vector: Vector, limit: int) -> None:
    """What is shown is what was executed, up to the limit."""
    whole, shown = block(vector), exact(row, "argv")
    assert row["argc"] == len(vector or [b""])
    assert "argv_fault" not in row
    if len(whole) <= limit:
        assert shown == (vector or [b""])
        assert "argv_truncated" not in row
        return
    assert (row["argv_truncated"], row["argv_bytes"], row["argv_captured"]) == (True, len(whole), limit)
    assert shown == strings(whole[:limit])


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("programs")
    nothing = compiled(folder, "exec_nothing.c", "-nostdlib")
    return compiled(folder, "exec_many.c"), nothing


SMALL = {nasty: 55, binary: 35, empty: 1}
ALL = {**SMALL, many: 2, near_limits: 5, huge: 2}


@pytest.mark.volume
@pytest.mark.parametrize(("limit", "options"), [(16384, []), (1024, ["--max-args", "1K"])])
def test_each_byte_of_each_argument_comes_back(
    limit: int, options: list[str], programs: tuple[str, str], tmp_path: Path
) -> None:
    """One after the other, so in their order. The ring holds all that is captured, so that none can be lost."""
    made = vectors(limit, VECTORS, ALL)
    done = trace(
        "--buffer-size", "64M", *options, command=[programs[0], "vectors", programs[1], written(tmp_path, made)]
    )
    rows = done.execs(programs[1])
    assert (done.status, done.err, len(rows)) == (0, "", VECTORS)
    for row, vector in zip(rows, made):
        check(row, vector, limit)


def test_a_megabyte_of_arguments_comes_back(programs: tuple[str, str], tmp_path: Path) -> None:
    made = [*vectors(3, 60, {huge: 1}), [b"y" * LONGEST] * 9, [b""] * 50_000]
    options = ("--max-args", "1M", "--buffer-size", "128M")
    done = trace(*options, command=[programs[0], "vectors", programs[1], written(tmp_path, made)])
    rows = done.execs(programs[1])
    assert (done.status, done.err, len(rows)) == (0, "", len(made))
    assert any("argv_truncated" in row for row in rows)
    for row, vector in zip(rows, made):
        check(row, vector, 1 << 20)


def test_the_ring_has_room_for_some_of_the_longest_there_may_be(programs: tuple[str, str], tmp_path: Path) -> None:
    """Whoever asks for a megabyte need not know how large the ring is."""
    made = [[b"y" * LONGEST] * 8] * 3
    done = trace("--max-args", "1M", command=[programs[0], "vectors", programs[1], written(tmp_path, made)])
    assert (done.err, len(done.execs(programs[1]))) == ("", 3)


@pytest.mark.parametrize("limit", [1, 2, 4095, 4096, 4097, 10_000])
def test_any_limit_is_kept_exactly(limit: int, programs: tuple[str, str], tmp_path: Path) -> None:
    made = vectors(limit, 60, {near_limits: 3, nasty: 1})
    made += [[b"x" * (size - 1)] for size in range(max(1, limit - 2), limit + 3)]
    command = [programs[0], "vectors", programs[1], written(tmp_path, made)]
    done = trace("--max-args", str(limit), command=command)
    rows = done.execs(programs[1])
    assert len(rows) == len(made)
    for row, vector in zip(rows, made):
        check(row, vector, limit)


def check_failed(row: Row, vector: Vector, limit: int) -> None:
    """The arguments of an exec that failed are read one by one: no more than some hundreds, and nobody counted the rest."""
    whole, shown = block(vector) if vector else b"", exact(row, "argv")
    assert (row["errno"], row.get("argv_fault")) == ("ENOENT", None)
    if "argv_truncated" not in row:
        assert (shown, row["argc"]) == (vector, len(vector))
        return
    captured = row["argv_captured"]
    assert (row["argc"], row["argv_bytes"]) == (None, None)
    assert shown == strings(whole[:captured])
    assert captured == limit < len(whole) or len(shown) >= 100 or captured > 1 << 18


@pytest.mark.volume
@pytest.mark.parametrize(
    ("limit", "options"), [(16384, []), (1024, ["--max-args", "1K"]), (1 << 20, ["--max-args", "1M"])]
)
def test_the_arguments_of_execs_that_fail_come_back_too(
    limit: int, options: list[str], programs: tuple[str, str], tmp_path: Path
) -> None:
    made = vectors(limit, 1000, ALL) + [[b"x"] * count for count in range(505, 520)]
    made += [[b"x" * size] for size in range(limit - 5, limit + 5000, 499) if size <= LONGEST]
    missing = str(tmp_path / "missing")
    command = [programs[0], "vectors", missing, written(tmp_path, made)]
    done = trace("-x", "--buffer-size", "128M", *options, command=command)
    rows = done.execs(missing)
    assert (done.status, done.err, len(rows)) == (0, "", len(made))
    for row, vector in zip(rows, made):
        check_failed(row, vector, limit)


def words_of(program: str, vector: Vector) -> Vector:
    """What a pasted line gives: an argv[0] that names the file as well is shown as the file."""
    same = vector[:1] and vector[0].rpartition(b"/")[2] == program.rpartition("/")[2].encode()
    return [program.encode(), *vector[1:]] if same else vector or [b""]


def decoded(data: bytes) -> list[Vector]:
    """What exec_target wrote: vectors, each with its length in front."""
    fields, found, at = data.split(b"\0"), [], 0
    while at < len(fields) - 1:
        count = int(fields[at])
        found.append(fields[at + 1 : at + 1 + count])
        at += 1 + count
    return found


def test_a_line_of_the_table_pasted_into_bash_executes_the_same_again(
    programs: tuple[str, str], tmp_path: Path
) -> None:
    target = compiled(tmp_path, "exec_target.c")
    made = vectors(5, 1000, SMALL)
    command = [*TRACE_EXEC, "--", programs[0], "vectors", target, written(tmp_path, made)]
    lines = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()[2:]
    assert len(lines) == len(made)
    script, pasted = tmp_path / "script", tmp_path / "pasted"
    script.write_text("".join(line.split(None, 5)[5] + "\n" for line in lines))
    done = subprocess.run(["bash", "-c", f"exec 9>{pasted}; . {script}"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert decoded(pasted.read_bytes()) == [words_of(target, vector) for vector in made]
