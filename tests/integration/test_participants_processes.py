"""Participants as real processes: crashes around the commit, Postgres away, signals, wrong settings."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import grpc.aio
import orjson
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.processes import Process, inherited_environment
from participants.pb.shop.v1 import echo_pb2, fault_pb2, payment_pb2
from tests.integration.shop import TIMEOUT_S, action, compensation, connected

CHARGE = "shop.v1.PaymentService/Charge"
REFUND = "shop.v1.PaymentService/Refund"
REQUEST = payment_pb2.ChargeRequest(order_id="o1", customer_id="c1", amount="17.85")
KILLED = 137
# Several processes that start at once on a busy machine take their time.
START_MAX_S = 60.0


class Launcher:
    """Starts participant processes and ends them with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def start(self, service: str, **env: str) -> tuple[Process, int]:
        (port,) = free_ports(1)
        self._stack.callback(release_ports, [port])
        variables = {f"PARTICIPANT_{name.upper()}": value for name, value in env.items()}
        process = Process(
            service,
            [sys.executable, "-m", "participants", service],
            {**inherited_environment("PARTICIPANT_"), "PARTICIPANT_LISTEN": f"127.0.0.1:{port}", **variables},
            self._folder / f"{service}-{port}.log",
        )
        process.start()
        self._stack.callback(process.stop)
        return process, port

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    launcher.close()


async def until_serving(port: int, status: Any = health_pb2.HealthCheckResponse.SERVING) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        async with asyncio.timeout(START_MAX_S):
            async for response in watch:
                if response.status == status:
                    watch.cancel()
                    return


def ledger(database: str) -> list[str]:
    with psycopg.connect(database) as connection:
        return [row[0] for row in connection.execute("SELECT effect->>'effect' FROM payment.ledger ORDER BY id")]


@pytest.mark.parametrize("form", ["unary", "exchange"])
@pytest.mark.parametrize("crash", ["crash_before_commit", "crash_after_commit"])
async def test_a_crash_around_the_commit_charges_once(launcher: Launcher, database: str, crash: str, form: str) -> None:
    faults = orjson.dumps([{crash: True, "method": "Charge", "order_id": "o1", "times": 1}]).decode()
    process, port = launcher.start("payment", dsn=database, allow_faults="1", faults=faults)
    await until_serving(port)
    async with connected(port, "unary") as client:
        assert (await client.call(CHARGE, REQUEST, action("s1"))).name == "UNAVAILABLE"
    assert await asyncio.to_thread(process.wait, TIMEOUT_S) == KILLED
    assert ledger(database) == (["charge"] if crash == "crash_after_commit" else [])

    _, port = launcher.start("payment", dsn=database)
    await until_serving(port)
    async with connected(port, form) as client:
        for attempt in (2, 3):
            assert (await client.call(CHARGE, REQUEST, action("s1", attempt=attempt))).code == 0
        refund = payment_pb2.RefundRequest(order_id="o1")
        assert (await client.call(REFUND, refund, compensation("s1"))).code == 0
    assert ledger(database) == ["charge", "refund"]


async def test_a_crash_before_a_tombstone_is_durable_leaves_none_and_the_next_compensation_does(
    launcher: Launcher, database: str
) -> None:
    faults = orjson.dumps([{"crash_before_commit": True, "kind": "compensation", "times": 1}]).decode()
    process, port = launcher.start("payment", dsn=database, allow_faults="1", faults=faults)
    await until_serving(port)
    refund = payment_pb2.RefundRequest(order_id="o1")
    async with connected(port, "unary") as client:
        assert (await client.call(REFUND, refund, compensation("s1"))).name == "UNAVAILABLE"
    assert await asyncio.to_thread(process.wait, TIMEOUT_S) == KILLED

    _, port = launcher.start("payment", dsn=database)
    await until_serving(port)
    async with connected(port, "unary") as client:
        assert (await client.call(REFUND, refund, compensation("s1", attempt=2))).code == 0
        assert (await client.call(CHARGE, REQUEST, action("s1"))).name == "FAILED_PRECONDITION"
    assert ledger(database) == []


@pytest.mark.parametrize("form", ["unary", "exchange"])
async def test_injected_faults_delay_refuse_and_keep_silent(launcher: Launcher, database: str, form: str) -> None:
    _, port = launcher.start("payment", dsn=database, allow_faults="1")
    await until_serving(port)
    async with connected(port, form) as client, connected(port) as admin:

        async def inject(**fields: Any) -> None:
            reply = await admin.call("shop.v1.FaultService/Inject", fault_pb2.Fault(times=1, **fields), None)
            assert reply.code == 0, reply

        await inject(step="step", error_code="UNAVAILABLE", error_message="gone fishing")
        first = await client.call(CHARGE, REQUEST, action("s1"))
        assert (first.name, first.message) == ("UNAVAILABLE", "gone fishing")
        assert ledger(database) == []

        await inject(error_code="UNKNOWN", error_after_commit=True, kind="action")
        assert (await client.call(CHARGE, REQUEST, action("s1"))).name == "UNKNOWN"
        assert ledger(database) == ["charge"]

        async def struck() -> list[int]:
            listed = await admin.call("shop.v1.FaultService/List", fault_pb2.ListRequest(), None)
            return [fault.struck for fault in fault_pb2.ListResponse.FromString(listed.response).faults]

        for fault in ({"drop_reply": True}, {"delay_ms": 5_000}):
            await inject(**fault)
            # A call whose deadline has passed before it arrived is struck by nothing: the fault waits for the next one.
            while (await struck())[-1] == 0:
                assert (await client.call(CHARGE, REQUEST, action("s1"), timeout_s=0.2)).name == "DEADLINE_EXCEEDED"

        assert (await client.call(CHARGE, REQUEST, action("s1"))).code == 0
        assert await struck() == [1, 1, 1, 1]
        cleared = await admin.call("shop.v1.FaultService/Clear", fault_pb2.ClearRequest(), None)
        assert fault_pb2.ClearResponse.FromString(cleared.response).cleared == 4
        bad = await admin.call("shop.v1.FaultService/Inject", fault_pb2.Fault(error_code="FUNNY"), None)
        assert (bad.name, bad.message.partition(":")[0]) == ("INVALID_ARGUMENT", "error_code")
    assert ledger(database) == ["charge"]


async def test_faults_are_not_offered_unless_allowed(launcher: Launcher, database: str) -> None:
    _, port = launcher.start("payment", dsn=database)
    await until_serving(port)
    async with connected(port) as client:
        reply = await client.call("shop.v1.FaultService/Inject", fault_pb2.Fault(delay_ms=1), None)
        assert reply.name == "UNIMPLEMENTED"


async def test_a_participant_waits_for_postgres_and_says_so(
    launcher: Launcher, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Postgres(tmp_path_factory.mktemp("late")) as late:
        database = late.create_database("shop")
        late.shut_down()
        process, port = launcher.start("payment", dsn=database)
        await until_serving(port, health_pb2.HealthCheckResponse.NOT_SERVING)
        async with connected(port) as client:
            assert (await client.call(CHARGE, REQUEST, action("s1"))).name == "UNAVAILABLE"
            late.start()
            await until_serving(port)
            assert "postgres is away" in process.log_tail()
            assert (await client.call(CHARGE, REQUEST, action("s1"))).code == 0
            late.restart(mode="immediate")
            replies = await asyncio.gather(*(client.call(CHARGE, REQUEST, action("s1")) for _ in range(20)))
            assert {reply.name for reply in replies} <= {"OK", "UNAVAILABLE"}
            assert (await client.call(CHARGE, REQUEST, action("s1"))).code == 0


async def test_two_that_start_at_once_on_an_empty_database_both_serve(launcher: Launcher, database: str) -> None:
    ports = [launcher.start("payment", dsn=database)[1] for _ in range(2)]
    for port in ports:
        await until_serving(port)


async def test_sigterm_answers_what_was_taken_and_ends_open_streams(launcher: Launcher, database: str) -> None:
    faults = orjson.dumps([{"delay_ms": 300, "order_id": "o1"}]).decode()
    process, port = launcher.start("payment", dsn=database, allow_faults="1", faults=faults)
    await until_serving(port)
    async with connected(port, "exchange") as client, connected(port) as unary:
        calls = [asyncio.create_task(c.call(CHARGE, REQUEST, action("s1"))) for c in (client, unary)]
        log = process.log_path
        async with asyncio.timeout(TIMEOUT_S):
            while log.read_text().count("fault strikes") < 2:
                await asyncio.sleep(0.01)
        process.signal(signal.SIGTERM)
        assert [reply.code for reply in await asyncio.gather(*calls)] == [0, 0]
    assert await asyncio.to_thread(process.wait, TIMEOUT_S) == 0


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"pool_max": "0"}, "PARTICIPANT_POOL_MAX"),
        ({"dsn": "postgresql://x/?nonsense=1"}, "PARTICIPANT_DSN: Value error, not a libpq URL"),
        ({"faults": "[]"}, "PARTICIPANT_ALLOW_FAULTS"),
        ({"faults": '[{"stpe": "x"}]', "allow_faults": "1"}, "[0]: unknown field stpe"),
    ],
)
async def test_wrong_settings_are_named(launcher: Launcher, env: dict[str, str], words: str) -> None:
    process, _ = launcher.start("payment", **env)
    assert await asyncio.to_thread(process.wait, START_MAX_S) == 78
    assert words in process.log_tail()


class _Garbled:
    """Bytes that are no message."""

    def SerializeToString(self) -> bytes:
        return b"\xff"


async def test_echo_answers_both_ways_and_describes_itself(launcher: Launcher) -> None:
    _, port = launcher.start("echo")
    await until_serving(port)
    for form in ("unary", "exchange"):
        async with connected(port, form) as client:
            for method in ("Do", "Undo"):
                reply = await client.call(f"shop.v1.EchoService/{method}", echo_pb2.EchoRequest(text="x"), action("s1"))
                assert echo_pb2.EchoResponse.FromString(reply.response).text == "x"
            garbled = await client.call("shop.v1.EchoService/Do", cast(Any, _Garbled()), action("s1"))
            assert garbled.code != 0
            unknown = await client.call("shop.v1.EchoService/Nothing", echo_pb2.EchoRequest(), action("s1"))
            assert unknown.name == "UNIMPLEMENTED"
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="shop.v1.EchoService")
        async for response in stub.ServerReflectionInfo(iter([request])):
            assert response.file_descriptor_response.file_descriptor_proto
