"""A client of one replica's API on a real Postgres, with a leader when the test wants one, and what it is refused."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from orchestrator.api import patience
from orchestrator.driving.leader import Leader
from orchestrator.driving.registry import Registry
from orchestrator.driving.term import Clocks, LeaderSettings, Means
from orchestrator.pb.baton.v1 import cluster_pb2_grpc, saga_pb2, saga_pb2_grpc
from orchestrator.sagalog.level import LEVEL_OPTION
from orchestrator.sagalog.port import Claim
from orchestrator.sagalog.postgres import LogSettings, PostgresSagaLog
from orchestrator.telemetry import Metrics
from participants.pb.shop.v1 import inventory_pb2, payment_pb2
from tests.integration.api_serving import TIMEOUT_S, Leadership, ObedientParticipants, Served, serving

INPUT = {"order_id": "o-1", "lines": [{"stock_code": "85123A", "quantity": 2}], "amount": "17.85"}

_DEFINITION = """
name: {name}
description: '{description}'
steps:
  - name: reserve
    service: 127.0.0.1:1
    action:
      method: shop.v1.InventoryService/Reserve
      request:
        order_id: input.order_id
        lines: input.lines
    compensation:
      method: shop.v1.InventoryService/Release
      request: {{order_id: input.order_id}}
  - name: pay
    service: 127.0.0.1:1
    action:
      method: shop.v1.PaymentService/Charge
      request: {{order_id: input.order_id, amount: input.amount}}
    compensation:
      method: shop.v1.PaymentService/Refund
      request: {{order_id: input.order_id}}
    retry: {{retries: 1000, initial: 50ms, multiplier: 1}}
"""


def definition(name: str = "order", description: str = "") -> str:
    """The YAML of a definition of two steps."""
    return _DEFINITION.format(name=name, description=description)


def descriptors() -> bytes:
    """The descriptors of the services that the definition names."""
    files: dict[str, Any] = {}

    def add(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            add(dependency)
        files[file.name] = file

    add(inventory_pb2.DESCRIPTOR)
    add(payment_pb2.DESCRIPTOR)
    described = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(described.file.add())
    return described.SerializeToString()


@contextmanager
def impatient() -> Iterator[None]:
    """Calls wait only a moment for a leader that is not there, and have all the time to be answered.

    A deadline of which half is a moment has passed when the machine stands still for as long.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patience, "_PATIENCE_S", 0.2)
        yield


@dataclass(frozen=True)
class Refusal:
    """An error as a client gets it."""

    code: grpc.StatusCode
    message: str
    info: error_details_pb2.ErrorInfo
    violations: tuple[tuple[str, str], ...]
    retry_delay_s: float | None


async def refusal(call: Awaitable[Any]) -> Refusal:
    """The error that `call` must end with, with its details."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return explained(error)
    raise AssertionError(f"the call was accepted: {answer!r:.200}")


def explained(error: grpc.aio.AioRpcError) -> Refusal:
    """An error with its details unpacked. Fails when it has no google.rpc.Status with an ErrorInfo."""
    status = rpc_status.from_call(error)
    assert status is not None, f"{error.code()} {error.details()} carries no google.rpc.Status"
    info: error_details_pb2.ErrorInfo | None = None
    violations: list[tuple[str, str]] = []
    retry_delay_s = None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            violations += [(violation.field, violation.description) for violation in bad.field_violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_delay_s = retry.retry_delay.ToMilliseconds() / 1000
    assert info is not None, f"{error.code()} {error.details()} carries no ErrorInfo"
    return Refusal(error.code(), status.message, info, tuple(violations), retry_delay_s)


def field_violations(error: Refusal) -> list[str]:
    """The fields that an error names."""
    assert all(description for _, description in error.violations)
    return [name for name, _ in error.violations]


@dataclass
class _Mandate:
    claim: Claim
    leader_lost_at_s: float | None = None

    def vouched(self) -> bool:
        return True

    async def confirm(self) -> bool:
        return True


@dataclass
class ApiWorld:
    """A replica's API without its campaign, and a client of it."""

    dsn: str
    channel: grpc.aio.Channel
    participants: ObedientParticipants
    leader: Leader
    served: Served
    terms: int = 0

    def __post_init__(self) -> None:
        self.sagas: Any = saga_pb2_grpc.SagaServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.definitions: Any = saga_pb2_grpc.DefinitionServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.cluster: Any = cluster_pb2_grpc.ClusterServiceStub(self.channel)  # type: ignore[no-untyped-call]

    @property
    def wakes(self) -> list[None]:
        """An entry for each time that the intake woke the leader."""
        return self.served.wakes

    async def apply(self, name: str = "order", description: str = "") -> saga_pb2.ApplyDefinitionResponse:
        """Store a version of the definition."""
        request = saga_pb2.ApplyDefinitionRequest(yaml=definition(name, description), descriptor_set=descriptors())
        answer: saga_pb2.ApplyDefinitionResponse = await self.definitions.ApplyDefinition(request)
        return answer

    async def get(self, saga_id: str) -> saga_pb2.GetSagaResponse:
        """Read a saga."""
        answer: saga_pb2.GetSagaResponse = await self.sagas.GetSaga(saga_pb2.GetSagaRequest(saga_id=saga_id))
        return answer

    async def call_with_id(self, method: str, saga_id: str) -> Any:
        """Call a method of the SagaService that takes nothing but an id; a stream to its end."""
        request = getattr(saga_pb2, f"{method}Request")(saga_id=saga_id)
        call = getattr(self.sagas, method)(request, timeout=60)
        if method == "WatchSaga":
            return [transition async for transition in call]
        return await call

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[None]:
        """Drive sagas meanwhile."""
        self.terms += 1
        term = asyncio.create_task(self.leader.lead(_Mandate(Claim(0, "r1", "c1", self.terms, "vacant"))))
        try:
            yield
            assert not term.done() or term.exception() is None, "the term ended"
        finally:
            term.cancel()
            await asyncio.gather(term, return_exceptions=True)

    async def until_called(self, step: str) -> None:
        """Wait until a participant was called for this step."""
        async with asyncio.timeout(60):
            while step not in self.participants.called:
                await asyncio.sleep(0.005)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    def count(self) -> int:
        """How many sagas are stored."""
        return int(self.rows("SELECT count(*) FROM baton.saga")[0][0])

    def execute(self, statement: str, *parameters: Any) -> None:
        """Change the log by hand, as this release may."""
        with psycopg.connect(self.dsn, options=LEVEL_OPTION) as connection:
            connection.execute(statement.encode(), parameters)


@asynccontextmanager
async def api_world(
    dsn: str, leadership: Leadership | None = None, timeout_s: float = TIMEOUT_S
) -> AsyncIterator[ApiWorld]:
    """A replica's API with a client, and the definition `order`; `timeout_s` is its patience with Postgres."""
    participants = ObedientParticipants()
    async with serving(dsn, leadership, timeout_s=timeout_s) as served:
        settings = LogSettings(dsn, "r1", 0, timeout_s, 0.2, 2 * timeout_s, 4000)
        leader = a_leader(settings, served.registry, participants, served.metrics)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel:
            world = ApiWorld(dsn, channel, participants, leader, served)
            await world.apply()
            yield world


def a_leader(settings: LogSettings, registry: Registry, participants: ObedientParticipants, metrics: Metrics) -> Leader:
    """A leader that waits to be told to lead."""
    bounds = LeaderSettings(shard=0, sagas_max=1000, recovery_page=100, poll_interval_s=0.2)
    clocks = Clocks(lambda: time.clock_gettime(time.CLOCK_BOOTTIME), random.random)
    return Leader(PostgresSagaLog(settings, metrics), Means(registry, participants, bounds, clocks, metrics))
