"""How the YAML text of a definition is read, and checked as far as the text alone goes.

Pure: text in, values out. What a definition says about gRPC methods is checked against their descriptors
elsewhere (driving/registry.py), since that needs the participants.
"""

from __future__ import annotations

import re
from typing import Any

from orchestrator.errors import FieldViolation, Rejected
from orchestrator.saga.backoff import COMPENSATION_RETRY, RetryPolicy
from orchestrator.saga.definition import TIMEOUT_DEFAULT_S, Compensation, Definition, Method, Step
from orchestrator.saga.document import read
from orchestrator.saga.mapping import compile_mapping

STEPS_MAX = 100
# As much of what is wrong is named, and of a wrong value shown, as helps somebody.
VIOLATIONS_MAX = 50
_SHOWN_CHARS = 60

_NAME = re.compile(r"[a-z][a-z0-9-]{0,99}")
_STEP_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
_METHOD = re.compile(r"/?([A-Za-z_][\w.]{0,299})/([A-Za-z_]\w{0,99})", re.ASCII)
# Whatever gRPC takes for a host, an IPv6 address or a DNS name of 253 characters among it.
_ADDRESS = re.compile(r"[!-.0-~]{1,255}:([0-9]{1,5})")
_PORT_MAX = 65535
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s|m|h)?")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def parse(text: str, version: int = 0) -> Definition:
    """Read the YAML `text` of a definition.

    Raises Rejected with one violation for each wrong field, all of them at once.
    """
    document = read(text)
    reader = _Reader()
    definition = _definition(reader, document, version)
    if definition is None or reader.violations:
        raise Rejected("the definition is not valid", tuple(reader.violations))
    return definition


class _Reader:
    """Reads fields out of parsed YAML and collects what is wrong with them."""

    def __init__(self) -> None:
        self.violations: list[FieldViolation] = []

    def wrong(self, field: str, description: str) -> None:
        """Note what is wrong with a field, unless very much is wrong already."""
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(FieldViolation(field, description))

    def mapping(self, value: Any, field: str, known: set[str], required: set[str]) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            self.wrong(field or "definition", f"must be a mapping, not {_kind(value)}")
            return None
        prefix = f"{field}." if field else ""
        for name in value:
            if name not in known:
                # A name of no characters is shown as such.
                wrong = f"{prefix}{str(name) or repr(name):.{_SHOWN_CHARS}}"
                self.wrong(wrong, f"is not a field here; known are {', '.join(sorted(known))}")
        for name in sorted(required - value.keys()):
            self.wrong(f"{prefix}{name}", "is missing")
        return value

    def text(self, value: Any, field: str, pattern: re.Pattern[str], rule: str) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.wrong(field, f"{_shown(value)} is not {rule}")
            return ""
        return value

    def seconds(self, value: Any, field: str, default_s: float) -> float:
        if value is None:
            return default_s
        match = None if isinstance(value, bool) else _DURATION.fullmatch(str(value))
        seconds = float(match[1]) * _UNITS_S[match[2]] if match else 0.0
        if not 0.001 <= seconds <= 86_400:
            self.wrong(field, f"{_shown(value)} is not a time such as 500ms, 5s or 2m, from 1ms to 24h")
            return default_s
        return seconds

    def number(self, value: Any, field: str, default: float, low: float, high: float) -> float:
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self.wrong(field, f"{_shown(value)} is not a number from {low:g} to {high:g}")
            return default
        return value


def _definition(reader: _Reader, document: Any, version: int) -> Definition | None:
    fields = reader.mapping(document, "", {"name", "description", "steps"}, {"name", "steps"})
    if fields is None:
        return None
    name = fields.get("name", "unnamed")
    name = reader.text(name, "name", _NAME, "a name of lower-case letters, digits and hyphens")
    description = fields.get("description", "")
    if not isinstance(description, str):
        reader.wrong("description", f"must be text, not {_kind(description)}")
    listed = fields.get("steps", [])
    if not isinstance(listed, list) or ("steps" in fields and not 1 <= len(listed) <= STEPS_MAX):
        reader.wrong("steps", f"must be a list of 1 to {STEPS_MAX} steps")
        return None
    steps: list[Step] = []
    for index, entry in enumerate(listed):
        step = _step(reader, entry, f"steps[{index}]", [s.name for s in steps])
        if step is not None:
            steps.append(step)
    return Definition(name, version, tuple(steps), str(description))


_STEP_FIELDS = {"name", "service", "action", "compensation", "timeout", "retry", "barrier"}


def _step(reader: _Reader, entry: Any, field: str, earlier: list[str]) -> Step | None:
    fields = reader.mapping(entry, field, _STEP_FIELDS, {"name", "service", "action", "compensation"})
    if fields is None or not {"name", "service", "action", "compensation"} <= fields.keys():
        return None
    rule = "a step name of lower-case letters, digits and underscores"
    name = reader.text(fields["name"], f"{field}.name", _STEP_NAME, rule)
    if name in earlier:
        reader.wrong(f"{field}.name", f"{name!r} is the name of an earlier step")
    service = _address(reader, fields["service"], f"{field}.service")
    timeout_s = reader.seconds(fields.get("timeout"), f"{field}.timeout", TIMEOUT_DEFAULT_S)
    retry = _retry(reader, fields.get("retry"), f"{field}.retry", RetryPolicy())
    barrier = fields.get("barrier", True)
    if barrier not in (True, "none"):
        reader.wrong(f"{field}.barrier", "must be left out, or say `none` for a participant that keeps no barrier")
    action = _method(reader, fields["action"], f"{field}.action", {"method", "request"}, earlier)
    compensation = _compensation(reader, fields["compensation"], f"{field}.compensation", [*earlier, name])
    if action is None:
        return None
    return Step(
        name=name,
        after=(len(earlier),) if earlier else (),
        service=service,
        action=action,
        compensation=compensation,
        timeout_s=timeout_s,
        retry=retry,
        barrier=barrier is True,
    )


def _address(reader: _Reader, value: Any, field: str) -> str:
    address = reader.text(value, field, _ADDRESS, "an address host:port")
    if address and int(address.rpartition(":")[2]) > _PORT_MAX:
        reader.wrong(field, f"{_shown(address)} names a port beyond {_PORT_MAX}")
    return address


def _compensation(reader: _Reader, value: Any, field: str, results: list[str]) -> Compensation | None:
    if value == "none":
        return None
    method = _method(reader, value, field, {"method", "request", "retry"}, results, own=results[-1])
    if method is None:
        return None
    return Compensation(method, _retry(reader, value.get("retry"), f"{field}.retry", COMPENSATION_RETRY))


def _method(
    reader: _Reader, value: Any, field: str, known: set[str], results: list[str], own: str | None = None
) -> Method | None:
    """Read a method; `results` are the steps whose results its request may read, `own` the one that may be missing."""
    fields = reader.mapping(value, field, known, {"method"})
    if fields is None or "method" not in fields:
        if own is not None and not isinstance(value, dict):
            reader.wrong(field, "say `none` when there is nothing to undo")
        return None
    match = _METHOD.fullmatch(fields["method"]) if isinstance(fields["method"], str) else None
    if match is None:
        reader.wrong(
            f"{field}.method", f"{_shown(fields['method'])} is not a gRPC method such as shop.v1.Payment/Charge"
        )
        return None
    request, violations = compile_mapping(fields.get("request", {}), f"{field}.request", frozenset(results), own)
    for violation in violations:
        reader.wrong(violation.field, violation.description)
    return Method(f"/{match[1]}/{match[2]}", request)


def _retry(reader: _Reader, value: Any, field: str, default: RetryPolicy) -> RetryPolicy:
    if value is None:
        return default
    fields = reader.mapping(value, field, {"retries", "initial", "multiplier", "max", "jitter"}, set())
    if fields is None:
        return default
    retries = reader.number(fields.get("retries"), f"{field}.retries", default.retries, 0, 1_000_000)
    if retries != int(retries):
        reader.wrong(f"{field}.retries", f"{retries!r} is not a whole number")
    return RetryPolicy(
        retries=int(retries),
        initial_s=reader.seconds(fields.get("initial"), f"{field}.initial", default.initial_s),
        multiplier=reader.number(fields.get("multiplier"), f"{field}.multiplier", default.multiplier, 1, 100),
        max_s=reader.seconds(fields.get("max"), f"{field}.max", default.max_s),
        jitter=reader.number(fields.get("jitter"), f"{field}.jitter", default.jitter, 0, 1),
    )


def _shown(value: Any) -> str:
    return f"{value!r:.{_SHOWN_CHARS}}"


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return {dict: "a mapping", list: "a list", str: "text", bool: "true or false"}.get(type(value), "a number")
