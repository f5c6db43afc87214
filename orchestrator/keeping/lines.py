"""The lines of the archive. Pure: from records to bytes; the JSON of the log is taken over as it stands.

A line has the names that `baton saga get --json` has, so that what reads one reads the other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from datetime import datetime
from typing import Any

import orjson

from orchestrator.saga.model import Failure
from orchestrator.sagalog.records import SagaRecord, TransitionRecord


async def lines(
    sagas: Sequence[SagaRecord], history: AsyncIterable[Sequence[TransitionRecord]]
) -> AsyncGenerator[bytes]:
    """The lines of `sagas`, which come by id as their `history` does, in pieces of about a page of history."""
    waiting = list(reversed(sagas))
    opened: SagaRecord | None = None
    async for page in history:
        out = bytearray()
        for row in page:
            while opened is None or opened.id != row.saga_id:
                if opened is not None:
                    out += b"]}\n"
                opened = waiting.pop()
                out += saga_json(opened)[:-1] + b',"history":['
                first = True
            if not first:
                out += b","
            first = False
            out += transition_json(row)
        yield bytes(out)
    out = bytearray(b"]}\n" if opened is not None else b"")
    while waiting:
        out += saga_json(waiting.pop())[:-1] + b',"history":[]}\n'
    yield bytes(out)


def saga_json(saga: SagaRecord) -> bytes:
    """A saga's row as a JSON object."""
    return orjson.dumps(
        {
            "saga_id": str(saga.id),
            "definition": saga.definition,
            "version": saga.version,
            "state": saga.state,
            "current_step": saga.current_step,
            "input": _verbatim(saga.input),
            "result": _verbatim(saga.result),
            "error": _failure(saga.failure),
            "labels": saga.labels,
            "request_id": saga.request_id,
            "cancel_reason": saga.cancel_reason,
            "created_at": _iso(saga.created_at),
            "updated_at": _iso(saga.updated_at),
            "finished_at": _iso(saga.finished_at),
        }
    )


def transition_json(row: TransitionRecord) -> bytes:
    """A row of the step log as a JSON object."""
    return orjson.dumps(
        {
            "sequence": row.sequence,
            "at": _iso(row.at),
            "step": row.step,
            "position": row.position,
            "status": row.status,
            "attempt": row.attempt,
            "epoch": row.epoch,
            "result": _verbatim(row.result),
            "error": _failure(row.failure),
            "ordered": _verbatim(row.ordered),
        }
    )


def _verbatim(text: str | None) -> Any:
    """JSON text as it is: parsed and written again, a number might come out as another one."""
    return None if text is None else orjson.Fragment(text)


def _failure(failure: Failure | None) -> dict[str, str] | None:
    if failure is None:
        return None
    return {"step": failure.step, "code": failure.code, "message": failure.message}


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
