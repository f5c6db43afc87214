"""baton.v1.SagaService: start, read, watch and cancel sagas, on any replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from orchestrator.api import checks, conversion
from orchestrator.api.errors import Context, UnknownName, answered, kind, streamed
from orchestrator.api.filters import page_of, saga_filter
from orchestrator.api.orders import past_pivot
from orchestrator.api.port import SagaReader
from orchestrator.api.signalling import Signalling
from orchestrator.api.starts import AskedStart, Starts
from orchestrator.api.watcher import Watcher
from orchestrator.driving.veil import Veils
from orchestrator.errors import BatonError, FieldViolation, Rejected, WrongState
from orchestrator.pb.baton.v1 import saga_pb2, saga_pb2_grpc
from orchestrator.saga.model import SagaId, SagaState
from orchestrator.sagalog.records import NewSaga, SagaRecord, Started
from orchestrator.security.caller import current

BATCH_MAX = 1000
# By any time zone that Postgres may be set to, a year of four digits.
START_YEAR_MAX = 9998

# A caller that waits for the end is answered so long before its deadline, in seconds, and in no case later than the
# most; the answer needs time to be read and to travel.
_ANSWER_EARLY_S = 0.1
_WAIT_MAX_S = 3600.0
_HISTORY_ROWS = 1000


@dataclass(frozen=True, slots=True)
class _Queued:
    """A start of a batch on its way into the log."""

    future: asyncio.Future[Started]


class SagaService(saga_pb2_grpc.SagaServiceServicer):
    """Serves the API. Messages stay below `message_bytes_max`."""

    def __init__(
        self,
        starts: Starts,
        reader: SagaReader,
        watcher: Watcher,
        signalling: Signalling,
        veils: Veils,
        message_bytes_max: int,
    ) -> None:
        self._starts = starts
        self._reader = reader
        self._watcher = watcher
        self._signalling = signalling
        self._veils = veils
        # Room for the rest of the message: the saga itself, and the fields around each result.
        self._answer_bytes_max = message_bytes_max // 2

    @answered
    async def StartSaga(self, request: saga_pb2.StartSagaRequest, context: Context) -> saga_pb2.StartSagaResponse:
        """Answer when the saga is durable; with `wait`, when it has ended or the deadline is near."""
        self._starts.admit()
        asked = _asked(request)
        current().require(asked.definition)
        new, future = await self._starts.submit(asked)
        stored = await future
        if request.wait:
            await self._watcher.ended(stored.saga_id, _patience_s(context.time_remaining()))
        return saga_pb2.StartSagaResponse(
            saga=await self._started(asked, new, stored, wait=request.wait), existing=stored.existing
        )

    @answered
    async def StartSagas(self, request: saga_pb2.StartSagasRequest, context: Context) -> saga_pb2.StartSagasResponse:
        """Start many sagas; they share commits, and each has an answer of its own."""
        if len(request.requests) > BATCH_MAX:
            raise checks.rejected("requests", f"there are {len(request.requests)}; {BATCH_MAX} are allowed in one call")
        self._starts.admit()
        # All are queued before the first is waited for.
        queued = [await self._queue(start) for start in request.requests]
        try:
            return saga_pb2.StartSagasResponse(results=[await _result(start) for start in queued])
        finally:
            # If the caller has gone away, nobody hears the answers that are left.
            for start in queued:
                if isinstance(start, _Queued) and not start.future.cancel() and not start.future.cancelled():
                    start.future.exception()

    @answered
    async def GetSaga(self, request: saga_pb2.GetSagaRequest, context: Context) -> saga_pb2.GetSagaResponse:
        """One saga, with a page of its history."""
        after = _sequence(request.after_sequence)
        record = await self._existing(request.saga_id)
        history = await self._reader.history(record, after, _HISTORY_ROWS, self._answer_bytes_max)
        last = history[-1].sequence if history else after
        veil = await self._veils.of(record)
        return saga_pb2.GetSagaResponse(
            saga=conversion.saga(record, veil),
            history=[conversion.transition(transition, veil) for transition in history],
            more_history=bool(history) and last < record.sequence,
        )

    @answered
    async def ListSagas(self, request: saga_pb2.ListSagasRequest, context: Context) -> saga_pb2.ListSagasResponse:
        """A page of sagas, newest first."""
        size = checks.page_size(request.page_size)
        wanted = saga_filter(request)
        if wanted.definition:
            current().require(wanted.definition)
        else:
            current().require_all("a list without `definition`")
        filters = _filter_bytes(request)
        before = checks.page_start(request.page_token, filters)
        found = await page_of(self._reader, wanted, before, size)
        page = self._fitting(found.sagas)
        reached = page[-1].id if len(page) < len(found.sagas) else found.reached
        return saga_pb2.ListSagasResponse(
            sagas=[await self._shown(record) for record in page],
            next_page_token=checks.page_token(filters, reached) if reached is not None else "",
        )

    @streamed
    async def WatchSaga(
        self, request: saga_pb2.WatchSagaRequest, context: Context
    ) -> AsyncGenerator[saga_pb2.Transition]:
        """The transitions of a saga until it is terminal."""
        after = _sequence(request.after_sequence)
        record = await self._existing(request.saga_id)
        veil = await self._veils.of(record)
        async with aclosing(self._watcher.watch(record.id, after)) as transitions:
            async for transition in transitions:
                yield conversion.transition(transition, veil)

    @answered
    async def CancelSaga(self, request: saga_pb2.CancelSagaRequest, context: Context) -> saga_pb2.CancelSagaResponse:
        """Note that a saga is to be undone; the leader reads the note. Asked again, the first reason stays."""
        reason = checks.reason(request.reason)
        saga_id = checks.saga_id(request.saga_id)
        await self._refuse_past_pivot(saga_id)
        await self._reader.request_cancel(saga_id, reason)
        record = await self._existing(request.saga_id)
        # Asked again, a cancellation that worked is no error; one that came too late is.
        if record.terminal and (record.cancel_reason is None or record.state == SagaState.COMPLETED):
            raise WrongState(f"saga {saga_id} is {record.state}; only a saga that has not ended can be cancelled")
        return saga_pb2.CancelSagaResponse(saga=await self._shown(record))

    async def _refuse_past_pivot(self, saga_id: SagaId) -> None:
        """Raises WrongState when the saga has come so far that it only goes forward."""
        if refusal := await past_pivot(await self._existing(str(saga_id)), self._signalling):
            raise WrongState(refusal)

    async def _started(self, asked: AskedStart, new: NewSaga, stored: Started, *, wait: bool) -> saga_pb2.Saga:
        """The saga as it is now; one that was just stored is known without reading."""
        if not wait and not stored.existing:
            return conversion.started(new, stored, asked.labels, await self._veils.input_of(new))
        return await self._shown(await self._existing(str(stored.saga_id)))

    async def _shown(self, record: SagaRecord) -> saga_pb2.Saga:
        """A saga without the secrets of its definition."""
        return conversion.saga(record, await self._veils.of(record))

    async def _queue(self, request: saga_pb2.StartSagaRequest) -> _Queued | BatonError:
        try:
            if request.wait:
                raise checks.rejected("wait", "a batch cannot wait; watch its sagas")
            current().require(request.definition)
            _, future = await self._starts.submit(_asked(request))
        except BatonError as error:
            return error
        return _Queued(future)

    async def _existing(self, text: str) -> SagaRecord:
        saga_id: SagaId = checks.saga_id(text)
        record = await self._reader.saga(saga_id)
        if record is None:
            raise UnknownName("saga_id", f"there is no saga {saga_id}")
        current().require(record.definition)
        return record

    def _fitting(self, found: list[SagaRecord]) -> list[SagaRecord]:
        """As many sagas as fit into one message, but at least one if there is any."""
        size_bytes = 0
        for number, record in enumerate(found):
            size_bytes += record.size_bytes
            if size_bytes > self._answer_bytes_max and number > 0:
                return found[:number]
        return found


def _asked(request: saga_pb2.StartSagaRequest) -> AskedStart:
    start_at = None
    if request.HasField("start_at"):
        try:
            start_at = conversion.moment(request.start_at)
            if start_at.year > START_YEAR_MAX:
                raise ValueError(f"is beyond the year {START_YEAR_MAX}")
        except (ValueError, OverflowError) as error:
            raise Rejected("the request is not valid", (FieldViolation("start_at", str(error)),)) from None
    labels = dict(request.labels)
    return AskedStart(request.definition, request.version, request.input_json, labels, request.request_id, start_at)


async def _result(start: _Queued | BatonError) -> saga_pb2.StartSagaResult:
    if isinstance(start, _Queued):
        try:
            stored = await start.future
        except BatonError as error:
            start = error
        else:
            return saga_pb2.StartSagaResult(saga_id=str(stored.saga_id), existing=stored.existing)
    code, _ = kind(start)
    return saga_pb2.StartSagaResult(code=code.value[0], message=str(start))


def _patience_s(left_s: float | None) -> float:
    """How long to wait for the end of a saga when the caller's deadline is `left_s` seconds away."""
    if left_s is None:
        return _WAIT_MAX_S
    return min(max(left_s - _ANSWER_EARLY_S, left_s / 2, 0.0), _WAIT_MAX_S)


def _sequence(after: int) -> int:
    if after < 0:
        raise checks.rejected("after_sequence", f"{after} is negative; sequences count from 1")
    return after


def _filter_bytes(request: saga_pb2.ListSagasRequest) -> bytes:
    """What of a request must stay the same from page to page."""
    filters = saga_pb2.ListSagasRequest()
    filters.CopyFrom(request)
    filters.ClearField("page_size")
    filters.ClearField("page_token")
    return filters.SerializeToString(deterministic=True)
