"""From the log's records to the messages of the API. Protobuf stops here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.driving.veil import Veil
from orchestrator.leadership.port import Member
from orchestrator.pb.baton.v1 import cluster_pb2, saga_pb2, versions_pb2
from orchestrator.saga.model import Failure, SagaState
from orchestrator.sagalog.port import StoredDefinition
from orchestrator.sagalog.records import ListedDefinition, NewSaga, Retirement, SagaRecord, Started, TransitionRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_STATES: dict[str, saga_pb2.SagaState] = {
    state.value: getattr(saga_pb2, f"SAGA_STATE_{state.value}") for state in SagaState
}
_STATE_NAMES = {int(number): name for name, number in _STATES.items()}


def state(name: str) -> saga_pb2.SagaState:
    """The state as a client sees it; one that this release does not know is left unspecified."""
    return _STATES.get(name, saga_pb2.SAGA_STATE_UNSPECIFIED)


def state_name(number: int) -> str | None:
    """The state that a client means; None when there is none of that number."""
    return _STATE_NAMES.get(number)


def timestamp(at: datetime | None) -> Timestamp | None:
    """A point in time, to the microsecond."""
    if at is None:
        return None
    since = at - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def moment(at: Timestamp) -> datetime:
    """A point in time, to the microsecond. Raises ValueError or OverflowError outside of the years 1 to 9999."""
    return at.ToDatetime(tzinfo=UTC)


def saga(record: SagaRecord, veil: Veil) -> saga_pb2.Saga:
    """A saga's row, without what the veil hides."""
    record = veil.saga(record)
    outcome = _object(record.result)
    return saga_pb2.Saga(
        saga_id=str(record.id),
        definition=record.definition,
        version=record.version,
        state=state(record.state),
        current_step=record.current_step or "",
        input_json=record.input or "",
        result_json=record.result or "",
        error=_failure(record.failure),
        labels=record.labels,
        request_id=record.request_id,
        created_at=timestamp(record.created_at),
        updated_at=timestamp(record.updated_at),
        finished_at=timestamp(record.finished_at),
        steps_executed=_positions(outcome.get("steps_executed")),
        steps_compensated=_positions(outcome.get("steps_compensated")),
        next_run_at=timestamp(record.next_run_at),
        cancel_reason=record.cancel_reason or "",
    )


def started(new: NewSaga, stored: Started, labels: dict[str, str], input_json: str) -> saga_pb2.Saga:
    """A saga that has just been stored, without reading it again; `input_json` is what may be shown of its input."""
    at = timestamp(stored.created_at)
    return saga_pb2.Saga(
        saga_id=str(stored.saga_id),
        definition=new.definition,
        version=new.version,
        state=saga_pb2.SAGA_STATE_PENDING,
        input_json=input_json,
        labels=labels,
        request_id=new.request_id or str(stored.saga_id),
        next_run_at=timestamp(new.start_at) if new.start_at and new.start_at > stored.created_at else None,
        created_at=at,
        updated_at=at,
    )


def transition(record: TransitionRecord, veil: Veil) -> saga_pb2.Transition:
    """A row of the step log, without what the veil hides."""
    record = veil.transition(record)
    return saga_pb2.Transition(
        saga_id=str(record.saga_id),
        sequence=record.sequence,
        step=record.step or "",
        position=record.position,
        status=record.status,
        attempt=record.attempt,
        result_json=record.result or "",
        error=_failure(record.failure),
        epoch=record.epoch,
        at=timestamp(record.at),
        state=state(record.state),
        ordered=ordered(record.ordered),
    )


def ordered(text: str | None) -> saga_pb2.OrderedBy | None:
    """Who ordered something and why, by the JSON of the log; None when nobody did."""
    if not text:
        return None
    order = _object(text)
    by, reason, evidence = (str(order.get(field) or "") for field in ("by", "reason", "evidence"))
    return saga_pb2.OrderedBy(by=by, reason=reason, evidence=evidence)


def definition(stored: StoredDefinition | ListedDefinition) -> saga_pb2.Definition:
    """A version of a definition; of a list, without its text."""
    return saga_pb2.Definition(
        name=stored.name,
        version=stored.version,
        yaml=stored.yaml if isinstance(stored, StoredDefinition) else "",
        content_hash=stored.content_hash,
        created_at=timestamp(stored.created_at),
    )


def retirement(record: Retirement) -> versions_pb2.Retirement:
    """That a definition is retired."""
    return versions_pb2.Retirement(
        name=record.name, version=record.version, reason=record.reason, by=record.by, at=timestamp(record.at)
    )


def replica(member: Member) -> cluster_pb2.Replica:
    """A replica as it describes itself."""
    return cluster_pb2.Replica(
        replica_id=member.replica_id,
        api_address=member.api_address,
        peer_address=member.peer_address,
        http_address=member.http_address,
        pid=member.pid,
        version=member.version,
    )


def _failure(failure: Failure | None) -> saga_pb2.SagaError | None:
    if failure is None:
        return None
    return saga_pb2.SagaError(step=failure.step, code=failure.code, message=failure.message)


def _object(text: str | None) -> dict[str, Any]:
    value = orjson.loads(text) if text else None
    return value if isinstance(value, dict) else {}


def _positions(value: Any) -> list[int]:
    """Positions of steps; nothing where the row holds something else."""
    if not isinstance(value, list):
        return []
    return [position for position in value if type(position) is int and 0 <= position < 2**31]
