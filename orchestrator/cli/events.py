"""`baton events`: stream what happens to sagas, and see and set how far consumers have come."""

from __future__ import annotations

import time
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
import typer
from rich.text import Text

from orchestrator.cli import output
from orchestrator.cli.client import Client
from orchestrator.cli.command import ENDPOINTS_DEFAULT, AsJson, Endpoints, call
from orchestrator.events.cloudevent import cloud_event
from orchestrator.events.model import Cursor, EventRecord
from orchestrator.pb.baton.v1 import events_pb2
from orchestrator.saga.model import Failure, SagaId
from orchestrator.sagalog.records import TransitionRecord

_TIMEOUT_S = 30.0
# What was printed is committed so often, and when the end is reached or the command is interrupted.
_COMMIT_INTERVAL_S = 1.0

app = typer.Typer(help="Stream what happens to sagas; see and set consumers.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="CONSUMER", help="The consumer's name.")]


@app.command()
def stream(
    consumer: Annotated[
        str, typer.Option("--consumer", "-c", help="Go on where this consumer was, and keep how far it comes.")
    ] = "",
    after: Annotated[str, typer.Option(metavar="CURSOR", help="Begin behind this event.")] = "",
    latest: Annotated[bool, typer.Option("--latest", help="Begin behind the last event, not at the first.")] = False,
    definition: Annotated[list[str] | None, typer.Option("--definition", "-d", help="Repeat it for more.")] = None,
    type_: Annotated[
        list[str] | None,
        typer.Option("--type", "-t", help="Such as baton.saga.v1.completed, or 'baton.saga.v1.*'; repeat it."),
    ] = None,
    status: Annotated[list[str] | None, typer.Option("--status", help="Such as compensated; repeat it.")] = None,
    saga: Annotated[str, typer.Option(help="Events of this saga alone.")] = "",
    payloads: Annotated[
        bool, typer.Option("--payloads", help="With participants' replies and error messages.")
    ] = False,
    until_caught_up: Annotated[bool, typer.Option("--until-caught-up", help="End when the last is reached.")] = False,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Print events as they come, until interrupted; with --json one CloudEvent a line, and its cursor with it.

    A replica that dies costs nothing: the next one goes on behind the last event. With --consumer, the next run goes on
    where this one ended; an event may then come a second time, and none is left out.
    """
    request = events_pb2.StreamEventsRequest(
        consumer=consumer,
        after=after,
        latest=latest,
        definitions=definition or (),
        types=type_ or (),
        statuses=status or (),
        saga_id=saga,
        payloads=payloads,
        until_caught_up=until_caught_up,
    )

    async def follow(client: Client) -> None:
        position = _Position(client, consumer)
        try:
            async with aclosing(client.events.stream(request)) as answers:
                async for answer in answers:
                    if answer.HasField("event"):
                        _print(answer, as_json=as_json, payloads=payloads)
                    await position.come_to(answer.cursor)
        finally:
            await position.keep()

    call(endpoint, _TIMEOUT_S, follow)


@app.command()
def consumers(endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False) -> None:
    """List the consumers, how far each has come, and how far it is behind."""
    found = call(endpoint, _TIMEOUT_S, lambda client: client.events.consumers())
    if as_json:
        output.print_json([_consumer_json(entry) for entry in found])
        return
    columns = ("CONSUMER", "CURSOR", "BEHIND", "OLDEST PENDING", "COMMITTED", "")
    output.table(columns, (_consumer_row(entry) for entry in found))


@app.command()
def reset(
    consumer: Name,
    to: Annotated[str, typer.Option("--to", metavar="earliest|latest|CURSOR", help="Where it is to go on.")],
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Set a consumer to a place, forwards or back; it is made if there is none of this name."""
    request = events_pb2.ResetConsumerRequest(consumer=consumer)
    if to in ("earliest", "latest"):
        setattr(request, to, True)
    else:
        request.cursor = to
    cursor = call(endpoint, _TIMEOUT_S, lambda client: client.events.reset(request))
    if as_json:
        output.print_json({"consumer": consumer, "cursor": cursor})
    else:
        output.console().print(f"{consumer} goes on behind {cursor}")


@app.command()
def delete(consumer: Name, endpoint: Endpoints = ENDPOINTS_DEFAULT) -> None:
    """Forget a consumer and how far it has come."""
    call(endpoint, _TIMEOUT_S, lambda client: client.events.delete(consumer))
    output.console().print(f"{consumer} is forgotten")


class _Position:
    """Keeps how far a consumer has come, if there is one: not for each event, but soon."""

    def __init__(self, client: Client, consumer: str) -> None:
        self._client = client
        self._consumer = consumer
        self._cursor = self._kept = ""
        self._kept_at_s = time.monotonic()

    async def come_to(self, cursor: str) -> None:
        self._cursor = cursor
        if time.monotonic() - self._kept_at_s > _COMMIT_INTERVAL_S:
            await self.keep()

    async def keep(self) -> None:
        if self._consumer and self._cursor != self._kept:
            await self._client.events.commit(self._consumer, self._cursor)
            self._kept = self._cursor
        self._kept_at_s = time.monotonic()


def _print(answer: events_pb2.StreamEventsResponse, *, as_json: bool, payloads: bool) -> None:
    event = answer.event
    if as_json:
        record = _record(event, answer.cursor)
        output.print_json({**cloud_event(record, event.source, payloads=payloads), "cursor": answer.cursor})
        return
    where = event.step or "-"
    failure = f"{event.error_code} {event.error_message}".strip()
    detail = failure or event.result_json
    words = [output.when(event.time), event.saga_id, event.definition, where, event.status, detail]
    line = [*(Text(word) for word in words if word), output.coloured(event.state), Text(answer.cursor, style="dim")]
    output.console().print(Text("  ").join(line))


def _record(event: events_pb2.Event, cursor: str) -> EventRecord:
    """The event as a replica had it."""
    failure = None
    if event.error_code or event.error_message:
        failure = Failure(event.step, event.error_code, event.error_message)
    transition = TransitionRecord(
        SagaId(UUID(event.saga_id)),
        event.sequence,
        event.step or None,
        event.position,
        event.status,
        event.attempt,
        event.result_json or None,
        failure,
        event.epoch,
        _time(event),
        event.state,
        _ordered(event),
    )
    return EventRecord(Cursor.parse(cursor), event.definition, event.version, transition)


def _ordered(event: events_pb2.Event) -> str | None:
    if not event.ordered_by:
        return None
    order = {"by": event.ordered_by, "reason": event.order_reason, "evidence": event.order_evidence}
    return orjson.dumps(order).decode()


def _time(event: events_pb2.Event) -> datetime:
    return event.time.ToDatetime(tzinfo=UTC)


def _consumer_row(entry: events_pb2.Consumer) -> tuple[str | Text, ...]:
    return (
        entry.name,
        entry.cursor,
        str(entry.lag_events),
        output.when(entry.oldest_pending_at),
        output.when(entry.committed_at),
        Text("expired: reset it", style="bold red") if entry.expired else "",
    )


def _consumer_json(entry: events_pb2.Consumer) -> dict[str, Any]:
    return {
        "name": entry.name,
        "cursor": entry.cursor,
        "lag_events": entry.lag_events,
        "oldest_pending_at": output.iso(entry.oldest_pending_at),
        "committed_at": output.iso(entry.committed_at),
        "expired": entry.expired,
    }
