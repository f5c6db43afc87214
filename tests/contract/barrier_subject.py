"""Participants with a barrier, each behind the same few words: what the suite of barrier rules is held against."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import psycopg

from orchestrator.driving.port import Invocation
from orchestrator.driving.status_table import BY_NUMBER, is_refusal
from orchestrator.saga.commands import Refused, Succeeded, Unknown
from orchestrator.saga.definition import Method
from orchestrator.saga.mapping import Mapping
from orchestrator.saga.model import Epoch, Kind, SagaId
from orchestrator.simulation.participants import ModelParticipants, Outcome, Shop
from participants.barrier import transaction
from participants.call import CallIdentity
from participants.call import Kind as CallKind
from participants.pb.shop.v1 import echo_pb2, echo_pb2_grpc
from participants.server import Service
from participants.status import Refusal
from tests.integration.shop import Client

Ledger = list[tuple[int, str, str, int]]
Tombstones = set[tuple[int, str]]

ACTION, COMPENSATION = Kind.ACTION, Kind.COMPENSATION
DONE, REFUSED, BROKEN = "done", "refused", "broken"


@dataclass(frozen=True)
class Subject:
    """A participant under test: how to call it, what is in its ledger, and which tombstones it has.

    What the service says is chosen for each call: `done`, `refused`, or `broken`. It goes by the number of the attempt,
    which no two calls share, since the request of a key must stay the same.
    """

    send: Callable[[Invocation], Awaitable[Outcome]]
    ledger: Callable[[], Ledger]
    tombstones: Callable[[], Tombstones]

    async def call(
        self,
        kind: Kind,
        says: str = DONE,
        *,
        saga: int = 1,
        step: str = "pay",
        epoch: int = 1,
        shard: int = 0,
        request: str = "request",
    ) -> Outcome:
        method = Method("/shop.v1.EchoService/" + ("Do" if kind is ACTION else "Undo"), Mapping({}))
        identity, attempt = SagaId(UUID(int=saga)), next(_attempts)
        _says[attempt] = says
        invocation = Invocation(
            identity, "test", 1, step, "service", method, kind, attempt, shard, Epoch(epoch), {"text": request}, 10.0
        )
        return await self.send(invocation)


_attempts = itertools.count(1)
_says: dict[int, str] = {}


class Servicer(echo_pb2_grpc.EchoServiceServicer):
    """Writes an effect, and then says what it was told to say at this attempt."""

    async def Do(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        tx = transaction()
        tx.record_effect(text=request.text)
        match says := _says[tx.call.attempt]:
            case "refused":
                raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "no")
            case "broken":
                raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        return echo_pb2.EchoResponse(text=says)

    async def Undo(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        return await self.Do(request, context)


def business(invocation: Invocation) -> Outcome:
    match _says[invocation.attempt]:
        case "refused":
            return Refused("FAILED_PRECONDITION", "no")
        case "broken":
            return Unknown("RESOURCE_EXHAUSTED", "busy")
        case text:
            return Succeeded({"text": text})


def model() -> Subject:
    shop = Shop()
    participants = ModelParticipants(shop, business, lambda: 0.0)
    return Subject(
        participants.call,
        lambda: [(e.saga_id.int, e.step, str(e.kind), e.epoch) for e in shop.effects],
        lambda: {(saga_id.int, step) for saga_id, step in shop.tombstones},
    )


def real(client: Client, dsn: str) -> Subject:
    async def send(invocation: Invocation) -> Outcome:
        call = CallIdentity(
            str(invocation.saga_id),
            invocation.step,
            CallKind(invocation.kind.value),
            invocation.epoch,
            invocation.attempt,
            invocation.shard,
        )
        reply = await client.call(invocation.method.path[1:], echo_pb2.EchoRequest(**invocation.request), call)
        if reply.code == 0:
            text = echo_pb2.EchoResponse.FromString(reply.response).text
            return Succeeded({"text": text} if text else {})
        code = BY_NUMBER[reply.code]
        return (Refused if is_refusal(code) else Unknown)(code.name, reply.message)

    return on_postgres(send, dsn, "rules", "ledger")


def on_postgres(send: Callable[[Invocation], Awaitable[Outcome]], dsn: str, schema: str, effects: str) -> Subject:
    """A subject that keeps its barrier in the tables of a schema."""

    def rows(query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(dsn, autocommit=True, options=f"-c search_path={schema}") as connection:
            return connection.execute(query.encode()).fetchall()

    return Subject(
        send,
        lambda: [
            (UUID(s).int, *rest) for s, *rest in rows(f"SELECT saga_id, step, kind, epoch FROM {effects} ORDER BY id")
        ],
        lambda: {(UUID(s).int, step) for s, step in rows("SELECT saga_id, step FROM barrier WHERE tombstone")},
    )


def service(folder: Path) -> Service:
    (folder / "0001_nothing.sql").write_text("SELECT 1;\n")
    return Service(
        name="rules",
        register=echo_pb2_grpc.add_EchoServiceServicer_to_server,
        servicer=lambda _database, _settings: Servicer(),
        listen="",
        migrations=folder,
    )
