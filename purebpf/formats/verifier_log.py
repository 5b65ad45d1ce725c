"""The verifier's log: which lines tell what was wrong, and which instruction and source line they are about.

The log is for people and changes with every kernel, so lines are found by pattern, never by position. A rejection
ends with the instruction, the reason in one line or a few, and statistics; up to 7.2 the reason stands bare, since
7.3 after "Reason:". Register states, which are most of a log, are not reasons.
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
_LABELLED = re.compile(r"^\s*(Verification failed|Reason|Suggestion|At)\b.*:", re.IGNORECASE)
_MOST = 6  # lines of reason that a message shows


class Rejection(NamedTuple):
    """`lines` tell why; `slot` is the instruction that the verifier was at, None if the log names none."""

    lines: list[str]
    slot: int | None


def telling(log: str) -> Rejection:
    """Find the lines that say why a program was rejected."""
    rows = [line.rstrip() for line in log.splitlines()]
    slot, last = None, -1
    for number, line in enumerate(rows):
        at = _INSTRUCTION.match(line)
        if at:
            slot, last = int(at[1]), number
    labelled = [line for line in rows if _LABELLED.match(line)]
    reasons = labelled or [line for line in rows[last + 1 :] if not _NOISE.match(line)]
    if not reasons:  # the reason stands before the last instruction, or is all there is
        reasons = [line for line in rows if not _NOISE.match(line)]
    head = [rows[last]] if last >= 0 and not labelled else []
    return Rejection([*head, *reasons[-_MOST:]], slot)
