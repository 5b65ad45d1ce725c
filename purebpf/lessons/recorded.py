"""A stage that hands out what has been recorded: a scenario that was performed somewhere else, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import Error
from .operations import Answer, Operation
from .state import RingState

States = tuple[RingState, ...]


class Recording(NamedTuple):
    """The rings before anything was done, and each operation with its answer and the rings after it."""

    opening: States
    steps: Sequence[tuple[Operation, Answer, States]]


class RecordedStage:
    """Plays a recording. Its operations can be asked for in their order only."""

    def __init__(self, name: str, recording: Recording) -> None:
        self.name = name
        self._left, self._states = iter(recording.steps), recording.opening

    def do(self, operation: Operation) -> Answer:
        """What the operation gave. Raises Error if it is not the one that comes next."""
        recorded, answer, states = next(self._left, (None, Answer(), self._states))
        if operation != recorded:
            raise Error(f"the recording goes on with {recorded}, not with {operation}")
        self._states = states
        return answer

    def states(self) -> States:
        """As Stage has it."""
        return self._states

    def close(self) -> None:
        """Nothing to let go of."""
