"""What in a definition is allowed but risky: mostly retries, and waiting without an end. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.errors import FieldViolation
from orchestrator.saga.backoff import RetryPolicy
from orchestrator.saga.definition import Definition, OnUnknown, Step, Work

# Whatever must be done in the end should outlast at least the restart of a participant.
PATIENCE_MIN_S = 30.0

# With these nobody knows whether the call took effect.
UNKNOWN_CODES = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "UNKNOWN"})

# More retries than this are not added up one by one.
_ADDED_MAX = 10_000

# A saga is read with all that it has in the log whenever it goes on.
ATTEMPTS_MANY = 10_000

_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "m"))


def risks(definition: Definition) -> Iterator[FieldViolation]:
    """A warning for each risk, by its field."""
    behind = definition.descendants[definition.pivot - 1] if definition.pivot else frozenset()
    for position, step in enumerate(definition.steps, start=1):
        where = f"steps[{position - 1}]"
        must_end = position in behind
        if step.work is Work.CALL:
            yield from _call(step, where, must_end=must_end)
            yield from _compensation(definition, step, where, needed=not must_end and not step.pivot)
        else:
            yield from _waiting(definition, step, where)
        if step.pivot and step.compensation is not None:
            yield FieldViolation(
                f"{where}.compensation",
                "is never made: once the pivot may have taken effect, the saga only goes forward",
            )
        if step.pivot and step.when is not None:
            yield FieldViolation(
                f"{where}.when", "may skip the pivot: a saga that skips it only goes forward from there all the same"
            )
        if must_end and step.work is Work.CHILD:
            yield FieldViolation(
                f"{where}.saga", "runs behind the pivot: should the child be compensated, this saga is parked"
            )
    yield from _deadline(definition, behind)
    for index, path in enumerate(definition.secrets):
        if path.startswith("input."):
            yield FieldViolation(f"secrets[{index}]", "is a path into the input; without `input.` in front")


def _call(step: Step, where: str, *, must_end: bool) -> Iterator[FieldViolation]:
    if not step.barrier and step.retry.retries > 0:
        yield FieldViolation(
            f"{where}.retry",
            "repeats an action whose participant keeps no barrier: after a lost answer it may take effect twice",
        )
    if step.retry.retries == 0 and step.on_unknown is OnUnknown.RETRY:
        yield FieldViolation(
            f"{where}.retry", "has no retries: a single lost answer ends the step; consider `on_unknown: query`"
        )
    yield from _many(step.retry, step.within_s, f"{where}.retry")
    if codes := step.retry.final & UNKNOWN_CODES:
        yield FieldViolation(
            f"{where}.retry.final",
            f"{', '.join(sorted(codes))} does not tell whether the action took effect: it is not repeated, but undone",
        )
    if must_end and (patience_s := patience(step.retry, step.within_s)) < PATIENCE_MIN_S:
        yield FieldViolation(
            f"{where}.retry",
            f"gives up after {time(patience_s)}, and behind the pivot there is no way back: the saga is parked",
        )
    if step.answers_later and step.within_s is None and step.heartbeat_s is None:
        yield FieldViolation(
            f"{where}.answer", "may wait for ever: set `within`, or a `heartbeat` that the participant must keep"
        )


def _compensation(definition: Definition, step: Step, where: str, *, needed: bool) -> Iterator[FieldViolation]:
    compensation = step.compensation
    if compensation is None:
        if needed and not definition.pivot and not step.no_compensation_reason:
            yield FieldViolation(f"{where}.compensation", "is `none` without a `reason`: say why nothing is undone")
        return
    yield from _many(compensation.retry, compensation.within_s, f"{where}.compensation.retry")
    if (patience_s := patience(compensation.retry, compensation.within_s)) < PATIENCE_MIN_S:
        yield FieldViolation(
            f"{where}.compensation.retry",
            f"gives up after {time(patience_s)}: a participant that restarts takes as long, and the saga is parked",
        )


def _many(policy: RetryPolicy, within_s: float | None, field: str) -> Iterator[FieldViolation]:
    """That a saga may come to have a very long log."""
    attempts = policy.retries if within_s is None else min(policy.retries, int(within_s / policy.delay_s(64, 0.0)))
    if attempts >= ATTEMPTS_MANY:
        problem = f"may make {attempts:,} attempts, each of which stays in the saga's log; let `max` be longer"
        yield FieldViolation(field, problem)


def _waiting(definition: Definition, step: Step, where: str) -> Iterator[FieldViolation]:
    if step.delay is not None and step.delay.until is not None and step.within_s is not None:
        yield FieldViolation(f"{where}.within", "bounds nothing: a step that waits until a date ends at that date")
    if step.approval is None:
        return
    if step.within_s is None and definition.within_s is None:
        yield FieldViolation(f"{where}.approval", "may wait for ever: set `within` of the step or of the saga")
    if not step.approval.question:
        yield FieldViolation(f"{where}.approval", "has no `question`: whoever is asked sees nothing but a name")


def _deadline(definition: Definition, behind: frozenset[int]) -> Iterator[FieldViolation]:
    """Retries that, one step after the other, may take longer than the deadline allows."""
    if definition.within_s is None:
        return
    longest = [0.0]
    for position, step in enumerate(definition.steps, start=1):
        begun_s = max((longest[earlier] for earlier in step.after), default=0.0)
        longest.append(begun_s + _longest(step))
        if begun_s <= definition.within_s < longest[position] and position not in behind:
            yield FieldViolation(
                f"steps[{position - 1}].{'retry' if step.work is Work.CALL else 'within'}",
                f"with all attempts of the steps before, this one may end {time(longest[position])} after the saga's "
                f"start, later than its deadline: {time(definition.within_s)}; the saga turns back then",
            )


def _longest(step: Step) -> float:
    """How long a step may take, in seconds; nothing where that cannot be told."""
    if step.within_s is not None:
        return step.within_s
    if step.work is Work.CALL:
        return patience(step.retry, None) + (step.retry.retries + 1) * step.timeout_s
    return (step.delay.seconds or 0.0) if step.delay is not None else 0.0


def patience(policy: RetryPolicy, within_s: float | None) -> float:
    """How long retries go on, in seconds, the calls themselves not counted."""
    total_s, added = 0.0, 0
    while added < min(policy.retries, _ADDED_MAX):
        added += 1
        delay_s = policy.delay_s(added, 0.0)
        total_s += delay_s
        if delay_s >= policy.max_s or policy.multiplier == 1 or (within_s is not None and total_s >= within_s):
            break
    # From here on every delay is at least as long as the last one, and mostly as long.
    total_s += (policy.retries - added) * (policy.delay_s(added, 0.0) if added else 0.0)
    return total_s if within_s is None else min(total_s, within_s)


def time(seconds: float) -> str:
    """A time for a person: 250ms, 5s, 1.5h."""
    if seconds < 1:
        return f"{seconds * 1000:.3g}ms"
    for unit_s, name in _UNITS:
        if seconds >= unit_s:
            return f"{seconds / unit_s:.3g}{name}"
    return f"{seconds:.3g}s"
