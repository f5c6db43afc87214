"""An event as a CloudEvent 1.0 (https://github.com/cloudevents/spec), in its JSON format.

Pure. Nothing that a participant said is in it unless it is asked for: replies and messages may hold anything.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from orchestrator.events.model import EventRecord

CONTENT_TYPE = "application/cloudevents+json"


def source_of(cluster: str) -> str:
    """The URI reference that names a cluster as the source of events."""
    return f"/baton/{cluster}"


def cloud_event(event: EventRecord, source: str, *, payloads: bool = False) -> dict[str, Any]:
    """The CloudEvent of an event. `partitionkey` (an extension) is what must stay in order: the saga."""
    transition = event.transition
    data: dict[str, Any] = {
        "saga_id": str(transition.saga_id),
        "sequence": transition.sequence,
        "definition": event.definition,
        "version": event.version,
        "step": transition.step,
        "position": transition.position,
        "status": transition.status,
        "attempt": transition.attempt,
        "state": transition.state,
        "epoch": transition.epoch,
        "error_code": transition.failure.code if transition.failure is not None else None,
    }
    if transition.ordered is not None:
        # Who, and only with payloads also why and by which evidence.
        order = orjson.loads(transition.ordered)
        data["ordered"] = order if payloads else {"by": order.get("by")}
    if payloads:
        data["error_message"] = transition.failure.message if transition.failure is not None else None
        data["result"] = None if transition.result is None else orjson.loads(transition.result)
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": source,
        "type": event.type,
        "subject": str(transition.saga_id),
        "time": rfc3339(transition.at),
        "partitionkey": str(transition.saga_id),
        "datacontenttype": "application/json",
        "data": data,
    }


def rfc3339(at: datetime) -> str:
    """A point in time as CloudEvents wants it, in UTC and to the microsecond."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
