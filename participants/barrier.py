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
- A question for an action that was never seen leaves a tombstone as well, for all attempts up to the one that asked
  (see standing.py): a later attempt takes the key over.
- An action may be accepted, to be answered later (see answers.py): its row says so, and so does every duplicate. A
  compensation that comes meanwhile turns the row into a tombstone, and there is nothing to undo.
- Sagas behind the watermark are over and forgotten (see purge.py). Their calls are refused by the claim, and once more
  when their answer is stored: a claim that had to wait does not see what has happened since it began.

The order of claims is always own key first, action's key second, and an action claims only its own: no deadlock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import psycopg
from psycopg.types.json import Jsonb

from participants.call import CallIdentity, Kind
from participants.database import Database
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
from participants.transaction import Transaction, as_current, transaction
from participants.turned_away import in_progress, mismatched, purged, tombstoned

__all__ = ["Barrier", "Run", "Transaction", "transaction"]

_QUERIES = load_queries("barrier")

# Runs the servicer and returns its serialized response; raises Refusal.
Run = Callable[[], Awaitable[bytes]]


class Barrier:
    """The barrier of one service on its database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.epochs = Epochs(database)

    async def perform(self, call: CallIdentity, request_hash: bytes, run: Run, strike: Strike | None = None) -> Answer:
        """The answer to this call, running `run` at most once for its key, whatever happens.

        Raises what `run` raises that is neither a Refusal nor an error of the database; nothing has taken effect then.
        """
        try:
            await self.epochs.admit(call)
            async with self.database.connection() as connection:
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
            # Nothing was written but perhaps a token. psycopg forgets its prepared statements by a rollback.
            await tx.connection.commit()
            return stored
        if tx.call.kind is Kind.COMPENSATION and not await _something_to_undo(tx):
            await _commit(tx, Answer(OK), strike)
            return Answer(OK)
        try:
            with as_current(tx):
                response = await run()
            answer = Answer(OK, accepted=True) if tx.accepted else Answer(OK, response=response)
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
            raise in_progress(tx.call) from None
        newer, watermark, mine = cast(tuple[int | None, str | None, bool], await cursor.fetchone())
        if newer is not None:
            self.epochs.learn(tx.call.shard, newer)
            raise stale_epoch(tx.call, newer)
        if watermark is not None:
            raise purged(tx.call, watermark)
        return None if mine or await _asked_before(tx) else await _stored(tx, tx.call.kind)


async def _asked_before(tx: Transaction) -> bool:
    """Whether an earlier attempt's question has found the action not done: then its key is ours now."""
    if tx.call.kind is not Kind.ACTION or tx.call.attempt == 1:
        return False
    try:
        cursor = await tx.connection.execute(_QUERIES["reclaim"], _parameters(tx))
    except psycopg.errors.LockNotAvailable:
        raise in_progress(tx.call) from None
    return await cursor.fetchone() is not None


async def _something_to_undo(tx: Transaction) -> bool:
    """Whether the action took effect; leaves a tombstone where it was never seen, or is still to be answered."""
    try:
        cursor = await tx.connection.execute(_QUERIES["bury"], _parameters(tx), prepare=True)
        if await cursor.fetchone() is not None:
            return False
        action = await _stored(tx, Kind.ACTION)
        if action.accepted:
            cursor = await tx.connection.execute(_QUERIES["withdraw"], _parameters(tx))
            if await cursor.fetchone() is not None:
                return False
            # It has been answered while we waited for its row.
            action = await _stored(tx, Kind.ACTION)
    except psycopg.errors.LockNotAvailable:
        raise in_progress(tx.call) from None
    return action.code == OK


async def _stored(tx: Transaction, kind: Kind) -> Answer:
    """What a key was answered with. For an open answer, the token of this call is the one to answer by from now on."""
    while True:
        cursor = await tx.connection.execute(_QUERIES["stored"], {**_parameters(tx), "kind": kind.value}, prepare=True)
        row = await cursor.fetchone()
        if row is None:
            # Its writer was there when we tried to claim, and has rolled back or been pruned since: it is free again.
            raise in_progress(tx.call)
        code, message, reason, response, tombstone, claimed_for, accepted, token = cast(_Row, row)
        if tombstone:
            return refused(tombstoned(tx.call))
        if kind is tx.call.kind and claimed_for not in (None, tx.request_hash):
            return refused(mismatched(tx.call))
        if not accepted:
            return Answer(code, message, bytes(response), Reason(reason) if reason else None)
        if kind is not tx.call.kind or tx.call.answer_token in ("", token):
            return Answer(OK, accepted=True)
        cursor = await tx.connection.execute(
            _QUERIES["rename_token"], {**_parameters(tx), "answer_token": tx.call.answer_token}
        )
        if await cursor.fetchone() is not None:
            return Answer(OK, accepted=True)


_Row = tuple[int, str, str, bytes, bool, bytes | None, bool, str]


async def _commit(tx: Transaction, answer: Answer, strike: Strike | None) -> None:
    """Store the answer and the ledger's entries, and commit all of it. Raises psycopg.Error, and Refusal (PURGED)."""
    parameters = {
        **_parameters(tx),
        "response": answer.response,
        "accepted": answer.accepted,
        "answer_token": tx.call.answer_token if answer.accepted else "",
        "effects": Jsonb(tx.effects),
    }
    cursor = await tx.connection.execute(_QUERIES["store"], parameters, prepare=True)
    if await cursor.fetchone() is None:
        raise await _purged_meanwhile(tx)
    if strike is not None:
        await strike.before_commit()
    await tx.connection.commit()


async def _refuse(tx: Transaction, refusal: Refusal, strike: Strike | None) -> Answer:
    """Take the effects back. The refusal of an action is stored; that of a compensation may be lifted one day."""
    await tx.connection.rollback()
    answer = refused(refusal)
    if tx.call.kind is Kind.COMPENSATION or refusal.code not in REFUSALS or refusal.reason is Reason.PURGED:
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


async def _purged_meanwhile(tx: Transaction) -> Refusal:
    cursor = await tx.connection.execute(_QUERIES["ahead"], _parameters(tx))
    row = cast(tuple[str] | None, await cursor.fetchone())
    # Without a watermark the row itself is gone, which only somebody's hand can do.
    return purged(tx.call, row[0]) if row is not None else in_progress(tx.call)


def _parameters(tx: Transaction) -> dict[str, Any]:
    call = tx.call
    return {
        "saga_id": call.saga_id,
        "step": call.step,
        "kind": call.kind.value,
        "epoch": call.epoch,
        "attempt": call.attempt,
        "shard": call.shard,
        "request_hash": tx.request_hash,
    }
