"""The telling lines of verifier logs of several ages."""

from __future__ import annotations

from purebpf.formats.verifier_log import telling

OLD = """func#0 @0
0: R1=ctx() R10=fp0
; return *value > 1; @ a.c:7
7: (79) r1 = *(u64 *)(r0 +0)
R0 invalid mem access 'map_value_or_null'
processed 8 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""
NEW = """0: R1=ctx() R10=fp0
0: (85) call bpf_map_lookup_elem#1
R1 type=ctx expected=map_ptr

Verification failed: Call Type Safety: Invalid call argument

Reason:
  The first argument (R1) to bpf_map_lookup_elem does not satisfy the verifier contract: it has type
  ctx, but this argument accepts map_ptr.

At:
  insn 0
       | ^-- error: invalid first argument (R1) for bpf_map_lookup_elem
  Instruction context:
  >>> 0 | (85) call bpf_map_lookup_elem#1
      1 | (b7) r0 = 0

Causal path:
  no retained diagnostic events on this path

Suggestion:
  Pass a value with one of the accepted pointer or scalar types for this call.

processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""
EARLY = "invalid BTF_INFO:1234 for func main\n"


def test_the_reason_stands_behind_the_last_instruction() -> None:
    found = telling(OLD)
    assert found.slot == 7
    assert found.lines == ["7: (79) r1 = *(u64 *)(r0 +0)", "R0 invalid mem access 'map_value_or_null'"]


def test_the_report_of_linux_7_3_is_told_behind_the_reason() -> None:
    found = telling(NEW)
    assert found.lines == [
        "0: (85) call bpf_map_lookup_elem#1",
        "R1 type=ctx expected=map_ptr",
        "Verification failed: Call Type Safety: Invalid call argument",
        "Reason: The first argument (R1) to bpf_map_lookup_elem does not satisfy the verifier contract: it has type"
        " ctx, but this argument accepts map_ptr.",
        "Suggestion: Pass a value with one of the accepted pointer or scalar types for this call.",
    ]
    assert found.slot == 0


def test_a_log_without_instructions_is_the_reason() -> None:
    assert telling(EARLY).lines == [EARLY.strip()]
    assert telling(EARLY).slot is None
    assert telling("").lines == []
