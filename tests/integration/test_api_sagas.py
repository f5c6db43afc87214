"""Reading, watching and cancelling sagas through a real channel on a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import grpc
import orjson
import pytest

from orchestrator.pb.baton.v1.saga_pb2 import (
    ApplyDefinitionRequest,
    CancelSagaRequest,
    GetSagaRequest,
    ListSagasRequest,
    SagaState,
    StartSagaRequest,
    Transition,
    WatchSagaRequest,
)
from orchestrator.saga.commands import Refused, Succeeded, Unknown
from orchestrator.sagalog.migrate import migrate
from tests.integration.api_world import INPUT, ApiWorld, api_world, definition, descriptors, field_violations, refusal

UNKNOWN_ID = str(UUID(int=7))
LIVE = (SagaState.SAGA_STATE_PENDING, SagaState.SAGA_STATE_RUNNING, SagaState.SAGA_STATE_COMPENSATING)

COMPLETED = [("reserve", "executing"), ("reserve", "completed"), ("pay", "executing"), ("pay", "completed")]


@pytest.fixture
async def api(database: str) -> AsyncIterator[ApiWorld]:
    migrate(database)
    async with api_world(database) as world:
        yield world


async def start(api: ApiWorld, **changes: Any) -> str:
    fields = {"definition": "order", "input_json": orjson.dumps(INPUT).decode(), **changes}
    answer = await api.sagas.StartSaga(StartSagaRequest(**fields), timeout=60)
    return str(answer.saga.saga_id)


async def ended(api: ApiWorld, **changes: Any) -> str:
    async with api.leading():
        return await start(api, wait=True, **changes)


async def watch(api: ApiWorld, saga_id: str, after: int = 0) -> list[Transition]:
    call = api.sagas.WatchSaga(WatchSagaRequest(saga_id=saga_id, after_sequence=after), timeout=60)
    return [transition async for transition in call]


def told(transitions: list[Transition]) -> list[tuple[str, str]]:
    return [(transition.step, transition.status) for transition in transitions]


async def test_a_saga_is_read_with_its_history(api: ApiWorld) -> None:
    saga_id = await ended(api, labels={"shop": "berlin"})
    answer = await api.get(saga_id)
    saga = answer.saga
    assert (saga.saga_id, saga.state, saga.current_step) == (saga_id, SagaState.SAGA_STATE_COMPLETED, "")
    assert (list(saga.steps_executed), list(saga.steps_compensated)) == ([1, 2], [])
    assert saga.created_at.ToNanoseconds() <= saga.finished_at.ToNanoseconds()
    assert told(list(answer.history)) == COMPLETED
    assert [transition.sequence for transition in answer.history] == [1, 2, 3, 4]
    assert [transition.position for transition in answer.history] == [1, 1, 2, 2]
    assert orjson.loads(answer.history[1].result_json) == {"did": "reserve"}
    running, completed = SagaState.SAGA_STATE_RUNNING, SagaState.SAGA_STATE_COMPLETED
    assert [transition.state for transition in answer.history] == [running] * 3 + [completed]
    assert all(transition.epoch >= 1 and transition.at.seconds for transition in answer.history)


async def test_the_history_of_a_compensated_saga_tells_why_and_what_was_undone(api: ApiWorld) -> None:
    api.participants.answers["pay"] = Refused("FAILED_PRECONDITION", "card declined")
    answer = await api.get(await ended(api))
    failed = next(transition for transition in answer.history if transition.status == "failed")
    assert (failed.step, failed.error.code, failed.error.message) == ("pay", "FAILED_PRECONDITION", "card declined")
    assert failed.state == SagaState.SAGA_STATE_COMPENSATING
    assert answer.history[-1].status == "compensated"
    assert answer.history[-1].state == SagaState.SAGA_STATE_COMPENSATED
    assert (list(answer.saga.steps_executed), list(answer.saga.steps_compensated)) == ([1], [1])
    assert answer.saga.error.message == "card declined"


@pytest.mark.parametrize("method", ["GetSaga", "WatchSaga", "CancelSaga"])
@pytest.mark.parametrize("bad", ["", "no-uuid", "00000000-0000-0000-0000-00000000000", "a\x00b", "x" * 100_000])
async def test_a_bad_saga_id_is_named(api: ApiWorld, method: str, bad: str) -> None:
    error = await refusal(api.call_with_id(method, bad))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert field_violations(error) == ["saga_id"]


@pytest.mark.parametrize("method", ["GetSaga", "WatchSaga", "CancelSaga"])
async def test_an_unknown_saga_is_not_found(api: ApiWorld, method: str) -> None:
    error = await refusal(api.call_with_id(method, UNKNOWN_ID))
    assert error.code is grpc.StatusCode.NOT_FOUND
    assert UNKNOWN_ID in error.message


async def test_pages_give_every_saga_once_newest_first(api: ApiWorld) -> None:
    ids = [await start(api) for _ in range(25)]
    seen: list[str] = []
    token = ""
    pages = 0
    while True:
        page = await api.sagas.ListSagas(ListSagasRequest(page_size=10, page_token=token))
        seen += [saga.saga_id for saga in page.sagas]
        pages += 1
        # What starts meanwhile disturbs nothing.
        await start(api)
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(ids, reverse=True)
    assert pages == 3


async def test_a_list_is_filtered_by_state_definition_labels_and_time(api: ApiWorld) -> None:
    done = await ended(api, labels={"shop": "berlin", "day": "1"})
    await api.apply(name="other")
    live = await start(api, labels={"shop": "berlin", "day": "2"})
    other = await start(api, definition="other")
    created = (await api.get(live)).saga.created_at

    async def listed(**wanted: Any) -> list[str]:
        return [saga.saga_id for saga in (await api.sagas.ListSagas(ListSagasRequest(**wanted))).sagas]

    assert await listed() == [other, live, done]
    assert await listed(states=[SagaState.SAGA_STATE_COMPLETED]) == [done]
    assert await listed(states=LIVE) == [other, live]
    assert await listed(definition="other") == [other]
    assert await listed(labels={"shop": "berlin"}) == [live, done]
    assert await listed(labels={"shop": "berlin", "day": "2"}) == [live]
    assert await listed(labels={"shop": "paris"}) == []
    assert done not in await listed(created_after=created)
    assert await listed(created_before=created) == [done]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"page_token": "nonsense"}, "page_token"),
        ({"page_token": "AAAA"}, "page_token"),
        ({"page_size": -1}, "page_size"),
        ({"states": [99]}, "states"),
    ],
)
async def test_a_bad_list_request_names_its_field(api: ApiWorld, bad: dict[str, Any], field: str) -> None:
    error = await refusal(api.sagas.ListSagas(ListSagasRequest(**bad)))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [name.partition("[")[0] for name in field_violations(error)] == [field]


async def test_a_watch_from_the_past_tells_everything_and_ends(api: ApiWorld) -> None:
    saga_id = await ended(api)
    transitions = await watch(api, saga_id)
    assert told(transitions) == COMPLETED
    assert transitions == list((await api.get(saga_id)).history)
    assert told(await watch(api, saga_id, after=2)) == COMPLETED[2:]
    assert await watch(api, saga_id, after=4) == []


async def test_a_watch_tells_each_transition_as_it_happens(api: ApiWorld) -> None:
    api.participants.hold("pay")
    saga_id = await start(api)
    call = api.sagas.WatchSaga(WatchSagaRequest(saga_id=saga_id), timeout=60)
    heard: list[tuple[str, str]] = []

    async def hear() -> None:
        async for transition in call:
            heard.append((transition.step, transition.status))

    listening = asyncio.create_task(hear())
    async with api.leading():
        async with asyncio.timeout(60):
            while heard != COMPLETED[:3]:
                await asyncio.sleep(0.005)
        assert not listening.done()
        api.participants.release("pay")
        await asyncio.wait_for(listening, 60)
    assert heard == COMPLETED


async def test_many_watchers_of_one_saga_hear_the_same(api: ApiWorld) -> None:
    saga_id = await start(api)
    watching = [asyncio.create_task(watch(api, saga_id)) for _ in range(50)]
    async with api.leading():
        heard = await asyncio.gather(*watching)
    assert all(told(transitions) == COMPLETED for transitions in heard)


async def test_a_pending_saga_is_cancelled_by_the_leader(api: ApiWorld) -> None:
    saga_id = await start(api)
    answer = await api.sagas.CancelSaga(CancelSagaRequest(saga_id=saga_id, reason="changed my mind"))
    assert answer.saga.cancel_reason == "changed my mind"
    async with api.leading():
        transitions = await watch(api, saga_id)
    assert [transition.status for transition in transitions] == ["cancelled"]
    assert (await api.get(saga_id)).saga.state == SagaState.SAGA_STATE_COMPENSATED
    assert api.participants.called == []


async def test_a_running_saga_is_cancelled_and_what_was_done_is_undone(api: ApiWorld) -> None:
    api.participants.answers["pay"] = Unknown("UNAVAILABLE", "away")
    saga_id = await start(api)
    async with api.leading():
        await api.until_called("pay")
        await api.sagas.CancelSaga(CancelSagaRequest(saga_id=saga_id, reason="too late"))
        transitions = await watch(api, saga_id)
    assert transitions[-1].state == SagaState.SAGA_STATE_COMPENSATED
    saga = (await api.get(saga_id)).saga
    assert list(saga.steps_compensated) in ([1], [2, 1])
    assert saga.cancel_reason == "too late"


async def test_a_second_cancellation_changes_nothing(api: ApiWorld) -> None:
    saga_id = await start(api)
    await api.sagas.CancelSaga(CancelSagaRequest(saga_id=saga_id, reason="first"))
    answer = await api.sagas.CancelSaga(CancelSagaRequest(saga_id=saga_id, reason="second"))
    assert answer.saga.cancel_reason == "first"


async def test_a_finished_saga_cannot_be_cancelled(api: ApiWorld) -> None:
    saga_id = await ended(api)
    error = await refusal(api.sagas.CancelSaga(CancelSagaRequest(saga_id=saga_id, reason="too late")))
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert error.info.domain == "baton"
    assert "COMPLETED" in error.message


async def test_a_reason_that_cannot_be_stored_is_named(api: ApiWorld) -> None:
    saga_id = await start(api)
    error = await refusal(api.sagas.CancelSaga(CancelSagaRequest(saga_id=saga_id, reason="a\x00b")))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert field_violations(error) == ["reason"]


async def test_a_saga_whose_rows_nobody_understands_can_still_be_read_and_watched(api: ApiWorld) -> None:
    saga_id = await ended(api)
    api.execute("UPDATE baton.step_log SET status = 'from-the-future' WHERE saga_id = %s AND sequence = 2", saga_id)
    answer = await api.get(saga_id)
    assert [transition.status for transition in answer.history][1] == "from-the-future"
    assert len(await watch(api, saga_id)) == 4
    assert (await api.sagas.GetSaga(GetSagaRequest(saga_id=saga_id))).saga.state == SagaState.SAGA_STATE_COMPLETED


async def test_what_a_definition_marks_as_secret_is_shown_by_no_method(api: ApiWorld) -> None:
    text = definition("discreet").replace("steps:", "secrets: [amount, 'lines[].stock_code']\nsteps:")
    text = text.replace("    retry: {", "    secrets: [receipt.code]\n    retry: {")
    await api.definitions.ApplyDefinition(ApplyDefinitionRequest(yaml=text, descriptor_set=descriptors()))
    api.participants.answers["reserve"] = Succeeded({"id": "r-1"})
    api.participants.answers["pay"] = Succeeded({"receipt": {"code": "xyzzy-7"}, "paid": True})
    request = StartSagaRequest(definition="discreet", input_json=orjson.dumps(INPUT).decode())
    started = (await api.sagas.StartSaga(request, timeout=60)).saga
    request.wait = True
    async with api.leading():
        done = (await api.sagas.StartSaga(request, timeout=60)).saga
    api.participants.answers["pay"] = Refused("FAILED_PRECONDITION", "the card does not hold 17.85")
    async with api.leading():
        refused = (await api.sagas.StartSaga(request, timeout=60)).saga
    seen: list[Any] = [started, done, refused, await api.get(done.saga_id), await api.get(refused.saga_id)]
    seen += [*await watch(api, done.saga_id), *await watch(api, refused.saga_id)]
    seen.append(await api.sagas.ListSagas(ListSagasRequest(definition="discreet")))
    for message in seen:
        assert not any(secret in str(message) for secret in ("17.85", "85123A", "xyzzy-7"))
    assert orjson.loads(started.input_json) == {
        **INPUT,
        "amount": "***",
        "lines": [{"stock_code": "***", "quantity": 2}],
    }
    assert orjson.loads(done.result_json)["result"] == {"receipt": {"code": "***"}, "paid": True}
    assert refused.error.message == "the card does not hold ***"
    # The participant was called with what it needs, and the log has it.
    assert api.rows("SELECT input->>'amount' FROM baton.saga")[0] == ("17.85",)
