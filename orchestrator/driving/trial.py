"""Tries a definition out on an input before a saga is started: what reads the input alone is evaluated at once.

So an input that no step could use is refused to its caller, not found out by a saga that fails later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.driving.codec import MethodCodec
from orchestrator.driving.scalars import WrongType
from orchestrator.errors import FieldViolation
from orchestrator.saga.acting import date
from orchestrator.saga.definition import Definition, Method, Step
from orchestrator.saga.mapping import Leaf, PointsNowhere, holds, value_of
from orchestrator.saga.model import Json


def complaints(
    definition: Definition, codecs: Mapping[str, MethodCodec], value: Json, labels: dict[str, str]
) -> tuple[FieldViolation, ...]:
    """What in a saga's input its steps could not use. Steps that their conditions may skip are left out."""
    saga = {"id": "", "definition": definition.name, "version": definition.version, "labels": labels}
    context = {"input": value, "results": {}, "saga": saga}
    violations: list[FieldViolation] = []
    for step in definition.steps:
        try:
            if not _runs(step, context):
                continue
            if step.delay is not None and step.delay.until is not None and step.delay.until.reads_input_alone:
                violations.extend(_no_time(step.delay.until, context))
            if step.child is not None:
                step.child.input.evaluate(context, input_alone=True)
        except PointsNowhere as error:
            violations.extend(error.violations)
        for _, method in methods_of(step):
            try:
                request = method.request.evaluate(context, input_alone=True)
                codecs[method.path].encode(request)
            except PointsNowhere as error:
                violations.extend(error.violations)
            except WrongType as error:
                violations.append(FieldViolation(_source(method, error.field), error.description))
    return tuple(dict.fromkeys(violations))


def methods(definition: Definition) -> Iterator[tuple[str, Step, Method]]:
    """Every method of a definition, with its step and the path of its field."""
    for index, step in enumerate(definition.steps):
        for which, method in methods_of(step):
            yield f"steps[{index}].{which}", step, method


def methods_of(step: Step) -> Iterator[tuple[str, Method]]:
    """The methods of a step, by what they are for."""
    if step.action is not None:
        yield "action", step.action
    if step.status is not None:
        yield "status", step.status
    if step.compensation is not None:
        yield "compensation", step.compensation.method


def _runs(step: Step, context: dict[str, Any]) -> bool:
    """Whether the step runs for sure, as far as its condition goes. Raises PointsNowhere."""
    return step.when is None or (step.when.reads_input_alone and holds(step.when, context))


def _no_time(leaf: Leaf, context: dict[str, Any]) -> Iterator[FieldViolation]:
    try:
        date(value_of(leaf, context))
    except ValueError:
        where = ".".join(leaf.path) if leaf.path is not None and leaf.path[0] == "input" else leaf.field
        yield FieldViolation(where, "must be a time such as 2027-01-02T03:04:05Z")


def _source(method: Method, field: str) -> str:
    """The caller's own field that feeds `field` of a request, where the mapping is a plain path into the input."""
    head, dot, rest = field.partition(".")
    bare = head.partition("[")[0]
    node = method.request.tree.get(bare)
    if isinstance(node, Leaf) and node.path is not None and node.path[0] == "input":
        return ".".join(node.path) + head[len(bare) :] + dot + rest
    return f"input (as {method.path} field {field})"
