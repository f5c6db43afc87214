"""EventService on a real Postgres with a leader that drives sagas: complete, in order, resumable, bounded, silent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import grpc
import orjson
import psycopg
import pytest

from orchestrator.events.model import Cursor, EventFilter, earliest
from orchestrator.events.relay import RELAY_CONSUMER
from orchestrator.events.streams import EventStreams
from orchestrator.pb.baton.v1 import events_pb2, events_pb2_grpc, saga_pb2
from orchestrator.saga.commands import Refused, Succeeded
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.queries import load
from orchestrator.telemetry import Metrics
from tests.integration.api_world import (
    INPUT,
    ApiWorld,
    api_world,
    definition,
    descriptors,
    explained,
    field_violations,
    refusal,
    serving,
)
from tests.unit.event_log import MemoryEvents, an_event

WITHIN_S = 60.0
SECRET = "hunter2-the-secret"


@pytest.fixture
async def api(database: str) -> AsyncIterator[ApiWorld]:
    migrate(database)
    async with api_world(database) as world:
        yield world


def events_of(api: ApiWorld) -> Any:
    return events_pb2_grpc.EventServiceStub(api.channel)  # type: ignore[no-untyped-call]


async def run_sagas(api: ApiWorld, count: int, **fields: Any) -> list[str]:
    """Start sagas and wait for their ends."""
    request = saga_pb2.StartSagaRequest(
        definition="order", input_json=orjson.dumps(INPUT).decode(), wait=True, **fields
    )
    answers = await asyncio.gather(*(api.sagas.StartSaga(request, timeout=WITHIN_S) for _ in range(count)))
    assert all(answer.saga.HasField("finished_at") for answer in answers)
    return [answer.saga.saga_id for answer in answers]


async def collect(api: ApiWorld, **fields: Any) -> list[events_pb2.StreamEventsResponse]:
    """All that is there."""
    request = events_pb2.StreamEventsRequest(until_caught_up=True, **fields)
    return [answer async for answer in events_of(api).StreamEvents(request, timeout=WITHIN_S)]


def events_in(answers: list[events_pb2.StreamEventsResponse]) -> list[events_pb2.Event]:
    return [answer.event for answer in answers if answer.HasField("event")]


async def test_every_transition_is_an_event_as_the_history_has_it(api: ApiWorld) -> None:
    api.participants.answers["pay"] = Refused("FAILED_PRECONDITION", "card declined")
    async with api.leading():
        (saga_id,) = await run_sagas(api, 1)
    history = (await api.get(saga_id)).history
    events = events_in(await collect(api))
    assert [
        (e.saga_id, e.sequence, e.step, e.position, e.status, e.attempt, e.epoch, e.time, f"SAGA_STATE_{e.state}")
        for e in events
    ] == [
        (saga_id, t.sequence, t.step, t.position, t.status, t.attempt, t.epoch, t.at, saga_pb2.SagaState.Name(t.state))
        for t in history
    ]
    assert [e.type for e in events][-1] == "baton.saga.v1.compensated"
    assert [e.type for e in events][3] == "baton.step.v1.failed"
    assert events[3].error_code == "FAILED_PRECONDITION"
    assert {(e.definition, e.version, e.source) for e in events} == {("order", 1, "/baton/test")}
    assert [e.id for e in events] == [f"{saga_id}/{number}" for number in range(1, len(events) + 1)]


async def test_a_stream_goes_on_behind_any_event_on_any_replica(api: ApiWorld, database: str) -> None:
    async with api.leading():
        await run_sagas(api, 3)
    answers = [answer for answer in await collect(api) if answer.HasField("event")]
    assert len(answers) == 12
    async with serving(database) as other, grpc.aio.insecure_channel(f"127.0.0.1:{other.port}") as channel:
        stub: Any = events_pb2_grpc.EventServiceStub(channel)  # type: ignore[no-untyped-call]
        for number in (1, 7, 12):
            request = events_pb2.StreamEventsRequest(after=answers[number - 1].cursor, until_caught_up=True)
            rest = [answer.event async for answer in stub.StreamEvents(request) if answer.HasField("event")]
            assert rest == [answer.event for answer in answers[number:]]


async def test_events_arrive_while_sagas_run_and_each_saga_is_in_order(api: ApiWorld) -> None:
    stream = events_of(api).StreamEvents(events_pb2.StreamEventsRequest(latest=True), timeout=WITHIN_S)
    first = await stream.read()
    assert first.caught_up
    assert not first.HasField("event")
    async with api.leading():
        running = asyncio.create_task(run_sagas(api, 30))
        seen: dict[str, list[int]] = {}
        ended = 0
        while ended < 30:
            answer = await stream.read()
            if answer.HasField("event"):
                seen.setdefault(answer.event.saga_id, []).append(answer.event.sequence)
                ended += answer.event.type == "baton.saga.v1.completed"
        assert set(await running) == set(seen)
    assert all(sequences == list(range(1, 5)) for sequences in seen.values())
    stream.cancel()


async def test_filters_leave_out_what_is_not_wanted(api: ApiWorld) -> None:
    await api.apply("other")
    async with api.leading():
        first, second = await run_sagas(api, 2)
        other = saga_pb2.StartSagaRequest(definition="other", input_json=orjson.dumps(INPUT).decode(), wait=True)
        await api.sagas.StartSaga(other, timeout=WITHIN_S)
    assert {e.definition for e in events_in(await collect(api, definitions=["other"]))} == {"other"}
    assert {e.saga_id for e in events_in(await collect(api, saga_id=first))} == {first}
    assert {e.status for e in events_in(await collect(api, statuses=["executing"]))} == {"executing"}
    ends = events_in(await collect(api, types=["baton.saga.v1.*"], definitions=["order"]))
    assert [(e.saga_id, e.state) for e in ends] == [(e.saga_id, "COMPLETED") for e in ends]
    assert {e.saga_id for e in ends} == {first, second}
    # Whoever wants none of them still learns how far the stream has come.
    (nothing,) = await collect(api, definitions=["nobody's"])
    assert nothing.caught_up
    assert Cursor.parse(nothing.cursor) == Cursor.parse((await collect(api))[-1].cursor)


async def test_what_participants_say_is_sent_only_when_asked_for(api: ApiWorld) -> None:
    api.participants.answers["reserve"] = Succeeded({"token": SECRET})
    api.participants.answers["pay"] = Refused("FAILED_PRECONDITION", f"no {SECRET}")
    async with api.leading():
        await run_sagas(api, 1)
    silent = await collect(api)
    assert not any(SECRET.encode() in answer.SerializeToString() for answer in silent)
    told = events_in(await collect(api, payloads=True))
    assert [event.result_json for event in told if SECRET in event.result_json]
    assert [event.error_message for event in told if SECRET in event.error_message]


async def test_what_a_definition_calls_secret_is_sent_to_nobody(api: ApiWorld) -> None:
    yaml = definition("veiled").replace("  - name: reserve\n", "  - name: reserve\n    secrets: [reservation_id]\n")
    yaml = yaml.replace("steps:", "secrets: [order_id]\nsteps:", 1)
    applied = saga_pb2.ApplyDefinitionRequest(yaml=yaml, descriptor_set=descriptors())
    await api.definitions.ApplyDefinition(applied)
    api.participants.answers["reserve"] = Succeeded({"reservation_id": SECRET, "quantity": 2})
    api.participants.answers["pay"] = Refused("FAILED_PRECONDITION", f"order {SECRET}")
    start = saga_pb2.StartSagaRequest(definition="veiled", input_json=orjson.dumps(INPUT).decode(), wait=True)
    async with api.leading():
        await api.sagas.StartSaga(start, timeout=WITHIN_S)
    answers = await collect(api, payloads=True)
    assert not any(SECRET.encode() in answer.SerializeToString() for answer in answers)
    (reserved,) = [e for e in events_in(answers) if (e.step, e.status) == ("reserve", "completed")]
    assert orjson.loads(reserved.result_json) == {"reservation_id": "***", "quantity": 2}
    (failed,) = [e for e in events_in(answers) if (e.step, e.status) == ("pay", "failed")]
    assert (failed.error_code, failed.error_message) == ("FAILED_PRECONDITION", "***")


async def test_a_consumer_goes_on_where_it_was(api: ApiWorld) -> None:
    stub = events_of(api)
    async with api.leading():
        await run_sagas(api, 1)
        answers = await collect(api, consumer="mail")
        commit = events_pb2.CommitPositionRequest(consumer="mail", cursor=answers[2].cursor)
        assert (await stub.CommitPosition(commit)).cursor == answers[2].cursor
        rest = await collect(api, consumer="mail")
        assert [answer.event for answer in rest] == [answer.event for answer in answers[3:]]
        await stub.CommitPosition(events_pb2.CommitPositionRequest(consumer="mail", cursor=rest[-1].cursor))
        assert events_in(await collect(api, consumer="mail")) == []
        await run_sagas(api, 1)
    assert len(events_in(await collect(api, consumer="mail"))) == 4
    (consumer,) = (await stub.ListConsumers(events_pb2.ListConsumersRequest())).consumers
    assert (consumer.name, consumer.lag_events, consumer.expired) == ("mail", 4, False)
    assert consumer.HasField("oldest_pending_at")
    await stub.ResetConsumer(events_pb2.ResetConsumerRequest(consumer="mail", earliest=True))
    assert len(events_in(await collect(api, consumer="mail"))) == 8
    await stub.ResetConsumer(events_pb2.ResetConsumerRequest(consumer="mail", latest=True))
    assert events_in(await collect(api, consumer="mail")) == []
    await stub.ResetConsumer(events_pb2.ResetConsumerRequest(consumer="mail", cursor=answers[2].cursor))
    assert len(events_in(await collect(api, consumer="mail"))) == 5
    await stub.DeleteConsumer(events_pb2.DeleteConsumerRequest(consumer="mail"))
    error = await refusal(stub.DeleteConsumer(events_pb2.DeleteConsumerRequest(consumer="mail")))
    assert (error.code, field_violations(error)) == (grpc.StatusCode.NOT_FOUND, ["consumer"])


async def test_a_place_behind_which_events_were_removed_is_a_clear_error(api: ApiWorld) -> None:
    stub = events_of(api)
    async with api.leading():
        (first,) = await run_sagas(api, 1)
        await run_sagas(api, 1)
    old = (await collect(api))[0].cursor
    await stub.ResetConsumer(events_pb2.ResetConsumerRequest(consumer="slow", cursor=old))
    api.execute("DELETE FROM baton.step_log WHERE saga_id = %s", first)
    for fields in ({"after": old}, {"consumer": "slow"}):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await collect(api, **fields)
        error = explained(refused.value)
        assert (error.code, error.info.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
        assert "baton events reset" in error.message
    assert (await stub.ListConsumers(events_pb2.ListConsumersRequest())).consumers[0].expired
    assert len(events_in(await collect(api))) == 4
    await stub.ResetConsumer(events_pb2.ResetConsumerRequest(consumer="slow", earliest=True))
    assert len(events_in(await collect(api, consumer="slow"))) == 4


BAD_REQUESTS: list[tuple[str, Any, str]] = [
    ("StreamEvents", events_pb2.StreamEventsRequest(after="soon"), "after"),
    ("StreamEvents", events_pb2.StreamEventsRequest(after="1-1", consumer="a"), "after"),
    ("StreamEvents", events_pb2.StreamEventsRequest(consumer="no\nname"), "consumer"),
    ("StreamEvents", events_pb2.StreamEventsRequest(saga_id="x"), "saga_id"),
    ("StreamEvents", events_pb2.StreamEventsRequest(types=[""]), "types"),
    ("StreamEvents", events_pb2.StreamEventsRequest(definitions=["x"] * 101), "definitions"),
    ("CommitPosition", events_pb2.CommitPositionRequest(consumer="", cursor="1-1"), "consumer"),
    ("CommitPosition", events_pb2.CommitPositionRequest(consumer="a", cursor=""), "cursor"),
    ("CommitPosition", events_pb2.CommitPositionRequest(consumer=RELAY_CONSUMER, cursor="1-1"), "consumer"),
    ("ResetConsumer", events_pb2.ResetConsumerRequest(consumer="a"), "to"),
    ("ResetConsumer", events_pb2.ResetConsumerRequest(consumer="a", earliest=False), "to"),
]


async def test_a_bad_request_names_its_field(api: ApiWorld) -> None:
    for method, request, field in BAD_REQUESTS:
        call = getattr(events_of(api), method)(request, timeout=WITHIN_S)
        error = await refusal(call.read() if method == "StreamEvents" else call)
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert field_violations(error) == [field]
    assert api.rows("SELECT count(*) FROM baton.event_consumer") == [(0,)]


async def test_a_replica_that_stops_sends_its_listeners_to_another_one(api: ApiWorld) -> None:
    stream = events_of(api).StreamEvents(events_pb2.StreamEventsRequest(), timeout=WITHIN_S)
    assert (await stream.read()).caught_up
    stopping = asyncio.create_task(api.served.server.drain(WITHIN_S))
    error = await refusal(stream.read())
    assert error.code is grpc.StatusCode.UNAVAILABLE
    await stopping


async def test_a_listener_that_takes_nothing_holds_one_page_of_memory() -> None:
    log = MemoryEvents([an_event(number, saga=number) for number in range(1, 10_001)])
    streams = EventStreams(log, Metrics("test", "r1"))
    stream = streams.stream(earliest(0), EventFilter())
    first = await anext(stream)
    assert first.cursor == Cursor(1, 1)
    for _ in range(100):
        await asyncio.sleep(0)
    assert log.pages == 1
    seen = [progress async for progress in streams.stream(earliest(0), EventFilter(), until_caught_up=True)]
    assert len([progress for progress in seen if progress.event]) == 10_000
    await stream.aclose()


async def test_a_slow_listener_over_the_network_does_not_make_the_replica_read_on(
    api: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fits into the windows of the connection is sent ahead, and no more."""
    pages = 0
    original = type(api.served.events).page

    async def counted(self: Any, *args: Any) -> Any:
        nonlocal pages
        pages += 1
        return await original(self, *args)

    monkeypatch.setattr(type(api.served.events), "page", counted)
    (saga_id,) = [row[0] for row in api.rows("SELECT gen_random_uuid()")]
    api.execute(
        "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input)"
        " VALUES (%s, 0, 'many', '', %s, 1, 'RUNNING', '{}')",
        saga_id,
        "a-definition-" + "x" * 2000,
    )
    api.execute(
        "INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, epoch)"
        " SELECT %s, n, 'pay', 1, 'executing', n, 1 FROM generate_series(1, 8000) AS n",
        saga_id,
    )
    stream = events_of(api).StreamEvents(events_pb2.StreamEventsRequest())
    await stream.read()
    before = -1
    while before != pages:
        before = pages
        await asyncio.sleep(0.5)
    assert pages < 12
    read = 1
    while read < 8_000:
        read += (await asyncio.wait_for(stream.read(), WITHIN_S)).HasField("event")
    assert pages >= 16
    stream.cancel()


async def test_a_page_costs_what_it_reads_however_long_the_log_is(api: ApiWorld) -> None:
    api.execute(
        "INSERT INTO baton.step_log (saga_id, sequence, position, status, attempt, epoch)"
        " SELECT gen_random_uuid(), 1, 0, 'executing', 1, 1 + n / 10000 FROM generate_series(1, 50000) AS n"
    )
    api.execute("ANALYZE baton.step_log")
    statement = load("events.sql")["page"].text.decode()
    bounds = {"shard": 0, "epoch": 3, "position": 25_000, "saga": None, "rows": 500, "payloads": False, "bytes": 1}
    with psycopg.connect(api.dsn) as connection:
        connection.execute("SET plan_cache_mode = force_custom_plan")
        plan = "\n".join(row[0] for row in connection.execute(("EXPLAIN " + statement).encode(), bounds).fetchall())
    by_index = r"Index Scan using step_log_events on step_log .*\n *Index Cond: \(ROW\(epoch, log_position"
    assert re.search(by_index, plan), plan
    assert "Seq Scan on step_log" not in plan
