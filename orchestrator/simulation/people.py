"""The people around a simulated cluster: who approves, who orders in the middle of a run, and who clears up at its end.

Operators order what they like, mostly where it makes sense and now and then where it does not: what cannot be heeded
must be refused and do no harm. When the faults are over they resume what is paused, answer what still asks, and take
the place of children that will never end, since a saga that waits for a person waits for ever.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from orchestrator.errors import CorruptLog
from orchestrator.saga.definition import Step, Work
from orchestrator.saga.events import Event, Order, Status
from orchestrator.saga.model import Kind, Phase, Saga, SagaId, SagaState
from orchestrator.saga.signals import NEEDS_EVIDENCE, Signal, Verb
from orchestrator.sagalog.memory_rows import Row, stored_row
from orchestrator.sagalog.restoring import restored
from orchestrator.simulation.answering import Spawn
from orchestrator.simulation.clients import Outside
from orchestrator.simulation.editions import Library
from orchestrator.simulation.postgres import PostgresModel
from orchestrator.simulation.trace import Trace

_ROUND_S = 1.0
# A step that is to be tried again only later than that is tried at once when the faults are over.
_PATIENCE_S = 4.0
# A parked child is retried so often for its parent's sake; then a person takes its place.
_RETRIES = 2

_VERBS = {
    Verb.PAUSE: 4,
    Verb.RESUME: 1,
    Verb.RETRY: 4,
    Verb.SKIP: 2,
    Verb.FORCE: 2,
    Verb.RESOLVE: 2,
    Verb.APPROVE: 0.5,
}


@dataclass(frozen=True, slots=True)
class Mood:
    """How a seed's people are: how many orders they give, and how an approval comes out."""

    orders: int
    cancels: int
    rejects: float
    silent: float


def draw_mood(chance: random.Random) -> Mood:
    """The mood of one seed: in every third nobody orders anything."""
    orders = 0 if chance.random() < 0.33 else chance.randint(3, 24)
    return Mood(orders, chance.choice((0, 8)), chance.choice((0.0, 0.25)), chance.choice((0.0, 0.2)))


class People:
    """All of them. `approved` are the steps that somebody has said yes to, sagas and names."""

    def __init__(
        self,
        postgres: PostgresModel,
        library: Library,
        outside: Outside,
        chance: random.Random,
        trace: Trace,
        spawn: Spawn,
    ) -> None:
        self.approved: set[tuple[SagaId, str]] = set()
        self._mood = draw_mood(chance)
        self._postgres = postgres
        self._library = library
        self._outside = outside
        self._chance = chance
        self._trace = trace
        self._spawn = spawn
        self._tried: dict[tuple[SagaId, str], int] = {}

    def written(self, saga: Saga, event: Event) -> None:
        """A row of the step log: whoever is asked for an approval hears of it."""
        if event.status is Status.WAITING and saga.definition.step(event.position).work is Work.APPROVAL:
            self._spawn(self._answer(saga.id, saga.definition.step(event.position).name))

    async def _answer(self, saga_id: SagaId, step: str) -> None:
        chance = self._chance
        await asyncio.sleep(chance.uniform(0.02, 1.0) if chance.random() < 0.5 else chance.uniform(0.5, 6.0))
        if chance.random() < self._mood.silent:
            return
        verb = Verb.REJECT if chance.random() < self._mood.rejects else Verb.APPROVE
        await self._say(saga_id, verb, step)
        if chance.random() < 0.15:
            # The other one in the office answers as well.
            await self._say(saga_id, chance.choice((Verb.APPROVE, Verb.REJECT)), step)

    async def _say(self, saga_id: SagaId, verb: Verb, step: str = "") -> None:
        if verb is Verb.APPROVE:
            self.approved.add((saga_id, step))
        evidence = "a look at the participant" if verb in NEEDS_EVIDENCE else ""
        await self._outside.tell(saga_id, Signal(0, verb, step, order=Order("kim", "it has to be", evidence)))

    # Orders in the middle of a run.

    async def order(self, load_s: float) -> None:
        """Order this and that, for so many seconds."""
        chance = self._chance
        times = [(chance.uniform(1.0, load_s), True) for _ in range(self._mood.orders)]
        times += [(chance.uniform(1.0, load_s), False) for _ in range(self._mood.cancels)]
        past_s = 0.0
        for at_s, orders in sorted(times):
            await asyncio.sleep(at_s - past_s)
            past_s = at_s
            rows = list(self._postgres.log.rows.values())
            if rows and orders:
                self._order(rows)
            elif rows:
                live = [row for row in rows if not row.state.terminal] or rows
                self._spawn(self._outside.cancel(chance.choice(live).id))

    def _order(self, rows: list[Row]) -> None:
        chance = self._chance
        verb = chance.choices(list(_VERBS), list(_VERBS.values()))[0]
        sensible = [row for row in rows if _suits(row, verb)] if chance.random() < 0.85 else rows
        if not sensible:
            return
        row = chance.choice(sensible)
        step = self._step(row, verb)
        self._trace.note("ordered", row.id, verb, step)
        self._spawn(self._pause(row.id) if verb is Verb.PAUSE else self._say(row.id, verb, step))

    async def _pause(self, saga_id: SagaId) -> None:
        await self._say(saga_id, Verb.PAUSE)
        await asyncio.sleep(self._chance.uniform(0.1, 5.0))
        await self._say(saga_id, Verb.RESUME)

    def _step(self, row: Row, verb: Verb) -> str:
        """The step that an order names: mostly one that is under way, or that could not be undone."""
        saga = self._restored(row)
        if saga is None or verb in (Verb.PAUSE, Verb.RESUME) or (verb is Verb.RETRY and self._chance.random() < 0.5):
            return ""
        likely = [cursor.position for cursor in saga.open]
        if verb is Verb.RESOLVE:
            likely = [*saga.uncompensated, *saga.to_compensate]
        if not likely or self._chance.random() < 0.1:
            likely = list(range(1, len(saga.definition.steps) + 1))
        return saga.definition.step(self._chance.choice(likely)).name

    def _restored(self, row: Row) -> Saga | None:
        """The saga as an operator is shown it; None when its rows cannot be understood."""
        versions = self._library.versions(row.definition)
        if row.version not in versions or row.id in self._postgres.history.corrupt:
            return None
        try:
            return restored(stored_row(row), versions)
        except CorruptLog:
            return None

    # When the faults are over.

    async def clear_up(self) -> None:
        """See to whatever needs a person, until cancelled."""
        while True:
            for row in list(self._postgres.log.rows.values()):
                if row.state.terminal:
                    continue
                if (saga := self._restored(row)) is not None:
                    await self._see_to(saga)
                else:
                    # While it sleeps nobody finds out that its rows cannot be understood.
                    await self._say(row.id, Verb.RETRY)
            await asyncio.sleep(_ROUND_S)

    async def _see_to(self, saga: Saga) -> None:
        if saga.paused:
            await self._say(saga.id, Verb.RESUME)
        now = self._postgres.log.now()
        for cursor in saga.open:
            step = saga.definition.step(cursor.position)
            # What a pause holds is let go by the leader, or never.
            if cursor.phase is Phase.BACKOFF and cursor.retry_at is not None and not cursor.paused:
                if (cursor.retry_at - now).total_seconds() > _PATIENCE_S or step.child is not None:
                    await self._say(saga.id, self._again(saga, step, cursor.kind), step.name)
            elif cursor.phase is Phase.WAITING and step.work is Work.APPROVAL:
                await self._say(saga.id, Verb.APPROVE, step.name)
            elif cursor.phase is Phase.WAITING and step.work is Work.CHILD:
                await self._see_to_child(saga, step.name, cursor.kind)

    async def _see_to_child(self, parent: Saga, step: str, kind: Kind) -> None:
        child = self._postgres.log.child(parent.id, step)
        if child is None or child.state is not SagaState.FAILED:
            return
        saga = self._restored(child)
        if saga is not None and saga.uncompensated:
            # That was tried for long enough.
            for position in saga.uncompensated:
                await self._say(child.id, Verb.RESOLVE, saga.definition.step(position).name)
            return
        if self._tries((child.id, "")) <= _RETRIES:
            await self._say(child.id, Verb.RETRY)
        else:
            await self._say(parent.id, Verb.FORCE if kind is Kind.ACTION else Verb.RESOLVE, step)

    def _again(self, saga: Saga, step: Step, kind: Kind) -> Verb:
        """Try it at once; a child that will not be undone is asked twice, and then left as it is."""
        stuck = kind is Kind.COMPENSATION and step.child is not None
        return Verb.RESOLVE if stuck and self._tries((saga.id, step.name)) > _RETRIES else Verb.RETRY

    def _tries(self, what: tuple[SagaId, str]) -> int:
        self._tried[what] = self._tried.get(what, 0) + 1
        return self._tried[what]


def _suits(row: Row, verb: Verb) -> bool:
    match verb:
        case Verb.RESUME | Verb.PAUSE | Verb.APPROVE:
            return not row.state.terminal
        case Verb.RESOLVE:
            return row.state in (SagaState.FAILED, SagaState.COMPENSATING)
        case _:
            return row.state is SagaState.FAILED or (bool(row.events) and not row.state.terminal)
