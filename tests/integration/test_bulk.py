"""Orders for many sagas, counts and searches as a client sees them; starts that come again after their saga ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import orjson
import pytest

from orchestrator.api import bulk_service
from orchestrator.api.bulk_service import carry_out
from orchestrator.api.orders import CancelOrder, Outcome
from orchestrator.cli.client import Client
from orchestrator.cli.errors import ApiUnavailable, CallRefused
from orchestrator.errors import LogUnavailable
from orchestrator.pb.baton.v1 import bulk_pb2, bulk_pb2_grpc, counting_pb2, saga_pb2
from orchestrator.saga.commands import Refused
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.reader import Reader
from orchestrator.telemetry import Metrics
from tests.integration.api_world import INPUT, ApiWorld, api_world, definition, descriptors

ORDERED, ALREADY = bulk_pb2.BULK_OUTCOME_ORDERED, bulk_pb2.BULK_OUTCOME_ALREADY_ORDERED
ENDED, UNKNOWN = bulk_pb2.BULK_OUTCOME_ENDED, bulk_pb2.BULK_OUTCOME_UNKNOWN


@pytest.fixture
async def api(database: str) -> AsyncIterator[ApiWorld]:
    migrate(database)
    async with api_world(database) as world:
        yield world


@pytest.fixture
async def client(api: ApiWorld) -> AsyncIterator[Client]:
    async with Client([f"127.0.0.1:{api.served.port}"], deadline_s=20.0) as made:
        yield made


async def started(client: Client, count: int, amount: int = 0, **labels: str) -> list[str]:
    """Sagas of the definition `order`, oldest first."""
    text = orjson.dumps({**INPUT, "n": amount}).decode()
    requests = [
        saga_pb2.StartSagaRequest(definition="order", input_json=text, labels=labels, request_id=f"{labels}{amount}{n}")
        for n in range(count)
    ]
    return [result.saga_id for result in await client.start_sagas(requests)]


async def given(client: Client, **request: Any) -> tuple[list[bulk_pb2.BulkItem], bulk_pb2.BulkReport]:
    """What became of each saga, and the last report."""
    reports = [report async for report in client.bulk_order(bulk_pb2.BulkCancelRequest(**request))]
    assert [report.finished for report in reports] == [False] * (len(reports) - 1) + [True]
    items = [item for report in reports for item in report.items]
    assert reports[-1].matched == len(items)
    return items, reports[-1]


def cancelled(api: ApiWorld) -> dict[str, str]:
    rows = api.rows("SELECT id, cancel_reason FROM baton.saga WHERE cancel_reason IS NOT NULL")
    return {str(row[0]): row[1] for row in rows}


async def test_every_saga_of_the_filter_is_ordered_and_no_other(
    api: ApiWorld, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_service, "_PAGE", 3)
    gold = await started(client, 8, tier="gold")
    await started(client, 3, tier="silver")
    api.execute("UPDATE baton.saga SET state = 'COMPLETED', finished_at = now() WHERE id = %s", gold[0])
    api.execute("UPDATE baton.saga SET cancel_reason = 'long ago' WHERE id = %s", gold[1])
    chosen = bulk_pb2.BulkFilter(labels={"tier": "gold"})

    dry, _ = await given(client, filter=chosen, reason="recall", dry_run=True)
    assert cancelled(api) == {gold[1]: "long ago"}, "a dry run changes nothing"
    items, last = await given(client, filter=chosen, reason="recall")
    assert [item.saga_id for item in items] == gold[:0:-1], "newest first, and none that had ended"
    assert Counter(item.outcome for item in items) == {ORDERED: 6, ALREADY: 1}
    assert [(item.saga_id, item.outcome) for item in dry] == [(item.saga_id, item.outcome) for item in items]
    assert cancelled(api) == {gold[1]: "long ago", **dict.fromkeys(gold[2:], "recall")}
    assert not last.more

    again, _ = await given(client, filter=chosen, reason="once more")
    assert {item.outcome for item in again} == {ALREADY}
    assert set(cancelled(api).values()) == {"long ago", "recall"}
    ended, _ = await given(client, filter=bulk_pb2.BulkFilter(states=[saga_pb2.SAGA_STATE_COMPLETED]))
    assert [(item.saga_id, item.outcome) for item in ended] == [(gold[0], ENDED)]


async def test_an_order_goes_to_as_many_as_allowed_and_says_that_there_are_more(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_service, "_PAGE", 3)
    sagas = await started(client, 7)
    items, last = await given(client, filter=bulk_pb2.BulkFilter(all=True), max=5)
    assert [item.saga_id for item in items] == sagas[:1:-1]
    assert last.more
    items, last = await given(client, filter=bulk_pb2.BulkFilter(all=True), max=7)
    assert not last.more
    assert Counter(item.outcome for item in items) == {ALREADY: 5, ORDERED: 2}


@pytest.mark.parametrize(
    "chosen",
    [
        bulk_pb2.BulkFilter(),
        bulk_pb2.BulkFilter(all=True, definition="order"),
        bulk_pb2.BulkFilter(input_path="$."),
        bulk_pb2.BulkFilter(label_keys=["no good name"]),
        bulk_pb2.BulkFilter(input_path="$" * 1001),
    ],
)
async def test_a_filter_that_says_nothing_or_makes_no_sense_is_refused(
    client: Client, api: ApiWorld, chosen: bulk_pb2.BulkFilter
) -> None:
    await started(client, 1)
    with pytest.raises(CallRefused) as refused:
        await given(client, filter=chosen)
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.violations
    assert cancelled(api) == {}


class Dying(bulk_pb2_grpc.BulkServiceServicer):
    """A replica that reports a page, gives the orders of the next one, and dies before it has said so."""

    def __init__(self, reader: Any) -> None:
        self.reader = reader
        self.dead = False

    async def BulkCancel(self, request: bulk_pb2.BulkCancelRequest, context: Any) -> AsyncIterator[Any]:
        if self.dead:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "killed before")
        self.dead = True
        reports = carry_out(CancelOrder(self.reader, request.reason), self.reader, request)
        yield await anext(reports)
        await anext(reports)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "killed")


@asynccontextmanager
async def dying(dsn: str) -> AsyncIterator[tuple[str, grpc.aio.Server]]:
    pool = Pool(dsn, "test", 4, 10.0, Metrics("test", "r2"))
    server = grpc.aio.server()
    bulk_pb2_grpc.add_BulkServiceServicer_to_server(Dying(Reader(pool, 0)), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", server
    finally:
        await server.stop(None)
        await pool.close()


async def test_when_a_replica_dies_in_the_middle_the_next_one_goes_on_and_nothing_false_is_said(
    api: ApiWorld, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_service, "_PAGE", 3)
    sagas = await started(client, 10)
    later: list[str] = []
    async with dying(api.dsn) as (first, _), Client([first, f"127.0.0.1:{api.served.port}"], deadline_s=20) as both:
        reports = []
        request = bulk_pb2.BulkCancelRequest(filter=bulk_pb2.BulkFilter(all=True), reason="recall", max=10)
        async for report in both.bulk_order(request):
            if not later:
                later = await started(client, 2, amount=5)
            reports.append(report)
    items = [item for report in reports for item in report.items]
    assert [item.saga_id for item in items] == sagas[::-1], "each once, and none that was started meanwhile"
    # What the dead replica did without a word is found to be done.
    assert [item.outcome for item in items] == [ORDERED] * 3 + [ALREADY] * 3 + [ORDERED] * 4
    assert (reports[-1].finished, reports[-1].matched) == (True, 10)
    assert cancelled(api) == dict.fromkeys(sagas, "recall")


async def test_without_any_replica_left_it_breaks_off_and_what_was_said_stands(
    api: ApiWorld, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_service, "_PAGE", 3)
    await started(client, 10)
    said: list[str] = []

    async def follow(one: Client, server: grpc.aio.Server) -> None:
        async for report in one.bulk_order(bulk_pb2.BulkCancelRequest(filter=bulk_pb2.BulkFilter(all=True))):
            assert not report.finished
            said.extend(item.saga_id for item in report.items)
            await server.stop(None)

    async with dying(api.dsn) as (only, server), Client([only], deadline_s=1.0) as one:
        with pytest.raises(ApiUnavailable):
            await follow(one, server)
    assert said
    assert set(said) <= set(cancelled(api))


async def test_what_postgres_did_not_answer_is_unknown_and_not_refused(api: ApiWorld, client: Client) -> None:
    sagas = await started(client, 3)
    pool = Pool(api.dsn, "test", 4, 10.0, Metrics("test", "r2"))

    class Absent(Reader):
        async def request_cancel(self, saga_id: Any, reason: str) -> bool:
            if str(saga_id) == sagas[1]:
                raise LogUnavailable("away")
            return await super().request_cancel(saga_id, reason)

    reader = Absent(pool, 0)
    request = bulk_pb2.BulkCancelRequest(filter=bulk_pb2.BulkFilter(all=True))
    reports = [report async for report in carry_out(CancelOrder(reader, "recall"), reader, request)]
    await pool.close()
    assert [item.outcome for report in reports for item in report.items] == [ORDERED, UNKNOWN, ORDERED]
    assert set(cancelled(api)) == {sagas[0], sagas[2]}
    assert {outcome.value for outcome in Outcome} == {
        name.removeprefix("BULK_OUTCOME_") for name in bulk_pb2.BulkOutcome.keys()[1:]
    }


async def test_a_saga_past_its_pivot_is_refused_with_the_reason(api: ApiWorld, client: Client) -> None:
    yaml = definition("pivoted").replace("  - name: pay\n", "  - name: pay\n    pivot: true\n")
    await api.definitions.ApplyDefinition(saga_pb2.ApplyDefinitionRequest(yaml=yaml, descriptor_set=descriptors()))
    api.participants.hold("pay")
    chosen = bulk_pb2.BulkFilter(definition="pivoted")
    async with api.leading():
        saga = (await client.start_saga("pivoted", orjson.dumps(INPUT).decode())).saga.saga_id
        await api.until_called("pay")
        for dry_run in (True, False):
            (item,), _ = await given(client, filter=chosen, dry_run=dry_run)
            assert (item.saga_id, item.outcome) == (saga, bulk_pb2.BULK_OUTCOME_REFUSED)
            assert "pay" in item.message
        assert cancelled(api) == {}
        api.participants.release("pay")


async def test_sagas_are_counted_as_they_go(api: ApiWorld, client: Client) -> None:
    async def counts(**wanted: Any) -> dict[tuple[str, int], int]:
        answer = await client.count_sagas(counting_pb2.CountSagasRequest(**wanted))
        assert answer.total == sum(count.count for count in answer.counts)
        return {(count.definition, count.state): count.count for count in answer.counts}

    assert await counts() == {}
    await started(client, 5)
    assert await counts() == {("order", saga_pb2.SAGA_STATE_PENDING): 5}
    async with api.leading():
        await client.run_saga("order", orjson.dumps(INPUT).decode())
        for saga_id in await started(client, 5):
            async for _ in client.watch_saga(saga_id):
                pass
    completed = {("order", saga_pb2.SAGA_STATE_COMPLETED): 6}
    assert await counts() == completed
    assert await counts(definition="order", states=[saga_pb2.SAGA_STATE_COMPLETED]) == completed
    assert await counts(definition="other") == {}
    assert await counts(states=[saga_pb2.SAGA_STATE_PENDING]) == {}


async def test_sagas_are_listed_by_what_is_in_their_input(client: Client) -> None:
    for amount in (1, 2, 3):
        await started(client, 2, amount=amount, tier="gold" if amount > 1 else "none", region=str(amount))
    request = saga_pb2.ListSagasRequest(input_path="$.n >= 2", label_keys=["region"], labels={"tier": "gold"})
    for limit in (100, 3, 1):
        found = await client.list_sagas(request, limit)
        assert [orjson.loads(saga.input_json)["n"] for saga in found] == [3, 3, 2, 2][:limit]
    with pytest.raises(CallRefused, match="input_path"):
        await client.list_sagas(saga_pb2.ListSagasRequest(input_path="$.n >"), 1)


async def test_a_start_that_comes_again_gets_its_saga_though_it_has_ended_and_would_be_refused_now(
    api: ApiWorld, client: Client
) -> None:
    text = orjson.dumps(INPUT).decode()
    async with api.leading():
        first = await client.run_saga("order", text, request_id="r-1")
    assert first.saga.state == saga_pb2.SAGA_STATE_COMPLETED
    again = await client.start_saga("order", text, request_id="r-1")
    assert (again.existing, again.saga) == (True, first.saga)
    # The newest version wants a field that the input has not.
    await api.definitions.ApplyDefinition(stricter())
    with pytest.raises(CallRefused, match=r"input\.customer_id"):
        await client.start_saga("order", text, request_id="r-2")
    again = await client.start_saga("order", text, request_id="r-1")
    assert (again.existing, again.saga) == (True, first.saga)
    with pytest.raises(CallRefused):
        await client.start_saga("order", text, request_id="r-1", labels={"another": "body"})


def stricter() -> saga_pb2.ApplyDefinitionRequest:
    yaml = definition().replace("amount: input.amount}", "amount: input.amount, customer_id: input.customer_id}")
    assert "customer_id" in yaml
    return saga_pb2.ApplyDefinitionRequest(yaml=yaml, descriptor_set=descriptors())


async def test_all_parked_sagas_of_a_definition_are_taken_up_again(api: ApiWorld, client: Client) -> None:
    async def states() -> list[str]:
        return [row[0] for row in api.rows("SELECT state FROM baton.saga ORDER BY id")]

    async def until(expected: list[str]) -> None:
        async with asyncio.timeout(60):
            while await states() != expected:
                await asyncio.sleep(0.01)

    async def retried(**request: Any) -> list[bulk_pb2.BulkItem]:
        asked = bulk_pb2.BulkRetryRequest(reason="it is back", by="ann", **request)
        return [item async for report in client.bulk_order(asked) for item in report.items]

    undo = "Release\n      request: {order_id: input.order_id}"
    assert undo in definition()
    await api.served.registry.apply(definition().replace(undo, f"{undo}\n      retry: {{retries: 0}}"), descriptors())
    api.participants.answers["pay"] = Refused("FAILED_PRECONDITION", "no money")
    api.participants.undone["reserve"] = Refused("FAILED_PRECONDITION", "it is broken")
    ids = await started(client, 3)
    async with api.leading():
        await until(["FAILED"] * 3)
        items = await retried(filter=bulk_pb2.BulkFilter(definition="order"), dry_run=True)
        assert [(item.saga_id, item.outcome) for item in items] == [(one, ORDERED) for one in reversed(ids)]
        assert await retried(filter=bulk_pb2.BulkFilter(definition="other")) == []
        assert await states() == ["FAILED"] * 3, "a dry run orders nothing"
        api.participants.undone.clear()
        items = await retried(filter=bulk_pb2.BulkFilter(all=True), max=2)
        assert [item.outcome for item in items] == [ORDERED, ORDERED]
        await until(["FAILED", "COMPENSATED", "COMPENSATED"])
        items = await retried(filter=bulk_pb2.BulkFilter(all=True))
        assert [(item.saga_id, item.outcome) for item in items] == [(ids[0], ORDERED)]
        await until(["COMPENSATED"] * 3)
        assert await retried(filter=bulk_pb2.BulkFilter(all=True)) == []
    orders = api.rows("SELECT DISTINCT ordered->>'by', ordered->>'reason' FROM baton.step_log WHERE status = 'retried'")
    assert orders == [("ann", "it is back")]
