"""The people who apply second versions of definitions, and move sagas to them and back, in the middle of the faults.

They order a move at any time, or when it hurts the most: in the moment in which a saga writes a row, so that it is
heeded while a call is under way; at a raise of the epoch; just before the leader is killed. Mostly they order what
may be possible, and now and then what must be refused: a version that is not there, or the one that the saga goes by.

What they do is drawn apart from the faults, so that a seed has the same faults with them and without them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.saga.events import Event, Order, Status
from orchestrator.saga.model import Saga, SagaId, SagaState
from orchestrator.saga.signals import Signal, Verb
from orchestrator.sagalog.memory_rows import Row

if TYPE_CHECKING:
    from orchestrator.simulation.stage import Stage

MOVER = "mia"
_NOT_THERE = 7
# Rows behind which a step is under way in one direction or the other, waits for somebody, or is to be tried again.
_LURKED_FOR = (
    frozenset({Status.EXECUTING}),
    frozenset({Status.EXECUTING, Status.WAITING}),
    frozenset({Status.RETRYING, Status.REFUSED}),
    frozenset({Status.HELD, Status.COMPENSATION_HELD}),
    frozenset({Status.COMPENSATING}),
    frozenset({Status.COMPENSATION_RETRYING}),
)
_APPLIED_AGAIN_S = 0.5


class Movers:
    """All of them. Nobody moves anything where no second version was drawn."""

    def __init__(self, stage: Stage, chance: random.Random) -> None:
        self._stage = stage
        self._chance = chance
        self._orders = 0
        # For which rows orders wait, and whether the leader dies of it.
        self._lurking: list[tuple[frozenset[Status], bool]] = []

    def plan(self, within_s: float) -> None:
        """Arrange what is applied in this run, what is moved, and when."""
        stage, chance = self._stage, self._chance
        for name in stage.library.editions:
            stage.after(chance.uniform(0.0, 0.4 * within_s), lambda name=name: self._apply(name))  # type: ignore[misc]
        if not stage.library.editions:
            return
        for _ in range(chance.randint(6, 32)):
            moment = chance.choices(list(_MOMENTS), list(_MOMENTS.values()))[0]
            stage.after(chance.uniform(1.0, within_s), lambda moment=moment: moment(self))  # type: ignore[misc]

    def written(self, saga: Saga, event: Event) -> None:
        """A row of the step log: whoever lurks orders that this saga be moved."""
        lurking = next((one for one in self._lurking if event.status in one[0]), None)
        if lurking is not None and self._others(self._row(saga.id)):
            self._lurking.remove(lurking)
            self._move(self._row(saga.id))
            if lurking[1]:
                self._kill_leader(0.1)

    def _apply(self, name: str) -> None:
        if not self._stage.postgres.server.up:
            self._stage.after(_APPLIED_AGAIN_S, lambda: self._apply(name))
            return
        self._stage.library.apply(name)
        self._stage.trace.note("applied", name, "version 2")
        self._stage.trace.count("second versions")

    # Moments.

    def _any(self) -> None:
        row = self._choose()
        if row is not None:
            self._move(row)

    def _parked(self) -> None:
        rows = [row for row in self._stage.postgres.log.rows.values() if row.state is SagaState.FAILED]
        if rows:
            self._move(self._chance.choice(rows))

    def _all(self) -> None:
        """As `baton saga move` for all sagas of a definition that have not ended, to its newest version."""
        name = self._chance.choice(self._stage.library.editions)
        newest = max(self._stage.library.versions(name))
        for row in list(self._stage.postgres.log.rows.values()):
            if row.definition == name and not row.state.terminal and row.version != newest:
                self._order(row, newest)

    def _at_a_raise(self) -> None:
        self._stage.at_next_raise(lambda: self._stage.after(0.1 * self._chance.random(), self._any))

    def _as_the_leader_dies(self) -> None:
        row = self._choose()
        if row is not None:
            self._move(row)
            self._kill_leader(0.05 if self._chance.random() < 0.7 else 1.0)

    def _at_a_row(self) -> None:
        self._lurking.append((self._chance.choice(_LURKED_FOR), self._chance.random() < 0.3))

    def _twice(self) -> None:
        """There, and soon back again."""
        row = self._choose()
        if row is not None:
            self._move(row)
            self._stage.after(0.5 * self._chance.random(), lambda: self._move(row))

    # Orders.

    def _choose(self) -> Row | None:
        rows = list(self._stage.postgres.log.rows.values())
        sensible = [row for row in rows if self._may_move(row)] if self._chance.random() < 0.9 else rows
        return self._chance.choice(sensible) if sensible else None

    def _may_move(self, row: Row) -> bool:
        ended = row.state in (SagaState.COMPLETED, SagaState.COMPENSATED)
        return not ended and bool(self._others(row))

    def _others(self, row: Row) -> list[int]:
        return [version for version in self._stage.library.versions(row.definition) if version != row.version]

    def _row(self, saga_id: SagaId) -> Row:
        return self._stage.postgres.log.rows[saga_id]

    def _move(self, row: Row) -> None:
        """Order it, mostly to a version that there is; a parked saga is retried behind it."""
        others = self._others(row)
        wrong = not others or self._chance.random() < 0.08
        to = self._chance.choice((_NOT_THERE, row.version)) if wrong else self._chance.choice(others)
        self._order(row, to)

    def _order(self, row: Row, to: int) -> None:
        self._orders += 1
        why = f"order {self._orders}: version {to} is better"
        move = Signal(0, Verb.MOVE, result={"definition": row.definition, "to": to}, order=Order(MOVER, why))
        self._stage.trace.note("move_ordered", row.id, f"{row.version}>{to}")
        self._stage.play(
            self._tell(row.id, move, retried=row.state is SagaState.FAILED and self._chance.random() < 0.7)
        )

    async def _tell(self, saga_id: SagaId, move: Signal, *, retried: bool) -> None:
        await self._stage.outside.tell(saga_id, move)
        if retried:
            again = Signal(0, Verb.RETRY, order=Order(MOVER, f"behind {move.order.reason if move.order else 'it'}"))
            await self._stage.outside.tell(saga_id, again)

    def _kill_leader(self, within_s: float) -> None:
        stage, chance = self._stage, self._chance

        def kill() -> None:
            if leader := stage.leader():
                stage.causes += 1
                stage.trace.count("leaders killed at a move")
                stage.kill(leader, restart_after_s=2 * chance.random())

        stage.after(within_s * chance.random(), kill)


_MOMENTS: dict[Callable[[Movers], None], float] = {
    Movers._any: 4,
    Movers._parked: 1,
    Movers._at_a_row: 10,
    Movers._at_a_raise: 2,
    Movers._as_the_leader_dies: 1,
    Movers._twice: 1,
    Movers._all: 0.5,
}
