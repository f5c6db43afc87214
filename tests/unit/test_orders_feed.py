"""The feed of orders: a saga for each invoice, never past what was allowed, and every failure kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import pytest

from orchestrator.demo.faults import plan_for
from orchestrator.demo.feed import Feed
from orchestrator.demo.orders import COLUMNS, Invoice, parse_orders
from orchestrator.demo.shop import declined_customers, initial_stock
from orchestrator.errors import LogUnavailable
from orchestrator.pb.baton.v1 import saga_pb2


def invoices(count: int) -> tuple[Invoice, ...]:
    lines = [f"{number},A1,X,{number},1/12/2010,1.50,{number},France" for number in range(1, count + 1)]
    return parse_orders("\n".join([",".join(COLUMNS), *lines, "C9,A1,X,-1,1/12/2010,1.50,1,France"]).encode()).invoices


class FakeStarter:
    """Acknowledges every start but those of the request ids that it was given to refuse."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.started: list[tuple[str, str, dict[str, object]]] = []

    async def start_saga(
        self,
        definition: str,
        input_json: str,
        *,
        version: int = 0,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        deadline_s: float | None = None,
    ) -> saga_pb2.StartSagaResponse:
        assert request_id is not None
        if request_id in self.refused:
            raise LogUnavailable("Postgres is away")
        self.started.append((definition, request_id, json.loads(input_json)))
        return saga_pb2.StartSagaResponse(saga=saga_pb2.Saga(saga_id=f"saga-of-{request_id}"))


async def test_every_invoice_becomes_the_saga_of_its_kind_under_its_own_request_id() -> None:
    starter = FakeStarter()
    feed = Feed(starter, invoices(2), rate=10_000)
    await feed.allow(99)
    await feed.run()
    assert [(definition, request) for definition, request, _ in starter.started] == [
        ("order", "invoice-1"),
        ("order", "invoice-2"),
        ("return", "invoice-C9"),
    ]
    assert starter.started[1][2]["amount"] == "3.00"
    assert [a.saga_id for a in feed.acknowledged] == [f"saga-of-{request}" for _, request, _ in starter.started]
    assert feed.failed == []


async def test_a_second_run_on_the_same_data_starts_other_sagas() -> None:
    starter = FakeStarter()
    feed = Feed(starter, invoices(1), rate=10_000, run_id="run7")
    await feed.allow(1)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(feed.run())
        await feed.reached(1)
        running.cancel()
    assert starter.started[0][1] == "invoice-1-run7"
    assert starter.started[0][2]["order_id"] == "1-run7"


async def test_it_stops_at_what_is_allowed_and_hurries_when_told() -> None:
    starter = FakeStarter()
    # At this rate the test would take for ever if it did not hurry.
    feed = Feed(starter, invoices(40), rate=0.001)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(feed.run())
        await feed.allow(30, at_once=True)
        await feed.reached(30)
        assert len(starter.started) == feed.sent == 30
        await feed.allow(41, at_once=True)
        await running
    assert len(starter.started) == 41


async def test_a_failed_start_is_kept_with_its_reason_and_the_rest_goes_on() -> None:
    feed = Feed(FakeStarter("invoice-2"), invoices(3), rate=10_000)
    await feed.allow(4)
    await feed.run()
    assert [(failed.invoice, failed.reason) for failed in feed.failed] == [("2", "Postgres is away")]
    assert feed.answered == 4


@pytest.mark.parametrize("orders", [1, 2, 5, 170, 30_000])
def test_the_faults_strike_within_the_orders_however_few_there_are(orders: int) -> None:
    plan = plan_for(orders)
    assert 0 <= plan.first <= plan.second <= orders
    assert plan.rush >= 1


def test_the_shop_has_too_little_of_what_is_wanted_most_and_declines_some_cards() -> None:
    book = invoices(60)
    assert initial_stock(book) == sum(range(1, 61)) // 5
    declined = declined_customers(book)
    assert 0 < len(declined) < 20
    assert declined == declined_customers(book)
    assert initial_stock(()) == 0
    # Of a handful of orders, none fails for that.
    assert initial_stock(invoices(3)) == 1 + 2 + 3
