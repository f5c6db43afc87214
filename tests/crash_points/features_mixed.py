"""Features that meet: everything side by side in one saga, child sagas that wait, or that cannot be undone."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.saga.events import Status
from orchestrator.saga.model import Kind
from orchestrator.saga.signals import Verb

from .cases import COMPENSATED, COMPLETED, ENDED, Case, Rule, Turn
from .flow import Flow, feature
from .people import Actor, cancel, cancels, child_is, declines, finishes, logged, order, parked, tells

UNDO = Kind.COMPENSATION

PARCEL = """
name: parcel
steps:
  - {name: wrap, service: 's:4', action: {method: t.S/Wrap}, compensation: {method: t.S/Unwrap}}
"""


def _mixed(flow: Flow) -> Iterator[Case]:
    yes = order(Verb.APPROVE, "agreed", when=logged(Status.WAITING, "agreed"), after_s=2.0)
    no = order(Verb.REJECT, "agreed", when=logged(Status.WAITING, "agreed"), after_s=0.5)
    done, told = finishes("print", 1.0), tells("print")
    all_say_yes = (yes, done, told)
    print_later, slow = Rule(2, Turn.ACCEPTED), Rule(6, Turn.DONE, slow_s=1.5)
    yield Case("success", COMPLETED, (print_later, slow), all_say_yes)
    yield Case("pay refused", COMPENSATED, (print_later, Rule(6, Turn.REFUSED)), all_say_yes, pairs=False)
    late = (print_later, Rule(6, Turn.REFUSED, slow_s=1.5))
    yield Case("pay refused when others are done", COMPENSATED, late, all_say_yes, pairs=False)
    yield Case("rejected while pay is under way", COMPENSATED, (print_later, slow), (no, done, told), pairs=False)
    declined = (print_later, slow)
    yield Case("print declined", COMPENSATED, declined, (yes, declines("print"), told), pairs=False)
    child = (print_later, slow, Rule(1, Turn.REFUSED, definition="parcel"))
    yield Case("the child fails", COMPENSATED, child, all_say_yes, pairs=False)
    again = (print_later, Rule(6, Turn.UNHEARD, 1))
    yield Case("pay is tried again while others wait", COMPLETED, again, all_say_yes, pairs=False)
    paused = order(Verb.PAUSE, when=logged(Status.WAITING), after_s=0.2)
    resumed = order(Verb.RESUME, when=logged(Status.PAUSED), after_s=8.0)
    held = (*all_say_yes, paused, resumed)
    yield Case("paused over all that comes", COMPLETED, (print_later, slow), held, pairs=False)
    turned = Actor("cancel", cancel, when=logged(Status.WAITING), after_s=0.7)
    yield Case("cancelled while all wait", COMPENSATED, (print_later, slow), (*all_say_yes, turned), also=COMPLETED)
    last = (print_later, Rule(7, Turn.REFUSED))
    yield Case("last refused", COMPENSATED, last, all_say_yes, pairs=False)
    for effect in range(4, 12):
        struck = (cancels(effect), *all_say_yes)
        yield Case(f"cancelled before effect {effect}", ENDED, (print_later,), struck, pairs=False)


MIXED = feature(
    """
name: mixed
compensate: parallel
steps:
  - {name: book, service: 's:1', action: {method: t.S/Book}, compensation: {method: t.S/Unbook}}
  - name: print
    after: [book]
    service: 's:2'
    answer: later
    within: 30s
    action: {method: t.S/Print}
    compensation: {method: t.S/Shred}
  - {name: agreed, after: [book], approval: {}}
  - {name: pause, after: [book], delay: 5s}
  - {name: pack, after: [book], saga: {definition: parcel}}
  - {name: pay, after: [book], service: 's:3', action: {method: t.S/Pay}, compensation: {method: t.S/Repay}}
  - name: last
    after: [print, agreed, pause, pack, pay]
    service: 's:3'
    action: {method: t.S/Last}
    compensation: {method: t.S/Unlast}
""",
    _mixed,
    children=(PARCEL,),
    attempts_told=3,
)


def _late_child(flow: Flow) -> Iterator[Case]:
    expired = (("expired", 1), ("compensated", 2))
    yield Case("the deadline comes first", COMPENSATED, rows=expired, gap_s=12.0, gap_ends=COMPENSATED)
    trouble = Rule(1, Turn.UNHEARD, 1, UNDO, definition="slow-parcel")
    yield Case("the child is undone with trouble", COMPENSATED, (trouble,), rows=expired, pairs=False)
    hastened = order(Verb.SKIP, "rest", of="pack", when=child_is("pack", "RUNNING"), after_s=1.0)
    yield Case("the child's delay is skipped", COMPLETED, actors=(hastened,), also=COMPENSATED)
    held = order(Verb.PAUSE, of="pack", when=child_is("pack", "RUNNING"))
    yield Case("the child is paused", COMPENSATED, actors=(held,), rows=expired, pairs=False)
    turned = Actor("cancel", cancel, when=child_is("pack", "RUNNING"), after_s=2.0)
    yield Case("cancelled while the child sleeps", COMPENSATED, actors=(turned,), rows=(("compensated", 2),))


SLOW_PARCEL = """
name: slow-parcel
steps:
  - {name: wrap, service: 's:4', action: {method: t.S/Wrap}, compensation: {method: t.S/Unwrap}}
  - {name: rest, delay: 30s}
"""

LATE_CHILD = feature(
    """
name: late-child
within: 10s
steps:
  - {name: book, service: 's:1', action: {method: t.S/Book}, compensation: {method: t.S/Unbook}}
  - {name: pack, saga: {definition: slow-parcel}}
""",
    _late_child,
    children=(SLOW_PARCEL,),
)


def _sealed_child(flow: Flow) -> Iterator[Case]:
    yield Case("success", COMPLETED)
    no = Rule(2, Turn.REFUSED, definition="invoice")
    # A refusal of the pivot behind a crash is in doubt: the child is parked, and its parent waits for a person as well.
    passed = order(Verb.SKIP, "send", of="bill", when=child_is("bill", "FAILED"))
    yield Case("the child refuses its pivot", COMPENSATED, (no,), (passed,), also=COMPLETED, pairs=False)
    ship = Rule(4, Turn.REFUSED)
    # The invoice is out: it stays, and a person has to see to it. The parcel is left alone, as the definition says.
    by_hand = order(Verb.RESOLVE, "bill", when=parked)
    one_by_hand = (("parked", 1), ("resolved", 1))
    yield Case("the child cannot be undone", COMPENSATED, (ship,), (by_hand,), rows=one_by_hand, pairs=False)


INVOICE = """
name: invoice
steps:
  - {name: draw, service: 's:5', action: {method: t.S/Draw}, compensation: {method: t.S/Erase}}
  - {name: send, service: 's:5', pivot: true, action: {method: t.S/Send}}
"""

SEALED_CHILD = feature(
    """
name: sealed-child
steps:
  - {name: book, service: 's:1', action: {method: t.S/Book}, compensation: {method: t.S/Unbook}}
  - {name: pack, saga: {definition: parcel}, compensation: none, reason: it is thrown away}
  - {name: bill, saga: {definition: invoice}}
  - {name: ship, service: 's:2', action: {method: t.S/Ship}, compensation: {method: t.S/Unship}}
""",
    _sealed_child,
    children=(PARCEL, INVOICE),
    attempts_told=14,
)

MEETING = (MIXED, LATE_CHILD, SEALED_CHILD)
