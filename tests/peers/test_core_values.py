"""What relocated programs read and write is what is there: CO-RE of tests/corpus, by its results.

Expected values come from elsewhere than BTF: /proc, system calls, and the numbers of include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import purebpf

pytestmark = pytest.mark.kernel
Run = Callable[[str, str], Any]


@pytest.fixture
def run(corpus: dict[str, Path]) -> Run:
    """Run a program of an object once, as this process; what its variable `out` holds then."""

    def once(name: str, program: str) -> Any:
        with purebpf.load(corpus[name]) as obj:
            obj.programs[program].test_run()
            return obj.globals.out

    return once


def test_enumerators_have_the_kernels_values(run: Run) -> None:
    out = run("core_enums", "enums")
    assert out[0] == 1  # BPF_MAP_TYPE_HASH
    assert (out[1], out[2], out[4]) == (0, 0, 0)
    assert out[3] == 1  # HRTIMER_MODE_REL
    assert out[5] == 2  # PIDTYPE_PGID, which the object believes to be -2
    assert out[6] == 28  # BPF_TRACE_ITER


def test_types_that_are_missing_have_neither_id_nor_size(run: Run) -> None:
    out = run("core_types", "types")
    assert (out[0], out[1], out[2]) == (1, 4, 1)
    assert (out[3], out[5], out[7], out[11], out[12]) == (0, 0, 0, 0, 0)
    assert out[6] > 0
    assert out[8] > 0
    assert out[9] > 0  # an id of the object's own


def test_members_are_found_through_anonymous_ones_arrays_and_pointers(run: Run) -> None:
    out = run("core_nested", "nested")
    assert out[0] == os.getpid()
    assert (out[1], out[2]) == (limit(resource.RLIMIT_NOFILE)[0], limit(resource.RLIMIT_STACK)[1])
    parent = Path(f"/proc/{os.getppid()}")
    assert out[3] == int(parent.joinpath("stat").read_text().rsplit(")", 1)[1].split()[1])
    assert (out[8], out[9]) == (16, 1)
    text = b"".join(number.to_bytes(8, "little") for number in out[12:16])
    assert text.split(b"\0")[0] == parent.joinpath("comm").read_bytes().rstrip(b"\n")


def limit(number: int) -> tuple[int, int]:
    """The soft and the hard limit, as the kernel holds them."""
    soft, hard = resource.getrlimit(number)
    return soft % (1 << 64), hard % (1 << 64)


def test_what_has_another_kind_in_the_kernel_is_not_there(run: Run) -> None:
    assert list(run("core_incompatible", "incompatible")[:7]) == [0, 0, 0, 0, 1, 0, 0]


def test_stores_take_the_kernels_width(run: Run) -> None:
    out = run("core_store", "stores")
    assert out[0] & ~0xF == 0xFFF0  # eight bytes: the upper ones are written too
    assert out[1] == 7


def test_functions_that_are_called_are_relocated_too(run: Run) -> None:
    out = run("core_functions", "functions")
    assert out[0] == os.getpid()
    assert out[1] == os.getpid() + 4


def test_bit_fields_have_the_kernels_width(corpus: dict[str, Path]) -> None:
    with purebpf.load(corpus["core_bitfields"]) as obj, obj.programs["bits"].attach():
        os.getppid()
        out = obj.globals.out
    assert out[0] in (0, 1)
    assert out[1] in (0, 1)
    assert out[8] == 63  # one bit
    assert out[7] < 64
    assert (out[3], out[6]) == (0, 0)


def test_loads_take_the_kernels_width(run: Run) -> None:
    out = run("core_width_own", "width")
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    assert out[0] == int(fields[6])  # nothing of the field behind it
    assert out[1] * os.sysconf("SC_CLK_TCK") // 10**9 == int(fields[19])  # all of its 64 bits
    assert out[2] == int(fields[38])
