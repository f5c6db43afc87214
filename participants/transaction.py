"""The open transaction of the call that is being served, and how a servicer gets hold of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import grpc
import psycopg

from participants.call import ANSWER_TOKEN, CallIdentity, Kind
from participants.database import Connection
from participants.status import Refusal


@dataclass(slots=True)
class Transaction:
    """The open transaction of the call at hand. The barrier begins and ends it; the servicer only uses it."""

    connection: Connection
    call: CallIdentity
    request_hash: bytes
    effects: list[Mapping[str, object]] = field(default_factory=list)
    accepted: bool = False

    async def execute(self, query: bytes, parameters: Mapping[str, Any] | None = None) -> psycopg.AsyncCursor[Any]:
        """Run one statement. Raises psycopg.Error; let it pass, and the barrier does what is right."""
        return await self.connection.execute(query, parameters)

    def record_effect(self, **effect: object) -> None:
        """Write what takes effect into the ledger, in this transaction. Values must be JSON; money as strings."""
        self.effects.append(effect)

    def accept(self) -> None:
        """Answer this action later: what the servicer returns counts for nothing, and `Answers.finish` answers it.

        What this transaction writes stays, such as a note that somebody is to decide. Raises Refusal with
        INVALID_ARGUMENT when the call's step may not be answered later, or is a compensation.
        """
        if self.call.kind is not Kind.ACTION or not self.call.answer_token:
            raise Refusal(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{self.call.key} cannot be answered at once, and the call has no {ANSWER_TOKEN} to answer later: "
                "the definition must say that the step answers later",
            )
        self.accepted = True


_current: ContextVar[Transaction] = ContextVar("baton-participant-transaction")


def transaction() -> Transaction:
    """The transaction of the call that is being served.

    Raises Refusal with INVALID_ARGUMENT outside of one: the method was called without Baton's metadata.
    """
    try:
        return _current.get()
    except LookupError:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "this takes effect only as a step of a saga") from None


@contextmanager
def as_current(tx: Transaction) -> Iterator[None]:
    """Make `tx` what `transaction()` gives within the block."""
    token = _current.set(tx)
    try:
        yield
    finally:
        _current.reset(token)
