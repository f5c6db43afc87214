"""The barrier: an effect, its idempotency key and its answer in one transaction of the service's own Postgres.

For every (saga, step, action or compensation):

- The first call claims the key by inserting its row, runs the servicer, stores the answer in that row, commits.
- A duplicate finds the row and gets the stored answer; one that comes while the first is at work waits on the primary
  key until that transaction has ended.
- A refused action is rolled back, and then its refusal is stored under the key by a statement of its own, unless
  another call has claimed the key in between: then that one's answer counts. Duplicates get the same refusal.
  A refused compensation stores nothing: it must be able to succeed later.
- The row keeps a hash of the request. The same key with another request is nobody's duplicate: it gets DATA_LOSS, and
  an error in the log. That status is no refusal on purpose: the key was claimed, so its effect may well be there, and
  an orchestrator that took the answer for "nothing happened" would never undo it.
- A compensation also claims the key of its action. If that was free, the action was never seen: the row stays as a
  tombstone, nothing is undone, and an action that arrives later is refused. If the action was refused there is
  nothing to undo either. The claim waits for an action under way, so the two never overlap.

The order of claims is always own key first, action's key second, and an action claims only its own: no deadlock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import psycopg
import structlog
from psycopg.types.json import Jsonb

from participants.call import CallIdentity, Kind
from participants.database import Connection, Database
from participants.epochs import Epochs, stale_epoch
from participants.faults import Strike
from participants.sql import load_queries
from participants.status import (
    OK,
    REFUSALS,
    Answer,
    Reason,
    Refusal,
    certainly_undone,
    database_refusal,
    database_unavailable,
    is_defect,
    refused,
)

log = structlog.get_logger()

_QUERIES = load_queries("barrier")

# Runs the servicer and returns its serialized response; raises Refusal.
Run = Callable[[], Awaitable[bytes]]


@dataclass(slots=True)
class Transaction:
    """The open transaction of the call at hand. The barrier begins and ends it; the servicer only uses it."""

    connection: Connection
    call: CallIdentity
    request_hash: bytes
    effects: list[Mapping[str, object]] = field(default_factory=list)

    async def execute(self, query: bytes, parameters: Mapping[str, Any] | None = None) -> psycopg.AsyncCursor[Any]:
        """Run one statement. Raises psycopg.Error; let it pass, and the barrier does what is right."""
        return await self.connection.execute(query, parameters)

    def record_effect(self, **effect: object) -> None:
        """Write what takes effect into the ledger, in this transaction. Values must be JSON; money as strings."""
        self.effects.append(effect)


_current: ContextVar[Transaction] = ContextVar("baton-participant-transaction")


def transaction() -> Transaction:
    """The transaction of the call that is being served.

    Raises Refusal with INVALID_ARGUMENT outside of one: the method was called without Baton's metadata.
    """
    try:
        return _current.get()
    except LookupError:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "this takes effect only as a step of a saga") from None


class Barrier:
    """The barrier of one service on its database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._epochs = Epochs(database)

    async def perform(self, call: CallIdentity, request_hash: bytes, run: Run, strike: Strike | None = None) -> Answer:
        """The answer to this call, running `run` at most once for its key, whatever happens.

        Raises what `run` raises that is neither a Refusal nor an error of the database; nothing has taken effect then.
        """
        try:
            await self._epochs.admit(call)
            async with self._database.connection() as connection:
                answer = await self._in_transaction(Transaction(connection, call, request_hash), run, strike)
        except psycopg.Error as error:
            if is_defect(error):
                raise
            return refused(database_unavailable(error))
        except Refusal as refusal:
            return refused(refusal)
        if strike is not None:
            await strike.after_commit()
        return answer

    async def _in_transaction(self, tx: Transaction, run: Run, strike: Strike | None) -> Answer:
        if (stored := await self._claim(tx)) is not None:
            # Nothing was written. A rollback would do as well, but psycopg forgets its prepared statements by it.
            await tx.connection.commit()
            return stored
        if tx.call.kind is Kind.COMPENSATION and not await _something_to_undo(tx):
            await _commit(tx, Answer(OK), strike)
            return Answer(OK)
        try:
            with _as_current(tx):
                response = await run()
            answer = Answer(OK, response=response)
            await _commit(tx, answer, strike)
        except Refusal as refusal:
            return await _refuse(tx, refusal, strike)
        except psycopg.Error as error:
            if tx.connection.broken or not certainly_undone(error):
                raise
            return await _refuse(tx, database_refusal(error), strike)
        return answer

    async def _claim(self, tx: Transaction) -> Answer | None:
        """Begin, and claim the call's key; the stored answer when it was claimed before."""
        await tx.connection.execute(b"BEGIN")
        try:
            cursor = await tx.connection.execute(_QUERIES["claim"], _parameters(tx), prepare=True)
        except psycopg.errors.LockNotAvailable:
            raise _in_progress(tx.call) from None
        newer, mine = cast(tuple[int | None, bool], await cursor.fetchone())
        if newer is not None:
            self._epochs.learn(tx.call.shard, newer)
            raise stale_epoch(tx.call, newer)
        return None if mine else await _stored(tx, tx.call.kind)


async def _something_to_undo(tx: Transaction) -> bool:
    """Whether the action took effect; leaves a tombstone where it was never seen."""
    try:
        cursor = await tx.connection.execute(_QUERIES["bury"], _parameters(tx), prepare=True)
    except psycopg.errors.LockNotAvailable:
        raise _in_progress(tx.call) from None
    if await cursor.fetchone() is not None:
        return False
    action = await _stored(tx, Kind.ACTION)
    return action.code == OK


async def _stored(tx: Transaction, kind: Kind) -> Answer:
    parameters = {**_parameters(tx), "kind": str(kind)}
    cursor = await tx.connection.execute(_QUERIES["stored"], parameters, prepare=True)
    row = await cursor.fetchone()
    if row is None:
        # Its writer was there when we tried to claim, and has rolled back or been pruned since: the key is free again.
        raise _in_progress(tx.call)
    code, message, reason, response, tombstone, claimed_for = cast(tuple[int, str, str, bytes, bool, bytes | None], row)
    if tombstone:
        return refused(
            Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the compensation of {tx.call.saga_id}/{tx.call.step} came before its action, which must not happen",
                Reason.TOMBSTONE,
            )
        )
    if kind is tx.call.kind and claimed_for not in (None, tx.request_hash):
        return refused(_mismatch(tx.call))
    return Answer(code, message, bytes(response), Reason(reason) if reason else None)


async def _commit(tx: Transaction, answer: Answer, strike: Strike | None) -> None:
    """Store the answer and the ledger's entries, and commit all of it. Raises psycopg.Error."""
    parameters = {**_parameters(tx), "response": answer.response, "effects": Jsonb(tx.effects)}
    await tx.connection.execute(_QUERIES["store"], parameters, prepare=True)
    if strike is not None:
        await strike.before_commit()
    await tx.connection.commit()


async def _refuse(tx: Transaction, refusal: Refusal, strike: Strike | None) -> Answer:
    """Take the effects back. The refusal of an action is stored; that of a compensation may be lifted one day."""
    await tx.connection.rollback()
    answer = refused(refusal)
    if tx.call.kind is Kind.COMPENSATION or refusal.code not in REFUSALS:
        return answer
    if strike is not None:
        await strike.before_commit()
    parameters = {
        **_parameters(tx),
        "code": answer.code,
        "message": answer.message,
        "reason": answer.reason or "",
    }
    cursor = await tx.connection.execute(_QUERIES["store_refusal"], parameters, prepare=True)
    return answer if await cursor.fetchone() is not None else await _stored(tx, tx.call.kind)


def _in_progress(call: CallIdentity) -> Refusal:
    return Refusal(
        grpc.StatusCode.ABORTED, f"{call.key} is being served by another call: try again", Reason.IN_PROGRESS
    )


def _mismatch(call: CallIdentity) -> Refusal:
    log.error("same key, other request", call=call.key, attempt=call.attempt, epoch=call.epoch)
    return Refusal(
        grpc.StatusCode.DATA_LOSS,
        f"{call.key} was called before with another request: this one has had no effect, the first one may have had; "
        "the caller must repeat a call as it was",
        Reason.REQUEST_MISMATCH,
    )


def _parameters(tx: Transaction) -> dict[str, Any]:
    call = tx.call
    return {
        "saga_id": call.saga_id,
        "step": call.step,
        "kind": call.kind.value,
        "epoch": call.epoch,
        "shard": call.shard,
        "request_hash": tx.request_hash,
    }


@contextmanager
def _as_current(tx: Transaction) -> Iterator[None]:
    token = _current.set(tx)
    try:
        yield
    finally:
        _current.reset(token)
