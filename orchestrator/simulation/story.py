"""What happened to one saga of a run, as whoever judges it sees it: its rows with their times, and the ledgers.

It is made of the log and the ledgers alone, and asks nothing of the core that wrote them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestrator.saga.definition import Definition, Step
from orchestrator.saga.events import Status
from orchestrator.saga.model import Kind, SagaId
from orchestrator.sagalog.memory_rows import MIDNIGHT, Row
from orchestrator.simulation.editions import Library
from orchestrator.simulation.postgres import Logged
from orchestrator.simulation.services import Call
from orchestrator.simulation.stage import Stage

ACTING = frozenset({Status.EXECUTING, Status.QUERYING})
BY_HAND = frozenset({Status.SKIPPED, Status.FORCED, Status.RESOLVED})


@dataclass(frozen=True, slots=True)
class Story:
    """One saga. `effects` are the times of its ledger entries by step and direction, `called` the calls that arrived.

    `definition` is the version by which it goes in the end; a saga that was moved went by others before. `in_force` has
    for each row, by its sequence, the version under which it was written. `calm_s` is from when on the world is healed
    and led, None if it never was.
    """

    row: Row
    definition: Definition
    in_force: Mapping[int, Definition]
    rows: tuple[Logged, ...]
    effects: dict[tuple[str, Kind], float]
    called: dict[tuple[str, Kind], list[Call]]
    cancelled_at_s: float | None
    calm_s: float | None

    def of(self, position: int) -> Iterator[Logged]:
        """The rows of a step."""
        return (row for row in self.rows if row.event.position == position)

    def steps(self) -> Iterator[tuple[int, Step]]:
        """Every step with its position."""
        return enumerate(self.definition.steps, start=1)

    def under(self, row: Logged) -> Definition:
        """The version of the definition under which a row was written."""
        return self.in_force[row.event.sequence]

    def step(self, row: Logged) -> Step:
        """The step of a row, as it was when the row was written."""
        return self.under(row).step(row.event.position)

    def has(self, position: int, *statuses: Status) -> bool:
        """Whether a step has a row that says one of these."""
        return any(row.event.status in statuses for row in self.of(position))

    def by_hand(self, position: int) -> bool:
        """Whether a person has taken the place of the step's participant."""
        return any(row.event.status in BY_HAND and row.event.order is not None for row in self.of(position))

    @property
    def after_pivot(self) -> frozenset[int]:
        """The pivot and all that comes behind it."""
        return after_pivot(self.definition)

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
    called: dict[SagaId, dict[tuple[str, Kind], list[Call]]] = field(default_factory=lambda: defaultdict(dict))


def stories(stage: Stage, calm_after_s: float) -> Iterator[Story]:
    """The stories of all sagas that can be understood, in the order of their ids."""
    ledgers = _Ledgers()
    for service in stage.services.values():
        for effect in service.shop.effects:
            ledgers.effects[effect.saga_id][effect.step, effect.kind] = effect.at_s
        for (saga_id, step, kind), calls in service.called.items():
            ledgers.called[saga_id].setdefault((step, kind), []).extend(calls)
    history = stage.postgres.history
    logged: dict[SagaId, list[Logged]] = defaultdict(list)
    for one in history.rows:
        logged[one.saga_id].append(one)
    for identity, row in sorted(stage.postgres.log.rows.items()):
        definition = stage.library.get(row.definition, row.version)
        if definition is None:
            continue
        rows = tuple(sorted(logged[identity], key=lambda one: one.event.sequence))
        yield Story(
            row,
            definition,
            in_force(row, stage.library),
            rows,
            ledgers.effects[identity],
            ledgers.called[identity],
            history.cancelled_at_s.get(identity),
            None if stage.healed_at_s is None else stage.healed_at_s + calm_after_s,
        )


def after_pivot(definition: Definition) -> frozenset[int]:
    """The pivot and all that comes behind it."""
    pivot = definition.pivot
    return frozenset({pivot}) | definition.descendants[pivot - 1] if pivot else frozenset()


def in_force(row: Row, library: Library) -> dict[int, Definition]:
    """For each row of a saga's log, by its sequence, the version under which it was written.

    That of a move is the one that it leaves. Of a version that is not there nothing is said.
    """
    moves = [event.result or {} for event in row.events if event.status is Status.MOVED]
    version = moves[0].get("from", 0) if moves else row.version
    found: dict[int, Definition] = {}
    for event in row.events:
        definition = library.get(row.definition, version)
        if definition is not None:
            found[event.sequence] = definition
        if event.status is Status.MOVED:
            version = (event.result or {}).get("to", 0)
    return found


def seconds(at: datetime) -> float:
    """A time of day as the loop's time."""
    return (at - MIDNIGHT) / timedelta(seconds=1)
