"""A definition's family: the definitions that its steps run, and those that they run, with the codecs of their methods.

What a parent and its children must agree in is checked by the family alone, whoever has found it: a replica in the
saga log, or `baton definition validate` among its files. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestrator.driving.codec import MethodCodec
from orchestrator.driving.handing_on import missing_input, shown_secrets
from orchestrator.errors import FieldViolation
from orchestrator.saga.definition import Child, Definition, Step

# So deep children are looked into.
GENERATIONS_MAX = 8


@dataclass(frozen=True, slots=True)
class Member:
    """A definition with the codecs of its methods, by their paths, as far as they are known."""

    definition: Definition
    codecs: Mapping[str, MethodCodec]


# By name and version, as steps name them: version 0 is the newest.
Family = Mapping[tuple[str, int], Member]


def run_by(child: Child, family: Family) -> Member | None:
    """The definition that a step runs, where it is known."""
    return family.get((child.definition, child.version))


def unlike_children(definition: Definition, family: Family) -> Iterator[FieldViolation]:
    """What a definition does not give its children although they read it, and what one of the two would show."""
    for index, step in enumerate(definition.steps):
        child = run_by(step.child, family) if step.child is not None else None
        if child is not None:
            yield from missing_input(step, child.definition, f"steps[{index}]")
            yield from shown_secrets(definition, step, child.definition, f"steps[{index}]")


def replies(member: Member, family: Family, generations: int = GENERATIONS_MAX) -> dict[str, MethodCodec]:
    """The codecs of what the results of steps are made of, by the names of the steps."""
    found = {}
    for step in member.definition.steps:
        codec = _reply(step, member, family, generations)
        if codec is not None:
            found[step.name] = codec
    return found


def _reply(step: Step, member: Member, family: Family, generations: int) -> MethodCodec | None:
    if step.action is not None:
        return member.codecs.get(step.action.path)
    child = run_by(step.child, family) if step.child is not None else None
    if child is None or generations == 0:
        return None
    # The result of a saga is the one of its last step, if that is always the same.
    last = [s for s, after in zip(child.definition.steps, child.definition.descendants, strict=True) if not after]
    return _reply(last[0], child, family, generations - 1) if len(last) == 1 and last[0].when is None else None
