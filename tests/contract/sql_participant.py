"""A participant made of the statements of docs/barrier-sql.md alone, in the order which that page gives.

It has no server: the page is about what happens once a call has arrived.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from orchestrator.driving.port import Invocation
from orchestrator.driving.status_table import BY_NUMBER
from orchestrator.saga.commands import Refused, Succeeded, Unknown
from orchestrator.saga.model import Kind

PAGE = Path(__file__).parents[2] / "docs" / "barrier-sql.md"
_BLOCK = re.compile(r"^```sql\n-- name: (\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")

Outcome = Succeeded | Refused | Unknown

# What the test keeps of effects; any service has tables of its own instead.
_EFFECTS = b"CREATE TABLE effect (id bigserial, saga_id text, step text, kind text, epoch bigint)"
_TAKE_EFFECT = b"INSERT INTO effect (saga_id, step, kind, epoch) VALUES (%s, %s, %s, %s)"


def statements() -> dict[str, bytes]:
    """The statements of the page by their names, with psycopg's parameters."""
    return {name: _PARAMETER.sub(r"%(\1)s", body).encode() for name, body in _BLOCK.findall(PAGE.read_text())}


class SqlParticipant:
    """Takes calls as the page says; `business` is the service behind the barrier."""

    def __init__(self, pool: AsyncConnectionPool, business: Callable[[Invocation], Outcome]) -> None:
        self._pool = pool
        self._business = business
        self._sql = statements()

    async def send(self, invocation: Invocation) -> Outcome:
        """The answer to one call."""
        parameters: dict[str, Any] = {
            "saga_id": str(invocation.saga_id),
            "step": invocation.step,
            "kind": invocation.kind.value,
            "epoch": invocation.epoch,
            "shard": invocation.shard,
            "request_hash": hashlib.sha256(orjson.dumps(invocation.request)).digest(),
        }
        async with self._pool.connection() as connection:
            await connection.execute(self._sql["raise_epoch"], parameters)
            await connection.execute(b"BEGIN")
            try:
                return await self._claim(connection, invocation, parameters)
            except psycopg.errors.LockNotAvailable:
                return Unknown("ABORTED", "another call is at work on the key")
            finally:
                await connection.rollback()

    async def _claim(
        self, connection: AsyncConnection[Any], invocation: Invocation, parameters: dict[str, Any]
    ) -> Outcome:
        newer, claimed = await self._one(connection, "claim", parameters)
        if newer is not None:
            return Unknown("ABORTED", f"STALE_EPOCH: {newer} has been seen")
        if not claimed:
            return await self._stored(connection, parameters)
        if invocation.kind is Kind.COMPENSATION and not await self._something_to_undo(connection, parameters):
            return await self._store(connection, parameters, Succeeded({}))
        # The work: it takes effect, and then the service may think better of it.
        where = (parameters["saga_id"], parameters["step"], parameters["kind"], parameters["epoch"])
        await connection.execute(_TAKE_EFFECT, where)
        outcome = self._business(invocation)
        if isinstance(outcome, Succeeded):
            return await self._store(connection, parameters, outcome)
        await connection.rollback()
        if isinstance(outcome, Refused) and invocation.kind is Kind.ACTION:
            code = next(number for number, status in BY_NUMBER.items() if status.name == outcome.code)
            refusal = {**parameters, "code": code, "message": outcome.message}
            if await self._one(connection, "store_refusal", refusal) is None:
                return await self._stored(connection, parameters)
        return outcome

    async def _stored(self, connection: AsyncConnection[Any], parameters: dict[str, Any]) -> Outcome:
        row = await self._one(connection, "stored", parameters)
        if row is None:
            return Unknown("ABORTED", "the key is free again")
        code, message, response, tombstone, request_hash = row
        if tombstone:
            return Refused("FAILED_PRECONDITION", "TOMBSTONE: its compensation came first")
        if request_hash not in (None, parameters["request_hash"]):
            key = "/".join(parameters[part] for part in ("saga_id", "step", "kind"))
            return Unknown("DATA_LOSS", f"REQUEST_MISMATCH: {key} was called before with another request")
        if code:
            return Refused(BY_NUMBER[code].name, message)
        return Succeeded(orjson.loads(response or b"{}"))

    async def _something_to_undo(self, connection: AsyncConnection[Any], parameters: dict[str, Any]) -> bool:
        if await self._one(connection, "bury", parameters) is not None:
            return False
        row = await self._one(connection, "stored", {**parameters, "kind": "action"})
        return row is not None and row[0] == 0 and not row[3]

    async def _store(
        self, connection: AsyncConnection[Any], parameters: dict[str, Any], outcome: Succeeded
    ) -> Succeeded:
        response = orjson.dumps(outcome.result) if outcome.result else b""
        await connection.execute(self._sql["store"], {**parameters, "response": response})
        await connection.commit()
        return outcome

    async def _one(self, connection: AsyncConnection[Any], name: str, parameters: dict[str, Any]) -> Any:
        cursor = await connection.execute(self._sql[name], parameters)
        return await cursor.fetchone()


@asynccontextmanager
async def sql_participant(dsn: str, business: Callable[[Invocation], Outcome]) -> AsyncIterator[SqlParticipant]:
    """One on a schema of its own, `recipe`, until the end of the block."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA recipe; SET search_path TO recipe")
        connection.execute(statements()["schema"])
        connection.execute(_EFFECTS)
    kwargs = {"autocommit": True, "options": "-c search_path=recipe -c lock_timeout=20s"}
    async with (
        AsyncConnectionPool(dsn, kwargs=kwargs, min_size=1, max_size=8, timeout=30.0) as pool,
        asyncio.timeout(60),
    ):
        yield SqlParticipant(pool, business)
