"""What a parent makes of what it hears of its child saga, and when."""

from __future__ import annotations

from uuid import UUID

from orchestrator.saga.commands import Accepted, Begin, Outcome, Succeeded
from orchestrator.saga.machine import Moment, decide, next_commands
from orchestrator.saga.model import Json, Saga, SagaId, SagaState
from orchestrator.saga.parse import parse
from orchestrator.saga.signals import Verb

from .sagas import NOW, Walk

PARENT = """
name: test
steps:
  - {name: a, saga: {definition: child}}
  - {name: b, service: 'h:1', action: {method: t.S/Do}, compensation: none}
"""
UNDONE: Json = {"state": "COMPENSATED", "result": None, "error": {"message": "undone"}}
DONE: Json = {"state": "COMPLETED", "result": {"result": {"n": 1}}, "error": None}


def parent() -> Walk:
    return Walk(Saga(SagaId(UUID(int=1)), parse(PARENT, 1), {}, {}, NOW)).ready()


def begun(walk: Walk, outcome: Outcome) -> Walk:
    """What came of beginning the child, or of having it undone."""
    assert any(isinstance(command, Begin) for command in next_commands(walk.saga, walk.epoch))
    saga, events = decide(walk.saga, outcome, Moment(walk.epoch, walk.now, 0.0), walk.cancel, 1)
    return walk._went(saga, events)


def turning() -> Walk:
    """A parent that turns back and is about to have its child, which has completed, undone."""
    walk = begun(parent(), Accepted())
    assert walk.signal(Verb.CHILD, "a", result=DONE) == ""
    walk.cancelled().tell("b", Succeeded({}))
    assert walk.told[-1] == "compensating a"
    return walk


def test_the_end_of_a_child_waits_until_its_parent_knows_that_it_was_begun() -> None:
    walk = parent()
    assert walk.deferred(Verb.CHILD, "a")
    begun(walk, Accepted())
    assert walk.signal(Verb.CHILD, "a", result=DONE) == ""
    assert walk.told[-2:] == ["completed a", "executing b"]


def test_the_end_of_a_child_waits_until_its_parent_knows_that_it_is_being_undone() -> None:
    # After a failover the child may be undone by the order of the former leader, before this one has heard that its own
    # order was stored. Heeded now it would be lost, and the parent would wait for ever.
    walk = turning()
    assert walk.deferred(Verb.CHILD, "a")
    begun(walk, Accepted())
    assert walk.signal(Verb.CHILD, "a", result=UNDONE) == ""
    assert walk.saga.state is SagaState.COMPENSATED


def test_what_was_said_under_a_former_leader_is_asked_for_again() -> None:
    walk = turning()
    walk.epoch = type(walk.epoch)(walk.epoch + 1)
    assert walk.signal(Verb.CHILD, "a", result=UNDONE) == ""
    assert begun(walk, Succeeded({})).saga.state is SagaState.COMPENSATED
