"""The real pure core, as the search uses it: sagas and decisions are interned to small numbers, answers remembered.

`machine.py` decides everything here; this module adds a table in front of it. Two sagas get one number when the core
cannot tell them apart. The fields that are left out of the comparison are those that the core writes and never reads
for a decision: the sequence (it is only counted on), the attempt's number, the reason of a failure, the results and
the reason of a cancellation. test_reductions.py walks the core at random to show that they make no difference.

Pure, but for the tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import NewType
from uuid import UUID

from orchestrator.errors import CorruptLog
from orchestrator.saga.commands import Command, Outcome, Ready, Refused, Succeeded, Unknown
from orchestrator.saga.definition import Definition
from orchestrator.saga.events import Event, Status
from orchestrator.saga.machine import Moment, decide, fold, next_command
from orchestrator.saga.model import Epoch, Saga, SagaId, SagaState
from orchestrator.saga.parse import parse
from tests.search.world import Answer

# The number of a saga, and of a decision, in the tables of a Core.
Shape = NewType("Shape", int)
Plan = NewType("Plan", int)

NOBODY = Shape(-1)
NOTHING = Plan(-1)

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_REASON = "somebody asked for it"

OUTCOMES: dict[Answer, Outcome] = {
    Answer.READY: Ready(),
    Answer.OK: Succeeded({}),
    Answer.NO: Refused("FAILED_PRECONDITION", "the participant says no"),
    Answer.UNKNOWN: Unknown("UNAVAILABLE", "nobody answered"),
}


@dataclass(frozen=True, slots=True)
class Decided:
    """What `decide` gave: the rows to write, counted from 1, and the saga after them."""

    rows: tuple[Event, ...]
    after: Shape


class Core:
    """The core for one definition of `steps` steps, each with a compensation and `retries` retries."""

    def __init__(self, steps: int, retries: int) -> None:
        self.definition = _definition(steps, retries)
        # By number: the sagas, and their states once more, because these are asked for at every step of a search.
        self._sagas: list[Saga] = []
        self.states: list[SagaState] = []
        self.terminal: list[bool] = []
        self._shapes: dict[object, Shape] = {}
        self._plans: list[Decided] = []
        self._plan_numbers: dict[object, Plan] = {}
        self._decisions: dict[tuple[Shape, Answer, int, bool], Plan] = {}
        self._commands: dict[tuple[Shape, int], Command | None] = {}
        self._appended: dict[tuple[Shape, Plan, int], Shape | None] = {}
        self.pending = self.shape(Saga(SagaId(UUID(int=1)), self.definition, {}, {}, _NOW))

    def shape(self, saga: Saga) -> Shape:
        """The number of `saga`, and of every saga that the core treats alike."""
        saga = normal(saga)
        key = saga_key(saga)
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(len(self._sagas))
            self._sagas.append(saga)
            self.states.append(saga.state)
            self.terminal.append(saga.state.terminal)
        return shape

    def saga(self, shape: Shape) -> Saga:
        """The saga of this number."""
        return self._sagas[shape]

    def decided(self, plan: Plan) -> Decided:
        """The decision of this number."""
        return self._plans[plan]

    def statuses(self) -> set[Status]:
        """What the rows say that anything was decided to write."""
        return {row.status for decided in self._plans for row in decided.rows}

    def next_command(self, shape: Shape, epoch: int) -> Command | None:
        """What the saga asks for under `epoch`: the real `next_command`."""
        key = (shape, epoch)
        if key not in self._commands:
            self._commands[key] = next_command(self._sagas[shape], Epoch(epoch))
        return self._commands[key]

    def decide(self, shape: Shape, answer: Answer, epoch: int, cancelled: bool) -> Plan:
        """What follows from `answer`: the real `decide`."""
        key = (shape, answer, epoch, cancelled)
        plan = self._decisions.get(key)
        if plan is None:
            reason = _REASON if cancelled else None
            moment = Moment(Epoch(epoch), _NOW, 0.0)
            after, rows = decide(self._sagas[shape], OUTCOMES[answer], moment, reason)
            plan = self._decisions[key] = self._intern(Decided(rows, self.shape(after)))
        return plan

    def append(self, log: Shape, plan: Plan, skipped: int) -> Shape | None:
        """The fold of the log behind the rows of `plan`, without the first `skipped`; None if it cannot be folded."""
        key = (log, plan, skipped)
        if key not in self._appended:
            rows = self._plans[plan].rows[skipped:]
            counted = (replace(row, sequence=number) for number, row in enumerate(rows, start=1))
            try:
                self._appended[key] = self.shape(fold(self._sagas[log], counted))
            except CorruptLog:
                self._appended[key] = None
        return self._appended[key]

    def _intern(self, decided: Decided) -> Plan:
        rows = tuple((row.status, row.epoch, row.position) for row in decided.rows)
        key = (rows, decided.after)
        plan = self._plan_numbers.get(key)
        if plan is None:
            plan = self._plan_numbers[key] = Plan(len(self._plans))
            self._plans.append(decided)
        return plan


# Every field of a saga stands in one of these: compared, only written and so cleared, or the same in a whole search.
COMPARED = (
    "state",
    "open",
    "executed",
    "skipped",
    "to_compensate",
    "compensated",
    "uncompensated",
    "paused",
    "parked_from",
)
# Who was ever reached decides about moves alone, and nobody moves a saga here.
CLEARED: dict[str, object] = {"sequence": 0, "results": (), "failure": None, "cancel_reason": None, "undo_reached": ()}
CONSTANT = ("id", "definition", "input", "labels", "created_at", "starts_at")

_compared = attrgetter(*COMPARED)


def normal(saga: Saga) -> Saga:
    """The saga without what the core only writes."""
    cursors = tuple(replace(cursor, attempt=1, reached=False) for cursor in saga.open)
    return replace(saga, open=cursors, **CLEARED)  # type: ignore[arg-type]


def saga_key(saga: Saga) -> object:
    """What makes two normal sagas of one search equal."""
    return _compared(saga)


def _definition(steps: int, retries: int) -> Definition:
    # The delay does not grow, so that a saga that waits is the same saga whenever it waits.
    retry = f"{{retries: {retries}, initial: 1s, multiplier: 1, jitter: 0}}"
    lines = ["name: searched", "steps:"]
    for number in range(1, steps + 1):
        lines.append(
            f"  - {{name: step{number}, service: 'participant:1', action: {{method: t.S/Do}}, retry: {retry}, "
            f"compensation: {{method: t.S/Undo, retry: {retry}}}}}"
        )
    return parse("\n".join(lines), 1)
