"""StartSaga through a real channel on a real Postgres: what it accepts, refuses, and answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import orjson
import pytest

from orchestrator.api import saga_service
from orchestrator.embedded.postgres import Postgres
from orchestrator.pb.baton.v1.saga_pb2 import SagaState, StartSagaRequest, StartSagaResponse, StartSagasRequest
from orchestrator.saga.commands import Refused, Unknown
from orchestrator.sagalog.migrate import migrate
from tests.integration.api_world import INPUT, ApiWorld, api_world, field_violations, refusal

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
async def api(database: str) -> AsyncIterator[ApiWorld]:
    migrate(database)
    async with api_world(database) as world:
        yield world


def request(**changes: Any) -> StartSagaRequest:
    return StartSagaRequest(**{"definition": "order", "input_json": orjson.dumps(INPUT).decode(), **changes})


def with_input(**changes: Any) -> StartSagaRequest:
    return request(input_json=orjson.dumps({**INPUT, **changes}).decode())


async def test_a_start_answers_with_the_saga_that_is_stored(api: ApiWorld) -> None:
    answer = await api.sagas.StartSaga(request(request_id="order-1", labels={"shop": "berlin"}))
    saga = answer.saga
    assert not answer.existing
    assert (saga.definition, saga.version, saga.request_id) == ("order", 1, "order-1")
    assert saga.state == SagaState.SAGA_STATE_PENDING
    assert dict(saga.labels) == {"shop": "berlin"}
    assert orjson.loads(saga.input_json) == INPUT
    assert abs(saga.created_at.ToMilliseconds() / 1000 - time.time()) < 60
    assert api.rows("SELECT id::text, state FROM baton.saga") == [(saga.saga_id, "PENDING")]


async def test_a_start_wakes_the_leader_of_its_own_replica(api: ApiWorld) -> None:
    await api.sagas.StartSaga(request())
    assert api.wakes


async def test_a_start_at_a_time_that_not_every_time_zone_can_tell_is_refused(api: ApiWorld) -> None:
    asked = request()
    asked.start_at.FromJsonString("9999-12-31T23:59:59Z")
    refused = await refusal(api.sagas.StartSaga(asked))
    assert (refused.code, refused.violations) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        (("start_at", "is beyond the year 9998"),),
    )


async def test_nobody_takes_the_request_id_of_a_child_saga(api: ApiWorld) -> None:
    request_id = "child:01a20353-57a9-7f57-bc5f-5e42cc34bbad/reserve"
    refused = await refusal(api.sagas.StartSaga(request(request_id=request_id)))
    assert (refused.code, [field for field, _ in refused.violations]) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        ["request_id"],
    )
    assert (await api.sagas.StartSaga(request(request_id="child:of/mine"))).saga.request_id == "child:of/mine"


async def test_the_same_request_id_gives_the_same_saga(api: ApiWorld) -> None:
    first = await api.sagas.StartSaga(request(request_id="order-1"))
    # The order of the fields of the input is no difference.
    again = request(request_id="order-1", input_json=orjson.dumps(dict(reversed(INPUT.items()))).decode())
    second = await api.sagas.StartSaga(again)
    assert (second.saga.saga_id, second.existing) == (first.saga.saga_id, True)
    assert api.count() == 1


async def test_a_repeated_start_after_a_newer_version_still_gives_the_same_saga(api: ApiWorld) -> None:
    first = await api.sagas.StartSaga(request(request_id="order-1"))
    await api.apply(description="another version")
    second = await api.sagas.StartSaga(request(request_id="order-1"))
    assert (second.saga.saga_id, second.saga.version, second.existing) == (first.saga.saga_id, 1, True)


async def test_equal_starts_at_once_make_one_saga(api: ApiWorld) -> None:
    calls = [api.sagas.StartSaga(request(request_id="order-1")) for _ in range(50)]
    answers: list[StartSagaResponse] = await asyncio.gather(*calls)
    assert len({answer.saga.saga_id for answer in answers}) == 1
    assert sum(not answer.existing for answer in answers) == 1
    assert api.count() == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"input_json": orjson.dumps({**INPUT, "order_id": "other"}).decode()},
        {"labels": {"shop": "berlin"}},
        {"version": 1},
    ],
)
async def test_a_request_id_with_another_body_already_exists(api: ApiWorld, changes: dict[str, Any]) -> None:
    await api.sagas.StartSaga(request(request_id="order-1"))
    error = await refusal(api.sagas.StartSaga(request(request_id="order-1", **changes)))
    assert error.code is grpc.StatusCode.ALREADY_EXISTS
    assert error.info.domain == "baton"
    assert error.info.reason.isupper()
    assert "order-1" in error.message
    assert api.count() == 1


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (request(definition=""), "definition"),
        (request(version=-1), "version"),
        (request(input_json=""), "input_json"),
        (request(input_json="{"), "input_json"),
        (request(input_json="[]"), "input_json"),
        (request(input_json="null"), "input_json"),
        (request(input_json='{"order_id": NaN}'), "input_json"),
        (request(input_json='{"order_id": 1e999}'), "input_json"),
        (request(input_json='{"order_id": "\\ud800"}'), "input_json"),
        (with_input(note="x" * 1_000_001), "input_json"),
        (request(input_json=f'{{"order_id": "1", "deep": {DEEP}}}'), "input_json"),
        (request(input_json=f'{{"order_id": "1", "deep": {"[" * 65}{"]" * 65}}}'), "input.deep[0]"),
        (request(input_json='{"order_id": 18446744073709551616}'), "input"),
        (request(input_json='{"order_id": -9223372036854775809}'), "input"),
        (with_input(note="a\x00b"), "input"),
        (request(input_json='{"order_id": "1", "a\\u0000b": 1}'), "input"),
        (with_input(order_id=None), "input.order_id"),
        (with_input(order_id=7), "input.order_id"),
        (with_input(lines="none"), "input.lines"),
        (request(labels={f"label{number}": "" for number in range(33)}), "labels"),
        (request(labels={"k" * 64: ""}), "labels"),
        (request(labels={"": "v"}), "labels"),
        (request(labels={"k": "v" * 257}), "labels"),
        (request(labels={"k": "a\x00b"}), "labels"),
        (request(request_id="r" * 201), "request_id"),
        (request(request_id="a\nb"), "request_id"),
        (request(request_id="a\x00b"), "request_id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_bad_input_names_its_field_and_stores_nothing(api: ApiWorld, bad: StartSagaRequest, field: str) -> None:
    error = await refusal(api.sagas.StartSaga(bad))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.info.domain, error.info.reason.isupper()) == ("baton", True)
    named = field_violations(error)
    assert named
    assert all(name.startswith(field) for name in named), named
    assert api.count() == 0
    # Nothing of it lingers: the same server goes on.
    await api.sagas.StartSaga(request())


@pytest.mark.parametrize("changes", [{"definition": "nothing-of-the-kind"}, {"version": 7}])
async def test_an_unknown_definition_is_not_found(api: ApiWorld, changes: dict[str, Any]) -> None:
    error = await refusal(api.sagas.StartSaga(request(**changes)))
    assert error.code is grpc.StatusCode.NOT_FOUND
    assert error.info.domain == "baton"
    assert str(next(iter(changes.values()))) in error.message
    assert api.count() == 0


async def test_integers_are_exact_to_64_bits(api: ApiWorld) -> None:
    text = orjson.dumps({**INPUT, "high": 18446744073709551615, "low": -9223372036854775808}).decode()
    answer = await api.sagas.StartSaga(request(input_json=text))
    stored = (await api.get(answer.saga.saga_id)).saga.input_json
    assert (orjson.loads(stored)["high"], orjson.loads(stored)["low"]) == (18446744073709551615, -9223372036854775808)


async def test_digits_and_escapes_inside_of_text_are_left_alone(api: ApiWorld) -> None:
    note = "123456789012345678901234567890 \\u0000 {[{[" + "[" * 70
    answer = await api.sagas.StartSaga(with_input(note=note))
    assert orjson.loads((await api.get(answer.saga.saga_id)).saga.input_json)["note"] == note


async def test_of_many_starts_in_one_call_each_is_answered_on_its_own(api: ApiWorld) -> None:
    await api.sagas.StartSaga(request(request_id="used"))
    requests = [
        request(request_id="a"),
        request(definition="nothing-of-the-kind"),
        with_input(order_id=None),
        request(request_id="used", labels={"a": "b"}),
        request(request_id="a"),
        request(request_id="b"),
    ]
    results = (await api.sagas.StartSagas(StartSagasRequest(requests=requests))).results
    codes = [grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT]
    codes += [grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.OK, grpc.StatusCode.OK]
    assert [result.code for result in results] == [code.value[0] for code in codes]
    assert results[0].saga_id == results[4].saga_id
    assert sorted((results[0].existing, results[4].existing)) == [False, True]
    assert "order_id" in results[2].message
    assert api.count() == 3


async def test_a_start_that_waits_answers_at_the_end(api: ApiWorld) -> None:
    async with api.leading():
        answer = await api.sagas.StartSaga(request(wait=True), timeout=60)
    assert answer.saga.state == SagaState.SAGA_STATE_COMPLETED
    assert list(answer.saga.steps_executed) == [1, 2]
    assert orjson.loads(answer.saga.result_json)["steps_compensated"] == []


async def test_a_start_that_waits_tells_of_a_compensated_saga(api: ApiWorld) -> None:
    api.participants.answers["pay"] = Refused("FAILED_PRECONDITION", "card declined")
    async with api.leading():
        answer = await api.sagas.StartSaga(request(wait=True), timeout=60)
    saga = answer.saga
    assert saga.state == SagaState.SAGA_STATE_COMPENSATED
    assert (list(saga.steps_executed), list(saga.steps_compensated)) == ([1], [1])
    assert (saga.error.step, saga.error.code, saga.error.message) == ("pay", "FAILED_PRECONDITION", "card declined")


async def test_a_start_that_waits_answers_before_the_deadline_with_the_state_by_then(
    api: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A machine that stands still at the end of the wait has longer than a tenth of a second to answer.
    monkeypatch.setattr(saga_service, "_ANSWER_EARLY_S", 2.5)
    api.participants.answers["pay"] = Unknown("UNAVAILABLE", "away")
    began_s = time.monotonic()
    async with api.leading():
        answer = await api.sagas.StartSaga(request(wait=True), timeout=5)
    assert answer.saga.state == SagaState.SAGA_STATE_RUNNING
    assert answer.saga.current_step == "pay"
    assert 2.0 < time.monotonic() - began_s < 5


async def test_a_start_may_wait_for_the_saga_of_an_earlier_call(api: ApiWorld) -> None:
    first = await api.sagas.StartSaga(request(request_id="order-1"))
    waiting = asyncio.ensure_future(api.sagas.StartSaga(request(request_id="order-1", wait=True), timeout=60))
    async with api.leading():
        answer = await waiting
    assert (answer.existing, answer.saga.saga_id) == (True, first.saga.saga_id)
    assert answer.saga.state == SagaState.SAGA_STATE_COMPLETED


async def test_many_may_wait_at_once(api: ApiWorld) -> None:
    async with api.leading():
        calls = [api.sagas.StartSaga(request(request_id=f"order-{n}", wait=True), timeout=30) for n in range(200)]
        answers: list[StartSagaResponse] = await asyncio.gather(*calls)
    assert {answer.saga.state for answer in answers} == {SagaState.SAGA_STATE_COMPLETED}


async def test_a_burst_of_calls_is_served_whole(api: ApiWorld) -> None:
    calls = [api.sagas.StartSaga(request(request_id=f"order-{number}"), timeout=60) for number in range(3000)]
    await asyncio.gather(*calls)
    assert api.count() == 3000


async def test_while_postgres_is_away_starts_are_unavailable_and_say_when_to_retry(
    database: str, postgres: Postgres
) -> None:
    migrate(database)
    async with api_world(database, timeout_s=4.0) as api:
        await api.sagas.StartSaga(request(request_id="before"))
        await asyncio.to_thread(postgres.shut_down, "immediate")
        try:
            error = await refusal(api.sagas.StartSaga(request(request_id="during"), timeout=30))
            assert error.code is grpc.StatusCode.UNAVAILABLE
            assert error.info.domain == "baton"
            assert error.retry_delay_s is not None
            assert error.retry_delay_s > 0
        finally:
            await asyncio.to_thread(postgres.start)
        await api.sagas.StartSaga(request(request_id="during"), timeout=30)
        assert api.count() == 2


async def test_no_start_is_lost_or_doubled_when_postgres_restarts_under_retrying_clients(
    api: ApiWorld, postgres: Postgres
) -> None:
    acknowledged: dict[str, str] = {}
    restarted = asyncio.Event()

    async def client(number: int) -> None:
        count = 0
        while not restarted.is_set() or count < 3:
            request_id = f"{number}-{count}"
            try:
                answer = await api.sagas.StartSaga(request(request_id=request_id), timeout=60)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                continue
            acknowledged[request_id] = answer.saga.saga_id
            count += 1

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(client(number))
        while len(acknowledged) < 100:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(postgres.restart, mode="immediate")
        restarted.set()
    assert dict(api.rows("SELECT request_id, id::text FROM baton.saga")) == acknowledged
