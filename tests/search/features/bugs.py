"""Seeded bugs: the core with one of its rules taken out, for as long as a search runs, to be found by its feature.

Most are patches of the pure core; a few take a rule out of a statement of the log, or out of the barrier.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from orchestrator.saga import acting, evolve, machine, progress, signals, undoing, whole
from orchestrator.saga import script as script_module
from orchestrator.saga.commands import Accepted, Succeeded
from orchestrator.saga.definition import Definition, Work
from orchestrator.saga.events import Event, Status
from orchestrator.saga.model import Cursor, Kind, Phase, Saga, SagaState
from orchestrator.saga.script import Script
from tests.search.features import children, moves, participants
from tests.search.features.bugs_governed import GOVERNED
from tests.search.features.seeds import Bug, Patch, seeded
from tests.search.features.world import Key

__all__ = ["BUGS", "Bug", "seeded"]


def _sealed_never() -> list[Patch]:
    return [(Saga, "sealed", property(lambda saga: False))]


def _forward_behind_the_pivot_alone() -> list[Patch]:
    return [(acting, "_forward", lambda script, step: progress.committed(script.saga))]


def _no_descendants() -> list[Patch]:
    return [(Definition, "descendants", property(lambda it: (frozenset(),) * len(it.steps)))]


def _newest_first_dropped() -> list[Patch]:
    def undoable(saga: Saga) -> tuple[int, ...]:
        found = progress.undoable(saga)
        return saga.to_compensate[:1] if found and not saga.definition.parallel_compensation else found

    return [(evolve, "undoable", undoable), (undoing, "undoable", undoable)]


def _nobody_waited_for() -> list[Patch]:
    real = whole.turn_back

    def turn_back(saga: Saga, event: Event, *rest: Any, **named: Any) -> Saga:
        return real(replace(saga, open=()), event, *rest, **named)

    return [(whole, "turn_back", turn_back)]


def _skipped_undone() -> list[Patch]:
    real = whole.turn_back

    def turn_back(saga: Saga, event: Event, *rest: Any, **named: Any) -> Saga:
        after = real(saga, event, *rest, **named)
        return replace(after, to_compensate=(*after.to_compensate, *saga.skipped))

    return [(whole, "turn_back", turn_back)]


def _ignored(*args: Any, **named: Any) -> None:
    """Nothing follows from it."""


def _timer_at_once() -> list[Patch]:
    def waited(script: Script, cursor: Cursor) -> None:
        script.add(Status.COMPLETED, cursor, result={})

    return [(acting, "waited", waited)]


def _timer_anew() -> list[Patch]:
    """A new leader begins every wait anew."""

    def stale(cursor: Cursor, epoch: int) -> bool:
        return cursor.phase in (Phase.INTENDED, Phase.WAITING) and cursor.intent_epoch != epoch

    def again(script: Script, cursor: Cursor) -> None:
        step = script.saga.definition.step(cursor.position)
        if step.work is Work.DELAY:
            script.add(Status.WAITING, cursor, retry_at=acting._waits_until(script, step))
        else:
            real(script, cursor)

    real = acting._intend_again
    wants = lambda script, cursor: stale(cursor, script.moment.epoch) or cursor.position in script.due  # noqa: E731
    return [(machine, "_stale", stale), (acting, "_intend_again", again), (Script, "wants_intent", wants)]


def _never_early() -> list[Patch]:
    return [(Script, "early", property(lambda script: False))]


def _asleep_for_good() -> list[Patch]:
    real = progress.wake_at

    def wake_at(saga: Saga) -> object:
        waits = saga.state is SagaState.RUNNING and any(cursor.phase is Phase.WAITING for cursor in saga.open)
        return progress.FOREVER if waits else real(saga)

    return [(progress, "wake_at", wake_at)]


def _accepted_is_nothing() -> list[Patch]:
    real = Saga.perhaps_done

    def perhaps_done(saga: Saga, cursor: Cursor) -> bool:
        return cursor.phase is not Phase.WAITING and real(saga, cursor)

    return [(Saga, "perhaps_done", perhaps_done)]


def _late_answer_dropped() -> list[Patch]:
    real = signals._HEED[signals.Verb.COMPLETE]

    def complete(script: Script, signal: Any, position: int, cursor: Cursor | None) -> None:
        if cursor is not None:
            real(script, signal, position, cursor)

    return [(signals._HEED, signals.Verb.COMPLETE, complete)]


def _any_approval_counts() -> list[Patch]:
    def approval(script: Script, signal: Any, position: int, cursor: Cursor | None) -> Cursor:
        return cursor or Cursor(position, Kind.ACTION, 1, 0, script.moment.epoch, False, None)

    return [(signals, "_approval", approval)]


def _approvals_wait_for_ever() -> list[Patch]:
    real = acting.waited

    def waited(script: Script, cursor: Cursor) -> None:
        if script.saga.definition.step(cursor.position).work is not Work.APPROVAL:
            real(script, cursor)

    return [(acting, "waited", waited)]


def _deadline_at_once() -> list[Patch]:
    wanted = property(lambda script: progress.turnable(script.saga) and script.saga.deadline is not None)
    return [(Script, "turn_back_wanted", wanted)]


def _deadline_while_undoing() -> list[Patch]:
    def turnable(saga: Saga) -> bool:
        return not saga.state.terminal and not saga.sealed

    return [(module, "turnable", turnable) for module in (progress, machine, script_module)]


def _out_of_time_is_refused() -> list[Patch]:
    return [(acting, "doubtful", lambda cursor: False)]


def _unknown_not_undone() -> list[Patch]:
    return [(evolve._EVOLVE, Status.UNKNOWN, partial(evolve._not_done, perhaps=False))]


def _asked_without_tombstone() -> list[Patch]:
    real = participants._tell

    def tell(participant: Any, call: Any) -> Any:
        found = real(participant, call)
        return found._replace(after=participant) if participant.action is Key.FREE else found

    return [(participants, "_tell", tell)]


def _cut_off_is_not_called() -> list[Patch]:
    real = acting.hold

    def hold(script: Script, cursor: Cursor, status: Status, outcome: Any, policy: Any) -> None:
        real(script, cursor, status, replace(outcome, called=False), policy)

    return [(acting, "hold", hold), (undoing, "hold", hold)]


def _child_undone_when_told() -> list[Patch]:
    real = undoing.decide

    def decide(script: Script, cursor: Cursor, outcome: Any) -> None:
        real(script, cursor, Succeeded({}) if isinstance(outcome, Accepted) else outcome)

    return [(undoing, "decide", decide)]


def _any_end_of_a_child_will_do() -> list[Patch]:
    real = signals._HEED[signals.Verb.CHILD]

    def child(script: Script, signal: Any, position: int, cursor: Cursor | None) -> None:
        real(script, replace(signal, result={"state": SagaState.COMPLETED}), position, cursor)

    return [(signals._HEED, signals.Verb.CHILD, child)]


def _child_begun_by_anybody() -> list[Patch]:
    return [(children, "_may_begin", lambda game, world: True), (moves, "fenced", lambda call: False)]


def _doubt_forgotten() -> list[Patch]:
    real = whole._at_once

    def at_once(saga: Saga, cursor: Cursor, parked: bool) -> Cursor:
        return replace(real(saga, cursor, parked), doubtful=False)

    return [(whole, "_at_once", at_once)]


def _orders_wait_for_nobody() -> list[Patch]:
    return [(signals, "_must_wait", lambda cursor, signal, moment: False)]


def _paused_goes_on() -> list[Patch]:
    real = machine.proceed

    def proceed(script: Script) -> None:
        real(script)
        if script.saga.paused:
            acting.intend(script)

    def intend(script: Script) -> None:
        saga = script.saga
        for position in progress.ready(saga):
            script.add(Status.EXECUTING, position=position, attempt=1)

    return [(machine, "proceed", proceed), (signals, "proceed", proceed), (acting, "intend", intend)]


def _answers_lost_on_the_parked() -> list[Patch]:
    """A saga that is taken up again waits for answers that were given while it was parked."""
    real = whole._unheard

    def unheard(saga: Saga, cursor: Cursor) -> Cursor:
        return cursor if cursor.phase is Phase.WAITING else real(saga, cursor)

    return [(whole, "_unheard", unheard)]


def _given_up_twice() -> list[Patch]:
    """A new leader takes up what it found open, whatever became of the saga by the first of it."""
    real = acting.intend

    def intend(script: Script) -> None:
        for cursor in script.saga.open:
            if cursor.kind is Kind.ACTION and script.wants_intent(cursor):
                acting._intend_again(script, cursor)
        real(script)

    return [(acting, "intend", intend)]


def _duplicates_served() -> list[Patch]:
    real = participants._act

    def act(participant: Any, call: Any, serving: Any) -> Any:
        return real(
            participant._replace(action=Key.FREE) if participant.action is Key.DONE else participant, call, serving
        )

    return [(participants, "_act", act)]


def _no_tombstone() -> list[Patch]:
    real = participants._compensate

    def compensate(participant: Any, serving: Any) -> Any:
        found = real(participant, serving)
        if participant.action is not Key.FREE:
            return found
        return tuple(served._replace(after=served.after._replace(action=Key.FREE)) for served in found)

    return [(participants, "_compensate", compensate)]


def _intents_never_stale() -> list[Patch]:
    return [(machine, "_stale", lambda cursor, epoch: False)]


BUGS: dict[str, Bug] = {
    "duplicate-served": Bug("parallel", "I2", "a participant serves a duplicate once more", _duplicates_served),
    "no-tombstone": Bug("unknown", "I3", "a compensation of an action never seen leaves nothing", _no_tombstone),
    "old-intents-do": Bug("parallel", "I4", "a new leader calls by the former one's intents", _intents_never_stale),
    "cancelled-past-the-pivot": Bug("pivot", "PIVOT", "a cancellation turns back behind the pivot", _sealed_never),
    "pivot-in-doubt": Bug("pivot", "PIVOT", "a pivot in doubt turns back", _forward_behind_the_pivot_alone),
    "oldest-undone-first": Bug("unknown", "ORDER", "the oldest step is undone first", _newest_first_dropped),
    "undone-in-any-order": Bug("parallel", "ORDER", "compensations heed no dependency", _no_descendants),
    "turned-back-at-once": Bug("parallel", "I1", "a saga that turns back waits for no call", _nobody_waited_for),
    "skipped-undone": Bug("conditions", "STARTED", "what was passed over is undone", _skipped_undone),
    "condition-forgotten": Bug(
        "conditions",
        "I6",
        "a condition that cannot be judged leads to nothing",
        lambda: [(acting, "_cannot_begin", _ignored)],
    ),
    "timer-early": Bug("delay", "TIMER", "a delay is over when somebody asks", _timer_at_once),
    "timer-anew": Bug("delay", "TIMER", "a new leader begins every wait anew", _timer_anew),
    "started-early": Bug("starting", "TIMER", "whatever a saga is told begins it before its time", _never_early),
    "asleep-for-good": Bug("delay", "I6", "the row of a saga that waits says that it is never due", _asleep_for_good),
    "accepted-is-nothing": Bug("answers", "I1", "what was accepted is not undone", _accepted_is_nothing),
    "late-answer-dropped": Bug("answers", "ANSWER", "a late completion is dropped silently", _late_answer_dropped),
    "approved-twice": Bug("approval", "LOG", "a second approval counts as well", _any_approval_counts),
    "approval-for-ever": Bug("approval", "I6", "an approval has no end of its time", _approvals_wait_for_ever),
    "expired-early": Bug("deadline", "TIMER", "a saga with a deadline turns back at once", _deadline_at_once),
    "expired-again": Bug("deadline", "LOG", "the deadline reaches a saga that turns back", _deadline_while_undoing),
    "out-of-time-is-no": Bug("deadline", "I1", "a step out of time counts as never done", _out_of_time_is_refused),
    "unknown-not-undone": Bug("unknown", "I1", "what nobody knows is not undone", _unknown_not_undone),
    "absence-unkept": Bug("unknown", "I1", "the status method keeps no late attempt out", _asked_without_tombstone),
    "cut-off-is-not-called": Bug("holds", "I1", "a call that was cut off was never made", _cut_off_is_not_called),
    "child-undone-when-told": Bug(
        "children", "CHILD", "a child is undone as soon as it is told", _child_undone_when_told
    ),
    "any-end-will-do": Bug("children", "CHILD", "a child that was undone counts as done", _any_end_of_a_child_will_do),
    "child-by-anybody": Bug("children", "CHILD", "an overthrown leader begins a child", _child_begun_by_anybody),
    "doubt-forgotten": Bug("holds", "I1", "retried by order, an attempt in doubt counts as not made", _doubt_forgotten),
    "orders-do-not-wait": Bug("orders", "ORDERS", "an order is heeded during a call", _orders_wait_for_nobody),
    "given-up-twice": Bug("beside", "LOG", "what turns back gives up a step that is gone", _given_up_twice),
    "child-unheard": Bug("parked-parent", "I6", "a parked saga misses its child's end", _answers_lost_on_the_parked),
    "answer-unheard": Bug("parked-answers", "I6", "an answer is lost on a parked saga", _answers_lost_on_the_parked),
    "paused-goes-on": Bug("orders", "PAUSE", "a paused saga begins its next step", _paused_goes_on),
} | GOVERNED
