"""What a move to another version of a definition promises, judged on the stories of a run.

None of it asks the core: what has begun is told by the rows and by the calls that arrived, and the versions are
compared as they are written. What a moved saga promises otherwise stands in promises.py, for each row by the version
in force.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from orchestrator.saga.definition import Definition
from orchestrator.saga.events import Order, Status
from orchestrator.saga.model import Kind, SagaId
from orchestrator.saga.signals import Verb
from orchestrator.sagalog.memory_rows import Posted
from orchestrator.simulation.definitions import Document
from orchestrator.simulation.editions import EDITION, Library
from orchestrator.simulation.postgres import Logged
from orchestrator.simulation.stage import Stage
from orchestrator.simulation.story import ACTING, Story, seconds

# What nobody may change of a step that has begun, and what of a call that has arrived.
_ITS = ("name", "after", "when", "pivot", "delay", "approval")
_CALLED = ("service", "action", "answer")

_TURNED = frozenset(
    {Status.COMPENSATING, Status.CANCELLED, Status.EXPIRED, Status.UNDONE, Status.FAILED, Status.UNKNOWN}
)


def broken_moves(stage: Stage, stories: list[Story]) -> Iterator[str]:
    """Everything that speaks against the moves of a run."""
    ordered: dict[SagaId, list[Posted]] = defaultdict(list)
    for posted in stage.postgres.log.posted.values():
        if posted.signal.verb is Verb.MOVE:
            ordered[posted.saga_id].append(posted)
    for story in stories:
        found = [
            *_one_row_an_order(story, ordered[story.row.id]),
            *_from_version_to_version(story),
            *_nothing_begun_changes(story, stage.library),
            *_one_request_a_key(story),
            *_called_by_the_version_in_force(story, stage.library),
            *_refused_for_a_cause(story, ordered[story.row.id], stage.library),
        ]
        yield from (f"saga {story.row.id} ({story.definition.name}): {what}" for what in found)


def moves(story: Story) -> Iterator[Logged]:
    """The rows that say that the saga is moved."""
    return (row for row in story.rows if row.event.status is Status.MOVED)


def _one_row_an_order(story: Story, ordered: list[Posted]) -> Iterator[str]:
    """Who ordered a move, and why, stands in one row if it was heeded, and in none if it was refused."""
    rows: dict[Order | None, list[Logged]] = defaultdict(list)
    for row in story.rows:
        rows[row.event.order].append(row)
    for posted in ordered:
        named, its = posted.signal.order, rows[posted.signal.order]
        if posted.heard and len(its) != (0 if posted.refusal else 1):
            yield f"{len(its)} rows for the move of {named}, which was {posted.refusal or 'heeded'}"
        to = (posted.signal.result or {}).get("to")
        for row in its:
            if row.event.status is not Status.MOVED or (row.event.result or {}).get("to") != to:
                yield f"row {row.event.sequence} ({row.event.status}) is for the move of {named} to version {to}"
    known = {posted.signal.order for posted in ordered}
    for row in moves(story):
        if row.event.order not in known:
            yield f"row {row.event.sequence} moves the saga, by {row.event.order}, and nobody has ordered that"


def _from_version_to_version(story: Story) -> Iterator[str]:
    """Each move begins at the version where the one before it ended, and the saga goes by the last one."""
    at: int | None = None
    for row in moves(story):
        told = row.event.result or {}
        if told.get("from") == told.get("to") or at not in (None, told.get("from")):
            yield f"row {row.event.sequence} moves from version {told.get('from')} to {told.get('to')}, being at {at}"
        at = told.get("to")
    if at not in (None, story.row.version):
        yield f"goes by version {story.row.version}, and was moved to {at}"


def _nothing_begun_changes(story: Story, library: Library) -> Iterator[str]:
    """What has begun is equal in the version that a saga is moved to."""
    for move in moves(story):
        old, new = story.under(move), library.get(story.definition.name, (move.event.result or {}).get("to", 0))
        if new is None:
            yield f"row {move.event.sequence} moves the saga to a version that is not there"
            continue
        for position in _begun(row for row in story.rows if row.event.sequence < move.event.sequence):
            if position > len(new.steps) or new.step(position).name != old.step(position).name:
                yield f"row {move.event.sequence}: step {position} has begun, and version {new.version} has another one"
                continue
            its, others = (library.written(one, old.step(position).name) for one in (old, new))
            for field in _fixed(story, position, its["name"], move):
                if _read(its, field) != _read(others, field):
                    what = f"{its['name']} has begun, and version {new.version} has another {field} of it"
                    yield f"row {move.event.sequence}: {what}"


def _begun(rows: Iterable[Logged]) -> list[int]:
    """The steps that these rows are of. That a parked saga is retried may name one that it has not come to."""
    return sorted({row.event.position for row in rows if row.event.status is not Status.RETRIED} - {0})


def _fixed(story: Story, position: int, name: str, move: Logged) -> Iterator[str]:
    """What of a step must not differ: all that it was called by, and what undoes what was done.

    Of one that is over for a saga that turns back, and has left nothing to undo, the place is all that counts.
    """
    before = [row for row in story.rows if row.event.sequence < move.event.sequence]
    its = [row.event.status for row in before if row.event.position == position]
    arrived = any(call.at_s < move.at_s for call in story.called.get((name, Kind.ACTION), ()))
    done, undone = Status.COMPLETED in its, Status.COMPENSATING in its
    perhaps = arrived and story.under(move).step(position).undoable and Status.FAILED not in its
    if any(row.event.status in _TURNED for row in before) and not (done or undone or perhaps):
        return
    yield from _ITS
    yield from _CALLED if arrived or done else ()
    if done and not undone:
        yield "compensation"


def _read(step: Document, field: str) -> object:
    """A field as it counts: how often a compensation is tried is no part of what it does."""
    value = step.get(field)
    if field == "compensation" and isinstance(value, dict):
        return (value["method"], value["request"])
    return value or None


def _one_request_a_key(story: Story) -> Iterator[str]:
    """Whoever was called is called with the same request ever after, and nobody else is in its place."""
    for (name, kind), calls in story.called.items():
        if len(calls) > 1:
            told = "; ".join(f"{call.service} {call.request}" for call in calls)
            yield f"{name} has {len(calls)} requests for one {kind}: {told}"


def _called_by_the_version_in_force(story: Story, library: Library) -> Iterator[str]:
    """What is called, and where, is said by the version under which that was intended."""
    for (name, kind), calls in story.called.items():
        for call in calls:
            intent = _intent(story, name, kind, call.at_s)
            if intent is None:
                yield f"{name} was called, and no {kind} of it was ever intended"
                continue
            version = story.under(intent)
            step = library.written(version, name)
            mapping = step["action"] if kind is Kind.ACTION else step["compensation"]
            if (EDITION in mapping["request"]) != (EDITION in call.request) or step["service"] != call.service:
                told = f"{name} was called at {call.service} with {call.request}"
                yield f"{told}, and not as version {version.version} says"


def _intent(story: Story, name: str, kind: Kind, before_s: float) -> Logged | None:
    """The latest intent for this before that time."""
    intents = ACTING if kind is Kind.ACTION else frozenset({Status.COMPENSATING})
    rows = (row for row in story.rows if row.event.status in intents and row.at_s <= before_s)
    return next((row for row in reversed(list(rows)) if story.step(row).name == name), None)


def _refused_for_a_cause(story: Story, ordered: list[Posted], library: Library) -> Iterator[str]:
    """A move is not refused where nothing stands against it: whatever differs had not begun when it was refused."""
    for posted in ordered:
        if "cannot be moved" not in posted.refusal or "look again" in posted.refusal or posted.heard_at is None:
            continue
        rows = [row for row in story.rows if row.at_s <= seconds(posted.heard_at)]
        to = library.get(story.definition.name, (posted.signal.result or {}).get("to", 0))
        at = _version_behind(story, rows, library)
        if to is None or at is None or to.version == at.version or any(row.event.status in _TURNED for row in rows):
            continue
        if at.within_s == to.within_s and all(_equal(library, at, to, position) for position in _begun(rows)):
            yield f"was not moved to version {to.version}, although nothing is in the way: {posted.refusal}"


def _version_behind(story: Story, rows: list[Logged], library: Library) -> Definition | None:
    """By which version the saga goes behind these rows."""
    if not rows:
        return next(iter(story.in_force.values()), story.definition)
    last = rows[-1]
    moved = last.event.status is Status.MOVED
    return library.get(story.definition.name, (last.event.result or {}).get("to", 0)) if moved else story.under(last)


def _equal(library: Library, at: Definition, to: Definition, position: int) -> bool:
    name = at.step(position).name
    if position > len(to.steps) or to.step(position).name != name:
        return False
    its, others = library.written(at, name), library.written(to, name)
    fields: Mapping[str, object] = {**its, **others}
    return all(_read(its, field) == _read(others, field) for field in fields if field not in ("retry", "timeout"))
