"""What a parent gives to its child, held against what the child does with it: what can never fit is found here.

The child's expressions are looked at with the shapes of what its parent gives, its own children's with what it gives
them in turn. As trial.py does when a saga starts, steps are left out that their conditions may skip: so whatever is
found here would be refused at every start of the child. What is not known fits. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.driving.codec import MethodCodec
from orchestrator.driving.family import Family, Member, replies, run_by
from orchestrator.driving.fitting import leaves_with_fields, scope_of, unfit_value
from orchestrator.driving.handing_on import missing
from orchestrator.driving.inference import shape_of, shape_of_tree
from orchestrator.driving.shapes import ANY, UNKNOWN, Kind, Shape, accepted, along, of_fields
from orchestrator.driving.trial import methods_of
from orchestrator.errors import FieldViolation
from orchestrator.saga.acting import date
from orchestrator.saga.definition import Step
from orchestrator.saga.mapping import Leaf, Tree

# So many descendants of a child are looked at: those that run others many times over are many.
_LOOKS_MAX = 100

_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Misuse:
    """What cannot be done with an input: the field of it that is read, and in words where and why."""

    path: _Path
    where: str
    why: str


def unfit_children(parent: Member, family: Family) -> Iterator[FieldViolation]:
    """What the children of a definition could never use of what it gives them."""
    scope = scope_of(replies(parent, family), used_input(parent))
    for index, step in enumerate(parent.definition.steps):
        if step.child is None:
            continue
        yield from _empty(step.child.input.leaves(), scope)
        if (child := run_by(step.child, family)) is not None:
            yield from _unfit_child(f"steps[{index}].saga.input", step.child.input.tree, scope, child, family)


def _empty(leaves: Iterable[Leaf], scope: Shape) -> Iterator[FieldViolation]:
    """Expressions of a mapping that give nothing; without those that read results which are not there, as is told."""
    for leaf in leaves:
        given = shape_of(leaf, scope)
        results = [along(scope, *path) for path in leaf.reads if path[0] == "results"]
        if given.kind is Kind.NOTHING and not any(result.kind is Kind.NOTHING for result in results):
            yield FieldViolation(leaf.field, f"{leaf.shown} gives nothing: {given.why}")


def _unfit_child(field: str, tree: Tree, scope: Shape, child: Member, family: Family) -> Iterator[FieldViolation]:
    told = set()
    for misuse in _misuses(child, shape_of_tree(tree, scope), family, iter(range(_LOOKS_MAX))):
        _, leaf = _feeding(tree, misuse.path)
        # What is not given, or gives nothing, is told as that.
        if missing(tree, ("input", *misuse.path)) or (leaf and shape_of(leaf, scope).kind is Kind.NOTHING):
            continue
        violation = _blamed(field, tree, scope, child, misuse)
        if violation not in told:
            told.add(violation)
            yield violation


def _blamed(field: str, tree: Tree, scope: Shape, child: Member, misuse: _Misuse) -> FieldViolation:
    """The violation, placed at the expression that gives what the child cannot use."""
    place, leaf = _feeding(tree, misuse.path)
    what = f"does not fit what {child.definition.name!r} does with it: {misuse.where}: {misuse.why}"
    if leaf is None:
        return FieldViolation(".".join((field, *place)), what)
    given = shape_of(leaf, scope)
    known = f"; other steps of this saga need {leaf.expression} to be {given}" if given.given else ""
    return FieldViolation(leaf.field, f"{leaf.shown} {what}{known}")


def _feeding(tree: Tree, path: _Path) -> tuple[_Path, Leaf | None]:
    """Where in a mapping a field of the input comes from, and the expression that gives it, or what it is a part of."""
    for number, name in enumerate(path):
        node = tree.get(name)
        if node is None or isinstance(node, Leaf):
            return path[:number], node
        tree = node
    return path, None


def _misuses(child: Member, given: Shape, family: Family, looks: Iterator[int]) -> Iterator[_Misuse]:
    """What a definition cannot do with an input of this shape, in the steps that run for sure."""
    scope = scope_of(replies(child, family), given)
    for step in child.definition.steps:
        if not _runs(step, scope):
            continue
        for which, leaf, why in _problems(step, child, scope):
            if why:
                yield _Misuse(_read(leaf), f"step {step.name!r}, {which}", why)
        grandchild = run_by(step.child, family) if step.child is not None else None
        if step.child is not None and grandchild is not None and next(looks, None) is not None:
            inner = shape_of_tree(step.child.input.tree, scope)
            for misuse in _misuses(grandchild, inner, family, looks):
                _, source = _feeding(step.child.input.tree, misuse.path)
                where = f"step {step.name!r} runs {grandchild.definition.name!r}: {misuse.where}"
                yield _Misuse(() if source is None else _read(source), where, misuse.why)


def _problems(step: Step, child: Member, scope: Shape) -> Iterator[tuple[str, Leaf, str]]:
    """Where a step uses its input: the field of the step, the expression, and why it cannot use it, if so."""
    for which, method in methods_of(step):
        codec = child.codecs.get(method.path)
        if codec is None:
            yield from ((f"{which}.request", leaf, _gives_nothing(leaf, scope)) for leaf in method.request.leaves())
            continue
        for leaf, target, path in leaves_with_fields(method.request.tree, codec.request.descriptor):
            why = _gives_nothing(leaf, scope) or _unfit(leaf, scope, target, path, codec)
            yield f"{which}.request.{'.'.join(path)}", leaf, why
    if step.child is not None:
        yield from (("saga.input", leaf, _gives_nothing(leaf, scope)) for leaf in step.child.input.leaves())
    if step.delay is not None and (until := step.delay.until) is not None:
        yield "delay.until", until, _gives_nothing(until, scope) or _no_time(until, scope)


def _gives_nothing(leaf: Leaf, scope: Shape) -> str:
    """Why an expression over the input gives nothing, whatever the values are; empty where it may give something."""
    # One that reads the result of its own step is left out of a compensation's request where that is missing.
    if "input" not in leaf.roots or leaf.optional_without is not None:
        return ""
    given = shape_of(leaf, scope)
    return f"{leaf.shown} gives nothing: {given.why}" if given.kind is Kind.NOTHING else ""


def _unfit(leaf: Leaf, scope: Shape, target: Shape, path: _Path, codec: MethodCodec) -> str:
    if "input" not in leaf.roots:
        return ""
    problem = unfit_value(shape_of(leaf, scope), target, path, codec)
    return "" if problem is None else f"{leaf.shown}{problem}"


# What is never the text of a time; an integer may be one, such as 20270102.
_NO_TIMES = frozenset({Kind.NUMBER, Kind.TRUTH, Kind.OBJECT, Kind.LIST})


def _no_time(leaf: Leaf, scope: Shape) -> str:
    given = shape_of(leaf, scope)
    if "input" not in leaf.roots:
        return ""
    if given.value is not UNKNOWN:
        try:
            date(given.value)
        except ValueError:
            return f"{leaf.shown} must be a time such as 2027-01-02T03:04:05Z"
    elif given.kind in _NO_TIMES:
        return f"{leaf.shown} gives {given}, but must be a time such as 2027-01-02T03:04:05Z"
    return ""


def _runs(step: Step, scope: Shape) -> bool:
    """Whether the step runs for sure, as far as its condition goes."""
    if step.when is None:
        return True
    value = shape_of(step.when, scope).value
    return value is not UNKNOWN and not (value is None or value is False or value in ("", [], {}))


def _read(leaf: Leaf) -> _Path:
    """The first field of the input that an expression reads; none if it reads all of it, or nothing of it."""
    return next((path[1:] for path in leaf.reads if path[0] == "input"), ())


def used_input(member: Member) -> Shape:
    """What the input of a saga is, by what the steps that run for sure do with it: no other input starts a saga."""
    uses: dict[_Path, Shape] = {}
    for step in member.definition.steps:
        for _, method in methods_of(step) if step.when is None else ():
            if (codec := member.codecs.get(method.path)) is None:
                continue
            for leaf, target, _ in leaves_with_fields(method.request.tree, codec.request.descriptor):
                if leaf.path is not None and leaf.path[0] == "input":
                    shape = accepted(target)
                    uses[leaf.path[1:]] = shape if uses.get(leaf.path[1:], shape) == shape else ANY
    return _grown(uses)


def _grown(uses: dict[_Path, Shape]) -> Shape:
    """One object of all the uses, by their paths. A field of which parts are used is an object."""
    names: dict[str, Any] = {}
    for path, shape in uses.items():
        if path:
            names.setdefault(path[0], {})[path[1:]] = shape
    fields = {name: inside[()] if set(inside) == {()} else _grown(inside) for name, inside in names.items()}
    return of_fields(fields, partial=True)
