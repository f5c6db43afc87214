"""baton.v1.EventService: the stream of all transitions, and how far its consumers have come."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from orchestrator.api import checks, conversion
from orchestrator.api.errors import Context, UnknownName, answered, streamed
from orchestrator.events.cloudevent import source_of
from orchestrator.events.model import ConsumerRecord, Cursor, EventFilter, EventRecord, earliest
from orchestrator.events.port import EventLog
from orchestrator.events.relay import RELAY_CONSUMER
from orchestrator.events.streams import EventStreams
from orchestrator.pb.baton.v1 import events_pb2, events_pb2_grpc, saga_pb2

_FILTER_VALUES_MAX = 100
_TYPE_CHARS_MAX = 200


class EventService(events_pb2_grpc.EventServiceServicer):
    """Serves from the saga log alone, on every replica."""

    def __init__(self, events: EventLog, streams: EventStreams, cluster: str) -> None:
        self._events = events
        self._streams = streams
        self._source = source_of(cluster)

    @streamed
    async def StreamEvents(
        self, request: events_pb2.StreamEventsRequest, context: Context
    ) -> AsyncGenerator[events_pb2.StreamEventsResponse]:
        """The wanted events from a place on."""
        wanted = _filter(request)
        after = await self._start(request)
        until_caught_up = request.until_caught_up
        async with aclosing(self._streams.stream(after, wanted, until_caught_up=until_caught_up)) as stream:
            async for progress in stream:
                yield events_pb2.StreamEventsResponse(
                    event=None if progress.event is None else self._message(progress.event),
                    cursor=str(progress.cursor),
                    caught_up=progress.caught_up,
                )

    @answered
    async def CommitPosition(
        self, request: events_pb2.CommitPositionRequest, context: Context
    ) -> events_pb2.CommitPositionResponse:
        """Keep how far a consumer has come."""
        name, cursor = checks.consumer(request.consumer), checks.cursor("cursor", request.cursor)
        if name == RELAY_CONSUMER:
            raise checks.rejected("consumer", f"{name} is the relay of this cluster; it can be reset, and no more")
        return events_pb2.CommitPositionResponse(cursor=str(await self._events.commit(name, cursor)))

    @answered
    async def ListConsumers(
        self, request: events_pb2.ListConsumersRequest, context: Context
    ) -> events_pb2.ListConsumersResponse:
        """All consumers, and how far behind they are."""
        consumers = await self._events.consumers()
        return events_pb2.ListConsumersResponse(consumers=[_consumer(record) for record in consumers])

    @answered
    async def ResetConsumer(
        self, request: events_pb2.ResetConsumerRequest, context: Context
    ) -> events_pb2.ResetConsumerResponse:
        """Set a consumer to a place."""
        name = checks.consumer(request.consumer)
        match request.WhichOneof("to"):
            case "cursor":
                cursor = checks.cursor("cursor", request.cursor)
            case "latest" if request.latest:
                cursor = await self._latest()
            case "earliest" if request.earliest:
                cursor = earliest(await self._events.horizon())
            case _:
                raise checks.rejected("to", "is missing: earliest, latest, or a cursor")
        await self._events.reset(name, cursor)
        return events_pb2.ResetConsumerResponse(cursor=str(cursor))

    @answered
    async def DeleteConsumer(
        self, request: events_pb2.DeleteConsumerRequest, context: Context
    ) -> events_pb2.DeleteConsumerResponse:
        """Forget a consumer."""
        name = checks.consumer(request.consumer)
        if not await self._events.delete(name):
            raise UnknownName("consumer", f"there is no consumer {name!r}")
        return events_pb2.DeleteConsumerResponse()

    async def _start(self, request: events_pb2.StreamEventsRequest) -> Cursor:
        """Where a stream begins."""
        if request.after and (request.consumer or request.latest):
            raise checks.rejected("after", "goes neither with `consumer` nor with `latest`")
        if request.after:
            return checks.cursor("after", request.after)
        if request.consumer:
            kept = await self._events.consumer(checks.consumer(request.consumer))
            if kept is not None:
                return kept
        return await self._latest() if request.latest else earliest(await self._events.horizon())

    async def _latest(self) -> Cursor:
        """Behind the last event. The horizon is read first: what is removed later than the head was is news."""
        horizon = await self._events.horizon()
        head = await self._events.head()
        return Cursor(head.epoch, head.position, horizon)

    def _message(self, record: EventRecord) -> events_pb2.Event:
        transition, failure = record.transition, record.transition.failure
        order = conversion.ordered(transition.ordered) or saga_pb2.OrderedBy()
        return events_pb2.Event(
            id=record.id,
            type=record.type,
            source=self._source,
            time=conversion.timestamp(transition.at),
            saga_id=str(transition.saga_id),
            sequence=transition.sequence,
            definition=record.definition,
            version=record.version,
            step=transition.step or "",
            position=transition.position,
            attempt=transition.attempt,
            status=transition.status,
            state=transition.state,
            epoch=transition.epoch,
            error_code="" if failure is None else failure.code,
            error_message="" if failure is None else failure.message,
            result_json=transition.result or "",
            ordered_by=order.by,
            order_reason=order.reason,
            order_evidence=order.evidence,
        )


def _filter(request: events_pb2.StreamEventsRequest) -> EventFilter:
    for field in ("definitions", "types", "statuses"):
        values = getattr(request, field)
        if len(values) > _FILTER_VALUES_MAX:
            raise checks.rejected(field, f"there are {len(values)}; {_FILTER_VALUES_MAX} are allowed")
        if any(not 0 < len(value) <= _TYPE_CHARS_MAX for value in values):
            raise checks.rejected(field, f"each has 1 to {_TYPE_CHARS_MAX} characters")
    return EventFilter(
        definitions=frozenset(request.definitions),
        types=tuple(request.types),
        statuses=frozenset(request.statuses),
        saga_id=checks.saga_id(request.saga_id) if request.saga_id else None,
        payloads=request.payloads,
    )


def _consumer(record: ConsumerRecord) -> events_pb2.Consumer:
    return events_pb2.Consumer(
        name=record.name,
        cursor=str(record.cursor),
        lag_events=record.lag,
        oldest_pending_at=conversion.timestamp(record.oldest),
        committed_at=conversion.timestamp(record.committed_at),
        expired=record.expired,
    )
