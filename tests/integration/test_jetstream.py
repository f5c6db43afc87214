"""The relay's sink on a real NATS server: durable, once each by its id, and back when the broker is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats
import orjson
import pytest
from nats.js.api import StreamConfig

from orchestrator.events.cloudevent import cloud_event
from orchestrator.events.jetstream import JetStreamSettings, JetStreamSink, subject_of
from orchestrator.events.model import EventRecord
from orchestrator.events.port import SinkUnavailable
from orchestrator.events.relay import Relay
from orchestrator.telemetry import Metrics
from tests.nats_server import NatsServer, needs_nats
from tests.unit.event_log import MemoryEvents, an_event

pytestmark = needs_nats

WITHIN_S = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats")) as started:
        yield started


@pytest.fixture
def settings(server: NatsServer, request: pytest.FixtureRequest) -> JetStreamSettings:
    """A stream of the test's own."""
    name = request.node.name.upper().replace("[", "_").replace("]", "")
    return JetStreamSettings((server.url,), name, f"t.{name}", "/baton/test", None, payloads=False, timeout_s=20.0)


@asynccontextmanager
async def sink_to(settings: JetStreamSettings) -> AsyncIterator[JetStreamSink]:
    sink = JetStreamSink(settings)
    try:
        yield sink
    finally:
        await sink.close()


async def messages(settings: JetStreamSettings, count: int) -> list[Any]:
    """All messages of the stream, which are so many."""
    client = await nats.connect(settings.servers[0])
    try:
        jetstream = client.jetstream()
        info = await jetstream.stream_info(settings.stream)
        assert info.state.messages == count
        return [await jetstream.get_msg(settings.stream, seq) for seq in range(1, count + 1)]
    finally:
        await client.close()


def events(count: int) -> list[EventRecord]:
    return [an_event(number, saga=number) for number in range(1, count + 1)]


async def test_events_are_cloud_events_under_the_subject_of_their_kind(settings: JetStreamSettings) -> None:
    ended = an_event(1, status="completed", state="COMPLETED")
    async with sink_to(settings) as sink:
        await sink.publish([ended])
    (message,) = await messages(settings, 1)
    assert message.subject == f"{settings.subject}.order.saga.completed"
    assert message.headers["Nats-Msg-Id"] == ended.id
    assert message.headers["Content-Type"] == "application/cloudevents+json"
    assert orjson.loads(message.data) == cloud_event(ended, "/baton/test")


async def test_what_is_published_again_is_dropped_by_its_id(settings: JetStreamSettings) -> None:
    async with sink_to(settings) as sink:
        await sink.publish(events(20))
    async with sink_to(settings) as sink:
        await sink.publish(events(25))
    got = await messages(settings, 25)
    assert {message.headers["Nats-Msg-Id"] for message in got} == {event.id for event in events(25)}


async def test_a_broker_that_is_away_is_said_and_comes_back(settings: JetStreamSettings, server: NatsServer) -> None:
    async with sink_to(settings) as sink:
        await sink.publish(events(3))
        server.stop()
        try:
            for _ in range(2):
                with pytest.raises(SinkUnavailable):
                    await asyncio.wait_for(sink.publish(events(4)), WITHIN_S)
        finally:
            server.start()
        await asyncio.wait_for(sink.publish(events(5)), WITHIN_S)
    await messages(settings, 5)


async def test_a_broker_that_is_frozen_is_given_up_in_time(settings: JetStreamSettings, server: NatsServer) -> None:
    async with sink_to(settings) as sink:
        await sink.publish(events(1))
        sink._settings = replace(settings, timeout_s=0.5)
        server.process.suspend()
        try:
            async with asyncio.timeout(WITHIN_S):
                while not stopped(server.process.pid):
                    await asyncio.sleep(0.005)
            with pytest.raises(SinkUnavailable, match=r"no answer within 0.5 s|[Tt]imeout"):
                await asyncio.wait_for(sink.publish(events(2)), WITHIN_S)
        finally:
            server.process.resume()
    async with sink_to(settings) as sink:
        await sink.publish(events(3))
    await messages(settings, 3)


def stopped(pid: int | None) -> bool:
    """Whether every thread of a process has stopped: the signal takes a moment to reach them."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)


async def test_a_stream_that_is_there_stays_as_it_is(settings: JetStreamSettings) -> None:
    client = await nats.connect(settings.servers[0])
    own = StreamConfig(name=settings.stream, subjects=[f"{settings.subject}.>", "own.>"], max_msgs=7)
    await client.jetstream().add_stream(own)
    async with sink_to(settings) as sink:
        await sink.publish(events(2))
    config = (await client.jetstream().stream_info(settings.stream)).config
    await client.close()
    assert (config.subjects, config.max_msgs) == (own.subjects, 7)


async def test_a_stream_that_does_not_take_the_subject_is_an_error_that_says_so(settings: JetStreamSettings) -> None:
    client = await nats.connect(settings.servers[0])
    await client.jetstream().add_stream(name=settings.stream, subjects=["elsewhere"])
    await client.close()
    async with sink_to(settings) as sink:
        with pytest.raises(SinkUnavailable, match="no response from stream"):
            await sink.publish(events(1))


async def test_a_payload_that_the_broker_would_refuse_is_left_out_and_the_event_is_not(
    settings: JetStreamSettings,
) -> None:
    event = an_event(1)
    large = replace(event, transition=replace(event.transition, result=orjson.dumps({"x": "y" * 2_000_000}).decode()))
    async with sink_to(replace(settings, payloads=True)) as sink:
        await sink.publish([large, an_event(2, saga=2)])
    by_id = {message.headers["Nats-Msg-Id"]: orjson.loads(message.data) for message in await messages(settings, 2)}
    assert "result" not in by_id[event.id]["data"]
    assert "bytes are more than the broker takes" in by_id[event.id]["data"]["payload_omitted"]
    assert by_id[an_event(2, saga=2).id]["data"]["result"] == {"card": "secret"}


async def test_a_relay_goes_on_where_the_broker_was_lost(settings: JetStreamSettings, server: NatsServer) -> None:
    keys = [(saga, sequence) for sequence in range(1, 21) for saga in range(1, 11)]
    log = MemoryEvents([an_event(number, saga, sequence) for number, (saga, sequence) in enumerate(keys, 1)])
    metrics = Metrics("test", "r1")
    relay = Relay(log, JetStreamSink(settings), metrics, rows=30, payloads=False)
    running = asyncio.create_task(relay.run(lambda: True))

    async def until_published(count: int) -> None:
        async with asyncio.timeout(WITHIN_S):
            while (metrics.registry.get_sample_value("baton_events_published_total") or 0) < count:
                await asyncio.sleep(0.005)

    await until_published(40)
    server.process.kill()
    await server.process.wait_exit()
    server.start()
    await until_published(200)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    order = [orjson.loads(message.data)["data"] for message in await messages(settings, 200)]
    for saga in {data["saga_id"] for data in order}:
        assert [data["sequence"] for data in order if data["saga_id"] == saga] == list(range(1, 21))


def test_what_a_subject_cannot_hold_is_replaced() -> None:
    event = replace(an_event(1, status="com pleted.*"), definition="my order.v1>")
    assert subject_of("b.e", event) == "b.e.my_order_v1_.step.com_pleted__"
