"""Every error of Baton, named by the reaction that it asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass


class BatonError(Exception):
    """The base of all errors that Baton raises on purpose."""


class InvariantError(BatonError):
    """Something that cannot be has happened: a defect in Baton. Stop what you are doing, report it."""


class Retryable(BatonError):
    """Nothing is wrong with the request: ask again, here or at another replica."""


class LogUnavailable(Retryable):
    """Postgres could not be reached, or did not answer in time. Whether a write happened may be unknown."""


class Overloaded(Retryable):
    """More is asked of this replica than it can take at the moment; nothing was stored. Ask later, or another one.

    `retry_after_s` says when, in seconds, if that is known.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StartsHeld(BatonError):
    """New starts of the definition are held on every replica; ask again in `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Fenced(BatonError):
    """A later epoch holds the fence. The replica must stop leading at once and write nothing more."""


class Resign(BatonError):
    """The leader gives up leadership of its own will and lets another one lead.

    `cooldown_s` is how long, in seconds, this replica leaves the campaign to the others.
    """

    def __init__(self, reason: str, cooldown_s: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cooldown_s = cooldown_s


class CorruptLog(BatonError):
    """A saga's rows in the log cannot be understood. Park that saga with the reason; all others go on."""


_LOCATED = re.compile(r"line ([0-9]{1,9})(?:, step (\w+))?: ")
_TOLD = re.compile(r"line ([0-9]{1,9})(?:, step (\w+))?, ([^\s:]+): ")


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One thing wrong with one field of what a caller sent. `field` is a path such as `steps[1].action.method`.

    In the text of a definition it has a `line` as well, counted from 1, and perhaps a `step`, by its name.
    """

    field: str
    description: str
    line: int = 0
    step: str = ""

    @classmethod
    def of_located(cls, field: str, located: str) -> FieldViolation:
        """The violation whose `located` this is."""
        match = _LOCATED.match(located)
        if match is None:
            return cls(field, located)
        return cls(field, located[match.end() :], int(match[1]), match[2] or "")

    @classmethod
    def of_told(cls, told: str) -> FieldViolation:
        """The violation whose `told` this is; one without a place has it all as its description."""
        match = _TOLD.match(told)
        if match is None:
            return cls("", told)
        return cls(match[3], told[match.end() :], int(match[1]), match[2] or "")

    @property
    def where(self) -> str:
        """The place for a message: `line 7, step ship`; nothing where no line is known."""
        if not self.line:
            return ""
        return f"line {self.line}, step {self.step}" if self.step else f"line {self.line}"

    @property
    def located(self) -> str:
        """The description behind its place."""
        return f"{self.where}: {self.description}" if self.line else self.description

    @property
    def told(self) -> str:
        """All of it on one line: `line 7, step ship, steps[1].service: is missing`."""
        return f"{self.where}, {self.field}: {self.description}" if self.line else f"{self.field}: {self.description}"


class Rejected(BatonError):
    """The caller sent something that can never be accepted; nothing was stored. Each violation names its field."""

    def __init__(self, message: str, violations: tuple[FieldViolation, ...] = ()) -> None:
        details = "; ".join(v.told for v in violations)
        super().__init__(f"{message}: {details}" if details else message)
        self.violations = violations


class NotFound(BatonError):
    """What the caller names does not exist."""


class Conflict(BatonError):
    """The request id has already been used with another body."""


class AlreadyTold(BatonError):
    """Somebody has said the same before, and that has not been heeded yet."""


class WrongState(BatonError):
    """What the caller asks for is not possible in the state that the saga, or the cluster, is in."""


class Unauthenticated(BatonError):
    """Nobody knows who calls: show a client certificate, or a bearer token that is valid."""


class Forbidden(BatonError):
    """It is known who calls, and this caller may not do that: use another identity, or have rights given."""


class LimitReached(Overloaded):
    """A caller asks for more than it is allowed at once. `retry_after_s` is when it may be let in again, in seconds."""
