"""Whether the requests of a definition fit the messages of their methods, as far as that is known before a saga runs.

Looked at are the names of all fields, literals, and what is read of the results of earlier steps, whose reply messages
are known. What the input holds nobody knows before it is there, unless a parent gives it: see giving.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor

from orchestrator.driving.codec import MethodCodec
from orchestrator.driving.inference import SAGA, shape_of
from orchestrator.driving.scalars import WrongType
from orchestrator.driving.shapes import (
    ANY,
    UNKNOWN,
    Kind,
    Shape,
    along,
    listed,
    misfit,
    of_field,
    of_fields,
    of_message,
)
from orchestrator.errors import FieldViolation
from orchestrator.saga.definition import Method
from orchestrator.saga.mapping import Leaf, Tree

# Says what is wrong with an expression whose value goes into a field, which has this path in the request.
_Judge = Callable[[Leaf, Shape, tuple[str, ...], MethodCodec], str | None]


def unfit(
    method: Method, field: str, codec: MethodCodec, replies: Mapping[str, MethodCodec]
) -> Iterator[FieldViolation]:
    """What of the request of `method`, whose field is `field`, does not fit its message.

    `replies` are the codecs of the actions, by the names of their steps.
    """
    scope = scope_of(replies)

    def judge(leaf: Leaf, target: Shape, path: tuple[str, ...], codec: MethodCodec) -> str | None:
        given = shape_of(leaf, scope)
        if given.kind is Kind.NOTHING and leaf.roots:
            # A path that leads nowhere is told by unknown_results.
            return None if leaf.reads_input_alone or _leads_nowhere(leaf, scope) else f"{leaf.shown}: {given.why}"
        problem = unfit_value(given, target, path, codec)
        return problem and f"{leaf.shown}{problem}"

    yield from _unfit_tree(method.request.tree, codec.request.descriptor, f"{field}.request", (), codec, judge)


def scope_of(replies: Mapping[str, MethodCodec], given: Shape = ANY) -> Shape:
    """What expressions see: the results by the reply messages of their steps, and the input as it is given."""
    results = {name: of_message(reply.reply.descriptor) for name, reply in replies.items()}
    return of_fields({"input": given, "results": of_fields(results, partial=True), "saga": SAGA})


def unfit_value(given: Shape, target: Shape, path: tuple[str, ...], codec: MethodCodec) -> str | None:
    """Why what is given cannot be put into a field, behind the words for it; None where it can, or nobody knows."""
    if given.kind is Kind.NOTHING:
        return ": gives nothing"
    if given.value is UNKNOWN:
        problem = misfit(given, target)
        return None if problem is None else f" gives {given}, but the field is {target}{problem}"
    # A literal is put into a request that has nothing else.
    value: Any = given.value
    for name in reversed(path):
        value = {name: value}
    try:
        codec.request.encode(value, "")
    except WrongType as error:
        inside = error.field.removeprefix(".".join(path)).lstrip(".")
        return f": {f'{inside}: ' if inside and inside != error.field else ''}{error.description}"
    return None


def leaves_with_fields(
    tree: Tree, message: Descriptor, path: tuple[str, ...] = ()
) -> Iterator[tuple[Leaf, Shape, tuple[str, ...]]]:
    """Every expression of a request with the shape and the path of its field; without those that have no field."""
    for name, node in tree.items():
        if (target := message.fields_by_name.get(name)) is None:
            continue
        shape = of_field(target)
        if isinstance(node, Leaf):
            yield node, shape, (*path, name)
        elif shape.message is not None:
            yield from leaves_with_fields(node, shape.message, (*path, name))


def unfit_status(field: str, status: MethodCodec, action: MethodCodec) -> Iterator[FieldViolation]:
    """That a status method does not answer with the action's message: what it says becomes the result of the step."""
    said, wanted = status.reply.descriptor.full_name, action.reply.descriptor.full_name
    if said != wanted:
        yield FieldViolation(field, f"answers with {said}; it must answer with the action's own message, {wanted}")


def unknown_results(leaf: Leaf, replies: Mapping[str, MethodCodec]) -> Iterator[FieldViolation]:
    """Paths of an expression into results that the reply messages of the steps do not have."""
    for path in leaf.reads:
        if path[0] == "results" and len(path) > 1 and path[1] in replies:
            found = along(of_message(replies[path[1]].reply.descriptor), *path[2:])
            if found.kind is Kind.NOTHING:
                yield FieldViolation(leaf.field, f"{leaf.shown}: {found.why}")


def _leads_nowhere(leaf: Leaf, scope: Shape) -> bool:
    return any(along(scope, *path).kind is Kind.NOTHING for path in leaf.reads)


def _unfit_tree(
    tree: Tree, message: Descriptor, field: str, path: tuple[str, ...], codec: MethodCodec, judge: _Judge
) -> Iterator[FieldViolation]:
    for name, node in tree.items():
        where = f"{field}.{name}"
        target = message.fields_by_name.get(name)
        if target is None:
            yield FieldViolation(where, f"{message.full_name} has no such field; it has {listed(message)}")
            continue
        shape = of_field(target)
        if isinstance(node, Leaf):
            if node.optional_without is not None and target.is_required and node.optional_without not in node.tolerates:
                yield FieldViolation(
                    where,
                    f"{message.full_name} requires it, but the result of {node.optional_without!r} is missing when "
                    "nobody knows whether the action took effect; say what is used then",
                )
            if problem := judge(node, shape, (*path, name), codec):
                yield FieldViolation(node.field, problem)
        elif shape.kind is Kind.OBJECT and shape.message is not None:
            yield from _unfit_tree(node, shape.message, where, (*path, name), codec, judge)
        elif shape.kind not in (Kind.OBJECT, Kind.ANY):
            yield FieldViolation(where, f"is {shape} in {message.full_name}, not an object")
