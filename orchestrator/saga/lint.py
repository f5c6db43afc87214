"""What is wrong with a definition that can be read but should not run, and what in it is risky.

Pure: a definition in, findings out. Errors refuse the definition, warnings are told to whoever applies it. What needs
the descriptors of the participants is checked in driving/registry.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import jmespath

from orchestrator.errors import FieldViolation
from orchestrator.saga.definition import Definition, OnUnknown, Step, Work
from orchestrator.saga.lint_risks import risks, time
from orchestrator.saga.mapping import Leaf
from orchestrator.saga.syntax_tree import negates_a_beginning


@dataclass(frozen=True, slots=True)
class Findings:
    """What the linter has found, by the fields of the definition."""

    errors: tuple[FieldViolation, ...]
    warnings: tuple[FieldViolation, ...]


def lint(definition: Definition) -> Findings:
    """Everything that can be found without the participants."""
    errors = [
        *_pivot(definition),
        *_compensations(definition),
        *_missing_results(definition),
        *_empty_requests(definition),
        *_times(definition),
    ]
    return Findings(tuple(errors), (*risks(definition), *_negations(definition)))


def place(position: int) -> str:
    """The field of the step at a position."""
    return f"steps[{position - 1}]"


def ancestors(definition: Definition) -> list[frozenset[int]]:
    """For each step, by index, the positions of all steps that come before it, however far."""
    found: list[frozenset[int]] = []
    for step in definition.steps:
        found.append(frozenset(step.after).union(*(found[position - 1] for position in step.after)))
    return found


def _pivot(definition: Definition) -> Iterator[FieldViolation]:
    """Compensatable steps, then at most one pivot, then retriable steps; and nothing beside the pivot."""
    pivot = definition.pivot
    if not pivot:
        return
    name = definition.step(pivot).name
    before, behind = ancestors(definition)[pivot - 1], definition.descendants[pivot - 1]
    for position, step in enumerate(definition.steps, start=1):
        where = place(position)
        if step.pivot and position != pivot:
            yield FieldViolation(f"{where}.pivot", f"{name!r} is the pivot already; a saga has one at the most")
        elif position != pivot and position not in before and position not in behind:
            yield FieldViolation(
                f"{where}.after",
                f"comes neither before nor after the pivot {name!r}: whether it can be undone would depend on chance; "
                f"name it in `after` of a step on the way to {name!r}, or put it behind with `after: [{name}]`",
            )
        if position in behind:
            yield from _behind_pivot(step, where, name)


def _behind_pivot(step: Step, where: str, pivot: str) -> Iterator[FieldViolation]:
    if step.compensation is not None:
        problem = f"is never made: behind the pivot {pivot!r} the saga only goes forward; leave it out"
        yield FieldViolation(f"{where}.compensation", problem)
    if step.work is Work.APPROVAL:
        problem = f"may be rejected, but behind the pivot {pivot!r} there is no way back; ask before the pivot"
        yield FieldViolation(f"{where}.approval", problem)
    if step.on_unknown is OnUnknown.COMPENSATE:
        problem = f"`compensate` turns back, which is not possible behind the pivot {pivot!r}; use retry or query"
        yield FieldViolation(f"{where}.on_unknown", problem)


def _compensations(definition: Definition) -> Iterator[FieldViolation]:
    """Steps that cannot be undone, where they may have to be."""
    before = ancestors(definition)[definition.pivot - 1] if definition.pivot else frozenset()
    behind = definition.descendants[definition.pivot - 1] if definition.pivot else frozenset()
    for position, step in enumerate(definition.steps, start=1):
        silent = not step.undoable and not step.no_compensation_reason
        if position in before and step.work in (Work.CALL, Work.CHILD) and silent:
            yield FieldViolation(
                f"{place(position)}.compensation",
                "is `none`, but the step comes before the pivot and may have to be undone; name a compensation, or "
                "say in `reason` why nothing has to be undone",
            )
        if step.on_unknown is OnUnknown.COMPENSATE and step.compensation is None and position not in behind:
            yield FieldViolation(
                f"{place(position)}.on_unknown", "`compensate` needs a compensation, and the step has none"
            )


def _missing_results(definition: Definition) -> Iterator[FieldViolation]:
    """Expressions that read the result of a step that its condition may skip, and do not say what then."""
    conditions = {step.name: step.when for step in definition.steps if step.when is not None}
    for step in definition.steps:
        if step.when is not None:
            for name in sorted(step.when.breaks & conditions.keys()):
                yield _missing(step.when, name)
        for leaf in leaves(step):
            for name in sorted((leaf.results & conditions.keys()) - leaf.tolerates - {step.name}):
                # Where both have the same condition, the one runs whenever the other does.
                if step.when is None or step.when.expression != conditions[name].expression:
                    yield _missing(leaf, name)


def _empty_requests(definition: Definition) -> Iterator[FieldViolation]:
    """Compensations that have nothing to go by when nobody knows whether the action took effect."""
    for position, step in enumerate(definition.steps, start=1):
        if step.compensation is None:
            continue
        read = [leaf for leaf in step.compensation.method.request.leaves() if leaf.roots]
        if read and all(leaf.optional_without is not None and step.name not in leaf.tolerates for leaf in read):
            yield FieldViolation(
                f"{place(position)}.compensation.request",
                f"has nothing but the result of {step.name!r}, which is missing when nobody knows whether the action "
                "took effect: the request would be empty; add a field by which the participant finds what to undo, or "
                f"say what is used then, as in `results.{step.name}.x || 'nothing'`",
            )


def _missing(leaf: Leaf, name: str) -> FieldViolation:
    return FieldViolation(
        leaf.field,
        f"{leaf.shown} reads the result of {name!r}, which is missing when its `when` skips it; say what is used then, "
        f"as in `results.{name}.x || 'nothing'`",
    )


def _negations(definition: Definition) -> Iterator[FieldViolation]:
    for step in definition.steps:
        for leaf in (*leaves(step), *((step.when,) if step.when is not None else ())):
            if negates_a_beginning(dict(jmespath.compile(leaf.expression).parsed)):
                yield FieldViolation(
                    leaf.field,
                    f"{leaf.shown} reads a part of a negation, which is nothing: `!a.b` means `(!a).b`; write `!(a.b)`",
                )


def leaves(step: Step) -> Iterator[Leaf]:
    """Every expression of a step but its condition."""
    for method in (step.action, step.status, step.compensation.method if step.compensation is not None else None):
        if method is not None:
            yield from method.request.leaves()
    if step.delay is not None and step.delay.until is not None:
        yield step.delay.until
    if step.child is not None:
        yield from step.child.input.leaves()


def _times(definition: Definition) -> Iterator[FieldViolation]:
    """Bounds that cannot be kept, since what they bound takes longer for sure."""
    behind = definition.descendants[definition.pivot - 1] if definition.pivot else frozenset()
    for position, step in enumerate(definition.steps, start=1):
        where = place(position)
        yield from _times_of_step(step, where)
        if definition.within_s is None or position in behind:
            continue
        for field, seconds in (("within", step.within_s), ("timeout", step.timeout_s)):
            if seconds is not None and seconds > definition.within_s and (field == "within" or step.work is Work.CALL):
                problem = f"is {time(seconds)}, longer than the whole saga may take: {time(definition.within_s)}"
                yield FieldViolation(f"{where}.{field}", problem)
    yield from _waiting(definition, behind)


def _times_of_step(step: Step, where: str) -> Iterator[FieldViolation]:
    within_s = step.within_s
    if within_s is not None and step.work is Work.CALL and step.timeout_s > within_s:
        problem = f"one attempt may take {time(step.timeout_s)}, longer than the whole step: {time(within_s)}"
        yield FieldViolation(f"{where}.timeout", problem)
    if within_s is not None and step.heartbeat_s is not None and step.heartbeat_s > within_s:
        problem = f"is {time(step.heartbeat_s)}, longer than the step may take: {time(within_s)}"
        yield FieldViolation(f"{where}.heartbeat", problem)
    if within_s is not None and step.delay is not None and (step.delay.seconds or 0) > within_s:
        problem = f"is {time(step.delay.seconds or 0)}, longer than the step may take: {time(within_s)}"
        yield FieldViolation(f"{where}.delay", problem)
    if step.compensation is not None and step.compensation.within_s is not None:
        within_s = step.compensation.within_s
        if step.timeout_s > within_s:
            problem = f"is {time(within_s)}, shorter than one attempt may take: {time(step.timeout_s)}"
            yield FieldViolation(f"{where}.compensation.within", problem)


def _waiting(definition: Definition, behind: frozenset[int]) -> Iterator[FieldViolation]:
    """Delays that, one after the other, take longer than the saga may, up to its pivot."""
    if definition.within_s is None:
        return
    waited = [0.0]
    for position, step in enumerate(definition.steps, start=1):
        begun_s = max((waited[earlier] for earlier in step.after), default=0.0)
        own_s = step.delay.seconds or 0.0 if step.delay is not None and step.when is None else 0.0
        waited.append(begun_s + own_s)
        if own_s and waited[position] > definition.within_s and position not in behind:
            yield FieldViolation(
                f"{place(position)}.delay",
                f"ends {time(waited[position])} after the saga's start at the earliest, later than its deadline: "
                f"{time(definition.within_s)}",
            )
