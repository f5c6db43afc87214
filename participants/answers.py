"""Answers that come later: an action is accepted now, and finished or refused when its outcome is known.

A servicer calls `transaction().accept()`. The barrier stores that with the token by which the orchestrator knows the
answer, and every duplicate is accepted again. Later `Answers.finish` runs the effect and stores its answer in one
transaction, as the barrier would have done, together with a note that the orchestrator is to be told. A task of its own
tells it, again and again until it has heard: a crash between the two loses nothing, and telling twice does no harm.

A compensation that comes while the answer is open withdraws the action: then nothing takes effect any more, and
`finish` says CANCELLED. The action's row decides between them; whoever comes second waits for the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, cast

import grpc
import grpc.aio
import psycopg
import structlog
from google.protobuf.message import Message
from psycopg.types.json import Jsonb

from participants.call import CallIdentity, Kind
from participants.database import Connection, Database
from participants.sql import load_queries
from participants.status import OK, REFUSALS, Refusal, number_of, status_code
from participants.transaction import Transaction, as_current

log = structlog.get_logger()

_QUERIES = load_queries("answers")

# How many answers are told at once, and how long one may take, in seconds.
_BATCH = 32
_TELL_MAX_S = 10.0
# An answer that could not be told waits so long, then twice as long each time, but at most so long.
_AGAIN_S = 1.0
_AGAIN_MAX_S = 60.0
# Another process of this participant may have left answers behind.
_LOOK_S = 5.0

Work = Callable[[Transaction], Awaitable[Message]]


class NotReported(Exception):
    """The orchestrator could not be reached, or did not say: it is told again."""


class NotWanted(Exception):
    """The orchestrator has no use for this answer, now or ever: it is late, or was given before. Says why."""


class Reporter(Protocol):
    """Tells the orchestrator. Every method raises NotReported and NotWanted, and may be called twice with the same."""

    async def complete(self, token: str, response: bytes) -> None:
        """The step took effect; `response` is the serialized response message of its method."""

    async def fail(self, token: str, code: grpc.StatusCode, message: str) -> None:
        """The step was refused: it has not taken effect and never will."""

    async def heartbeat(self, token: str) -> None:
        """The step is being worked on."""


class Outcome(StrEnum):
    """What came of an answer."""

    STORED = "stored"
    # Nothing was done, for one of these reasons:
    ANSWERED = "answered"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class OpenAnswer:
    """An action that was accepted at `since` and is not answered yet."""

    saga_id: str
    step: str
    token: str
    since: datetime


class Answers:
    """The later answers of one service. `run` tells the orchestrator; whoever makes this runs it."""

    def __init__(self, database: Database, reporter: Reporter, again_s: float = _AGAIN_S) -> None:
        self._database = database
        self._reporter = reporter
        self._again_s = again_s
        self._stored = asyncio.Event()

    async def finish(self, saga_id: str, step: str, work: Work) -> Outcome:
        """Run `work`, which does the effect in the transaction that it is given, and store the response it returns.

        A Refusal that `work` raises is stored as the answer instead, if its code is one of REFUSALS, and its effects
        are taken back. Any other error passes, and the answer stays open.
        """
        try:
            async with self._database.connection() as connection:
                tx = await _take(connection, saga_id, step)
                if isinstance(tx, Outcome):
                    return tx
                with as_current(tx):
                    response = await work(tx)
                await _store(tx, OK, "", response.SerializeToString())
        except Refusal as refusal:
            if refusal.code not in REFUSALS:
                raise
            return await self.refuse(saga_id, step, refusal.code, refusal.message)
        self._stored.set()
        return Outcome.STORED

    async def refuse(self, saga_id: str, step: str, code: grpc.StatusCode, message: str) -> Outcome:
        """Answer that the action has not taken effect and never will. Raises ValueError: `code` is no refusal."""
        if code not in REFUSALS:
            raise ValueError(f"{code.name} is no refusal: {', '.join(sorted(known.name for known in REFUSALS))}")
        async with self._database.connection() as connection:
            tx = await _take(connection, saga_id, step)
            if isinstance(tx, Outcome):
                return tx
            await _store(tx, number_of(code), message, b"")
        self._stored.set()
        return Outcome.STORED

    async def heartbeat(self, saga_id: str, step: str) -> Outcome:
        """Tell the orchestrator that the step is being worked on; STORED means told. Raises NotReported, NotWanted."""
        async with self._database.connection() as connection:
            tx = await _take(connection, saga_id, step)
            await connection.rollback()
        if isinstance(tx, Outcome):
            return tx
        async with asyncio.timeout(_TELL_MAX_S):
            await self._reporter.heartbeat(tx.call.answer_token)
        return Outcome.STORED

    async def open(self, rows: int = 100) -> list[OpenAnswer]:
        """Actions that were accepted and are not answered yet, the oldest first."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["open"], {"rows": rows})
            return [OpenAnswer(*cast(tuple[str, str, str, datetime], row)) for row in await cursor.fetchall()]

    async def run(self) -> None:
        """Tell the orchestrator what is stored, until cancelled. Postgres may come and go."""
        while True:
            self._stored.clear()
            try:
                wait_s = await self._tell_due()
            except psycopg.Error as error:
                log.warning("answers wait for postgres", error=" ".join(str(error).split()))
                wait_s = self._again_s
            try:
                async with asyncio.timeout(wait_s):
                    await self._stored.wait()
            except TimeoutError:
                pass

    async def _tell_due(self) -> float:
        """Tell all that is due; how long until there may be more, in seconds."""
        limits = {"rows": _BATCH, "taken_s": 2 * _TELL_MAX_S}
        while True:
            async with self._database.connection() as connection:
                cursor = await connection.execute(_QUERIES["due"], limits)
                due = cast(list[_Due], await cursor.fetchall())
            if not due:
                break
            async with asyncio.TaskGroup() as group:
                for answer in due:
                    group.create_task(self._tell(answer))
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["next_due"])
            (next_s,) = cast(tuple[float | None], await cursor.fetchone())
        return min(_LOOK_S, max(0.0, next_s if next_s is not None else _LOOK_S))

    async def _tell(self, answer: _Due) -> None:
        saga_id, step, token, code, message, response = answer
        try:
            async with asyncio.timeout(_TELL_MAX_S):
                if code == OK:
                    await self._reporter.complete(token, bytes(response))
                else:
                    await self._reporter.fail(token, status_code(code), message)
        except NotWanted as error:
            log.warning("answer not wanted", saga_id=saga_id, step=step, reason=str(error))
        except (NotReported, TimeoutError, grpc.aio.AioRpcError) as error:
            log.warning("answer not told yet", saga_id=saga_id, step=step, error=str(error) or type(error).__name__)
            await self._note("later", answer)
            return
        await self._note("told", answer)

    async def _note(self, query: str, answer: _Due) -> None:
        """Note what came of telling. If Postgres is away, the answer is told once more."""
        saga_id, step, *_ = answer
        parameters = {"saga_id": saga_id, "step": step, "again_s": self._again_s, "again_max_s": _AGAIN_MAX_S}
        try:
            async with self._database.connection() as connection:
                await connection.execute(_QUERIES[query], parameters)
        except psycopg.Error as error:
            log.warning("answers wait for postgres", error=" ".join(str(error).split()))


_Due = tuple[str, str, str, int, str, bytes]


async def _take(connection: Connection, saga_id: str, step: str) -> Transaction | Outcome:
    """Begin, and hold the action's row; or why there is nothing to answer."""
    await connection.execute(b"BEGIN")
    cursor = await connection.execute(_QUERIES["take"], {"saga_id": saga_id, "step": step})
    row = await cursor.fetchone()
    if row is None:
        return Outcome.UNKNOWN
    accepted, tombstone, token, epoch, shard, request_hash = cast(tuple[bool, bool, str, int, int, bytes], row)
    if tombstone:
        return Outcome.CANCELLED
    if not accepted:
        return Outcome.ANSWERED
    call = CallIdentity(saga_id, step, Kind.ACTION, epoch, shard=shard, answer_token=token)
    return Transaction(connection, call, request_hash)


async def _store(tx: Transaction, code: int, message: str, response: bytes) -> None:
    parameters: dict[str, Any] = {
        "saga_id": tx.call.saga_id,
        "step": tx.call.step,
        "token": tx.call.answer_token,
        "epoch": tx.call.epoch,
        "code": code,
        "message": message,
        "response": response,
        "effects": Jsonb(tx.effects),
    }
    await tx.connection.execute(_QUERIES["answer"], parameters)
    await tx.connection.commit()
