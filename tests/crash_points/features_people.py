"""The features in which somebody has a say: answers that come later, approvals, operators' orders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.saga.events import Status
from orchestrator.saga.model import Kind
from orchestrator.saga.signals import Verb

from .cases import COMPENSATED, COMPLETED, ENDED, PARKED, Case, Rule, Turn
from .flow import Flow, feature
from .people import Actor, beats, cancel, cancels, declines, finishes, logged, moves, order, parked, tells

if TYPE_CHECKING:
    from .world import World

UNDO = Kind.COMPENSATION


def _later(flow: Flow) -> Iterator[Case]:
    later = Rule(2, Turn.ACCEPTED)
    done, told = finishes("print"), tells("print")
    yield Case("done later", COMPLETED, (later,), (done, told))
    yield Case("told twice", COMPLETED, (later,), (done, told, tells("print", 0.3, number=2)), pairs=False)
    at_once = (finishes("print", 0.0), tells("print", 0.0))
    yield Case("done before the leader knows that it was accepted", COMPLETED, (later,), at_once)
    yield Case("declined later", COMPENSATED, (later,), (declines("print"), told))
    beating = (beats("print", 1, 3.0), beats("print", 2, 6.0), finishes("print", 9.0), told)
    yield Case("heard of, then done", ENDED, (later,), beating, pairs=False)
    yield Case("not heard of once", ENDED, (later,), (finishes("print", 6.0), told))
    silent = (("retrying", 1), ("unknown", 1))
    yield Case("never heard of", COMPENSATED, (later,), rows=silent, gap_s=20.0, gap_ends=COMPENSATED)
    late = (finishes("print", 40.0), told)
    yield Case("done when it was given up", COMPENSATED, (later,), late, also=COMPLETED)
    turned = Actor("cancel", cancel, when=logged(Status.WAITING))
    yield Case("cancelled while it is open", ENDED, (later,), (turned, done, told))
    yield Case(
        "accepted, and nobody heard", COMPLETED, (Rule(2, Turn.ACCEPTED, slow_s=0.2),), (done, told), pairs=False
    )
    yield Case("undone behind it", COMPENSATED, (later, Rule(3, Turn.REFUSED)), (done, told))
    for effect in range(9):
        cancelled = (cancels(effect), done, told)
        yield Case(f"cancelled before effect {effect}", ENDED, (later,), cancelled, pairs=False)


LATER = feature(
    """
name: later
steps:
  - {name: book, service: 's:1', action: {method: t.S/Book}, compensation: {method: t.S/Unbook}}
  - name: print
    service: 's:2'
    answer: later
    heartbeat: 4s
    within: 15s
    retry: {retries: 1, initial: 1s, jitter: 0}
    action: {method: t.S/Print}
    compensation: {method: t.S/Shred}
  - {name: ship, service: 's:3', action: {method: t.S/Ship}, compensation: {method: t.S/Unship}}
""",
    _later,
    attempts_told=4,
)


def _approval(flow: Flow) -> Iterator[Case]:
    asked = logged(Status.WAITING, "agreed")
    yes, no = order(Verb.APPROVE, "agreed", when=asked), order(Verb.REJECT, "agreed", when=asked)
    yield Case("approved", COMPLETED, actors=(yes,))
    yield Case("rejected", COMPENSATED, actors=(no,))
    yield Case("approved twice", COMPLETED, actors=(yes, order(Verb.APPROVE, "agreed", when=asked, number=2)))
    yield Case("approved and rejected", COMPLETED, actors=(yes, no), pairs=False)
    yield Case("nobody answers", COMPENSATED, rows=(("failed", 1),), gap_s=20.0, gap_ends=COMPENSATED)
    yield Case("approved, then refused", COMPENSATED, (Rule(3, Turn.REFUSED),), (yes,))
    turned = Actor("cancel", cancel, when=asked)
    yield Case(
        "cancelled while it waits", ENDED, actors=(turned, order(Verb.APPROVE, "agreed", when=asked, after_s=0.2))
    )
    for effect in range(5):
        early = (
            order(Verb.APPROVE, "agreed", at=effect),
            order(Verb.APPROVE, "agreed", when=asked, after_s=9, number=2),
        )
        yield Case(f"approved before effect {effect}", COMPLETED, actors=early, pairs=False)


APPROVAL = feature(
    """
name: approval
steps:
  - {name: book, service: 's:1', action: {method: t.S/Book}, compensation: {method: t.S/Unbook}}
  - {name: agreed, approval: {question: 'Is it?'}, within: 15s}
  - {name: ship, service: 's:2', action: {method: t.S/Ship}, compensation: {method: t.S/Unship}}
""",
    _approval,
)

# The effects of a run without any trouble: the raise, the first intent, a call and a row for each step.
_EFFECTS = 8


def _operators(flow: Flow) -> Iterator[Case]:
    resumed = order(Verb.RESUME, when=logged(Status.PAUSED), after_s=1.0)
    for effect in range(_EFFECTS):
        paused = order(Verb.PAUSE, at=effect)
        yield Case(f"paused before effect {effect}", COMPLETED, actors=(paused, resumed), pairs=effect == 4)
        for verb in (Verb.SKIP, Verb.FORCE, Verb.RETRY, Verb.RESOLVE):
            given = order(verb, "pay", at=effect)
            yield Case(f"{verb} before effect {effect}", COMPLETED, actors=(given,), pairs=False)
    lost = Rule(2, Turn.UNHEARD)
    tried = logged(Status.RETRYING)
    for verb in (Verb.SKIP, Verb.FORCE):
        yield Case(f"{verb} between two attempts", COMPLETED, (lost,), (order(verb, "pay", when=tried),))
    held = (order(Verb.PAUSE, when=tried), order(Verb.RESUME, when=logged(Status.PAUSED), after_s=5.0))
    yield Case("paused between two attempts", COMPENSATED, (lost,), held, gap_s=9.0, gap_ends=COMPENSATED)
    turned = Actor("cancel", cancel, when=logged(Status.PAUSED), after_s=0.5)
    yield Case("cancelled while it is paused", COMPENSATED, (lost,), (held[0], turned))
    yield from _parked(flow)


def _parked(flow: Flow) -> Iterator[Case]:
    """Sagas that a person takes up again."""
    ship, repay = Rule(3, Turn.REFUSED), Rule(2, Turn.REFUSED, kind=UNDO)
    yield Case("parked", PARKED, (ship, repay), rows=(("parked", 1),))
    by_hand = order(Verb.RESOLVE, "pay", when=parked)
    yield Case("resolved when it is parked", COMPENSATED, (ship, repay), (by_hand,))
    again = order(Verb.RETRY, when=parked)
    once = (ship, Rule(2, Turn.REFUSED, kind=UNDO, until=again.name))
    yield Case("retried when it is parked", COMPENSATED, once, (again,))
    yield Case("retried in vain", PARKED, (ship, repay), (again,), rows=(("parked", 2),), pairs=False)
    both = (again, order(Verb.RESOLVE, "pay", when=logged(Status.PARKED, times=2)))
    yield Case("retried in vain, then resolved", COMPENSATED, (ship, repay), both, pairs=False)
    for verb in (Verb.SKIP, Verb.FORCE):
        refused = order(verb, "pay", when=parked)
        yield Case(f"{verb} when it is parked", PARKED, (ship, repay), (refused,), pairs=False)


OPERATORS = feature(
    """
name: operators
steps:
  - {name: book, service: 's:1', action: {method: t.S/Book}, compensation: {method: t.S/Unbook}}
  - name: pay
    service: 's:2'
    retry: {retries: 1, initial: 3s, jitter: 0}
    action: {method: t.S/Pay}
    compensation: {method: t.S/Repay, retry: {retries: 0}}
  - {name: ship, service: 's:3', action: {method: t.S/Ship}, compensation: {method: t.S/Unship}}
""",
    _operators,
    attempts_told=3,
)


def _many(flow: Flow) -> Iterator[Case]:
    yield Case("all are cancelled", COMPENSATED, pairs=False)
    yield Case("one is undone with trouble", COMPENSATED, (Rule(1, Turn.UNHEARD, 1, UNDO),), pairs=False)


def _all_sleep(world: World) -> bool:
    return all(row.wake_at is not None or row.state.terminal for row in world.log.rows.values())


MANY = """
name: {name}
steps:
  - {{name: book, service: 's:1', action: {{method: t.S/Book}}, compensation: {{method: t.S/Unbook}}}}
  - {{name: pause, delay: 1m}}
"""
# All of them asleep when the order comes, or in the middle of their first step.
MANY_ASLEEP = feature(MANY.format(name="many-asleep"), _many, sagas=3, cancelled_when=_all_sleep)
MANY_AWAKE = feature(MANY.format(name="many-awake"), _many, sagas=3, cancelled_when=lambda world: True)


def _moved(flow: Flow) -> Iterator[Case]:
    """A move before each effect of the successful run, and of one that turns back or hears nothing."""
    last = len(flow.definition.steps)
    for effect in range(2 * last + 2):
        yield Case(f"moved before effect {effect}", COMPLETED, actors=(moves(effect),))
        turn = Rule(last, Turn.REFUSED) if effect % 2 else Rule(last, Turn.UNHEARD, 1)
        ends = COMPENSATED if effect % 2 else COMPLETED
        yield Case(f"moved before effect {effect}, {turn.turn}", ends, (turn,), (moves(effect),))


MOVE = """
name: moved
steps:
  - name: book
    service: 's:1'
    action: {{method: t.S/Book}}
    compensation: {{method: t.S/Unbook}}
  - name: pay
    service: 's:2'
    timeout: {timeout}
    retry: {{retries: 1, initial: 10ms, jitter: 0}}
    action: {{method: t.S/Pay, request: {{key: results.book.key}}}}
    compensation: {{method: t.S/Repay}}
"""
THANK = """
  - name: thank
    service: 's:1'
    action: {method: t.S/Thank, request: {key: results.pay.key}}
    compensation: {method: t.S/Regret}
"""
MOVED = feature(MOVE.format(timeout="5s"), _moved, later=MOVE.format(timeout="9s") + THANK)

PEOPLE = (LATER, APPROVAL, OPERATORS, MANY_ASLEEP, MANY_AWAKE, MOVED)
