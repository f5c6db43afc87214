"""One log event for each transition of a saga, written when it is durable: what a person reads after the fact.

The saga log in Postgres is the truth; this is its shadow in the replicas' logs, where it stands between the elections,
the outages and the refusals of the same moment. What sagas and participants carry in them is left out unless asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.saga.events import Event, Status
from orchestrator.saga.model import Saga
from orchestrator.telemetry import EventLines

# A participant's words, cut: nobody reads more of them in a line.
_MESSAGE_CHARS_MAX = 300

_HIDDEN = "(has secrets)"

# What somebody should look at.
_LOUD = frozenset({Status.COMPENSATION_FAILED, Status.PARKED})


class TransitionLog:
    """Call it with a saga as it is after `events`, which have just been written."""

    def __init__(self, lines: EventLines, *, payloads: bool) -> None:
        self._lines = lines
        self._payloads = payloads

    def __call__(self, saga: Saga, events: Sequence[Event]) -> None:
        """Log each of the events."""
        last = len(events) - 1
        for number, event in enumerate(events):
            # The state between two events of one write was never in the log, and says nothing.
            fields = _fields(saga, event, saga.state.value if number == last else None)
            if self._payloads:
                fields |= _payloads(saga, event)
            self._lines.add("warning" if event.status in _LOUD else "info", "transition", fields)
        self._lines.flush()


def _fields(saga: Saga, event: Event, state: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "saga": str(saga.id),
        "epoch": event.epoch,
        "sequence": event.sequence,
        "status": event.status.value,
        "definition": saga.definition.name,
        "version": saga.definition.version,
    }
    if event.position:
        fields["step"] = saga.definition.step(event.position).name
        fields["attempt"] = event.attempt
    if state is not None:
        fields["state"] = state
    if event.code:
        fields["code"] = event.code
    if event.message:
        fields["message"] = event.message[:_MESSAGE_CHARS_MAX]
    if event.order is not None:
        fields["by"] = event.order.by
        fields["reason"] = event.order.reason[:_MESSAGE_CHARS_MAX]
    if event.retry_at is not None:
        fields["retry_at"] = event.retry_at.isoformat()
    return fields


def _payloads(saga: Saga, event: Event) -> dict[str, Any]:
    """What was sent in with the start, and what a participant replied; nothing of what has secrets in it."""
    payloads: dict[str, Any] = {}
    if event.sequence == 1:
        payloads["input"] = _HIDDEN if saga.definition.secrets else saga.input
    if event.result is not None:
        hidden = bool(saga.definition.secrets) or (
            event.position > 0 and bool(saga.definition.step(event.position).secrets)
        )
        payloads["result"] = _HIDDEN if hidden else event.result
    return payloads
