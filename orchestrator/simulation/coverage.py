"""Which features of the saga language a run has come to, and how often many runs must: else they show nothing of them.

Counted in what was logged, not in what was drawn: a definition with a pivot counts when a saga has passed it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from orchestrator.saga.definition import OnUnknown, Step, Work
from orchestrator.saga.events import NOT_CALLED, PAUSED, Event, Status
from orchestrator.saga.signals import Verb
from orchestrator.sagalog.memory_rows import Posted
from orchestrator.simulation.postgres import Logged
from orchestrator.simulation.stage import Stage
from orchestrator.simulation.story import ACTING, Story, seconds

PREFIX = "feature "

# Times in a hundred seeds at the least: about half of what a thousand seeds give.
WANTED: dict[str, float] = {
    "accepted": 400,
    "answer heard while parked": 2.5,
    "answer lost": 12,
    "answer twice or too late": 40,
    "approval out of time": 30,
    "approved": 200,
    "cancelled": 150,
    "cancelled behind the pivot, in vain": 5,
    "child": 300,
    "child failed": 80,
    "child not to be undone": 40,
    "child of a child": 30,
    "compensation given up": 7,
    "compensation held by an outage": 50,
    "compensation tried again": 100,
    "compensations side by side": 30,
    "completed child undone": 8,
    "completed later": 150,
    "condition holds": 250,
    "date": 80,
    "delay": 150,
    "delayed start": 80,
    "final code": 12,
    "forced": 20,
    "heartbeat": 300,
    "heartbeat lost": 25,
    "held by an outage": 120,
    "held by the breaker": 60,
    "held by a pause": 60,
    "limit in the retry policy": 40,
    "long sleep": 60,
    "move refused: what has begun differs": 120,
    "move refused: no such version": 15,
    "moved": 150,
    "moved back": 35,
    "moved before it began": 30,
    "moved beside a call under way": 50,
    "moved when it was parked, and retried": 1.5,
    "moved while it turned back": 25,
    "moved, and carried on by another leader": 90,
    "moved, and something begun that only that version has": 6,
    "order refused": 150,
    "parked at the pivot or behind it": 60,
    "parked, and retried": 20,
    "paused": 60,
    "pivot passed": 300,
    "refusal tried again": 50,
    "refused later": 15,
    "rejected": 25,
    "resolved": 10,
    "resumed": 50,
    "retried": 30,
    "saga out of time": 25,
    "skipped by an order": 15,
    "skipped by its condition": 300,
    "status method asked": 60,
    "status method: done": 20,
    "status method: not done": 20,
    "step out of time": 90,
    "steps side by side": 400,
    "timer carried over a failover": 40,
    "turned back at once, outcome unknown": 20,
    "unknown outcome tried again": 90,
    "unknown outcome undone": 80,
}

# So long a saga is kept in memory to wait; longer, it sleeps (driving/driver.py).
_SLEEPS_S = 2.0
_BEGUN = frozenset({Status.EXECUTING, Status.WAITING})
_ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.UNKNOWN, Status.SKIPPED, Status.FORCED})
_UNDONE = frozenset({Status.COMPENSATED, Status.RESOLVED, Status.COMPENSATION_FAILED})
_ORDERS = {
    Status.PAUSED: "paused",
    Status.RESUMED: "resumed",
    Status.SKIPPED: "skipped by an order",
    Status.FORCED: "forced",
    Status.RESOLVED: "resolved",
}
_PLAIN = {
    Status.RETRYING: "unknown outcome tried again",
    Status.REFUSED: "refusal tried again",
    Status.ABSENT: "status method: not done",
    Status.COMPENSATION_RETRYING: "compensation tried again",
    Status.COMPENSATION_HELD: "compensation held by an outage",
    Status.COMPENSATION_FAILED: "compensation given up",
    Status.EXPIRED: "saga out of time",
    Status.CANCELLED: "cancelled",
    Status.UNDONE: "completed child undone",
}


def features(stage: Stage, stories: Iterable[Story]) -> Counter[str]:
    """How often the sagas of a run came to each feature."""
    counts: Counter[str] = Counter(dict.fromkeys((PREFIX + name for name in WANTED), 0))
    rows = stage.postgres.log.rows
    for story in stories:
        counts.update(PREFIX + name for name in _of(story))
        parent = rows.get(story.row.parent) if story.row.parent is not None else None
        if parent is not None:
            counts[PREFIX + "child"] += 1
            counts[PREFIX + "child of a child"] += parent.parent is not None
    for posted in stage.postgres.log.posted.values():
        counts.update(PREFIX + name for name in _of_signal(posted))
    counts[PREFIX + "answer lost"] += stage.trace.counts["answer_forgotten"]
    return counts


def shortfalls(counts: Counter[str], seeds: int) -> dict[str, float]:
    """The features that came too seldom, with how often they came in a hundred seeds."""
    found = {name: 100 * counts[PREFIX + name] / seeds for name in WANTED}
    return {name: often for name, often in found.items() if often < WANTED[name]}


def _of(story: Story) -> Iterator[str]:
    yield from _side_by_side(story)
    yield from _whole(story)
    yield from _moved(story)
    parked = False
    for row in story.rows:
        event = row.event
        yield from (name for status, name in _PLAIN.items() if status is event.status)
        if event.order is not None and event.status in _ORDERS:
            yield _ORDERS[event.status]
        if event.status is Status.RETRIED:
            yield "parked, and retried" if parked else "retried"
        if parked and event.status is Status.COMPLETED:
            yield "answer heard while parked"
        parked = event.status is Status.PARKED
        if event.position:
            yield from _of_step(story, row)


def _of_step(story: Story, row: Logged) -> Iterator[str]:
    event = row.event
    step = story.step(row)
    if (found := _FOUND.get(event.status)) is not None and (name := found(step, event)):
        yield name
    if event.status is Status.WAITING and step.delay is not None and event.retry_at is not None:
        yield from ("long sleep",) if seconds(event.retry_at) - row.at_s > _SLEEPS_S else ()
    message = event.message or ""
    if "not done within" in message or "no answer within" in message:
        yield "step out of time"
    if event.code in step.retry.final:
        yield "final code"
    elif event.code in _CODES:
        yield _CODES[event.code]


_HOLDS = {NOT_CALLED: "held by the breaker", PAUSED: "held by a pause"}
_CODES = {
    "CHILD_COMPENSATED": "child failed",
    "CHILD_NOT_UNDONE": "child not to be undone",
    "HEARTBEAT_LOST": "heartbeat lost",
}


def _waiting(step: Step, event: Event) -> str:
    if step.delay is not None:
        return "date" if step.delay.until is not None else "delay"
    return "accepted" if step.work is Work.CALL else ""


def _failed(step: Step, event: Event) -> str:
    if step.work is not Work.APPROVAL:
        return ""
    return "approval out of time" if "nobody has answered" in (event.message or "") else "rejected"


# By status, what a row of a step shows; nothing, if it is empty.
_FOUND: dict[Status, Callable[[Step, Event], str]] = {
    Status.HELD: lambda _, event: _HOLDS.get(event.code or "", "held by an outage"),
    Status.SKIPPED: lambda _, event: "skipped by its condition" if event.order is None else "",
    Status.EXECUTING: lambda step, event: "condition holds" if event.attempt == 1 and step.when is not None else "",
    Status.WAITING: _waiting,
    Status.COMPLETED: lambda step, _: "approved" if step.work is Work.APPROVAL else "",
    Status.QUERYING: lambda _, __: "status method asked",
    Status.PARKED: lambda _, __: "parked at the pivot or behind it",
    Status.UNKNOWN: lambda step, _: (
        "turned back at once, outcome unknown" if step.on_unknown is OnUnknown.COMPENSATE else ""
    ),
    Status.FAILED: _failed,
}


def _side_by_side(story: Story) -> Iterator[str]:
    acting: set[int] = set()
    undoing: set[int] = set()
    retries: dict[int, int] = {}
    for row in story.rows:
        event = row.event
        if event.status in _BEGUN and event.position not in acting:
            yield from ("steps side by side",) if acting else ()
            acting.add(event.position)
        elif event.status is Status.COMPENSATING and event.position not in undoing:
            yield from ("compensations side by side",) if undoing else ()
            undoing.add(event.position)
        elif event.status in _ENDED:
            acting.discard(event.position)
        elif event.status in _UNDONE:
            undoing.discard(event.position)
        if event.status in ACTING and retries.pop(event.position, event.epoch) != event.epoch:
            yield "timer carried over a failover"
        if event.status in (Status.RETRYING, Status.REFUSED, Status.HELD):
            retries[event.position] = event.epoch


def _moved(story: Story) -> Iterator[str]:
    for number, row in enumerate(story.rows):
        if row.event.status is not Status.MOVED:
            continue
        before, behind = story.rows[:number], story.rows[number + 1 :]
        told = row.event.result or {}
        yield "moved back" if told["to"] < told["from"] else "moved"
        latest = {one.event.position: one.event.status for one in before}
        if not before:
            yield "moved before it began"
        if ACTING & set(latest.values()) or Status.COMPENSATING in latest.values():
            yield "moved beside a call under way"
        if (
            before
            and before[-1].event.status is Status.PARKED
            and any(one.event.status is Status.RETRIED for one in behind)
        ):
            yield "moved when it was parked, and retried"
        if any(one.event.status is Status.COMPENSATING for one in before):
            yield "moved while it turned back"
        if any(one.event.epoch != row.event.epoch for one in behind):
            yield "moved, and carried on by another leader"
        names = {step.name for step in story.under(row).steps}
        if any(one.event.position and story.step(one).name not in names for one in behind):
            yield "moved, and something begun that only that version has"


def _whole(story: Story) -> Iterator[str]:
    sealed_at_s = story.sealed_at_s
    if sealed_at_s is not None:
        yield "pivot passed"
        if story.cancelled_at_s is not None and story.cancelled_at_s > sealed_at_s:
            yield "cancelled behind the pivot, in vain"
    if story.row.starts_at is not None and story.rows:
        yield "delayed start"
    for position, step in story.steps():
        if step.retry.within_s is not None and story.has(position, Status.EXECUTING):
            yield "limit in the retry policy"
        if step.on_unknown is OnUnknown.QUERY and story.has(position, Status.QUERYING):
            yield from ("status method: done",) if story.has(position, Status.COMPLETED) else ()
        if story.has(position, Status.UNKNOWN) and story.has(position, Status.COMPENSATED):
            yield "unknown outcome undone"


_NOT_MOVED = {"cannot be moved to": "what has begun differs", "there is no version": "no such version"}


def _of_signal(posted: Posted) -> Iterator[str]:
    verb = posted.signal.verb
    if verb is Verb.MOVE and posted.refusal:
        yield from (f"move refused: {why}" for words, why in _NOT_MOVED.items() if words in posted.refusal)
    if verb in (Verb.COMPLETE, Verb.FAIL):
        if not posted.heard:
            return
        if posted.refusal:
            yield "answer twice or too late"
        else:
            yield "completed later" if verb is Verb.COMPLETE else "refused later"
    elif verb is Verb.HEARTBEAT and not posted.refusal:
        yield "heartbeat"
    elif verb not in (Verb.CHILD, Verb.UNDO, Verb.HEARTBEAT) and posted.refusal:
        yield "order refused"
