"""What the saga language promises, judged on the stories of a run: order, pivots, conditions, timers, limits, budgets.

Each promise is a function from a story to what speaks against it. None of them asks the core: they read the definition,
the rows with their times, and the ledgers of the participants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from orchestrator.saga.definition import Work
from orchestrator.saga.events import PAUSED, Status
from orchestrator.saga.model import Kind, SagaState
from orchestrator.simulation.definitions import FLAGS
from orchestrator.simulation.postgres import Logged
from orchestrator.simulation.story import ACTING, Story, seconds

# A timer that comes due when the world is calm fires within so long.
LATE_MAX_S = 1.0
# Times are compared with this much for what floats and microseconds lose.
HAIR_S = 0.00001
# What is ordered or over when the world is calm has its consequence within so long.
HEED_MAX_S = 3.0

_SETTLED = frozenset({Status.COMPENSATED, Status.RESOLVED, Status.COMPENSATION_FAILED})
_AGAIN = {
    Status.RETRYING: ACTING,
    Status.REFUSED: ACTING,
    Status.HELD: ACTING,
    Status.COMPENSATION_RETRYING: frozenset({Status.COMPENSATING}),
    Status.COMPENSATION_HELD: frozenset({Status.COMPENSATING}),
}
_FAILURES = {Status.RETRYING: Kind.ACTION, Status.REFUSED: Kind.ACTION}
_UNDO_FAILURES = {Status.COMPENSATION_RETRYING: Kind.COMPENSATION}


def broken(story: Story) -> Iterator[str]:
    """Everything that speaks against a saga."""
    for promise in PROMISES:
        for what in promise(story):
            yield f"saga {story.row.id} ({story.definition.name}): {what}"


def _nothing_behind_the_pivot_is_undone(story: Story) -> Iterator[str]:
    pivot = story.definition.pivot
    if not pivot:
        return
    undone = [name for (name, kind) in story.effects if kind is Kind.COMPENSATION]
    if undone and (story.definition.step(pivot).name, Kind.ACTION) in story.effects:
        yield f"{', '.join(undone)} undone, although the pivot took effect"
    sealed_at_s = story.sealed_at_s
    for row in story.rows:
        if sealed_at_s is not None and row.at_s > sealed_at_s and row.event.status is Status.COMPENSATING:
            yield f"row {row.event.sequence} undoes step {row.event.position} behind the pivot"
        if row.event.status is Status.COMPENSATING and row.event.position in story.after_pivot:
            yield f"row {row.event.sequence} undoes step {row.event.position}, which is the pivot or comes behind it"


def _undone_in_reverse_order(story: Story) -> Iterator[str]:
    """Whatever comes after a step is undone before it; one at a time, unless the definition says otherwise."""
    descendants = story.definition.descendants
    begun: list[int] = []
    open_: set[int] = set()
    for row in story.rows:
        event = row.event
        if event.status is Status.PARKED:
            # What a person takes up again is undone as it comes.
            begun, open_ = [], set()
        elif event.status in _SETTLED:
            open_.discard(event.position)
        elif event.status is Status.COMPENSATING and event.position not in begun:
            late = [earlier for earlier in begun if event.position in descendants[earlier - 1]]
            if late:
                yield f"row {event.sequence} undoes step {event.position} after {late}, which it comes after"
            if open_ & descendants[event.position - 1]:
                yield f"row {event.sequence} undoes step {event.position} beside what comes after it"
            if open_ and not story.definition.parallel_compensation:
                yield f"row {event.sequence} undoes step {event.position} beside {sorted(open_)}"
            begun.append(event.position)
            open_.add(event.position)


def _ledgers_in_reverse_order(story: Story) -> Iterator[str]:
    """The same, in the ledgers of the participants."""
    if any(row.event.status in (Status.PARKED, Status.RESOLVED) for row in story.rows):
        return
    for position, step in story.steps():
        undone_s = story.effects.get((step.name, Kind.COMPENSATION))
        for later in sorted(story.definition.descendants[position - 1]):
            name = story.definition.step(later).name
            later_s = story.effects.get((name, Kind.COMPENSATION))
            if undone_s is not None and later_s is not None and later_s > undone_s:
                yield f"{step.name} was undone before {name}, which comes after it"


def _only_what_was_begun_is_undone(story: Story) -> Iterator[str]:
    begun: set[int] = set()
    for row in story.rows:
        event = row.event
        if event.status in (Status.EXECUTING, Status.WAITING, Status.FORCED):
            begun.add(event.position)
        elif event.status is Status.SKIPPED:
            begun.discard(event.position)
        elif event.status is Status.COMPENSATING and event.position not in begun:
            yield f"row {event.sequence} undoes step {event.position}, which was skipped or never begun"


def _begun_in_order(story: Story) -> Iterator[str]:
    done: set[int] = set()
    for row in story.rows:
        event = row.event
        if event.status in (Status.COMPLETED, Status.FORCED, Status.SKIPPED):
            done.add(event.position)
        elif event.status in (Status.EXECUTING, Status.WAITING):
            missing = set(story.step(row).after) - done
            if missing:
                yield f"row {event.sequence} begins step {event.position} before {sorted(missing)} have ended"


def _conditions_hold(story: Story) -> Iterator[str]:
    """A step runs if and only if its condition holds; one that was skipped is never called."""
    for position, step in story.steps():
        skips = [row for row in story.of(position) if row.event.status is Status.SKIPPED and row.event.order is None]
        begun = [row for row in story.of(position) if row.event.status in (Status.EXECUTING, Status.WAITING)]
        if skips and (
            begun or (step.name, Kind.ACTION) in story.called or (step.name, Kind.COMPENSATION) in story.called
        ):
            yield f"{step.name} was skipped, and begun or called all the same"
        for row in (*skips[:1], *begun[:1]):
            # A saga that is moved may leave a step behind whose condition is another one afterwards.
            when = story.step(row).when
            if when is None:
                if row in skips:
                    yield f"{step.name} was skipped without a condition"
                continue
            holds = _holds(story, when.expression)
            if row in skips and holds:
                yield f"{step.name} was skipped, although {when.expression} holds"
            if row in begun and not holds and not story.by_hand(position):
                yield f"{step.name} was begun, although {when.expression} does not hold"


def _holds(story: Story, expression: str) -> bool:
    if expression in FLAGS:
        flag, wanted = FLAGS[expression]
        return story.row.input["flags"][flag] is wanted
    name = expression.removeprefix("results.").partition(".")[0]
    for position, step in story.steps():
        if step.name == name:
            ends = (row.event for row in story.of(position) if row.event.status in (Status.COMPLETED, Status.FORCED))
            return any((event.result or {}).get("big") is True for event in ends)
    return False


def _delays_fire_in_time_and_once(story: Story) -> Iterator[str]:
    for position, step in story.steps():
        if step.delay is None:
            continue
        waits = [row for row in story.of(position) if row.event.status is Status.WAITING]
        ends = [row for row in story.of(position) if row.event.status is Status.COMPLETED]
        if len(waits) > 1 or len(ends) > 1:
            yield f"{step.name} has waited {len(waits)} times and ended {len(ends)} times"
        for wait in waits[:1]:
            due = wait.event.retry_at
            if due is None:
                yield f"{step.name} waits for ever"
                continue
            yield from _due_as_written(story, wait, due)
            for end in ends:
                yield from _fired_in_time(story, step.name, seconds(due), end)


def _due_as_written(story: Story, wait: Logged, due: datetime) -> Iterator[str]:
    delay = story.step(wait).delay
    delay_s = None if delay is None else delay.seconds
    if delay_s is None:
        wanted_s = seconds(datetime.fromisoformat(story.row.input["until"]))
        if abs(seconds(due) - wanted_s) > HAIR_S:
            yield f"step {wait.event.position} waits until {seconds(due)}, and its date is {wanted_s}"
    elif not story.before(wait) + delay_s - HAIR_S <= seconds(due) <= wait.at_s + delay_s + HAIR_S:
        yield f"step {wait.event.position} waits until {seconds(due)}, begun at {wait.at_s} for {delay_s} s"


def _fired_in_time(story: Story, name: str, due_s: float, end: Logged) -> Iterator[str]:
    if end.at_s < due_s - HAIR_S:
        yield f"{name} fired {due_s - end.at_s:.6f} s early"
    begun_s = story.before(end)
    calm = story.calm_s is not None and due_s > story.calm_s and begun_s <= due_s
    paused = any(row.event.status is Status.PAUSED for row in story.rows)
    if calm and not paused and end.at_s > due_s + LATE_MAX_S:
        yield f"{name} fired {end.at_s - due_s:.3f} s late"


def _starts_wait(story: Story) -> Iterator[str]:
    starts_at = story.row.starts_at
    if starts_at is None:
        return
    for row in story.rows:
        if row.event.position and row.event.order is None and row.at_s < seconds(starts_at) - HAIR_S:
            yield f"row {row.event.sequence} begins it {seconds(starts_at) - row.at_s:.6f} s before its start"
            return


def _attempts_wait(story: Story) -> Iterator[str]:
    """No attempt begins before its time, whoever leads, unless an operator says so."""
    due: dict[int, tuple[float, frozenset[Status]]] = {}
    for row in story.rows:
        event = row.event
        if event.status in (Status.RETRIED, Status.PARKED, Status.FORCED, Status.SKIPPED, Status.RESOLVED):
            for position in [p for p in due if event.position in (0, p) or event.status is not Status.RETRIED]:
                del due[position]
        elif event.code == PAUSED:
            # It waits for the end of a pause, and not for a time.
            due.pop(event.position, None)
        elif event.status in _AGAIN and event.retry_at is not None:
            due[event.position] = (seconds(event.retry_at), _AGAIN[event.status])
        elif event.position in due:
            due_s, again = due.pop(event.position)
            if event.status in again and row.at_s < due_s - HAIR_S:
                yield f"row {event.sequence} tries step {event.position} again {due_s - row.at_s:.6f} s early"


def _budgets_are_kept(story: Story) -> Iterator[str]:
    """Failed attempts are counted across failovers, and no more are made than the policy has; outages cost nothing."""
    spent: dict[tuple[int, Kind], int] = {}
    parked = False
    for row in story.rows:
        event = row.event
        if event.status is Status.PARKED:
            parked = True
        elif parked and event.status is Status.RETRIED:
            spent, parked = {}, False
        elif (kind := (_FAILURES | _UNDO_FAILURES).get(event.status)) is not None:
            step = story.step(row)
            policy = step.retry
            if kind is Kind.COMPENSATION:
                if step.compensation is None:
                    continue
                policy = step.compensation.retry
            count = spent[event.position, kind] = spent.get((event.position, kind), 0) + 1
            if count > policy.retries:
                yield f"row {event.sequence}: step {event.position} has failed {count} times, and is tried again"


def _limits_are_kept(story: Story) -> Iterator[str]:
    """The time for all attempts of a step is given once: neither a failover nor a retry renews it."""
    limits: dict[int, datetime | None] = {}
    for row in story.rows:
        event = row.event
        if event.status in (Status.PARKED, Status.RETRIED):
            limits = {}
        elif event.status is Status.HELD:
            # An outage that outlasts what a retry policy gives does not spend it.
            known, policy = limits.get(event.position), story.step(row).retry
            if (
                policy.within_s is not None
                and known is not None
                and event.retry_at is not None
                and event.retry_at > known
            ):
                del limits[event.position]
        elif event.status in ACTING:
            within_s = story.step(row).within_s
            known = limits.setdefault(event.position, event.retry_at)
            if known != event.retry_at:
                yield f"row {event.sequence} gives step {event.position} until {event.retry_at}; it had until {known}"
            if (within_s is None) != (event.retry_at is None):
                yield f"row {event.sequence} gives step {event.position} until {event.retry_at}, against its definition"


def _deadlines_are_kept(story: Story) -> Iterator[str]:
    """A saga turns back at its deadline, not before; when it has been told to, it begins nothing more."""
    began_s = seconds(story.row.starts_at or story.row.created_at)
    begun: set[int] = set()
    paused = any(row.event.status is Status.PAUSED for row in story.rows)
    for row in story.rows:
        event, within_s = row.event, story.under(row).within_s
        deadline_s = None if within_s is None else began_s + within_s
        stops = [at_s for at_s in (deadline_s, story.cancelled_at_s) if at_s is not None]
        if event.status is Status.EXPIRED and (deadline_s is None or row.at_s < deadline_s - HAIR_S):
            yield f"row {event.sequence}: expired before its deadline"
        if event.status not in (Status.EXECUTING, Status.WAITING) or event.position in begun:
            continue
        begun.add(event.position)
        sealed = event.position in story.after_pivot
        if not stops or story.calm_s is None or sealed or paused:
            continue
        if row.at_s > max(min(stops), story.calm_s) + HEED_MAX_S:
            yield f"row {event.sequence} begins step {event.position}, although the saga should have turned back"


def _ends_add_up(story: Story) -> Iterator[str]:
    """What has completed has done every step once; what is refused does not complete."""
    refused = story.row.input["refuse"]
    for position, step in story.steps():
        ends = [row for row in story.of(position) if row.event.status in (Status.COMPLETED, Status.FORCED)]
        if len(ends) > 1:
            yield f"{step.name} was completed {len(ends)} times"
        if story.row.state is not SagaState.COMPLETED:
            continue
        if not ends and not story.has(position, Status.SKIPPED):
            yield f"completed without {step.name}"
        if refused == f"{story.definition.name}.{step.name}" and ends and not story.by_hand(position):
            yield f"completed, although {step.name} is refused"
    for position, step in story.steps():
        if step.work is Work.CALL and story.row.state is SagaState.COMPENSATED and step.undoable:
            undone = story.has(position, Status.COMPENSATED, Status.RESOLVED)
            if story.has(position, Status.COMPLETED) and not undone:
                yield f"compensated, and {step.name} was done and not undone"


PROMISES: tuple[Callable[[Story], Iterator[str]], ...] = (
    _nothing_behind_the_pivot_is_undone,
    _undone_in_reverse_order,
    _ledgers_in_reverse_order,
    _only_what_was_begun_is_undone,
    _begun_in_order,
    _conditions_hold,
    _delays_fire_in_time_and_once,
    _starts_wait,
    _attempts_wait,
    _budgets_are_kept,
    _limits_are_kept,
    _deadlines_are_kept,
    _ends_add_up,
)
