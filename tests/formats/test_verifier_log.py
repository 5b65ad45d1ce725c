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
NEW = """0: (79) r0 = *(u64 *)(r1 +16000)
Verification failed: invalid access
Reason: invalid bpf_context access off=16000 size=8
Suggestion: read within the context
processed 1 insns (limit 1000000)
"""
EARLY = "invalid BTF_INFO:1234 for func main\n"


def test_the_reason_stands_behind_the_last_instruction() -> None:
    found = telling(OLD)
    assert found.slot == 7
    assert found.lines == ["7: (79) r1 = *(u64 *)(r0 +0)", "R0 invalid mem access 'map_value_or_null'"]


def test_labelled_reasons_are_taken_for_themselves() -> None:
    found = telling(NEW)
    assert found.lines == [
        line for line in NEW.splitlines() if line.split(":")[0] in ("Verification failed", "Reason", "Suggestion")
    ]
    assert found.slot == 0


def test_a_log_without_instructions_is_the_reason() -> None:
    assert telling(EARLY).lines == [EARLY.strip()]
    assert telling(EARLY).slot is None
    assert telling("").lines == []
