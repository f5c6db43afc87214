"""A plain gRPC client with several endpoints and the standard retry policy, while replicas are killed under it.

The client is the one that docs/api.md shows, taken from there.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import orjson
import psycopg
import pytest

from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.embedded.processes import Process, inherited_environment
from orchestrator.pb.baton.v1.saga_pb2 import ListDefinitionsRequest, StartSagaRequest
from orchestrator.pb.baton.v1.saga_pb2_grpc import DefinitionServiceStub, SagaServiceStub
from orchestrator.sagalog.migrate import migrate
from tests.integration.api_world import INPUT

GUIDE = Path(__file__).parents[2] / "docs" / "api.md"


def guided() -> dict[str, Any]:
    """What the first example of docs/api.md defines."""
    names: dict[str, Any] = {}
    exec(GUIDE.read_text().split("```python")[1].split("```")[0], names)
    return names


def channel(ports: tuple[int, ...]) -> grpc.aio.Channel:
    """The channel of a client that knows every replica, as docs/api.md has it."""
    opened: grpc.aio.Channel = guided()["open_channel"](*(f"127.0.0.1:{port}" for port in ports))
    return opened


class Replica(Process):
    """A process that serves the API alone; see api_replica.py."""

    def __init__(self, dsn: str, port: int, log: Path) -> None:
        argv = [sys.executable, "-m", "tests.integration.api_replica", dsn, str(port)]
        super().__init__(f"api-{port}", argv, inherited_environment("BATON_"), log)
        self.port = port

    async def serve(self) -> None:
        """Start, after the end of the last run, and return when the API answers, and has the definition."""
        if self.exit_status is not None or self.alive:
            await self.wait_exit()
        self.start()
        async with channel((self.port,)) as probe, asyncio.timeout(60):
            await probe.channel_ready()
            stub: Any = DefinitionServiceStub(probe)  # type: ignore[no-untyped-call]
            while not (await stub.ListDefinitions(ListDefinitionsRequest())).definitions:
                await asyncio.sleep(0.02)


@pytest.fixture
def replicas(database: str, tmp_path: Path) -> Iterator[tuple[Replica, ...]]:
    migrate(database)
    ports = free_ports(3)
    made = tuple(Replica(database, port, tmp_path / f"{port}.log") for port in ports)
    yield made
    for replica in made:
        replica.stop()
    release_ports(ports)


async def test_a_frozen_replica_holds_a_plain_client_for_seconds_only(replicas: tuple[Replica, ...]) -> None:
    await asyncio.gather(*(replica.serve() for replica in replicas))
    async with channel(tuple(replica.port for replica in replicas)) as to_all:
        stub: Any = SagaServiceStub(to_all)  # type: ignore[no-untyped-call]

        async def start_some(name: str) -> None:
            requests = [start_request(f"{name}-{number}") for number in range(30)]
            await asyncio.gather(*(stub.StartSaga(request, timeout=20) for request in requests))

        await start_some("before")
        replicas[0].suspend()
        try:
            async with asyncio.timeout(10):
                await start_some("during")
        finally:
            replicas[0].resume()
        await start_some("after")


def start_request(request_id: str) -> StartSagaRequest:
    return StartSagaRequest(definition="order", input_json=orjson.dumps(INPUT).decode(), request_id=request_id)


async def test_no_start_fails_for_a_plain_client_while_replicas_are_killed(
    replicas: tuple[Replica, ...], database: str
) -> None:
    await asyncio.gather(*(replica.serve() for replica in replicas))
    started: dict[str, str] = {}
    failed: list[grpc.aio.AioRpcError] = []
    killed = asyncio.Event()

    async with channel(tuple(replica.port for replica in replicas)) as to_all:
        stub: Any = SagaServiceStub(to_all)  # type: ignore[no-untyped-call]

        async def client(number: int) -> None:
            for count in itertools.count():
                if killed.is_set() and count > 10:
                    return
                request = start_request(f"{number}-{count}")
                try:
                    answer = await stub.StartSaga(request, timeout=20)
                except grpc.aio.AioRpcError as error:
                    failed.append(error)
                    return
                started[request.request_id] = answer.saga.saga_id

        async def more(count: int) -> None:
            wanted = len(started) + count
            while len(started) < wanted and not failed:
                await asyncio.sleep(0.002)

        async with asyncio.timeout(240), asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(client(number))
            for victim in (*replicas, replicas[0]):
                await more(200)
                victim.kill()
                await more(100)
                await victim.serve()
                await more(50)
            killed.set()
    assert failed == []
    with psycopg.connect(database) as connection:
        stored = connection.execute("SELECT request_id, id::text FROM baton.saga").fetchall()
    assert dict(stored) == started
