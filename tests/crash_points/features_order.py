"""The features of order and time: steps side by side, conditions, delays and dates, child sagas, events."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.saga.events import Status
from orchestrator.saga.model import Kind
from orchestrator.saga.signals import Verb

from .cases import COMPENSATED, COMPLETED, ENDED, PARKED, Case, Rule, Turn
from .flow import Flow, feature
from .people import Actor, cancel, cancels, child_is, logged, order

UNDO = Kind.COMPENSATION


def _parallel(flow: Flow) -> Iterator[Case]:
    yield Case("success", COMPLETED)
    slow = Rule(2, Turn.DONE, slow_s=0.5)
    yield Case("pay is slow", COMPLETED, (slow,))
    yield Case("pack refused", COMPENSATED, (Rule(3, Turn.REFUSED),))
    yield Case("pack refused while pay is under way", COMPENSATED, (slow, Rule(3, Turn.REFUSED)))
    yield Case("pack unheard while pay is under way", COMPENSATED, (slow, Rule(3, Turn.UNHEARD)), pairs=False)
    yield Case(
        "pay unheard behind the refusal of pack",
        COMPENSATED,
        (Rule(2, Turn.UNHEARD, slow_s=0.5), Rule(3, Turn.REFUSED)),
    )
    yield Case("pay and pack refused", COMPENSATED, (Rule(2, Turn.REFUSED), Rule(3, Turn.REFUSED)), pairs=False)
    ship = Rule(4, Turn.REFUSED)
    yield Case("ship refused", COMPENSATED, (ship,))
    undone = (ship, Rule(3, Turn.DONE, kind=UNDO, slow_s=0.5))
    yield Case("ship refused, unpack is slow", COMPENSATED, undone, pairs=False)
    undone = (ship, Rule(2, Turn.UNHEARD, 1, UNDO))
    yield Case("ship refused, repay unheard once", COMPENSATED, undone, pairs=False)
    undone = (ship, Rule(2, Turn.REFUSED, kind=UNDO))
    yield Case("ship refused, repay refused", PARKED, undone, pairs=False)
    for effect in range(10):
        yield Case(f"cancelled before effect {effect}", ENDED, actors=(cancels(effect),), pairs=False)


PARALLEL = feature(
    """
name: parallel
compensate: parallel
steps:
  - {name: book, service: 's:1', action: {method: t.S/Book}, compensation: {method: t.S/Unbook}}
  - name: pay
    after: [book]
    service: 's:2'
    retry: {retries: 0}
    action: {method: t.S/Pay}
    compensation: {method: t.S/Repay, retry: {retries: 1, initial: 3s}}
  - name: pack
    after: [book]
    service: 's:3'
    retry: {retries: 0}
    action: {method: t.S/Pack}
    compensation: {method: t.S/Unpack}
  - name: ship
    after: [pay, pack]
    service: 's:4'
    retry: {retries: 0}
    action: {method: t.S/Ship}
    compensation: {method: t.S/Unship}
""",
    _parallel,
)


def _conditions(flow: Flow) -> Iterator[Case]:
    yield Case("success", COMPLETED, rows=(("skipped", 2),))
    yield Case("last refused", COMPENSATED, (Rule(5, Turn.REFUSED),), rows=(("skipped", 2),))
    yield Case("insure refused", COMPENSATED, (Rule(4, Turn.REFUSED),), rows=(("skipped", 2),))
    yield Case("insure unheard once", COMPLETED, (Rule(4, Turn.UNHEARD, 1),))
    for effect in range(8):
        yield Case(f"cancelled before effect {effect}", ENDED, actors=(cancels(effect),), pairs=False)


CONDITIONS = feature(
    """
name: conditions
steps:
  - {name: book, service: 's:1', action: {method: t.S/Book}, compensation: {method: t.S/Unbook}}
  - {name: gift, when: input.gift, service: 's:2', action: {method: t.S/Wrap}, compensation: {method: t.S/Unwrap}}
  - {name: rush, when: "results.book.key == 'rush'", delay: 5s}
  - name: insure
    when: "results.book.key != 'rush'"
    service: 's:2'
    action: {method: t.S/Insure}
    compensation: {method: t.S/Uninsure}
  - {name: last, service: 's:3', action: {method: t.S/Last}, compensation: {method: t.S/Unlast}}
""",
    _conditions,
    {"gift": False},
)


def _waiting(flow: Flow) -> Iterator[Case]:
    yield Case("success", COMPLETED, rows=(("waiting", 2), ("completed", 4)), gap_s=12.0, gap_ends=COMPLETED)
    yield Case("last refused", COMPENSATED, (Rule(4, Turn.REFUSED),), rows=(("completed", 3),))
    asleep = Actor("cancel", cancel, when=logged(Status.WAITING), after_s=2.0)
    yield Case("cancelled while it waits", COMPENSATED, actors=(asleep,), gap_s=12.0, gap_ends=COMPENSATED)
    for effect in range(9):
        yield Case(f"cancelled before effect {effect}", ENDED, actors=(cancels(effect),), pairs=False)
    resumed = order(Verb.RESUME, when=logged(Status.PAUSED), after_s=1.0)
    for effect in range(4):
        held = (order(Verb.PAUSE, at=effect), resumed)
        yield Case(f"paused before effect {effect}", COMPLETED, actors=held, pairs=False)
    for effect in range(7):
        passed = order(Verb.SKIP, "pause", at=effect)
        yield Case(f"a delay is skipped before effect {effect}", COMPLETED, actors=(passed,), pairs=False)


WAITING = feature(
    """
name: waiting
steps:
  - {name: book, service: 's:1', action: {method: t.S/Book}, compensation: {method: t.S/Unbook}}
  - {name: pause, delay: 5s}
  - {name: date, delay: {until: input.date}}
  - {name: last, service: 's:2', action: {method: t.S/Last}, compensation: {method: t.S/Unlast}}
""",
    _waiting,
    {"date": "2026-01-01T00:00:30Z"},
    starts_after_s=10.0,
)


def _children(flow: Flow) -> Iterator[Case]:
    yield Case("success", COMPLETED)
    label = Rule(2, Turn.REFUSED, definition="parcel")
    yield Case("the child fails", COMPENSATED, (label,))
    ship = Rule(3, Turn.REFUSED)
    yield Case("the parent fails behind its child", COMPENSATED, (ship,))
    unwrap = Rule(1, Turn.UNHEARD, 1, UNDO, definition="parcel")
    yield Case("the child is undone with trouble", COMPENSATED, (ship, unwrap), pairs=False)
    unwrap = Rule(1, Turn.REFUSED, kind=UNDO, definition="parcel")
    by_hand = order(Verb.RESOLVE, "wrap", of="pack", when=child_is("pack", "FAILED"))
    yield Case("the child is undone by hand", COMPENSATED, (ship, unwrap), (by_hand,), pairs=False)
    slow = Rule(1, Turn.DONE, slow_s=1.0, definition="parcel")
    turned = Actor("cancel", cancel, when=child_is("pack", "RUNNING"))
    yield Case("cancelled while the child runs", COMPENSATED, (slow,), (turned,))
    for effect in range(17):
        yield Case(f"cancelled before effect {effect}", ENDED, actors=(cancels(effect),), pairs=False)


PARCEL = """
name: parcel
steps:
  - name: wrap
    service: 's:4'
    action: {method: t.S/Wrap}
    compensation: {method: t.S/Unwrap, retry: {retries: 1, initial: 3s}}
  - {name: label, service: 's:4', action: {method: t.S/Label}, compensation: {method: t.S/Unlabel}}
"""

CHILDREN = feature(
    """
name: children
steps:
  - {name: book, service: 's:1', action: {method: t.S/Book}, compensation: {method: t.S/Unbook}}
  - {name: pack, saga: {definition: parcel, input: {order: input.order}}}
  - {name: ship, service: 's:2', action: {method: t.S/Ship}, compensation: {method: t.S/Unship}}
""",
    _children,
    {"order": "7"},
    children=(PARCEL,),
)


def _events(flow: Flow) -> Iterator[Case]:
    yield Case("success", COMPLETED)
    yield Case("pay refused", COMPENSATED, (Rule(2, Turn.REFUSED),), pairs=False)
    yield Case("undoing parks the saga", PARKED, (Rule(2, Turn.REFUSED), Rule(1, Turn.REFUSED, kind=UNDO)), pairs=False)
    for effect in (3, 6):
        yield Case(f"cancelled before effect {effect}", ENDED, actors=(cancels(effect),), pairs=False)


EVENTS = feature(
    """
name: events
steps:
  - {name: book, service: 's:1', action: {method: t.S/Book}, compensation: {method: t.S/Unbook, retry: {retries: 0}}}
  - {name: pay, service: 's:2', action: {method: t.S/Pay}, compensation: {method: t.S/Repay}}
""",
    _events,
    relayed=True,
)

ORDERED = (PARALLEL, CONDITIONS, WAITING, CHILDREN, EVENTS)
