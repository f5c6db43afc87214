"""Tells people how their orders have ended. It takes no part in any saga: it listens to Baton's events.

Each event is handled once: what is to be sent and the event's id are written in one transaction.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc.aio

from participants.database import Connection, Database
from participants.dispatch import plain
from participants.fields import required_id
from participants.inbox import Inbox
from participants.pb.baton.v1 import events_pb2
from participants.pb.shop.v1 import notifications_pb2 as pb
from participants.pb.shop.v1 import notifications_pb2_grpc
from participants.server import MIGRATIONS, Service
from participants.settings import ParticipantSettings
from participants.sql import load_queries
from participants.subscription import Subscription
from participants.tls import certificates_of

Context = grpc.aio.ServicerContext[Any, Any]

_QUERIES = load_queries("notifications")
_LISTED_MAX = 100
_ENDS = "baton.saga.v1."

_MESSAGES = {
    "COMPLETED": "done: everything is on its way",
    "COMPENSATED": "called off: nothing was taken from you, or you have it back",
    "FAILED": "stuck: somebody looks into it",
}


class NotificationsServicer(notifications_pb2_grpc.NotificationsServiceServicer):
    """Shows what was written; what writes it is `listen`."""

    def __init__(self, database: Database, settings: ParticipantSettings) -> None:
        self._database = database

    @plain
    async def ListNotifications(
        self, request: pb.ListNotificationsRequest, context: Context
    ) -> pb.ListNotificationsResponse:
        """What people were told about a saga."""
        saga_id = required_id(request.saga_id, "saga_id")
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["of_saga"], {"saga_id": saga_id, "limit": _LISTED_MAX})
            rows = cast(list[tuple[str, str, str, str]], await cursor.fetchall())
        return pb.ListNotificationsResponse(
            notifications=[
                pb.Notification(event_id=event_id, definition=definition, state=state, message=message)
                for event_id, definition, state, message in rows
            ]
        )

    @plain
    async def GetTotals(self, request: pb.NotificationsTotalsRequest, context: Context) -> pb.NotificationsTotals:
        """How many people were told what."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["totals"])
            completed, compensated, failed = cast(tuple[int, int, int], await cursor.fetchone())
        return pb.NotificationsTotals(completed=completed, compensated=compensated, failed=failed)


async def listen(database: Database, settings: ParticipantSettings) -> None:
    """Handle the ends of sagas, each once, until cancelled."""
    inbox = Inbox(database, settings.processed_keep_s)

    async def handle(event: events_pb2.Event) -> None:
        async def effect(connection: Connection) -> None:
            message = _MESSAGES.get(event.state, event.state)
            parameters = {
                "event_id": event.id,
                "saga_id": event.saga_id,
                "definition": event.definition,
                "state": event.state,
                "message": f"{event.definition} {message}",
            }
            await connection.execute(_QUERIES["notify"], parameters)

        await inbox.once(event.id, effect)

    types = [_ENDS + what for what in ("completed", "compensated", "failed")]
    wanted = events_pb2.StreamEventsRequest(consumer="notifications", types=types)
    async with asyncio.TaskGroup() as group:
        group.create_task(Subscription(settings.baton_addresses, wanted, handle, certificates_of(settings)).run())
        group.create_task(inbox.forget_old())


SERVICE = Service(
    name="notifications",
    register=notifications_pb2_grpc.add_NotificationsServiceServicer_to_server,
    servicer=NotificationsServicer,
    listen="127.0.0.1:7506",
    migrations=MIGRATIONS / "notifications",
    shared_migrations=(MIGRATIONS / "inbox",),
    background=listen,
)
