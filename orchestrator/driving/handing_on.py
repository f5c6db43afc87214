"""What a parent and its child saga must agree in: what the child needs, and that secrets stay secrets on both sides.

A child is shown by its own definition, and its parent by its own: neither knows of the other's. Looked at are plain
paths; what an expression makes of a secret on its way to a child nobody can tell.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.errors import FieldViolation
from orchestrator.saga.definition import Child, Definition, Step
from orchestrator.saga.lint import leaves
from orchestrator.saga.mapping import Leaf, Tree

_Path = tuple[str, ...]


def shown_secrets(parent: Definition, step: Step, child: Definition, field: str) -> Iterator[FieldViolation]:
    """What of the child of a step, whose field is `field`, one of the two would show although the other does not."""
    if step.child is not None:
        yield from _given(parent, step.child, child, f"{field}.saga.input")
        yield from _returned(step, child, f"{field}.secrets")


def _returned(step: Step, child: Definition, field: str) -> Iterator[FieldViolation]:
    """Secrets of a result that may be the child's, and that the step which runs it does not mark."""
    marked = [names(path) for path in step.secrets]
    for position, last in enumerate(child.steps):
        for path in () if child.descendants[position] else last.secrets:
            if not any(_begins(mark, names(path)) for mark in marked):
                problem = (
                    f"would show {path!r} of the child's result, which is a secret of its step {last.name!r}: name it"
                )
                yield FieldViolation(field, problem)


def missing_input(step: Step, child: Definition, field: str) -> Iterator[FieldViolation]:
    """What the child of a step reads of its input for sure, and is not given."""
    told = set()
    for reader in child.steps if step.child is not None else ():
        for leaf in leaves(reader) if reader.when is None else ():
            name = missing(step.child.input.tree if step.child else {}, leaf.path or ())
            if name and name not in told:
                told.add(name)
                problem = f"does not give {name}, which step {reader.name!r} of {child.name!r} reads"
                yield FieldViolation(f"{field}.saga.input", problem)


def missing(given: Tree, path: _Path) -> str:
    """The field of the input on the way of a path that is not there; empty when all is, or nobody knows."""
    if path[:1] != ("input",):
        return ""
    for number, name in enumerate(path[1:], start=2):
        inner = given.get(name)
        if inner is None:
            return ".".join(path[:number])
        if isinstance(inner, Leaf):
            return ""
        given = inner
    return ""


def _given(parent: Definition, given: Child, child: Definition, field: str) -> Iterator[FieldViolation]:
    """Fields of a child's input that are secrets of its parent and that the child's definition does not mark."""
    secrets = secret_paths(parent)
    marked = [names(path) for path in child.secrets]
    for place, leaf in _leaves(given.input.tree, ()):
        for secret in secrets if leaf.path is not None else ():
            inside = _inside(leaf.path or (), secret)
            if inside is None or any(_begins(mark, (*place, *inside)) for mark in marked):
                continue
            shown = ".".join((*place, *inside))
            yield FieldViolation(
                f"{field}.{'.'.join(place)}",
                f"is a secret here, and the definition {child.name!r} would show it: it needs `secrets: [{shown}]`",
            )


def secret_paths(definition: Definition) -> list[_Path]:
    """The secrets of a definition as expressions read them."""
    found = [("input", *names(path)) for path in definition.secrets]
    return found + [("results", step.name, *names(path)) for step in definition.steps for path in step.secrets]


def names(path: str) -> _Path:
    """The names of a secret's path, without the lists that it goes through."""
    return tuple(name.partition("[")[0] for name in path.split("."))


def _leaves(tree: Tree, place: _Path) -> Iterator[tuple[_Path, Leaf]]:
    for name, node in tree.items():
        if isinstance(node, Leaf):
            yield (*place, name), node
        else:
            yield from _leaves(node, (*place, name))


def _inside(read: _Path, secret: _Path) -> _Path | None:
    """Where in what is read the secret lies: () if all of it is a part of the secret, None if it has none of it."""
    if _begins(secret, read):
        return ()
    return secret[len(read) :] if _begins(read, secret) else None


def _begins(path: _Path, with_: _Path) -> bool:
    """Whether one path is the other one, or leads to it."""
    return with_[: len(path)] == path
