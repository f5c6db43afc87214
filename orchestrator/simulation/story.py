"""What happened to one saga of a run, as whoever judges it sees it: its rows with their times, and the ledgers.

It is made of the log and the ledgers alone, and asks nothing of the core that wrote them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestrator.saga.definition import Definition, Step
from orchestrator.saga.events import Status
from orchestrator.saga.model import Kind, SagaId
from orchestrator.sagalog.memory_rows import MIDNIGHT, Row
from orchestrator.simulation.postgres import Logged
from orchestrator.simulation.stage import Stage

ACTING = frozenset({Status.EXECUTING, Status.QUERYING})
BY_HAND = frozenset({Status.SKIPPED, Status.FORCED, Status.RESOLVED})


@dataclass(frozen=True, slots=True)
class Story:
    """One saga. `effects` are the times of its ledger entries by step and direction, `called` the calls that arrived.

    `calm_s` is from when on the world is healed and led, None if it never was.
    """

    row: Row
    definition: Definition
    rows: tuple[Logged, ...]
    effects: dict[tuple[str, Kind], float]
    called: frozenset[tuple[str, Kind]]
    cancelled_at_s: float | None
    calm_s: float | None

    def of(self, position: int) -> Iterator[Logged]:
        """The rows of a step."""
        return (row for row in self.rows if row.event.position == position)

    def steps(self) -> Iterator[tuple[int, Step]]:
        """Every step with its position."""
        return enumerate(self.definition.steps, start=1)

    def has(self, position: int, *statuses: Status) -> bool:
        """Whether a step has a row that says one of these."""
        return any(row.event.status in statuses for row in self.of(position))

    def by_hand(self, position: int) -> bool:
        """Whether a person has taken the place of the step's participant."""
        return any(row.event.status in BY_HAND and row.event.order is not None for row in self.of(position))

    @property
    def after_pivot(self) -> frozenset[int]:
        """The pivot and all that comes behind it."""
        pivot = self.definition.pivot
        return frozenset({pivot}) | self.definition.descendants[pivot - 1] if pivot else frozenset()

    @property
    def sealed_at_s(self) -> float | None:
        """When the pivot was done or passed over, if ever."""
        done = (Status.COMPLETED, Status.SKIPPED, Status.FORCED)
        return next((row.at_s for row in self.of(self.definition.pivot) if row.event.status in done), None)

    def before(self, row: Logged) -> float:
        """The latest time at which the saga is known to have been written before this row was: no decision is older."""
        earlier = [other.at_s for other in self.rows if other.at_s < row.at_s]
        created_s = (self.row.created_at - MIDNIGHT).total_seconds()
        return max(earlier, default=created_s)


@dataclass(slots=True)
class _Ledgers:
    effects: dict[SagaId, dict[tuple[str, Kind], float]] = field(default_factory=lambda: defaultdict(dict))
    called: dict[SagaId, set[tuple[str, Kind]]] = field(default_factory=lambda: defaultdict(set))


def stories(stage: Stage, calm_after_s: float) -> Iterator[Story]:
    """The stories of all sagas that can be understood, in the order of their ids."""
    ledgers = _Ledgers()
    for service in stage.services.values():
        for effect in service.shop.effects:
            ledgers.effects[effect.saga_id][effect.step, effect.kind] = effect.at_s
        for saga_id, step, kind in service.called:
            ledgers.called[saga_id].add((step, kind))
    history = stage.postgres.history
    logged: dict[SagaId, list[Logged]] = defaultdict(list)
    for one in history.rows:
        logged[one.saga_id].append(one)
    for identity, row in sorted(stage.postgres.log.rows.items()):
        definition = stage.definitions[row.definition]
        if row.version != definition.version:
            continue
        yield Story(
            row,
            definition,
            tuple(sorted(logged[identity], key=lambda one: one.event.sequence)),
            ledgers.effects[identity],
            frozenset(ledgers.called[identity]),
            history.cancelled_at_s.get(identity),
            None if stage.healed_at_s is None else stage.healed_at_s + calm_after_s,
        )


def seconds(at: datetime) -> float:
    """A time of day as the loop's time."""
    return (at - MIDNIGHT) / timedelta(seconds=1)
