"""Pauses of definitions and of participants: what they hold, and what goes on when they end.

While a definition is paused, its sagas call nobody and begin no child saga; while a participant is paused, nobody
calls it, for whatever saga. What is held spends no attempt, and is known not to have been called. Calls under way end
as ever, answers and orders are heeded, and every time limit runs on.

A held step waits with a time at which it is tried again, so that nothing is lost if nobody says that the pause is over;
whoever drives goes by the pauses that are in force, and lets go on what no pause holds any more.

Pure: values and rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from orchestrator.saga.commands import Held
from orchestrator.saga.events import PAUSED
from orchestrator.saga.model import Phase, Saga

# A held step is tried again after so long at the least, in seconds, and after half as much again at the most. It is
# seldom that anything waits for so long: the end of a pause lets it go on at once. Each time costs two rows of the log,
# so that 100,000 that are held keep a leader busy with some 200 of them a second.
HOLD_S = 900.0
HOLD_MOST_S = HOLD_S * 1.5


class PauseKind(StrEnum):
    """What may be paused beside a saga."""

    DEFINITION = "definition"
    PARTICIPANT = "participant"


@dataclass(frozen=True, slots=True)
class Pause:
    """A definition, by its name, or a participant, by its address, that `by` has paused, and why."""

    id: UUID
    kind: PauseKind
    name: str
    by: str
    reason: str
    since: datetime

    def __str__(self) -> str:
        since = self.since.astimezone(UTC).isoformat(timespec="seconds")
        return f"{self.kind} {self.name} is paused by {self.by} since {since}: {self.reason}"


class Pauses:
    """The pauses in force."""

    def __init__(self, pauses: Iterable[Pause] = ()) -> None:
        self._by_name = {(pause.kind, pause.name): pause for pause in pauses}

    def holding(self, definition: str, service: str = "") -> Pause | None:
        """What keeps sagas of a definition from calling a participant; without one, from whatever they would do."""
        if not self._by_name:
            return None
        held = self._by_name.get((PauseKind.DEFINITION, definition))
        return held or self._by_name.get((PauseKind.PARTICIPANT, service))

    def count(self, kind: PauseKind) -> int:
        """How many there are of a kind."""
        return sum(of is kind for of, _ in self._by_name)


NO_PAUSES = Pauses()


def held_by(pause: Pause, chance: float) -> Held:
    """What comes of a call that is not made because of a pause; `chance` in [0, 1) spreads the waits."""
    return Held(PAUSED, str(pause), HOLD_S * (1 + chance / 2), called=False)


def let_go(saga: Saga, pauses: Pauses) -> tuple[int, ...]:
    """The steps that wait for the end of a pause although none holds them any more."""
    held = [cursor.position for cursor in saga.open if cursor.paused and cursor.phase is Phase.BACKOFF]
    if not held or saga.state.terminal:
        return ()
    name, step = saga.definition.name, saga.definition.step
    return tuple(position for position in held if pauses.holding(name, step(position).service) is None)
