"""The real pure core for one saga of a feature: `decide`, `heed`, `next_commands` and `wake_at`, with a table in front.

As in tests/search/core.py, sagas that the core cannot tell apart get one number. Time comes in ages: at age n it is n
times `AGE_S` seconds after the beginning. When a backoff is over is left open, so that it may be over at any moment.

Pure, but for the tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import NewType
from uuid import UUID

from orchestrator.errors import CorruptLog, InvariantError
from orchestrator.saga import machine, progress, signals
from orchestrator.saga.commands import Accepted, Command, Held, Outcome, Ready, Refused, Succeeded, Unknown
from orchestrator.saga.definition import Definition, Method
from orchestrator.saga.events import NOT_TO_BE_MADE, PAUSED, Event, Status
from orchestrator.saga.machine import Moment
from orchestrator.saga.mapping import PointsNowhere
from orchestrator.saga.model import Cursor, Epoch, Json, Kind, Phase, Saga, SagaId, SagaState, outlasted
from orchestrator.saga.moving import Destination
from orchestrator.saga.pausing import HOLD_S
from orchestrator.saga.signals import Signal
from orchestrator.sagalog.port import StoredSaga
from orchestrator.sagalog.restoring import restored
from tests.search.core import CLEARED, COMPARED
from tests.search.features.world import UNMADE

Shape = NewType("Shape", int)
Plan = NewType("Plan", int)

_compared = attrgetter(*COMPARED)

AGE_S = 100
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
_REASON = "somebody asked for it"
# Nobody waits for the end of a pause so long.
_NEVER = 1000

OUTCOMES: dict[str, Outcome] = {
    "ready": Ready(),
    "ok": Succeeded({}),
    "ok, more is true": Succeeded({"more": True}),
    "ok, more is a word": Succeeded({"more": "x"}),
    "no": Refused("FAILED_PRECONDITION", "the participant says no"),
    "not found": Refused("NOT_FOUND", "it was never seen, and no attempt so far will do it"),
    "nobody knows": Unknown("DEADLINE_EXCEEDED", "nobody answered"),
    "not called": Held("NOT_CALLED", "the breaker is open", 2.0, called=False),
    "cut off": Held("UNAVAILABLE", "the connection was lost", 2.0, called=True),
    "accepted": Accepted(),
    "paused": Held(PAUSED, "it is paused", HOLD_S, called=False),
    "not to be made": Refused(NOT_TO_BE_MADE, "what it is made of is not there"),
}


def time_of(age: int) -> datetime:
    """The time at an age."""
    return BEGINNING + timedelta(seconds=AGE_S * age)


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided: the rows to write, the saga after them, and the signal that was heeded with them.

    `defect` is what production's own checks said instead.
    """

    rows: tuple[Event, ...]
    before: Shape
    after: Shape
    age: int
    heard: int = -1
    refusal: str = ""
    defect: str = ""


class Core:
    """The core for one saga. `attempts`, `results`: whether these make a difference to what is decided."""

    def __init__(
        self,
        number: int,
        definition: Definition,
        *,
        attempts: bool,
        results: bool,
        start_age: int,
        versions: tuple[Definition, ...] = (),
    ) -> None:
        self.definition = definition
        self.versions = {version.version: version for version in (definition, *versions)} if versions else {}
        self._histories: dict[int, tuple[Event, ...]] = {}
        self._requests: dict[object, int] = {}
        self._made: dict[tuple[int, int, Kind], int] = {}
        self._attempts = attempts
        self._results = results
        self._sagas: list[Saga] = []
        self.states: list[SagaState] = []
        self.ended: list[bool] = []
        self._shapes: dict[object, Shape] = {}
        self._plans: list[Decided] = []
        self._plan_numbers: dict[object, Plan] = {}
        self._decisions: dict[object, Plan | None] = {}
        self._commands: dict[tuple[int, int], tuple[Command, ...]] = {}
        starts_at = time_of(start_age) if start_age else None
        given: Json = {"at": time_of(3).isoformat()}
        saga = Saga(SagaId(UUID(int=number + 1)), definition, given, {}, BEGINNING, starts_at=starts_at)
        self.pending = self.shape(saga)
        self._histories[self.pending] = ()

    def shape(self, saga: Saga) -> Shape:
        """The number of `saga`, and of every saga that the core treats alike."""
        saga = self._normal(saga)
        key = (_key(saga, self._results), saga.definition.version, saga.undo_reached)
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(len(self._sagas))
            self._sagas.append(saga)
            self.states.append(saga.state)
            self.ended.append(saga.state.terminal)
        return shape

    def saga(self, shape: int) -> Saga:
        """The saga of this number."""
        return self._sagas[shape]

    def decided(self, plan: int) -> Decided:
        """The decision of this number."""
        return self._plans[plan]

    @property
    def statuses(self) -> set[Status]:
        """What the rows say that anything was decided to write."""
        return {row.status for decided in self._plans for row in decided.rows}

    def commands(self, shape: int, epoch: int) -> tuple[Command, ...]:
        """What the saga asks for under `epoch`: the real `next_commands`."""
        key = (shape, epoch)
        if key not in self._commands:
            self._commands[key] = machine.next_commands(self._sagas[shape], Epoch(epoch))
        return self._commands[key]

    def wake_at(self, shape: int) -> datetime | None:
        """When a look at the log finds the saga: the real `wake_at`, as the row has it."""
        return progress.wake_at(self._sagas[shape])

    def awaits(self, shape: int, age: int) -> bool:
        """Whether something of the saga has a time that is still to come."""
        saga, now = self._sagas[shape], time_of(age)
        times = [saga.starts_at, saga.deadline if progress.turnable(saga) else None]
        times += [cursor.limit_at for cursor in saga.open]
        times += [cursor.retry_at for cursor in saga.open if not cursor.paused]
        return any(at is not None and at > now for at in times)

    def decide(self, shape: int, outcome: str, position: int, epoch: int, age: int, cancelled: bool) -> Plan | None:
        """What follows from an outcome: the real `decide`; None when nothing does."""
        key = (shape, outcome, position, epoch, age, cancelled)
        if key not in self._decisions:
            reason = _REASON if cancelled else None
            moment = Moment(Epoch(epoch), time_of(age), 0.0)
            try:
                after, rows = machine.decide(self._sagas[shape], OUTCOMES[outcome], moment, reason, position)
            except (CorruptLog, InvariantError) as error:
                plan = self._intern(Decided((), Shape(shape), Shape(shape), age, defect=str(error)))
            else:
                plan = self._decide(Shape(shape), rows, after, age) if rows else None
            self._decisions[key] = plan
        return self._decisions[key]

    def heed(self, shape: int, signal: Signal, number: int, epoch: int, age: int, cancelled: bool) -> Plan | None:
        """What follows from a signal: the real `heed`; None while it has to wait."""
        key = (shape, number, epoch, age, cancelled)
        if key not in self._decisions:
            moment = Moment(Epoch(epoch), time_of(age), 0.0)
            saga = self._sagas[shape]
            if signal.verb is signals.Verb.MOVE:
                to = self.versions[signal.version[1]]
                signal = replace(signal, destination=Destination(to, from_version=saga.definition.version))
            try:
                heeded = signals.heed(saga, signal, moment, _REASON if cancelled else None)
            except (CorruptLog, InvariantError) as error:
                plan = self._intern(Decided((), Shape(shape), Shape(shape), age, number, defect=str(error)))
            else:
                plan = None
                if heeded is not None:
                    plan = self._decide(Shape(shape), heeded.events, heeded.saga, age, number, heeded.refusal)
            self._decisions[key] = plan
        return self._decisions[key]

    def _decide(
        self, before: Shape, rows: tuple[Event, ...], after: Saga, age: int, heard: int = -1, refusal: str = ""
    ) -> Plan:
        """A decision as a plan, and what a new leader would make of its rows: the real `fold`."""
        decided = Decided(rows, before, self.shape(after), age, heard, refusal)
        try:
            folded = self.shape(machine.fold(self._sagas[before], rows, self.versions))
            if self.versions and folded == decided.after:
                folded = self._restored(before, rows, after)
        except CorruptLog as error:
            return self._intern(replace(decided, defect=f"the log cannot be folded: {error}"))
        if folded != decided.after:
            decided = replace(decided, defect="the saga's row and its log disagree")
        if any(row.status is Status.PARKED for row in rows) and after.failure is None:
            decided = replace(decided, defect="a saga is parked without a reason")
        return self._intern(decided)

    def _restored(self, before: Shape, rows: tuple[Event, ...], after: Saga) -> Shape:
        """What a new leader makes of the row and the whole log: the real `restored`. Raises CorruptLog."""
        counted = (*self._histories[before], *rows)
        history = tuple(replace(row, sequence=number) for number, row in enumerate(counted, start=1))
        version = after.definition.version
        stored = StoredSaga(after.id, "searched", version, after.input, {}, BEGINNING, None, history, len(history))
        shape = self.shape(restored(stored, self.versions))
        self._histories.setdefault(shape, history)
        return shape

    def made(self, shape: int, position: int, kind: Kind) -> int:
        """The number of the request that the saga's step makes; 0 where there is one version, and all are alike.

        That of an action goes with that of its compensation: what was done is undone as was said then.
        """
        if not self.versions:
            return 0
        key = (shape, position, kind)
        if key not in self._made:
            saga = self._sagas[shape]
            step = saga.definition.step(position)
            undo = _request(saga, step.service, step.compensation.method if step.compensation else None)
            request = undo if kind is Kind.COMPENSATION else (_request(saga, step.service, step.action), undo)
            unmade = request is None or (kind is Kind.ACTION and request[0] is None)
            number = self._requests.setdefault(repr(request), len(self._requests) + 1)
            self._made[key] = UNMADE if unmade else number
        return self._made[key]

    def _intern(self, decided: Decided) -> Plan:
        rows = tuple((row.status, row.epoch, row.position, row.retry_at) for row in decided.rows)
        key = (rows, decided.before, decided.after, decided.age, decided.heard, decided.refusal, decided.defect)
        plan = self._plan_numbers.get(key)
        if plan is None:
            plan = self._plan_numbers[key] = Plan(len(self._plans))
            self._plans.append(decided)
        return plan

    def _normal(self, saga: Saga) -> Saga:
        """The saga without what the core only writes, and without what is left open here."""
        cursors = tuple(
            replace(
                cursor,
                attempt=cursor.attempt if self._attempts else 1,
                retry_at=_any_time(cursor) if cursor.phase is Phase.BACKOFF else cursor.retry_at,
            )
            for cursor in saga.open
        )
        cleared = CLEARED | ({"results": saga.results} if self._results else {})
        cleared |= {"undo_reached": saga.undo_reached} if self.versions else {}
        return replace(saga, open=cursors, **cleared)  # type: ignore[arg-type]


def _any_time(cursor: Cursor) -> datetime:
    """A backoff may be over at any moment, but for an outage that outlasts the time for all attempts, and a pause."""
    if cursor.paused:
        return time_of(_NEVER)
    if cursor.limit_at is not None and outlasted(cursor):
        return cursor.limit_at + timedelta(seconds=1)
    return BEGINNING


def _request(saga: Saga, service: str, method: Method | None) -> object:
    """What is called with what; None when it cannot be made, or nothing is called."""
    if method is None:
        return None
    try:
        return service, method.path, method.request.evaluate(progress.context(saga))
    except PointsNowhere:
        return None


def _key(saga: Saga, results: bool) -> object:
    return _compared(saga), repr(saga.results) if results else ""
