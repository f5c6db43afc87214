"""The core, wrong in one rule: each of these breaks a promise of the saga language, and the simulation must find it.

The rules themselves have no switches: for the time of a run, a function of the core is replaced by a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from orchestrator.saga import acting, evolve, moving, signals, undoing, whole
from orchestrator.saga.definition import Definition, Step, Work
from orchestrator.saga.events import Event, Order, Status
from orchestrator.saga.model import Cursor, Phase, Saga, SagaState
from orchestrator.saga.moving import Destination, Obstacle
from orchestrator.saga.script import Script
from orchestrator.sagalog import restoring
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.port import NewChild, StoredSaga

Core = Callable[[], AbstractContextManager[None]]


def _instead(*changes: tuple[Any, str, Any]) -> Core:
    """For a while, these attributes are others."""

    @contextmanager
    def changed() -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, other in changes:
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, other)
            yield

    return changed


def _oldest(saga: Saga) -> tuple[int, ...]:
    if saga.state is not SagaState.COMPENSATING or saga.open:
        return ()
    return saga.to_compensate[:1]


def _all_at_once(saga: Saga) -> tuple[int, ...]:
    begun = {cursor.position for cursor in saga.open}
    if saga.state is not SagaState.COMPENSATING:
        return ()
    return tuple(position for position in saga.to_compensate if position not in begun)


def _at_once(script: Script, cursor: Cursor) -> bool:
    return cursor.phase is Phase.BACKOFF or cursor.intent_epoch != script.moment.epoch


# What the wrong ones are made of.
_intend_again = acting._intend_again
_next_attempt_at = Script.next_attempt_at
_not_done = evolve._not_done
_undo_child = MemorySagaLog.undo_child
_waits_until = acting._waits_until
_waited = acting.waited
_move = Script.move
_obstacles = moving.obstacles
_deadline = Saga.deadline.fget  # type: ignore[attr-defined]


def _with_a_new_limit(script: Script, cursor: Cursor) -> None:
    _intend_again(script, replace(cursor, limit_at=None))


def _with_a_new_budget(script: Script, cursor: Cursor, policy: Any) -> Any:
    return _next_attempt_at(script, replace(cursor, failures=0), policy)


def _surely_not_done(saga: Saga, event: Event, *, perhaps: bool) -> Saga:
    return _not_done(saga, event, perhaps=False)


def _half_the_time(saga: Saga) -> Any:
    deadline = _deadline(saga)
    began = saga.starts_at or saga.created_at
    return None if deadline is None else began + (deadline - began) / 2


def _whenever(saga: Saga) -> tuple[int, ...]:
    if saga.state not in (SagaState.PENDING, SagaState.RUNNING):
        return ()
    begun = {*saga.executed, *saga.skipped, *(cursor.position for cursor in saga.open)}
    return tuple(number for number, _ in enumerate(saga.definition.steps, start=1) if number not in begun)


def _may_whenever(saga: Saga, position: int) -> bool:
    return position in _whenever(saga)


def _half_as_long(script: Script, step: Step) -> Any:
    until = _waits_until(script, step)
    if step.delay is None or step.delay.seconds is None or until is None:
        return until
    return script.moment.after(step.delay.seconds / 2)


def _consenting(script: Script, cursor: Cursor) -> None:
    approval = script.saga.definition.step(cursor.position).work is Work.APPROVAL
    if approval and cursor.retry_at is not None and script.moment.now >= cursor.retry_at:
        script.add(Status.COMPLETED, cursor, result={})
    else:
        _waited(script, cursor)


def _begin_again(log: MemorySagaLog, parent: Saga, step: str, child: NewChild) -> None:
    row = Row(child.id, child.definition, child.version, child.input, child.labels, log.now())
    log.insert(replace(row, parent=parent.id, parent_step=step))


def _undo_once(log: MemorySagaLog, parent: Saga, step: str, asking: int) -> str:
    return _undo_child(log, parent, step, 1)


# Moves.


def _only_of_the_whole(saga: Saga, to: Destination, now: Any) -> list[Obstacle]:
    return [obstacle for obstacle in _obstacles(saga, to, now) if not obstacle.step]


def _called_otherwise(saga: Saga, step: Step, position: int) -> tuple[str, ...]:
    return (*moving._POLICY, *moving._UNDO_POLICY, *moving._CALLED)


def _unsigned(script: Script, to: Definition, order: Order | None) -> None:
    _move(script, to, None)


def _with_new_budgets(script: Script, to: Definition, order: Order | None) -> None:
    _move(script, to, order)
    script.saga = replace(script.saga, open=tuple(replace(cursor, failures=0) for cursor in script.saga.open))


def _as_its_row_says(stored: StoredSaga) -> tuple[int, ...]:
    return (stored.version,)


MOVES: dict[str, Core] = {
    "moved-regardless": _instead((signals, "obstacles", _only_of_the_whole)),
    "moved-in-name-alone": _instead((whole, "redefined", lambda saga, event, versions: saga)),
    "move-doubt-is-no-call": _instead((moving, "reached", lambda cursor: cursor.reached)),
    "move-calls-otherwise": _instead((moving, "_free", _called_otherwise)),
    "move-to-another-place": _instead((moving, "_of_place", lambda saga, new, position, standing: iter(()))),
    "move-unsigned": _instead((Script, "move", _unsigned)),
    "move-renews-budgets": _instead((Script, "move", _with_new_budgets)),
    "move-forgotten": _instead((restoring, "versions", _as_its_row_says)),
    "move-mends-nothing": _instead((moving, "_POLICY", ())),
}

CORE: dict[str, Core] = {
    "pivot-is-no-seal": _instead((Saga, "sealed", property(lambda saga: False))),
    "oldest-undone-first": _instead((evolve, "undoable", _oldest), (undoing, "undoable", _oldest)),
    "all-undone-at-once": _instead((evolve, "undoable", _all_at_once), (undoing, "undoable", _all_at_once)),
    "order-ignored": _instead(
        (acting, "ready", _whenever), (acting, "may_begin", _may_whenever), (evolve, "may_begin", _may_whenever)
    ),
    "delay-halved": _instead((acting, "_waits_until", _half_as_long)),
    "silence-is-consent": _instead((acting, "waited", _consenting)),
    "signals-unheard": _instead((MemorySagaLog, "hear", lambda log, heard: None)),
    "conditions-ignored": _instead((acting, "holds", lambda leaf, context: True)),
    "backoff-ignored": _instead((Script, "wants_intent", _at_once)),
    "limit-renewed": _instead((acting, "_intend_again", _with_a_new_limit)),
    "budget-renewed": _instead((Script, "next_attempt_at", _with_a_new_budget)),
    "unknown-not-undone": _instead((evolve, "_not_done", _surely_not_done)),
    "deadline-halved": _instead((Saga, "deadline", property(_half_the_time))),
    "start-ignored": _instead((Script, "early", property(lambda script: False))),
    "child-begun-again": _instead((MemorySagaLog, "begin_child", _begin_again)),
    "child-end-untold": _instead((MemorySagaLog, "_tell_end", lambda log, child: None)),
    "child-undone-once": _instead((MemorySagaLog, "undo_child", _undo_once)),
    **MOVES,
}
