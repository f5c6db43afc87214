"""What sagas promise of each other, and to those who tell them something: children, approvals, answers to all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from orchestrator.saga.definition import Work
from orchestrator.saga.events import Status
from orchestrator.saga.model import SagaState
from orchestrator.saga.signals import Verb
from orchestrator.sagalog.memory_rows import Row
from orchestrator.simulation.move_promises import broken_moves
from orchestrator.simulation.stage import Stage
from orchestrator.simulation.story import Story


def broken_together(stage: Stage, stories: list[Story]) -> Iterator[str]:
    """Everything that speaks against the sagas of a run together."""
    yield from _every_signal_is_answered(stage)
    yield from _children(stage, stories)
    yield from _approvals(stage, stories)
    yield from broken_moves(stage, stories)


def _every_signal_is_answered(stage: Stage) -> Iterator[str]:
    for number, posted in stage.postgres.log.posted.items():
        if not posted.heard:
            yield f"signal {number} ({posted.signal.verb}) of saga {posted.saga_id} was never heeded nor refused"


def _children(stage: Stage, stories: list[Story]) -> Iterator[str]:
    rows = stage.postgres.log.rows
    begun = Counter((row.parent, row.parent_step) for row in rows.values() if row.parent is not None)
    for (parent, name), count in begun.items():
        if count > 1:
            yield f"saga {parent} began {count} children for {name}"
    children = {(row.parent, row.parent_step): row for row in rows.values() if row.parent is not None}
    undo = {posted.saga_id for posted in stage.postgres.log.posted.values() if posted.signal.verb is Verb.UNDO}
    for story in stories:
        for position, step in story.steps():
            if step.work is not Work.CHILD or story.by_hand(position):
                continue
            child = children.get((story.row.id, step.name))
            left_alone = step.child is not None and not step.child.undone
            if child is not None and left_alone and child.id in undo:
                yield f"saga {child.id} was to be left alone, and was told to undo itself"
            for what in _child(story, position, child, left_alone):
                yield f"saga {story.row.id}: {step.name} {what}"


def _child(story: Story, position: int, child: Row | None, left_alone: bool) -> Iterator[str]:
    done = story.has(position, Status.COMPLETED)
    if done and child is None:
        yield "was completed, and no child was ever begun"
    if child is None:
        return
    if story.row.state is SagaState.COMPLETED and done and child.state is not SagaState.COMPLETED:
        yield f"was completed, but its child is {child.state}"
    if story.row.state is SagaState.COMPENSATED and not left_alone and child.state is not SagaState.COMPENSATED:
        yield f"was undone, but its child is {child.state}"


def _approvals(stage: Stage, stories: list[Story]) -> Iterator[str]:
    for story in stories:
        for position, step in story.steps():
            approved = step.work is Work.APPROVAL and story.has(position, Status.COMPLETED)
            if approved and (story.row.id, step.name) not in stage.people.approved:
                yield f"saga {story.row.id}: {step.name} counts as approved, and nobody said yes"
