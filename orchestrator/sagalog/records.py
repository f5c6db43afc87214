"""What the API hands to the saga log and reads from it: the rows as they lie, nothing folded, nothing checked.

The leader reads the log to act on it and must understand every row (rows.py); a reader shows what is there, so that a
saga whose rows are corrupt can still be looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from orchestrator.saga.events import Status
from orchestrator.saga.model import Failure, Json, SagaId, SagaState

Row = tuple[Any, ...]

_TURNED_BACK = SagaState.COMPENSATING.value


@dataclass(frozen=True, slots=True)
class SagaRecord:
    """A saga's row. JSON stays text; `input` and `result` are None when they were too large for a list."""

    id: SagaId
    definition: str
    version: int
    state: str
    current_step: str | None
    sequence: int
    input: str | None
    result: str | None
    failure: Failure | None
    labels: dict[str, str]
    request_id: str
    cancel_reason: str | None
    next_run_at: datetime | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None

    @property
    def terminal(self) -> bool:
        """Whether nothing will ever happen to the saga again by itself."""
        return is_terminal(self.state)

    @property
    def size_bytes(self) -> int:
        """About how large the record is."""
        return 500 + len(self.input or "") + len(self.result or "")


@dataclass(frozen=True, slots=True)
class TransitionRecord:
    """A row of the step log; `state` is that of the saga after it, `ordered` the JSON of who ordered it, and why."""

    saga_id: SagaId
    sequence: int
    step: str | None
    position: int
    status: str
    attempt: int
    result: str | None
    failure: Failure | None
    epoch: int
    at: datetime
    state: str
    ordered: str | None = None


@dataclass(frozen=True, slots=True)
class NewSaga:
    """A saga that somebody wants to start; all of it has been checked.

    With an empty `request_id` the saga's own id serves as one, and the start is not idempotent.
    """

    definition: str
    version: int
    input_json: str
    labels_json: str
    request_id: str
    request_hash: bytes
    start_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A saga that is durable; `existing` says that an earlier call with this request id has started it."""

    saga_id: SagaId
    created_at: datetime
    existing: bool


@dataclass(frozen=True, slots=True)
class StartHold:
    """New starts of a definition are held: `turned_back` of its last `of_last` sagas were compensated or parked."""

    definition: str
    since: datetime
    until: datetime
    of_last: int
    turned_back: int


@dataclass(frozen=True, slots=True)
class SagaFilter:
    """Which sagas to list: all that match every filter that is set.

    `labels` must be equal, those named in `label_keys` be there; `input_path` is a JSONPath that holds in the input.
    """

    states: tuple[str, ...] = ()
    definition: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None
    label_keys: tuple[str, ...] = ()
    input_path: str = ""

    @property
    def searched(self) -> bool:
        """Whether sagas must be looked at one by one, a window at a time."""
        return bool(self.labels or self.label_keys or self.input_path)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found so far, newest first; it goes on behind the saga `reached`, if there is more."""

    sagas: list[SagaRecord]
    reached: SagaId | None


@dataclass(frozen=True, slots=True)
class News:
    """What has happened to a saga since it was last looked at; `last` is the sequence of its newest row."""

    saga_id: SagaId
    state: str
    last: int
    transitions: tuple[TransitionRecord, ...]


@dataclass(frozen=True, slots=True)
class Fence:
    """Who raised the epoch of the shard last, and when."""

    epoch: int
    holder: str
    raised_at: datetime


@dataclass(frozen=True, slots=True)
class ListedDefinition:
    """A version of a definition without its text."""

    name: str
    version: int
    content_hash: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Retirement:
    """That no new sagas are started of a version of a definition; of every version where `version` is 0."""

    name: str
    version: int
    reason: str
    by: str
    at: datetime


def request_hash(
    definition: str, version_asked: int, input_: Json, labels: dict[str, str], start_at: datetime | None = None
) -> bytes:
    """What two starts with one request id must agree in: SHA-256 over their canonical JSON."""
    # A start without a time of its own hashes as it did before there were such times.
    times = [] if start_at is None else [start_at.isoformat()]
    body = orjson.dumps([definition, version_asked, input_, labels, *times], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(body).digest()


def is_terminal(state: str) -> bool:
    """Whether a state, as it lies in the log, is a terminal one."""
    return state in (SagaState.COMPLETED, SagaState.COMPENSATED, SagaState.FAILED)


def saga_record(row: Row) -> SagaRecord:
    """The record of a row of the queries `saga` and `sagas`."""
    saga_id, definition, version, state, step, sequence, input_, result, error, labels, *rest = row
    return SagaRecord(
        SagaId(saga_id),
        definition,
        version,
        state,
        step,
        sequence,
        input_,
        result,
        _failure(_object(error)),
        {str(key): str(value) for key, value in _object(labels).items()},
        *rest,
    )


def transition_record(saga_id: SagaId, state: str, last: int, row: Row) -> TransitionRecord:
    """The record of a row of the log of a saga that has come to `state` with its row number `last`.

    The last columns are the sequence at which the saga turned back, if it has, and whether it had completed before.
    """
    sequence, step, position, status, attempt, result, code, message, epoch, at, ordered, turned, undone = row
    failure = None if code is None and message is None else Failure(step or "", code or "", message or "")
    if sequence == last:
        after = state
    elif status == Status.PARKED:
        # What a person decides later does not change what this row was.
        after = SagaState.FAILED.value
    elif turned is None or sequence < turned - 1:
        after = SagaState.RUNNING.value
    elif sequence < turned:
        # What a saga did before it was undone had completed it.
        after = SagaState.COMPLETED.value if undone else SagaState.RUNNING.value
    else:
        after = _TURNED_BACK
    return TransitionRecord(
        saga_id, sequence, step, position, status, attempt, result, failure, epoch, at, after, ordered
    )


def _failure(error: dict[str, Any]) -> Failure | None:
    if not error:
        return None
    return Failure(*(str(error.get(field) or "") for field in ("step", "code", "message")))


def _object(text: str | None) -> dict[str, Any]:
    value = None if text is None else orjson.loads(text)
    return value if isinstance(value, dict) else {}
