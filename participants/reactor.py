"""Reacts to what happens: one happening in, its effect and the next happening in one transaction, the next one out.

The inbox makes the effect happen once. The outbox, a table of the same database, holds the next happening until the
broker has it: so there is none without its effect, and no effect without it. What is published twice is dropped by its
id, there or in the next service's inbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import nats.errors
import psycopg
import structlog
from psycopg.types.json import Jsonb

from participants.bus import Bus
from participants.call import CallIdentity, Kind
from participants.database import Connection, Database
from participants.happening import Happening
from participants.inbox import Inbox
from participants.sql import load_queries
from participants.status import REFUSALS, Refusal, certainly_undone, database_refusal
from participants.transaction import Transaction, as_current

_QUERIES = load_queries("outbox")
_ROWS = 100
_LOOK_S = 1.0
_AGAIN_S = 0.5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a service does when `on` happens: `effect`, and then `then` has happened, or `refused` if it may not be.

    A reaction without `refused` must not fail: it is tried until it works.
    """

    on: str
    effect: Callable[[Happening], Awaitable[object]]
    then: str
    refused: str = ""


class Reactor:
    """The reactions of one service, its inbox and its outbox."""

    def __init__(self, name: str, database: Database, bus: Bus, keep_s: float, reactions: Sequence[Reaction]) -> None:
        self._name = name
        self._database = database
        self._bus = bus
        self._inbox = Inbox(database, keep_s)
        self._reactions = tuple(reactions)
        self._written = asyncio.Event()

    async def run(self) -> None:
        """React until cancelled."""
        await self._bus.open()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publish())
                group.create_task(self._inbox.forget_old())
                for reaction in self._reactions:
                    group.create_task(self._bus.consume(reaction.on, self._handler(reaction)))
        finally:
            await self._bus.close()

    def _handler(self, reaction: Reaction) -> Callable[[Happening], Awaitable[None]]:
        async def handle(happening: Happening) -> None:
            async def effect(connection: Connection) -> None:
                await self._react(connection, reaction, happening)

            await self._inbox.once(happening.id, effect)
            self._written.set()

        return handle

    async def _react(self, connection: Connection, reaction: Reaction, happening: Happening) -> None:
        """The effect and the next happening, in the transaction that is open."""
        call = CallIdentity(happening.order_id, reaction.on, Kind.ACTION, epoch=0)
        tx = Transaction(connection, call, request_hash=b"")
        try:
            # A savepoint: what is refused has no effect, and that it was refused has happened all the same.
            async with connection.transaction():
                with as_current(tx):
                    await reaction.effect(happening)
            following = happening.then(reaction.then)
        except (Refusal, psycopg.Error) as error:
            refusal = _refusal(error, connection)
            if not reaction.refused or refusal.code not in REFUSALS:
                raise
            tx.effects.clear()
            following = happening.then(reaction.refused, str(refusal))
        parameters = {
            "order_id": happening.order_id,
            "step": reaction.on,
            "effects": Jsonb(tx.effects),
            "event_id": following.id,
            "type": following.type,
            "body": following.encode(self._name),
        }
        await connection.execute(_QUERIES["add"], parameters, prepare=True)

    async def _publish(self) -> NoReturn:
        """Bring what is in the outbox to the broker, and remove it once it is there."""
        while True:
            self._written.clear()
            try:
                count = await self._publish_some()
            except (psycopg.Error, OSError, TimeoutError, nats.errors.Error) as error:
                log.warning("outbox not published, trying again", error=" ".join(str(error).split()) or "no answer")
                await asyncio.sleep(_AGAIN_S)
                continue
            if count < _ROWS:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self._written.wait()

    async def _publish_some(self) -> int:
        async with self._database.connection() as connection:
            await connection.execute(b"BEGIN")
            cursor = await connection.execute(_QUERIES["take"], {"rows": _ROWS}, prepare=True)
            rows = cast(list[tuple[int, str, str, bytes]], await cursor.fetchall())
            if rows:
                await self._bus.publish([(event_id, type_, bytes(body)) for _, event_id, type_, body in rows])
                await connection.execute(_QUERIES["remove"], {"ids": [row[0] for row in rows]}, prepare=True)
            await connection.commit()
            return len(rows)


def _refusal(error: Refusal | psycopg.Error, connection: Any) -> Refusal:
    """The refusal that an error is. Raises the error when it is none: then the effect is tried again."""
    if isinstance(error, Refusal):
        return error
    if connection.broken or not certainly_undone(error):
        raise error
    return database_refusal(error)
