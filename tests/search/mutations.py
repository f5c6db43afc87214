"""The rules of correctness as switches of the model: what happens when one is taken out.

The switches stand in the model around the core (its log, its participants, its leader); production has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fence(StrEnum):
    """How a write proves its epoch."""

    FOR_SHARE = "for-share"  # As in production: the row is locked until the commit, a raise waits.
    EXISTS = "exists"  # The row is looked at when the statement begins, and not locked.
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds in this world. The defaults are production's."""

    raise_before_scan: bool = True
    fence: Fence = Fence.FOR_SHARE
    state_in_order: bool = True
    intent_before_call: bool = True
    tombstone: bool = True
    idempotency: bool = True
    unknown_is_unknown: bool = True
    one_saga_a_request: bool = True
    answer_after_commit: bool = True
    scan_finds_compensating: bool = True


class Mutation(StrEnum):
    """A rule taken out."""

    SCAN_BEFORE_RAISE = "scan-before-raise"
    NO_FENCE = "no-fence"
    FENCE_BY_EXISTS = "fence-by-exists"
    NO_INTENT = "no-intent"
    NO_TOMBSTONE = "no-tombstone"
    NO_IDEMPOTENCY = "no-idempotency"
    UNKNOWN_IS_FAILURE = "unknown-is-failure"
    STATE_OUT_OF_ORDER = "state-out-of-order"
    REQUEST_ID_NOT_UNIQUE = "request-id-not-unique"
    ANSWER_BEFORE_COMMIT = "answer-before-commit"
    SCAN_FORGETS = "scan-forgets-compensating"


RULE: dict[Mutation, tuple[str, str]] = {
    Mutation.SCAN_BEFORE_RAISE: ("R2", "a new leader reads the log before it raises the epoch"),
    Mutation.NO_FENCE: ("R3", "a write proves no epoch"),
    Mutation.FENCE_BY_EXISTS: ("R3", "a write looks at the epoch when it begins and does not lock it"),
    Mutation.NO_INTENT: ("R4", "a participant is called before the intent is durable"),
    Mutation.NO_TOMBSTONE: ("R5", "a compensation of an action never seen leaves nothing behind"),
    Mutation.NO_IDEMPOTENCY: ("R5", "a participant serves a duplicate once more"),
    Mutation.UNKNOWN_IS_FAILURE: ("R7", "a call without an answer counts as refused"),
    Mutation.STATE_OUT_OF_ORDER: ("R3", "an old statement that arrives late sets the saga's row back"),
    Mutation.REQUEST_ID_NOT_UNIQUE: ("I9", "a repeated StartSaga is stored once more"),
    Mutation.ANSWER_BEFORE_COMMIT: ("I9", "StartSaga is answered before the saga is durable"),
    Mutation.SCAN_FORGETS: ("I6", "a new leader passes over the sagas that compensate"),
}
"""The rule that each mutation takes out, and what that means."""

_RULES: dict[Mutation, Rules] = {
    Mutation.SCAN_BEFORE_RAISE: Rules(raise_before_scan=False),
    Mutation.NO_FENCE: Rules(fence=Fence.NONE),
    Mutation.FENCE_BY_EXISTS: Rules(fence=Fence.EXISTS),
    Mutation.NO_INTENT: Rules(intent_before_call=False),
    Mutation.NO_TOMBSTONE: Rules(tombstone=False),
    Mutation.NO_IDEMPOTENCY: Rules(idempotency=False),
    Mutation.UNKNOWN_IS_FAILURE: Rules(unknown_is_unknown=False),
    Mutation.STATE_OUT_OF_ORDER: Rules(state_in_order=False),
    Mutation.REQUEST_ID_NOT_UNIQUE: Rules(one_saga_a_request=False),
    Mutation.ANSWER_BEFORE_COMMIT: Rules(answer_after_commit=False),
    Mutation.SCAN_FORGETS: Rules(scan_finds_compensating=False),
}


def rules_of(mutation: Mutation | None) -> Rules:
    """The rules of a world with `mutation`; production's own without one."""
    return Rules() if mutation is None else _RULES[mutation]
