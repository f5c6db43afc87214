"""The model of Postgres: the fence, the one statement that writes, the raise, the scan.

What sagalog/term.sql does, in the sub-steps that matter. A statement *begins* (it takes its snapshot, finds the fence
row under its epoch and locks it FOR SHARE) and *commits* later; a raise waits for every lock. `lag` says how many rows
the log has beyond those that a statement was decided on: its first `lag` rows conflict with rows that are there and are
left out (ON CONFLICT DO NOTHING).
"""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.saga.model import SagaState
from tests.search.core import Core, Plan, Shape
from tests.search.mutations import Fence, Rules
from tests.search.world import Message, Stage, Statement, Term, World

_KNOWS_A_SAGA = (Stage.SCANNED, Stage.DECIDING, Stage.WRITING, Stage.CALLING)


class Committed(NamedTuple):
    """The world behind a commit, and how many rows it has written."""

    world: World
    rows: int


def holds_fence(world: World, epoch: int, rules: Rules) -> bool:
    """Whether a statement that begins now finds the fence row under its epoch; without it, it writes nothing."""
    return rules.fence is Fence.NONE or world.fence == epoch


def fence_locked(world: World, rules: Rules) -> bool:
    """Whether a statement that has begun holds the fence row, so that a raise waits."""
    if rules.fence is not Fence.FOR_SHARE:
        return False
    return any(term.begun for term in world.terms) or any(
        isinstance(message, Statement) and message.begun for message in world.network
    )


def raised(world: World, epoch: int) -> World | None:
    """The world behind the raise by the victory of revision `epoch`; None when a later victory has raised it."""
    return None if world.fence >= epoch else world._replace(fence=epoch)


def commit(core: Core, world: World, epoch: int, plan: Plan, lag: int, rules: Rules) -> Committed:
    """Commit what `plan` writes; everybody else's knowledge falls behind by the rows written."""
    decided = core.decided(plan)
    skipped = min(lag, len(decided.rows))
    written = len(decided.rows) - skipped
    log, defect = Shape(world.log), world.defect
    if written:
        appended = core.append(log, plan, skipped)
        if appended is None:
            defect = defect or "the rows of the log do not follow from each other"
        else:
            log = appended
            if log != decided.after:
                defect = defect or "the saga's row and its log disagree"
    # The statement sets the saga's row as well, unless that has come further already.
    if lag > len(decided.rows) and not rules.state_in_order:
        defect = defect or "the saga's row has gone back to an older state than its log has"
    if written:
        world = world._replace(
            log=log,
            stale_rows=world.stale_rows or world.fence > epoch,
            terms=tuple(_behind(term, written) for term in world.terms),
            network=tuple(_behind_message(message, written) for message in world.network),
        )
    return Committed(world._replace(defect=defect), written)


def unfinished(core: Core, world: World, rules: Rules) -> Shape | None:
    """What the recovery scan finds: the saga, if it is running or compensating."""
    state = core.states[world.log]
    wanted = state is SagaState.RUNNING or (state is SagaState.COMPENSATING and rules.scan_finds_compensating)
    return Shape(world.log) if world.sagas and wanted else None


def pending(core: Core, world: World) -> Shape | None:
    """What a look for new work finds: the saga, if nobody has begun it."""
    return Shape(world.log) if world.sagas and core.states[world.log] is SagaState.PENDING else None


def ended(core: Core, world: World) -> bool:
    """Whether the saga is terminal in the log."""
    return core.terminal[world.log]


def _behind(term: Term, rows: int) -> Term:
    return term._replace(lag=term.lag + rows) if term.stage in _KNOWS_A_SAGA else term


def _behind_message(message: Message, rows: int) -> Message:
    return message._replace(lag=message.lag + rows) if isinstance(message, Statement) else message
