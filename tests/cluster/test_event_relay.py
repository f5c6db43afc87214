"""Events through a failover: the relay of a leader that is killed goes on in the next one, and so does a listener."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import nats
import psycopg

from orchestrator.cli.client import Client
from orchestrator.embedded.cluster import Cluster
from orchestrator.pb.baton.v1 import events_pb2
from tests.nats_server import NatsServer, needs_nats

from .house import WITHIN_S, House, definitions_applied, eventually

pytestmark = needs_nats

SAGAS = 60


async def test_no_event_is_lost_or_out_of_order_when_leaders_are_killed(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as broker:
        settings = {"BATON_EVENTS_BROKER": broker.url, "BATON_EVENTS_PAGE": "40"}
        async with (
            Cluster(
                tmp_path / "cluster", 3, 1, ["inventory", "payment", "shipping"], settings=settings,
                definitions_dir=None, restart_replicas=True, unsafe_no_fsync=True,
            ) as cluster,
            Client(cluster.api_endpoints, deadline_s=WITHIN_S, attempt_max_s=10.0, spread=True) as client,
        ):  # fmt: skip
            await definitions_applied(client, 0)
            house = House(cluster, client)
            await house.apply("order")
            heard: list[events_pb2.Event] = []
            listening = asyncio.create_task(listen(client, heard))
            sagas: list[str] = []
            for round_ in range(3):
                batch = [house.start("order", f"o-{round_}-{number}") for number in range(SAGAS // 3)]
                sagas += await asyncio.gather(*batch)
                if round_ < 2:
                    # In the middle of the batch, as far as the broker has heard.
                    await published(broker, at_least=40 * (round_ + 1))
                    leader = await cluster.wait_leader()
                    leader.replica.kill()
                    await cluster.wait_leader(above_epoch=leader.epoch)
            for saga_id in sagas:
                await house.end(saga_id)
            rows = log_rows(cluster.baton_dsn)
            assert len({saga for saga, _, _ in rows}) == SAGAS
            assert len({epoch for _, _, epoch in rows}) >= 3
            await published(broker, at_least=len(rows))
            got = await messages(broker)

            async def all_heard() -> bool:
                return len({event.id for event in heard}) == len(rows)

            await eventually(all_heard, "the listener to hear everything")
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    expected = {saga: [seq for of, seq, _ in rows if of == saga] for saga, _, _ in rows}
    published_ = [(event["data"]["saga_id"], event["data"]["sequence"]) for event in got]
    assert by_saga(published_) == expected, "the broker"
    assert by_saga([(event.saga_id, event.sequence) for event in heard]) == expected, "the listener"


async def listen(client: Client, heard: list[events_pb2.Event]) -> None:
    async with aclosing(client.events.stream(events_pb2.StreamEventsRequest())) as answers:
        async for answer in answers:
            if answer.HasField("event"):
                heard.append(answer.event)


def by_saga(keys: list[tuple[str, int]]) -> dict[str, list[int]]:
    """The sequences of each saga in their order of arrival, repetitions dropped."""
    found: dict[str, list[int]] = {}
    for saga, sequence in dict.fromkeys(keys):
        found.setdefault(saga, []).append(sequence)
    return found


def log_rows(dsn: str) -> list[tuple[str, int, int]]:
    query = b"SELECT saga_id::text, sequence, epoch FROM baton.step_log ORDER BY saga_id, sequence"
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


async def published(broker: NatsServer, at_least: int) -> None:
    """Wait until the broker has so many events."""
    client = await nats.connect(broker.url)

    async def there() -> bool:
        try:
            return (await client.jetstream().stream_info("BATON")).state.messages >= at_least
        except nats.js.errors.NotFoundError:
            return False

    try:
        await eventually(there, f"{at_least} events at the broker")
    finally:
        await client.close()


async def messages(broker: NatsServer) -> list[Any]:
    """All events that the broker has, in its order."""
    client = await nats.connect(broker.url)
    try:
        jetstream = client.jetstream()
        count = (await jetstream.stream_info("BATON")).state.messages
        subscription = await jetstream.subscribe("baton.events.>", ordered_consumer=True)
        return [json.loads((await subscription.next_msg(timeout=WITHIN_S)).data) for _ in range(count)]
    finally:
        await client.close()
