"""What has become of an action. Asking settles it: "not done" is only true if no attempt so far can do it any more.

So an action that was never seen gets a tombstone by the question, as by a compensation, and one that is under way is
waited for. Whoever hears NOT_DONE needs to undo nothing, and may try again: that tombstone keeps out all attempts up to
the one that asked, and no later one. When nobody who leads asks, it keeps out all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import grpc
import psycopg

from participants.barrier import Barrier
from participants.call import CallIdentity, Kind
from participants.database import Connection
from participants.epochs import stale_epoch
from participants.sql import load_queries
from participants.status import OK, Answer, Reason, Refusal, refused
from participants.turned_away import in_progress, purged

_QUERIES = load_queries("barrier")


class State(StrEnum):
    """Where an action stands."""

    DONE = "done"
    NOT_DONE = "not_done"
    ACCEPTED = "accepted"
    COMPENSATED = "compensated"


_NOTHING = Answer(OK)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an action stands, with its stored answer: the response, or the refusal."""

    state: State
    answer: Answer = _NOTHING


async def standing(barrier: Barrier, call: CallIdentity, *, for_good: bool = False) -> Standing:
    """Where the action of `call` stands, and will stand until it is compensated, or tried by a later attempt than this.

    With `for_good`, as for a question without an attempt, no later attempt may try it either.

    A call of epoch 0 is of nobody who leads, and no epoch is held against it. Raises Refusal: ABORTED while the action
    is under way or for an old epoch, FAILED_PRECONDITION behind the watermark; and psycopg.Error.
    """
    if call.epoch:
        await barrier.epochs.admit(call)
    epoch = call.epoch or await barrier.epochs.highest(call.shard)
    parameters = {
        "saga_id": call.saga_id,
        "step": call.step,
        "epoch": epoch,
        "shard": call.shard,
        "asked_attempt": call.attempt if call.epoch and not for_good else None,
    }
    async with barrier.database.connection() as connection:
        await connection.execute(b"BEGIN")
        try:
            cursor = await connection.execute(_QUERIES["settle"], parameters)
        except psycopg.errors.LockNotAvailable:
            raise in_progress(call) from None
        newer, watermark, buried = cast(tuple[int | None, str | None, bool], await cursor.fetchone())
        if newer is not None:
            barrier.epochs.learn(call.shard, newer)
            raise stale_epoch(call, newer)
        if watermark is None and buried:
            # The statement may have waited, and what it waited for may have been purged: see `store`.
            cursor = await connection.execute(_QUERIES["ahead"], parameters)
            watermark = row[0] if (row := cast(tuple[str] | None, await cursor.fetchone())) else None
        if watermark is not None:
            raise purged(call, watermark)
        if buried:
            await connection.commit()
            return Standing(State.NOT_DONE)
        found = await _found(connection, parameters, call)
        await connection.commit()
        return found


async def _found(connection: Connection, parameters: dict[str, Any], call: CallIdentity) -> Standing:
    rows: dict[Kind, Any] = {}
    for kind in Kind:
        cursor = await connection.execute(_QUERIES["stored"], {**parameters, "kind": kind.value})
        rows[kind] = await cursor.fetchone()
    if rows[Kind.ACTION] is None:
        raise in_progress(call)
    code, message, reason, response, tombstone, _, accepted, _ = rows[Kind.ACTION]
    if tombstone:
        return Standing(State.NOT_DONE)
    if accepted:
        return Standing(State.ACCEPTED, Answer(OK, accepted=True))
    answer = Answer(code, message, bytes(response), Reason(reason) if reason else None)
    if code != OK:
        return Standing(State.NOT_DONE, answer)
    return Standing(State.COMPENSATED if rows[Kind.COMPENSATION] is not None else State.DONE, answer)


def as_answer(found: Standing, call: CallIdentity) -> Answer:
    """What a status method of a definition answers: OK with the action's response, NOT_FOUND for never, or unknown."""
    match found.state:
        case State.DONE | State.ACCEPTED:
            return found.answer
        case State.NOT_DONE:
            words = found.answer.message or "it was never seen, and no attempt so far will do it"
            refusal = Refusal(grpc.StatusCode.NOT_FOUND, f"{call.saga_id}/{call.step}: {words}", Reason.NOT_DONE)
        case State.COMPENSATED:
            words = f"{call.saga_id}/{call.step} took effect and was undone"
            refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, words, Reason.COMPENSATED)
    return refused(refusal)
