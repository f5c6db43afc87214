"""Judges a run: the independent audit on what the models hold, and a few things that only a simulation can see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise

from orchestrator.audit.checks import changes_have_causes
from orchestrator.audit.evidence import (
    Circumstances,
    EffectRow,
    EpochRow,
    Evidence,
    SagaRow,
    StepRow,
    StepShape,
    Tombstone,
)
from orchestrator.audit.finding import Finding
from orchestrator.audit.judge import Verdict, judge
from orchestrator.saga.definition import Work
from orchestrator.saga.events import PAUSED, Status
from orchestrator.saga.model import SagaId, SagaState
from orchestrator.sagalog.port import child_request
from orchestrator.simulation.coverage import features
from orchestrator.simulation.promises import broken
from orchestrator.simulation.replica import MIDNIGHT
from orchestrator.simulation.story import after_pivot, in_force, stories
from orchestrator.simulation.together import broken_together
from orchestrator.simulation.world import CALM_AFTER_S, SimulatedWorld


def verdict(world: SimulatedWorld) -> Verdict:
    """What the audit says of a run: the whole of it, and leadership once more for the calm at its end."""
    evidence = _evidence(world)
    told = tuple(world.clients.acknowledged)
    whole = judge(evidence, Circumstances(told, world.causes + world.postgres.history.raises_unheard))
    if world.healed_at_s is None:
        return whole
    # A leader is there long since: not even the change that a beginning is allowed (faults + 1) may come.
    calm = _at(world.healed_at_s + CALM_AFTER_S)
    quiet = changes_have_causes(evidence, Circumstances(told, -1, since=calm))
    named = Finding("I8", "leadership does not change once the faults are over", quiet.checked, quiet.offences)
    return Verdict((*whole.findings, named))


def _evidence(world: SimulatedWorld) -> Evidence:
    history = world.postgres.history
    requests = {identity: request_id for request_id, identity in history.requests.items()}
    rows = world.postgres.log.rows.values()
    requests |= {row.id: child_request(row.parent, row.parent_step) for row in rows if row.parent is not None}
    return Evidence(
        sagas=[
            SagaRow(
                str(row.id),
                requests[row.id],
                0,
                row.definition,
                row.version,
                row.state.value,
                {"message": row.error} if row.error else None,
                row.input,
            )
            for row in rows
        ],
        steps=list(_steps(world)),
        epochs=[EpochRow(0, row.epoch, row.holder, row.cause, _at(row.at_s)) for row in history.raises],
        definitions={
            (name, version): tuple(
                StepShape(step.name, step.compensation is not None, step.work is Work.CALL) for step in definition.steps
            )
            for name in world.library.first
            for version, definition in world.library.versions(name).items()
        },
        effects=[
            EffectRow(
                name, number, str(effect.saga_id), effect.step, effect.kind.value, effect.epoch, {}, _at(effect.at_s)
            )
            for name, service in world.services.items()
            for number, effect in enumerate(service.shop.effects)
        ],
        tombstones=[
            Tombstone(name, str(saga_id), step)
            for name, service in world.services.items()
            for saga_id, step in sorted(service.shop.tombstones)
        ],
    )


def _steps(world: SimulatedWorld) -> Iterator[StepRow]:
    versions = {identity: in_force(row, world.library) for identity, row in world.postgres.log.rows.items()}
    for row in sorted(world.postgres.history.rows, key=lambda row: (row.saga_id, row.event.sequence)):
        event = row.event
        name = versions[row.saga_id][event.sequence].step(event.position).name if event.position else ""
        yield StepRow(str(row.saga_id), event.sequence, name, event.status.value, event.epoch, _at(row.at_s))


def _at(at_s: float) -> datetime:
    return MIDNIGHT + timedelta(seconds=at_s)


def oddities(world: SimulatedWorld) -> list[str]:
    """What no audit of databases can see: defects, orders that came out wrong, unheard clients, strange parkings."""
    found = list(world.operators.offences)
    found += [f"never released: {one.pause}" for one in world.postgres.log.pauses() if one.released_at is None]
    for replica in world.past:
        found += replica.defects
        if not replica.run.done():
            found.append(f"{replica.incarnation} has not ended")
        elif not replica.run.cancelled() and (error := replica.run.exception()) is not None:
            found.append(f"{replica.incarnation} ended by {error!r}")
    for row in world.postgres.log.rows.values():
        if row.state is SagaState.FAILED and not _may_park(world, row.id):
            found.append(f"saga {row.id} is parked for no cause: {row.error}")
    told_of = list(stories(world, CALM_AFTER_S))
    for story in told_of:
        found += broken(story)
    found += broken_together(world, told_of)
    wanted = world.trace.counts["clients"]
    told = len({acknowledgement.request_id for acknowledgement in world.clients.acknowledged})
    if told != wanted:
        found.append(f"{wanted - told} of {wanted} clients were never told of their sagas")
    return found


def _may_park(world: SimulatedWorld, saga_id: SagaId) -> bool:
    """Whether a saga has a cause to be parked.

    It was made unreadable, a compensation ran out of tries, or a step failed for which there is no way back.
    """
    row = world.postgres.log.rows[saga_id]
    unknown = world.library.get(row.definition, row.version) is None
    if unknown or saga_id in world.postgres.history.corrupt or world.poisons(row.input["order"]):
        return True
    versions = in_force(row, world.library)
    return any(
        event.status is Status.COMPENSATION_FAILED
        or (event.status is Status.PARKED and event.position in after_pivot(versions[event.sequence]))
        for event in row.events
    )


def statistics(world: SimulatedWorld) -> Counter[str]:
    """How deep the faults went: what was struck in the middle of its work, and how sagas ended."""
    counts = Counter(world.trace.counts)
    for row in world.postgres.log.rows.values():
        counts[f"saga {row.state.value}"] += 1
        counts["steps held by a pause"] += sum(event.code == PAUSED for event in row.events)
        epochs = {event.epoch for event in row.events}
        counts["sagas carried on by another leader"] += len(epochs) > 1
        counts["sagas carried on by three leaders or more"] += len(epochs) > 2
        intents = [event for event in row.events if event.status.value in ("executing", "compensating")]
        counts["intents written again by a successor"] += sum(
            later.epoch != earlier.epoch and (later.position, later.status) == (earlier.position, earlier.status)
            for earlier, later in pairwise(intents)
        )
    counts["terms"] += len(world.postgres.history.raises)
    counts.update(features(world, stories(world, CALM_AFTER_S)))
    return counts
