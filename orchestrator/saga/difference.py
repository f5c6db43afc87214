"""What differs between two versions of a definition: in meaning, not in text, so that spelling and order do not count.

Pure. A definition is laid out as one value for each field, with all defaults; steps go by their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.saga.backoff import RetryPolicy
from orchestrator.saga.definition import Definition, Method, Step, Work
from orchestrator.saga.lint_risks import time
from orchestrator.saga.mapping import Leaf, Tree


class Kind(StrEnum):
    """What happened to a field or a step."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `path` is such as `steps.pay.timeout`; a whole step is `steps.pay`."""

    kind: Kind
    path: str
    before: str = ""
    after: str = ""


def changes(old: Definition, new: Definition) -> list[Change]:
    """What has to be said to make `new` of `old`: of the whole saga first, then step by step in the order of `new`."""
    found = list(_changed("", _whole(old), _whole(new)))
    olds, news = ({step.name: step for step in definition.steps} for definition in (old, new))
    found += [Change(Kind.REMOVED, f"steps.{name}", before=summary(olds[name])) for name in olds if name not in news]
    for name, step in news.items():
        if name not in olds:
            found.append(Change(Kind.ADDED, f"steps.{name}", after=summary(step)))
        else:
            found += step_changes(old, olds[name], new, step)
    return found


def step_changes(old: Definition, old_step: Step, new: Definition, new_step: Step) -> list[Change]:
    """What differs between two steps; the paths begin with the name of the older one."""
    before, after = dict(_fields(old, old_step)), dict(_fields(new, new_step))
    return list(_changed(f"steps.{old_step.name}.", before, after))


def _changed(prefix: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for path in dict.fromkeys((*old, *new)):
        before, after = old.get(path, ""), new.get(path, "")
        if before != after:
            kind = Kind.CHANGED if before and after else Kind.ADDED if after else Kind.REMOVED
            yield Change(kind, prefix + path, before, after)


def _whole(definition: Definition) -> dict[str, str]:
    hold = definition.hold_starts
    return {
        "description": definition.description,
        "within": _time(definition.within_s),
        "compensate": "parallel" if definition.parallel_compensation else "sequential",
        "secrets": ", ".join(sorted(definition.secrets)),
        "hold_starts": f"{hold.share:g} of the last {hold.of_last}, for {time(hold.for_s)}" if hold else "",
        "certified": "required" if definition.certified else "",
    }


def summary(step: Step) -> str:
    """What a step does, in a few words."""
    match step.work:
        case Work.CALL:
            return step.action.path[1:] if step.action is not None else ""
        case Work.CHILD:
            return f"saga {step.child.definition}" if step.child is not None else ""
        case Work.DELAY | Work.APPROVAL:
            return step.work.value


def _fields(definition: Definition, step: Step) -> Iterator[tuple[str, str]]:
    """Every field of a step, those of other kinds of work being empty."""
    yield "work", step.work.value
    yield "after", ", ".join(definition.step(position).name for position in step.after) or "nothing"
    yield "when", step.when.expression if step.when is not None else ""
    yield "pivot", _truth(step.pivot)
    yield "within", _time(step.within_s)
    yield "service", step.service
    yield from _method("action", step.action)
    yield from _method("status", step.status)
    if step.work is Work.CALL:
        yield "timeout", time(step.timeout_s)
        yield from _retry("retry", step.retry)
    yield "barrier", "" if step.barrier else "none"
    yield "on_unknown", step.on_unknown.value
    yield "answer", "later" if step.answers_later else ""
    yield "heartbeat", _time(step.heartbeat_s)
    yield "secrets", ", ".join(sorted(step.secrets))
    yield "reason", step.no_compensation_reason
    yield "compensation", "" if step.undoable else "none"
    if step.compensation is not None:
        yield from _method("compensation", step.compensation.method)
        yield "compensation.within", _time(step.compensation.within_s)
        yield from _retry("compensation.retry", step.compensation.retry)
    if step.approval is not None:
        yield "approval.question", step.approval.question
        yield "approval.roles", ", ".join(sorted(step.approval.roles))
    if step.delay is not None:
        yield "delay", _time(step.delay.seconds) or f"until {_expression(step.delay.until)}"
    if step.child is not None:
        yield "saga.definition", step.child.definition
        yield "saga.version", str(step.child.version or "the newest")
        yield from _tree("saga.input", step.child.input.tree)


def _method(field: str, method: Method | None) -> Iterator[tuple[str, str]]:
    if method is not None:
        yield f"{field}.method", method.path[1:]
        yield from _tree(f"{field}.request", method.request.tree)


def _tree(field: str, tree: Tree) -> Iterator[tuple[str, str]]:
    for name, node in tree.items():
        if isinstance(node, Leaf):
            yield f"{field}.{name}", node.expression
        else:
            yield from _tree(f"{field}.{name}", node)


def _retry(field: str, policy: RetryPolicy) -> Iterator[tuple[str, str]]:
    yield f"{field}.retries", str(policy.retries)
    yield f"{field}.initial", time(policy.initial_s)
    yield f"{field}.multiplier", f"{policy.multiplier:g}"
    yield f"{field}.max", time(policy.max_s)
    yield f"{field}.jitter", f"{policy.jitter:g}"
    yield f"{field}.within", _time(policy.within_s)
    yield f"{field}.final", ", ".join(sorted(policy.final))
    yield f"{field}.transient", ", ".join(sorted(policy.transient))


def _expression(leaf: Leaf | None) -> str:
    return leaf.expression if leaf is not None else ""


def _time(seconds: float | None) -> str:
    return "" if seconds is None else time(seconds)


def _truth(value: bool) -> str:
    return "true" if value else ""
