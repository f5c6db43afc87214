"""Every error of Baton, named by the reaction that it asks for."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One thing wrong with one field of what a caller sent. `field` is a path such as `steps[1].action.method`."""

    field: str
    description: str


class Rejected(BatonError):
    """The caller sent something that can never be accepted; nothing was stored. Each violation names its field."""

    def __init__(self, message: str, violations: tuple[FieldViolation, ...] = ()) -> None:
        details = "; ".join(f"{v.field}: {v.description}" for v in violations)
        super().__init__(f"{message}: {details}" if details else message)
        self.violations = violations


class NotFound(BatonError):
    """What the caller names does not exist."""


class Conflict(BatonError):
    """The request id has already been used with another body."""


class WrongState(BatonError):
    """What the caller asks for is not possible in the state that the saga, or the cluster, is in."""
