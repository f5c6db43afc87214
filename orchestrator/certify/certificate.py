"""A certificate: that a method pair of a participant was tried and found safe, or not.

It holds for the address, the two methods and their messages, which the contract hash stands for: a participant whose
messages have changed since is not certified any more. Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import orjson

from orchestrator.certify.findings import Report
from orchestrator.errors import FieldViolation, Rejected

_TEXTS = ("participant", "action", "compensation", "contract_hash")


@dataclass(frozen=True, slots=True)
class Certificate:
    """What `baton certify` found at `at`. `effect` is False when the pair was declared to do nothing.

    `checks` has the verdict of each check by its name; over the ways of calling, the worst.
    """

    participant: str
    action: str
    compensation: str
    contract_hash: str
    safe: bool
    effect: bool
    checks: tuple[tuple[str, str], ...]
    at: datetime

    def to_json(self) -> str:
        """One JSON object, whose fields are those of this class."""
        fields = {name: getattr(self, name) for name in _TEXTS}
        rest = {"safe": self.safe, "effect": self.effect, "checks": dict(self.checks)}
        return orjson.dumps({**fields, **rest, "at": self.at.astimezone(UTC).isoformat()}).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The certificate that `to_json` has written. Raises Rejected naming the field that is wrong."""
        try:
            found = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise _wrong("certificate", f"is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise _wrong("certificate", "must be a JSON object")
        for name in _TEXTS:
            if not isinstance(found.get(name), str) or not found[name]:
                raise _wrong(name, "must be a text, and is missing or something else")
        for name in ("safe", "effect"):
            if not isinstance(found.get(name), bool):
                raise _wrong(name, "must be true or false")
        checks = found.get("checks")
        if not isinstance(checks, dict) or not all(isinstance(verdict, str) for verdict in checks.values()):
            raise _wrong("checks", "must be an object of verdicts by the names of checks")
        return cls(
            participant=found["participant"],
            action=found["action"],
            compensation=found["compensation"],
            contract_hash=found["contract_hash"],
            safe=found["safe"],
            effect=found["effect"],
            checks=tuple(checks.items()),
            at=_time(found.get("at")),
        )


def certificate_of(report: Report, at: datetime) -> Certificate:
    """The certificate that a report is worth."""
    order = ("not_checked", "passed", "warned", "failed")
    checks: dict[str, str] = {}
    for finding in report.findings:
        known = checks.get(finding.check.value, order[0])
        checks[finding.check.value] = max(known, finding.verdict.value, key=order.index)
    return Certificate(
        report.participant,
        report.action,
        report.compensation,
        report.contract_hash,
        report.safe,
        report.effect,
        tuple(checks.items()),
        at,
    )


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a method pair does not count as certified, and what to do about it."""

    why: str
    advice: str

    def __str__(self) -> str:
        return f"{self.why}; {self.advice}"


def missing_certificate(
    certificates: Iterable[Certificate],
    participant: str,
    action: str,
    compensation: str,
    contract_hash: str,
    command: str,
) -> Lack | None:
    """Why this method pair does not count as certified; None when its newest certificate says that it is safe.

    `command` certifies it.
    """
    pair = [c for c in certificates if (c.participant, c.action, c.compensation) == (participant, action, compensation)]
    if not pair:
        return Lack(f"{action} at {participant} has never been certified", f"run: {command}")
    newest = max(pair, key=lambda certificate: certificate.at)
    if newest.contract_hash != contract_hash:
        return Lack(f"the messages of {action} at {participant} have changed since it was certified", f"run: {command}")
    if not newest.safe:
        failed = ", ".join(name for name, verdict in newest.checks if verdict == "failed")
        why = failed or "nothing was checked"
        return Lack(f"{action} at {participant} was found unsafe ({why})", f"mend it, and run: {command}")
    return None


def _time(value: Any) -> datetime:
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _wrong("at", "must be a time in ISO 8601") from None
    if at.tzinfo is None:
        raise _wrong("at", "must say its time zone")
    return at


def _wrong(field: str, description: str) -> Rejected:
    return Rejected("not a certificate", (FieldViolation(field, description),))
