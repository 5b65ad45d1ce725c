"""The verifier's log: which lines tell what was wrong, and which instruction and source line they are about.

The log is for people and changes with every kernel, so lines are found by pattern, never by position. A rejection
ends with the instruction, the reason in one line or a few, and statistics; since 7.3 many have a report behind the
reason: paragraphs headed "Verification failed:", "Reason:", "At:", "Causal path:" and "Suggestion:". Register states,
which are most of a log, are not reasons.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_INSTRUCTION = re.compile(r"^(\d+): \([0-9a-f]{2}\) ")
_NOISE = re.compile(
    r"^\s*$|^processed \d+ insns|^verification time|^stack depth|^func#\d+ @|^\d+: |^; |^R\d+=|^R\d+_w=|^ R\d+"
    r"|^from \d+ to|^frame\d+: |^mark_precise|^last_idx|^regs=|^parent|^=====|^Live regs|^arg#\d+ "
    r"|^caller:|^callee:|^returning from callee|^to caller|^propagating|^max_states|^peak_states|^insn_processed"
    r"|^Validating \w+\(\) func|^Func#\d+ is safe|^Func#\d+ \('|^reg type unsupported for arg#\d+ function \w+#\d+$"
)
_HEADING = re.compile(r"([A-Z][a-z]+(?: [a-z]+)?):\s*(.*)")
_REPORT = "Verification failed"  # the heading of the first paragraph
_TELLING = (_REPORT, "Reason", "Suggestion")  # the others repeat the instruction
_MOST = 6  # lines of reason that a message shows


class Rejection(NamedTuple):
    """`lines` tell why; `slot` is the instruction that the verifier was at, None if the log names none."""

    lines: list[str]
    slot: int | None


def telling(log: str) -> Rejection:
    """Find the lines that say why a program was rejected."""
    rows = [line.rstrip() for line in log.splitlines()]
    report = next((number for number, line in enumerate(rows) if line.startswith(f"{_REPORT}:")), len(rows))
    slot, last = None, -1
    for number, line in enumerate(rows[:report]):
        at = _INSTRUCTION.match(line)
        if at:
            slot, last = int(at[1]), number
    reasons = [line for line in rows[last + 1 : report] if not _NOISE.match(line)]
    if not reasons:  # the reason stands before the last instruction, or is all there is
        reasons = [line for line in rows[:report] if not _NOISE.match(line)]
    head = [rows[last]] if last >= 0 else []
    return Rejection([*head, *reasons[-_MOST:], *_paragraphs(rows[report:])], slot)


def _paragraphs(report: list[str]) -> list[str]:
    """Those that tell something, in a line each."""
    words: dict[str, list[str]] = {}
    name = ""
    for line in report:
        heading = _HEADING.fullmatch(line)
        if heading:
            name, line = heading[1], heading[2]
        elif not line:  # ends a paragraph that has begun
            name = name if not words.get(name) else ""
        if line:
            words.setdefault(name, []).append(line.strip())
    return [f"{name}: {' '.join(words[name])}" for name in _TELLING if name in words]
