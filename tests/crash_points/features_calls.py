"""The features of single calls: retries, limits of time, the pivot, outages, unknown outcomes, secrets."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.saga.events import Status
from orchestrator.saga.model import Kind
from orchestrator.saga.signals import Verb

from .cases import COMPENSATED, COMPLETED, ENDED, PARKED, Case, Rule, Turn
from .flow import Flow, feature
from .people import Actor, cancel, cancels, logged, order, parked

UNDO = Kind.COMPENSATION


def _cancels_when(status: Status) -> Actor:
    return Actor("cancel", cancel, when=logged(status))


def _retries(flow: Flow) -> Iterator[Case]:
    never = Rule(2, Turn.BROKEN)
    spent = (("retrying", 2), ("unknown", 1))
    yield Case("pay is broken twice", COMPLETED, (Rule(2, Turn.BROKEN, 2),))
    yield Case("pay is unheard once", COMPLETED, (Rule(2, Turn.UNHEARD, 1),), gap_s=5.0, gap_ends=COMPLETED)
    yield Case("pay is broken for ever", COMPENSATED, (never,), rows=spent, gap_s=4.0, gap_ends=COMPENSATED)
    final, transient = Rule(2, Turn.BROKEN, code="DATA_LOSS"), Rule(2, Turn.REFUSED, code="OUT_OF_RANGE")
    yield Case("pay fails with a final code", COMPENSATED, (final,), rows=(("retrying", 0), ("unknown", 1)))
    yield Case("pay is refused, transiently", COMPENSATED, (transient,), rows=(("refused", 2), ("failed", 1)))
    hastened = order(Verb.RETRY, "pay", when=logged(Status.RETRYING))
    yield Case("an operator hastens pay", COMPLETED, (Rule(2, Turn.BROKEN, 1),), (hastened,))
    cancelled = _cancels_when(Status.RETRYING)
    yield Case("cancelled between two attempts", COMPENSATED, (never,), (cancelled,))
    undone = (Rule(2, Turn.REFUSED), Rule(1, Turn.BROKEN, 2, UNDO))
    yield Case("unbook is broken twice", COMPENSATED, undone, gap_s=4.0, gap_ends=COMPENSATED)


RETRIES = feature(
    """
name: retries
steps:
  - name: book
    service: 's:1'
    action: {method: t.S/Book}
    compensation: {method: t.S/Unbook, retry: {retries: 3, initial: 3s, jitter: 0}}
  - name: pay
    service: 's:2'
    action: {method: t.S/Pay}
    compensation: {method: t.S/Repay}
    retry: {attempts: 3, initial: 3s, multiplier: 2, max: 5s, jitter: 0, final: [DATA_LOSS], transient: [OUT_OF_RANGE]}
""",
    _retries,
    attempts_told=4,
)


def _limits(flow: Flow) -> Iterator[Case]:
    yield Case("success", COMPLETED, gap_s=30.0, gap_ends=ENDED)
    pay, ship = Rule(2, Turn.UNREACHED), Rule(3, Turn.UNREACHED)
    yield Case("pay is never done", COMPENSATED, (pay,), rows=(("expired", 0), ("unknown", 1)))
    yield Case("ship is never done", COMPENSATED, (ship,), rows=(("expired", 1),), gap_s=9.0, gap_ends=COMPENSATED)
    late = (ship, Rule(2, Turn.BROKEN, 2, UNDO))
    yield Case("undone long behind the deadline", COMPENSATED, late, rows=(("expired", 1),), pairs=False)
    held = (
        order(Verb.PAUSE, when=logged(Status.RETRYING)),
        order(Verb.RESUME, when=logged(Status.PAUSED), after_s=30.0),
    )
    yield Case("paused over the deadline", COMPENSATED, (ship,), held, rows=(("expired", 1),), pairs=False)


LIMITS = feature(
    """
name: limits
within: 20s
steps:
  - {name: book, service: 's:1', action: {method: t.S/Book}, compensation: {method: t.S/Unbook}}
  - name: pay
    service: 's:2'
    within: 8s
    retry: {retries: 100, initial: 3s, multiplier: 1, jitter: 0}
    action: {method: t.S/Pay}
    compensation: {method: t.S/Repay, retry: {retries: 5, initial: 4s, jitter: 0}}
  - name: ship
    service: 's:3'
    retry: {retries: 100, initial: 4s, multiplier: 1, jitter: 0}
    action: {method: t.S/Ship}
    compensation: {method: t.S/Unship}
""",
    _limits,
)


def _pivot(flow: Flow) -> Iterator[Case]:
    yield Case("success", COMPLETED, rows=(("compensating", 0),))
    yield Case("book refused", COMPENSATED, (Rule(1, Turn.REFUSED),))
    # A leader that dies behind the intent of the pivot leaves a doubt, which no refusal of a later attempt ends.
    yield Case("the pivot refused", COMPENSATED, (Rule(2, Turn.REFUSED),), also=PARKED)
    yield Case("the pivot unheard once", COMPLETED, (Rule(2, Turn.UNHEARD, 1),))
    unknown, ship = Rule(2, Turn.UNHEARD), Rule(3, Turn.REFUSED)
    yield Case("nobody knows of the pivot", PARKED, (unknown,))
    yield Case("ship unheard once", COMPLETED, (Rule(3, Turn.UNHEARD, 1),))
    yield Case("ship refused for ever", PARKED, (ship,), rows=(("compensating", 0),))
    for verb in (Verb.SKIP, Verb.FORCE):
        forward = order(verb, "pay", when=parked)
        yield Case(f"nobody knows of the pivot, {verb}", COMPLETED, (unknown,), (forward,), pairs=False)
        forward = order(verb, "ship", when=parked)
        yield Case(f"ship refused for ever, {verb}", COMPLETED, (ship,), (forward,), pairs=False)
    again = order(Verb.RETRY, when=parked)
    broken = Rule(3, Turn.BROKEN, until=again.name)
    yield Case("ship broken until it is taken up", COMPLETED, (broken,), (again,))
    for effect in range(8):
        yield Case(f"cancelled before effect {effect}", ENDED, actors=(cancels(effect),), pairs=False)
    behind = _cancels_when(Status.RETRYING)
    yield Case("cancelled behind the pivot", COMPLETED, (Rule(3, Turn.UNHEARD, 1),), (behind,))
    yield Case("cancelled behind the pivot, and taken up", COMPLETED, (broken,), (behind, again), pairs=False)


PIVOT = feature(
    """
name: pivot
steps:
  - {name: book, service: 's:1', action: {method: t.S/Book}, compensation: {method: t.S/Unbook}}
  - {name: pay, service: 's:2', pivot: true, action: {method: t.S/Pay}, retry: {retries: 1, initial: 3s, jitter: 0}}
  - {name: ship, service: 's:3', action: {method: t.S/Ship}, retry: {retries: 2, initial: 3s, multiplier: 1, jitter: 0}}
""",
    _pivot,
    attempts_told=3,
)


def _outage(flow: Flow) -> Iterator[Case]:
    for turn in (Turn.UNREACHED, Turn.UNHEARD):
        away = Rule(2, turn, 4, code="UNAVAILABLE")
        yield Case(f"pay is away four times, {turn}", COMPLETED, (away,), rows=(("retrying", 0),))
    away = Rule(2, Turn.UNREACHED, code="UNAVAILABLE")
    yield Case("pay is away until it is cancelled", COMPENSATED, (away,), (_cancels_when(Status.HELD),))
    undone = (Rule(2, Turn.REFUSED), Rule(1, Turn.UNHEARD, 3, UNDO, code="UNAVAILABLE"))
    yield Case("unbook is away", COMPENSATED, undone, rows=(("compensation_retrying", 0),))


OUTAGE = feature(
    """
name: outage
steps:
  - name: book
    service: 's:1'
    action: {method: t.S/Book}
    compensation: {method: t.S/Unbook, retry: {retries: 0}}
  - {name: pay, service: 's:2', retry: {retries: 0}, action: {method: t.S/Pay}, compensation: {method: t.S/Repay}}
""",
    _outage,
    breakers=True,
    attempts_told=5,
)


def _unknown(flow: Flow) -> Iterator[Case]:
    yield Case("pay unreached once", COMPLETED, (Rule(2, Turn.UNREACHED, 1),))
    yield Case("pay unheard once", COMPLETED, (Rule(2, Turn.UNHEARD, 1),))
    yield Case("pay broken once", COMPLETED, (Rule(2, Turn.BROKEN, 1),), gap_s=4.0, gap_ends=COMPLETED)
    yield Case("pay never reached", COMPENSATED, (Rule(2, Turn.UNREACHED),), also=COMPLETED, pairs=False)
    silent = (Rule(2, Turn.UNHEARD), Rule(2, Turn.UNREACHED, asks=True))
    yield Case("pay and its status unheard", COMPENSATED, silent, rows=(("absent", 0),))
    asked = (Rule(2, Turn.UNREACHED, 1), Rule(2, Turn.UNHEARD, 2, asks=True))
    yield Case("pay unreached, its status unheard once", COMPLETED, asked)
    for turn in (Turn.UNREACHED, Turn.UNHEARD, Turn.REFUSED):
        yield Case(f"ship {turn}", COMPENSATED, (Rule(3, turn),), rows=(("retrying", 0),))
    cancelled = _cancels_when(Status.QUERYING)
    yield Case("cancelled while it asks", ENDED, (Rule(2, Turn.UNHEARD, 1),), (cancelled,))


UNKNOWN = feature(
    """
name: unknown
steps:
  - {name: book, service: 's:1', action: {method: t.S/Book}, compensation: {method: t.S/Unbook}}
  - name: pay
    service: 's:2'
    on_unknown: query
    status: {method: t.S/GetPay}
    retry: {retries: 2, initial: 3s, multiplier: 1, jitter: 0}
    action: {method: t.S/Pay}
    compensation: {method: t.S/Repay}
  - name: ship
    service: 's:3'
    on_unknown: compensate
    action: {method: t.S/Ship}
    compensation: {method: t.S/Unship}
""",
    _unknown,
    attempts_told=9,
)


def _secrets(flow: Flow) -> Iterator[Case]:
    yield Case("success", COMPLETED)
    yield Case("pay unheard once", COMPLETED, (Rule(2, Turn.UNHEARD, 1),))
    yield Case("pay refused", COMPENSATED, (Rule(2, Turn.REFUSED),))


# What is secret is hidden where it is shown, and nowhere else: a new leader makes the same requests of it.
SECRETS = feature(
    """
name: secrets
secrets: [card]
steps:
  - name: hold
    service: 's:1'
    secrets: [key]
    action: {method: t.S/Hold, request: {card: input.card}}
    compensation: {method: t.S/Drop, request: {key: "results.hold.key || ''", card: input.card}}
  - name: pay
    service: 's:2'
    action: {method: t.S/Pay, request: {key: results.hold.key}}
    compensation: {method: t.S/Repay, request: {key: results.hold.key}}
""",
    _secrets,
    {"card": "4111"},
)

CALLS = (RETRIES, LIMITS, PIVOT, OUTAGE, UNKNOWN, SECRETS)
