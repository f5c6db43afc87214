"""The simulated operators: they pause definitions and participants, and watch that nobody does what they have paused.

What they do is drawn apart from the faults, so that a seed has the same faults with them and without them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from orchestrator.driving.port import Answer, Invocation, Participants
from orchestrator.saga.pausing import Pause, PauseKind, Pauses
from orchestrator.simulation.definitions import SERVICES
from orchestrator.simulation.postgres import PostgresModel
from orchestrator.simulation.trace import Trace

# How long a pause lasts at the most, in seconds: longer than leases and timeouts, and much shorter than what is held
# would sleep if nobody woke it.
_LONG_S = 12.0


class Operators:
    """Whoever pauses in one run. `offences` are the calls that began although a leader had said that none would."""

    def __init__(
        self, postgres: PostgresModel, definitions: Sequence[str], chance: random.Random, trace: Trace
    ) -> None:
        self._definitions = definitions
        self.offences: list[str] = []
        self._postgres = postgres
        self._chance = chance
        self._trace = trace

    def plan(self, within_s: float, after: Callable[[float, Callable[[], None]], None]) -> None:
        """Arrange what is paused in this run, and when: nothing at all in every other one."""
        if self._chance.random() < 0.5:
            return
        for _ in range(self._chance.randint(1, 4)):
            begins_s = self._chance.uniform(0.0, within_s)
            lasts_s = self._chance.uniform(0.1, _LONG_S if self._chance.random() < 0.5 else 1.5)
            pause = self._draw()
            after(begins_s, lambda pause=pause: self._pause(pause))  # type: ignore[misc]
            after(begins_s + lasts_s, lambda pause=pause: self._resume(pause.id))  # type: ignore[misc]

    def resume_all(self) -> None:
        """Nothing is paused any more."""
        for number in list(self._postgres.log.paused):
            self._resume(number)

    def begins(self, invocation: Invocation) -> None:
        """A call begins."""
        log = self._postgres.log
        if invocation.epoch != log.epoch:
            # A leader that was overtaken: it had intended this before, and the participant refuses the old epoch.
            return
        heeded = [one.pause for one in log.paused.values() if one.heeded_at is not None and one.resumed_at is None]
        holds = Pauses(heeded).holding(invocation.definition, invocation.service)
        if holds is not None:
            self.offences.append(f"{invocation.idempotency_key} was called under epoch {log.epoch}: {holds}")

    def _draw(self) -> Pause:
        kind = self._chance.choice(list(PauseKind))
        name = self._chance.choice(SERVICES if kind is PauseKind.PARTICIPANT else self._definitions)
        number = UUID(int=self._chance.getrandbits(128))
        return Pause(number, kind, name, "ann", "moving house", self._postgres.log.now())

    def _pause(self, pause: Pause) -> None:
        in_force = [one.pause for one in self._postgres.log.paused.values() if one.resumed_at is None]
        # With Postgres away the order is refused, and what is paused already is not paused again.
        if self._postgres.server.up and (pause.kind, pause.name) not in [(one.kind, one.name) for one in in_force]:
            self._postgres.log.put_pause(pause)
            self._trace.note("paused", pause.kind, pause.name)
            self._trace.count("pauses")

    def _resume(self, number: UUID) -> None:
        stored = self._postgres.log.paused.get(number)
        if stored is not None and stored.resumed_at is None:
            self._postgres.log.end_pause(number)
            self._trace.note("resumed", stored.pause.kind, stored.pause.name)


class Watched:
    """Participants whose calls the operators see begin."""

    def __init__(self, participants: Participants, operators: Operators) -> None:
        self._participants = participants
        self._operators = operators

    async def call(self, invocation: Invocation) -> Answer:
        """See `Participants.call`."""
        self._operators.begins(invocation)
        return await self._participants.call(invocation)

    def warm(self, services: Iterable[str]) -> None:
        """See `Participants.warm`."""
        self._participants.warm(services)
