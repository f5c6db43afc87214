"""What a certification found: one finding for each check and each way of calling, and the verdict over all of them.

Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orchestrator.errors import BatonError


class Verdict(StrEnum):
    """What one check came to. WARNED is no danger by itself; NOT_CHECKED says nothing either way."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    NOT_CHECKED = "not_checked"


class Check(StrEnum):
    """The checks by the names that reports and certificates give them: they never change."""

    DUPLICATE_ACTION = "duplicate-action"
    DUPLICATE_COMPENSATION = "duplicate-compensation"
    LATE_DUPLICATE = "late-duplicate"
    OTHER_REQUEST = "other-request"
    COMPENSATION_FIRST = "compensation-before-action"
    LATE_ACTION = "late-action"
    SAME_KEY_RACE = "same-key-race"
    OPPOSITE_RACE = "action-compensation-race"
    LOST_ANSWER = "lost-answer"
    CRASH = "crash"
    STATUS = "status"
    STALE_EPOCH = "stale-epoch"
    EPOCH_PER_SHARD = "epoch-per-shard"


# What each check is about, for people.
ABOUT: Mapping[Check, str] = {
    Check.DUPLICATE_ACTION: "an action that is called again gives the same answer, and takes effect once",
    Check.DUPLICATE_COMPENSATION: "so does a compensation",
    Check.LATE_DUPLICATE: "an action that is repeated after its compensation does nothing",
    Check.OTHER_REQUEST: "the same key with another request is turned away",
    Check.COMPENSATION_FIRST: "a compensation whose action was never seen succeeds",
    Check.LATE_ACTION: "an action that comes after its compensation is refused",
    Check.SAME_KEY_RACE: "one key at once, many times: one effect, one answer",
    Check.OPPOSITE_RACE: "an action and its compensation at once: both or neither",
    Check.LOST_ANSWER: "an answer that was lost after the effect is given again",
    Check.CRASH: "killed with calls under way, it answers each key as if nothing had been",
    Check.STATUS: "a status method says what was done, and keeps what it says was not from being done",
    Check.STALE_EPOCH: "a leader of the past is turned away, and its calls leave nothing behind",
    Check.EPOCH_PER_SHARD: "the epochs of one shard say nothing about another",
}


class CannotCertify(BatonError):
    """Nothing can be said about this participant: the message says what is missing, and what to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to, called in one `form` (unary, or stream)."""

    check: Check
    form: str
    verdict: Verdict
    text: str = ""

    def as_json(self) -> dict[str, str]:
        """For programs."""
        return {"check": self.check.value, "form": self.form, "verdict": self.verdict.value, "text": self.text}


@dataclass(frozen=True, slots=True)
class Report:
    """All findings about one method pair at one address."""

    participant: str
    action: str
    compensation: str
    contract_hash: str
    effect: bool
    findings: tuple[Finding, ...]

    @property
    def safe(self) -> bool:
        """Whether something was checked and nothing failed."""
        verdicts = {finding.verdict for finding in self.findings}
        return Verdict.PASSED in verdicts and Verdict.FAILED not in verdicts

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "participant": self.participant,
            "action": self.action,
            "compensation": self.compensation,
            "contract_hash": self.contract_hash,
            "effect": self.effect,
            "safe": self.safe,
            "findings": [finding.as_json() for finding in self.findings],
        }
