"""bpf_ringbuf_output against reserve and submit: who copies, and what sizes."""

from __future__ import annotations

from ..operations import Consume, Output, Reserve, Submit, Write
from ..scenario import Scenario, Step
from ..stage import Plan
from ..state import BUSY_RECORD, COMMITTED

SCENARIO = Scenario(
    name="output",
    title="Output, or reserve and submit: who copies",
    teaches=(
        "With bpf_ringbuf_reserve the program fills the record in the ring: nothing is copied, but the size must be a"
        " constant that the verifier knows. bpf_ringbuf_output takes an event that the program has made elsewhere, on its"
        " stack or in a map, of any size, and does all at once: reserve, copy, submit. It costs a copy, and the event is"
        " made even if there is no room for it."
    ),
    plan=Plan(),
    steps=(
        Step(
            "Reserve: {need} bytes for an event of up to {length}.",
            Reserve("A", 32),
            lambda m: m.record.state == BUSY_RECORD,
        ),
        Step(
            "What the program writes is in the ring at once: this is the only copy that there is.",
            Write("A", "short"),
            lambda m: m.record.payload.startswith(b"short") and m.record.busy,
        ),
        Step(
            "All 32 bytes are sent, though only 5 were written.",
            Submit("A"),
            lambda m: m.record.state == COMMITTED and m.record.length == 32,
            "The length of a record is decided when it is reserved.",
        ),
        Step(
            "Output: the kernel copies 5 bytes out of the program's own memory. The record is committed when the call"
            " returns.",
            Output("B", 5, "short"),
            lambda m: m.answer.value == 0 and m.record.state == COMMITTED and m.record.payload == b"short",
        ),
        Step(
            "Made in place, the event took 40 bytes of the ring; put out, it took 16. A longer one takes {need}.",
            Output("C", 13, "somewhat long"),
            lambda m: m.answer.value == 0 and m.record.stride == m.need == 24,
        ),
        Step(
            "The consumer cannot tell how a record was made.",
            Consume(),
            lambda m: tuple(len(record) for record in m.answer.records) == (32, 5, 13),
        ),
    ),
)
