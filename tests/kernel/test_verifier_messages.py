"""A rejected program's error: the reason, the line of C, and the relocation that the kernel could not satisfy."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

import purebpf
from purebpf.formats import link
from purebpf.kernel import verifier

pytestmark = pytest.mark.kernel
Compile = Callable[[str], Path]


def rejection(compiled: Compile, source: str) -> purebpf.VerifierError:
    with pytest.raises(purebpf.VerifierError) as caught:
        purebpf.load(compiled(source))
    return caught.value


def test_the_line_of_c_is_named(compiled: Compile) -> None:
    error = rejection(
        compiled,
        """
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, int); __type(value, long); __uint(max_entries, 1); } m SEC(".maps");
SEC("raw_tp/sys_enter") int careless(void *ctx)
{
	int key = 0;
	long *value = bpf_map_lookup_elem(&m, &key);
	return *value > 1;   /* here */
}
""",
    )
    text = str(error)
    assert "loading program 'careless': EACCES" in text
    assert "invalid mem access 'map_value_or_null'" in text
    assert "return *value > 1;   /* here */" in text
    assert "processed" in error.log
    assert "processed" not in text


def test_a_poisoned_relocation_is_explained(compiled: Compile) -> None:
    error = rejection(
        compiled,
        """
#include <bpf/bpf_core_read.h>
struct task_struct { int group_leade; } __attribute__((preserve_access_index));
SEC("raw_tp/sys_enter") int hopeful(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, group_leade);
}
""",
    )
    text = str(error)
    assert "made unusable by CO-RE: the kernel has no struct task_struct.group_leade; it has" in text
    assert "group_leader" in text
    assert "\n  at " in text  # some line of the function: the compiler puts offsets where it likes
    assert "bpf_core_field_exists" in error.hint


def test_a_missing_function_that_is_called_is_named(compiled: Compile) -> None:
    with pytest.raises(purebpf.NotSupported, match="no function bpf_no_such_function"):
        purebpf.load(
            compiled(
                """
extern int bpf_no_such_function(int) __ksym;
SEC("raw_tp/sys_enter") int strong(void *ctx) { return bpf_no_such_function(1); }
"""
            )
        )
    error = rejection(
        compiled,
        """
extern int bpf_no_such_function(int) __ksym __weak;
SEC("raw_tp/sys_enter") int weak(void *ctx) { return bpf_no_such_function(1); }
""",
    )
    assert "the kernel has no function bpf_no_such_function" in str(error)


def test_a_refusal_for_which_the_verifier_gives_no_reason_is_not_said_to_have_one(compiled: Compile) -> None:
    """Its log has statistics alone: here, since the types that it looks for first are none."""
    spec = purebpf.parse(compiled('SEC("raw_tp/sys_enter") int plain(void *ctx) { return 0; }').read_bytes(), "built")
    program = spec.programs["plain"]
    code = link.assemble(spec, program, lambda _relocation: pytest.fail("nothing to relocate"))
    with open("/dev/null") as none, pytest.raises(purebpf.KernelError) as caught:
        verifier.load(program, code, verifier.Context(spec.license, spec.btf, btf_fd=none.fileno()))
    assert not isinstance(caught.value, purebpf.VerifierError)
    assert str(caught.value) == "loading program 'plain': EINVAL (Invalid argument)"


def test_a_large_log_is_had_whole(compiled: Compile) -> None:
    source = 'SEC("raw_tp/sys_enter") int large(void *ctx) { int a[60]; volatile int *p = a;\n'
    source += "".join(f"p[{i % 60}] = bpf_get_prandom_u32() + {i};\n" for i in range(3000))
    error = rejection(compiled, source + "return *(volatile int *)(long)(p[3] + 1); }\n")
    assert len(error.log) > 1 << 16
    assert "invalid mem access" in str(error)
    assert len(str(error)) < 2000
