"""Pauses of definitions and of participants, while their sagas are in flight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.saga.events import PAUSED
from orchestrator.saga.model import Kind
from orchestrator.saga.pausing import PauseKind

from .cases import COMPENSATED, COMPLETED, Case, Rule, Turn
from .flow import Flow, feature
from .pausing import Ask
from .people import Actor, cancel

if TYPE_CHECKING:
    from .world import World

# The effects of a run without any trouble: the raise, the first intent, a call and a row for each step.
_EFFECTS = 6

# So long a call takes, in seconds: a leader looks for new pauses while it is under way.
_SLOW_S = 0.6
_SLOW = (Rule(1, Turn.DONE, slow_s=_SLOW_S), Rule(2, Turn.DONE, slow_s=_SLOW_S))


def _go(at: int) -> Actor:
    """Tells the operator to begin, before this effect of the golden run."""
    return Actor("go", lambda world: None, at=at)


def _gone(world: World) -> bool:
    return "go" in world.told


def _held(world: World) -> bool:
    """Some saga waits for the end of a pause, or has ended before the pause could hold it."""
    return world.row.state.terminal or any(event.code == PAUSED for event in world.row.events)


def _pause(of: PauseKind, name: str) -> Ask:
    return Ask(False, of, name, _gone)


def _resume(of: PauseKind, name: str, after_s: float = 1.0) -> Ask:
    return Ask(True, of, name, lambda world: True, after_s)


def _paused(flow: Flow) -> Iterator[Case]:
    definition, participant = (PauseKind.DEFINITION, flow.definition.name), (PauseKind.PARTICIPANT, "s:2")
    refused, repay = Rule(2, Turn.REFUSED, slow_s=_SLOW_S), Rule(1, Turn.UNHEARD, 1, Kind.COMPENSATION)
    for which in (definition, participant):
        of, asks = which[0], (_pause(*which), _resume(*which))
        for effect in range(_EFFECTS):
            struck = effect == 2
            yield Case(f"{of} paused at effect {effect}", COMPLETED, _SLOW, (_go(effect),), asks=asks, pairs=struck)
        back = (_SLOW[0], refused, repay)
        # What undoes the first step is held.
        first = asks if of is PauseKind.DEFINITION else (_pause(of, "s:1"), _resume(of, "s:1"))
        yield Case(f"{of} paused, and refused", COMPENSATED, back, (_go(4),), asks=first, pairs=False)
        turned = Actor("cancel", cancel, when=_held, after_s=0.2)
        yield Case(
            f"{of} paused, and cancelled", COMPENSATED, _SLOW, (_go(1), turned), COMPLETED, asks=asks, pairs=False
        )
        yield Case(
            f"{of} paused when nobody leads", COMPLETED, _SLOW, (_go(1),), asks=asks, gap_s=20.0, gap_ends=COMPLETED,
            pairs=False,
        )  # fmt: skip
    both = (_pause(*definition), _pause(*participant), _resume(*definition), _resume(*participant, after_s=2.0))
    yield Case("both paused", COMPLETED, _SLOW, (_go(1),), asks=both, pairs=False)
    again = (_pause(*participant), _resume(*participant), _pause(*definition), _resume(*definition))
    yield Case("one paused after the other", COMPLETED, _SLOW, (_go(0),), asks=again, pairs=False)


PAUSED_FLOW = """
name: {name}
steps:
  - {{name: book, service: 's:1', action: {{method: t.S/Book}}, compensation: {{method: t.S/Unbook}}}}
  - name: pay
    service: 's:2'
    retry: {{retries: 0}}
    action: {{method: t.S/Pay}}
    compensation: {{method: t.S/Repay}}
"""
PAUSED_ONE = feature(PAUSED_FLOW.format(name="paused"), _paused)


def _paused_many(flow: Flow) -> Iterator[Case]:
    """Several sagas are in flight when their definition, and one of its participants, are paused."""
    definition, participant = (PauseKind.DEFINITION, flow.definition.name), (PauseKind.PARTICIPANT, "s:2")
    asks = (_pause(*definition), _pause(*participant), _resume(*participant), _resume(*definition))
    yield Case("both paused in flight", COMPLETED, _SLOW, (_go(1),), asks=asks, pairs=False)
    refused = (_SLOW[0], Rule(2, Turn.REFUSED, slow_s=_SLOW_S))
    yield Case("both paused, and all are undone", COMPENSATED, refused, (_go(5),), asks=asks, pairs=False)


PAUSED_MANY = feature(PAUSED_FLOW.format(name="paused-many"), _paused_many, sagas=2)

GOVERNED = (PAUSED_ONE, PAUSED_MANY)
