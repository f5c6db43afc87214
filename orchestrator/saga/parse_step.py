"""How one step of a definition is read. Pure; `parse.py` reads what is around the steps."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from orchestrator.saga.backoff import ACTION_RETRY, COMPENSATION_RETRY, RetryPolicy
from orchestrator.saga.definition import (
    TIMEOUT_DEFAULT_S,
    Approval,
    Child,
    Compensation,
    Delay,
    Method,
    OnUnknown,
    Step,
    Work,
)
from orchestrator.saga.fields import DAY_S, Reader, kind, shown
from orchestrator.saga.mapping import Leaf, Mapping, compile_expression, compile_mapping
from orchestrator.saga.order import Seat

DEFINITION_NAME = re.compile(r"[a-z][a-z0-9-]{0,99}")
DEFINITION_NAME_RULE = "a name of lower-case letters, digits and hyphens"
STEP_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
METHOD = re.compile(r"/?([A-Za-z_][\w.]{0,299})/([A-Za-z_]\w{0,99})", re.ASCII)
ROLE = re.compile(r"[A-Za-z0-9][\w.:@/-]{0,99}", re.ASCII)

QUESTION_CHARS_MAX = 1_000
REASON_CHARS_MAX = 1_000
ROLES_MAX = 50
RETRIES_MAX = 1_000_000
VERSION_MAX = 2**31 - 1

_ALL = {"name", "after", "when", "pivot", "within"}
_CALL = {"service", "action", "compensation", "reason", "timeout", "retry", "barrier", "status", "on_unknown"}
_CALL |= {"answer", "heartbeat", "secrets"}
# What a step does is told by the field that it has; one without any calls a participant.
_FIELDS = {
    Work.CALL: _ALL | _CALL,
    Work.APPROVAL: _ALL | {"approval"},
    Work.DELAY: _ALL | {"delay"},
    Work.CHILD: _ALL | {"saga", "compensation", "reason", "secrets"},
}
_WORKS = {"approval": Work.APPROVAL, "delay": Work.DELAY, "saga": Work.CHILD}


def read_step(reader: Reader, entry: Any, field: str, seat: Seat) -> Step | None:
    """One step; what is missing is noted in `reader`, and None where no step can be made without it."""
    work = _work(reader, entry, field)
    required = {"name"}
    if work is Work.CALL:
        required |= {"service", "action"} | (set() if _may_lack_compensation(entry, seat) else {"compensation"})
    fields = reader.mapping(entry, field, _FIELDS[work], required)
    if fields is None:
        return None
    rule = "a step name of lower-case letters, digits and underscores"
    name = reader.text(fields["name"], f"{field}.name", STEP_NAME, rule) if "name" in fields else ""
    if name and name in seat.earlier:
        reader.wrong(f"{field}.name", f"{name!r} is the name of an earlier step")
    step = Step(
        name=name,
        after=seat.after,
        work=work,
        when=_expression(reader, fields["when"], f"{field}.when", seat.results) if "when" in fields else None,
        pivot=reader.truth(fields.get("pivot"), f"{field}.pivot"),
        within_s=reader.optional_seconds(fields.get("within"), f"{field}.within"),
        secrets=reader.secrets(fields.get("secrets"), f"{field}.secrets"),
        no_compensation_reason=_reason(reader, fields, field),
    )
    match work:
        case Work.CALL:
            return _call(reader, fields, field, seat, step)
        case Work.APPROVAL:
            return replace(step, approval=_approval(reader, fields["approval"], f"{field}.approval"))
        case Work.DELAY:
            return replace(step, delay=_delay(reader, fields["delay"], f"{field}.delay", seat.results))
        case Work.CHILD:
            return replace(step, child=_child(reader, fields, field, seat.results))


def _work(reader: Reader, entry: Any, field: str) -> Work:
    if not isinstance(entry, dict):
        return Work.CALL
    named = [name for name in ("action", *_WORKS) if name in entry]
    if len(named) > 1:
        reader.wrong(field, f"has {' and '.join(named)}; a step does one thing")
    # What it does besides is a field that is not known to the first.
    return next((_WORKS[name] for name in named if name in _WORKS), Work.CALL)


def _may_lack_compensation(entry: Any, seat: Seat) -> bool:
    """The pivot and all that comes behind it is not undone, so nothing need be said of it."""
    return seat.behind_pivot or (isinstance(entry, dict) and entry.get("pivot") is True)


def _reason(reader: Reader, fields: dict[str, Any], field: str) -> str:
    reason = reader.prose(fields.get("reason"), f"{field}.reason", REASON_CHARS_MAX).strip()
    if "reason" in fields and fields.get("compensation") != "none":
        reader.wrong(f"{field}.reason", "says why a step has `compensation: none`; this one has another")
    elif "reason" in fields and not reason:
        reader.wrong(f"{field}.reason", "must say why there is nothing to undo")
    return reason


def _call(reader: Reader, fields: dict[str, Any], field: str, seat: Seat, step: Step) -> Step | None:
    service = reader.address(fields["service"], f"{field}.service") if "service" in fields else ""
    barrier = fields.get("barrier", True)
    if barrier is not True and barrier != "none":
        reader.wrong(f"{field}.barrier", "must be left out, or say `none` for a participant that keeps no barrier")
    answer = fields.get("answer")
    if answer not in (None, "later"):
        reader.wrong(f"{field}.answer", f"{shown(answer)} must be left out, or say `later`")
    if "heartbeat" in fields and answer != "later":
        reader.wrong(f"{field}.heartbeat", "is for a step that has `answer: later`")
    # Behind the pivot there is no way back: a step is tried as persistently as a compensation.
    default = COMPENSATION_RETRY if seat.behind_pivot else ACTION_RETRY
    retry, within_s = _retry(reader, fields.get("retry"), f"{field}.retry", default, step.within_s)
    action, status = (
        _method(reader, fields[which], f"{field}.{which}", {"method", "request"}, seat.results)
        if which in fields
        else None
        for which in ("action", "status")
    )
    on_unknown = reader.choice(fields.get("on_unknown"), f"{field}.on_unknown", OnUnknown, OnUnknown.RETRY)
    if on_unknown is OnUnknown.QUERY and "status" not in fields:
        reader.wrong(f"{field}.on_unknown", "`query` asks the step's `status` method, which is missing")
    results = seat.results | ({step.name} if step.name else frozenset())
    compensation = _compensation(
        reader, fields.get("compensation", "none"), f"{field}.compensation", results, step.name
    )
    if action is None:
        return None
    return replace(
        step,
        service=service,
        action=action,
        compensation=compensation,
        timeout_s=reader.seconds(fields.get("timeout"), f"{field}.timeout", TIMEOUT_DEFAULT_S),
        retry=retry,
        within_s=within_s,
        barrier=barrier is True,
        status=status,
        on_unknown=on_unknown,
        answers_later=answer == "later",
        heartbeat_s=reader.optional_seconds(fields.get("heartbeat"), f"{field}.heartbeat", DAY_S),
    )


def _compensation(reader: Reader, value: Any, field: str, results: Collection[str], own: str) -> Compensation | None:
    if value == "none":
        return None
    method = _method(reader, value, field, {"method", "request", "retry", "within"}, results, own=own)
    if method is None:
        return None
    within_s = reader.optional_seconds(value.get("within"), f"{field}.within")
    retry, within_s = _retry(reader, value.get("retry"), f"{field}.retry", COMPENSATION_RETRY, within_s)
    return Compensation(method, retry, within_s)


def _method(
    reader: Reader, value: Any, field: str, known: set[str], results: Collection[str], own: str | None = None
) -> Method | None:
    """Read a method; `results` are the steps whose results its request may read, `own` the one that may be missing."""
    fields = reader.mapping(value, field, known, {"method"})
    if fields is None or "method" not in fields:
        if own is not None and not isinstance(value, dict):
            reader.wrong(field, "say `none` when there is nothing to undo")
        return None
    match = METHOD.fullmatch(fields["method"]) if isinstance(fields["method"], str) else None
    if match is None:
        reader.wrong(
            f"{field}.method", f"{shown(fields['method'])} is not a gRPC method such as shop.v1.Payment/Charge"
        )
        return None
    request = _mapping(reader, fields.get("request", {}), f"{field}.request", results, own)
    return Method(f"/{match[1]}/{match[2]}", request)


def _mapping(reader: Reader, value: Any, field: str, results: Collection[str], own: str | None = None) -> Mapping:
    mapping, violations = compile_mapping(value, field, frozenset(results), own)
    for violation in violations:
        reader.wrong(violation.field, violation.description)
    return mapping


def _expression(reader: Reader, value: Any, field: str, results: Collection[str]) -> Leaf | None:
    leaf, violations = compile_expression(value, field, frozenset(results))
    for violation in violations:
        reader.wrong(violation.field, violation.description)
    return leaf


_RETRY_FIELDS = {"retries", "attempts", "initial", "multiplier", "max", "jitter", "within", "final", "transient"}


def _retry(
    reader: Reader, value: Any, field: str, default: RetryPolicy, within_s: float | None
) -> tuple[RetryPolicy, float | None]:
    """The policy, and the seconds that bound all attempts together, which may stand beside it as `within_s`."""
    if value is None:
        return default, within_s
    fields = reader.mapping(value, field, _RETRY_FIELDS, set())
    if fields is None:
        return default, within_s
    # Where only the time is bounded, it alone says when to give up.
    counted = RETRIES_MAX if fields.get("within") is not None else default.retries
    retries = reader.whole(fields.get("retries"), f"{field}.retries", counted, 0, RETRIES_MAX)
    if fields.get("attempts") is not None:
        retries = reader.whole(fields["attempts"], f"{field}.attempts", 1, 1, RETRIES_MAX + 1) - 1
        if fields.get("retries") is not None:
            reader.wrong(f"{field}.attempts", "counts the first attempt as well, `retries` does not; say one of them")
    own_s = None
    if "within" in fields:
        if within_s is not None:
            reader.wrong(f"{field}.within", "is there already, beside `retry`; say it once")
        within_s = own_s = reader.optional_seconds(fields["within"], f"{field}.within")
    final, transient = (reader.codes(fields.get(which), f"{field}.{which}") for which in ("final", "transient"))
    if final & transient:
        reader.wrong(f"{field}.final", f"{', '.join(sorted(final & transient))} cannot be transient as well")
    policy = RetryPolicy(
        retries=retries,
        initial_s=reader.seconds(fields.get("initial"), f"{field}.initial", default.initial_s),
        multiplier=reader.number(fields.get("multiplier"), f"{field}.multiplier", default.multiplier, 1, 100),
        max_s=reader.seconds(fields.get("max"), f"{field}.max", default.max_s),
        jitter=reader.number(fields.get("jitter"), f"{field}.jitter", default.jitter, 0, 1),
        final=final,
        transient=transient,
        within_s=own_s,
    )
    return policy, within_s


def _approval(reader: Reader, value: Any, field: str) -> Approval:
    fields = reader.mapping(value, field, {"question", "roles"}, set()) or {}
    question = reader.prose(fields.get("question"), f"{field}.question", QUESTION_CHARS_MAX)
    roles = reader.texts(fields.get("roles"), f"{field}.roles", ROLE, "the name of a role", ROLES_MAX)
    return Approval(question.strip(), roles)


def _delay(reader: Reader, value: Any, field: str, results: Collection[str]) -> Delay:
    if not isinstance(value, dict):
        if value is None:
            reader.wrong(field, "must be a time such as 1h, or say `until`")
        return Delay(seconds=reader.optional_seconds(value, field))
    fields = reader.mapping(value, field, {"until"}, {"until"}) or {}
    if "until" not in fields:
        return Delay()
    return Delay(until=_expression(reader, fields["until"], f"{field}.until", results))


def _child(reader: Reader, fields: dict[str, Any], field: str, results: Collection[str]) -> Child:
    compensation = fields.get("compensation")
    if compensation not in (None, "none"):
        reader.wrong(
            f"{field}.compensation",
            f"a child is undone as a saga; say `none` to leave it alone, not {kind(compensation)}",
        )
    where = f"{field}.saga"
    inner = reader.mapping(fields["saga"], where, {"definition", "version", "input"}, {"definition"}) or {}
    name = ""
    if "definition" in inner:
        name = reader.text(inner["definition"], f"{where}.definition", DEFINITION_NAME, DEFINITION_NAME_RULE)
    return Child(
        definition=name,
        version=reader.whole(inner.get("version"), f"{where}.version", 0, 0, VERSION_MAX),
        input=_mapping(reader, inner.get("input", {}), f"{where}.input", results),
        undone=compensation != "none",
    )
