"""The list of what waits for an approval: in pages, the longest first, over all definitions or of one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.pb.baton.v1 import steps_pb2 as pb
from orchestrator.pb.baton.v1 import steps_pb2_grpc
from orchestrator.pb.baton.v1.saga_pb2 import ApplyDefinitionRequest
from orchestrator.sagalog.migrate import migrate
from tests.integration.api_world import ApiWorld, api_world, field_violations, refusal

EXPENSE = """
name: expense
steps:
  - name: lunch
    delay: 1h
  - name: boss
    approval: {question: Is it much?}
"""
CONTRACT = """
name: contract
steps:
  - {name: law, after: [], approval: {question: Is it lawful?}}
  - {name: money, after: [], approval: {question: Is it paid?}}
"""


class World:
    """A replica's API on a log with the definitions above."""

    def __init__(self, api: ApiWorld) -> None:
        self.api = api
        self.steps: Any = steps_pb2_grpc.StepServiceStub(api.channel)  # type: ignore[no-untyped-call]

    def insert(self, number: int, definition: str, asked_s_ago: int, **waiting: int) -> str:
        """A saga whose named steps wait, each since so many seconds ago."""
        identity = UUID(int=number)
        self.api.execute(
            "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input,"
            " next_run_at, sequence, asked_at) VALUES (%s, 0, %s, '', %s, 1, 'RUNNING', '{}', 'infinity', %s,"
            " now() - %s * interval '1 s')",
            *(identity, str(identity), definition, len(waiting), asked_s_ago),
        )
        positions = {"lunch": 1, "boss": 2, "law": 1, "money": 2}
        for sequence, (step, since_s_ago) in enumerate(waiting.items(), start=1):
            self.api.execute(
                "INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, epoch, at)"
                " VALUES (%s, %s, %s, %s, 'waiting', 1, 1, now() - %s * interval '1 s')",
                *(identity, sequence, step, positions[step], since_s_ago),
            )
        return str(identity)

    async def pages(self, **wanted: Any) -> list[list[tuple[int, str]]]:
        """All pages, each of sagas by their numbers and steps."""
        found = []
        request = pb.ListApprovalsRequest(**wanted)
        while True:
            page = await self.steps.ListApprovals(request, timeout=10)
            found.append([(UUID(one.saga_id).int, one.step) for one in page.approvals])
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    migrate(database)
    async with api_world(database) as api:
        for text in (EXPENSE, CONTRACT):
            await api.definitions.ApplyDefinition(ApplyDefinitionRequest(yaml=text))
        yield World(api)


async def test_pages_have_what_waits_the_longest_first_and_each_approval_once(world: World) -> None:
    for number in range(1, 6):
        world.insert(number, "expense", 100 * number, boss=100 * number)
    world.insert(10, "contract", 250, law=150, money=250)
    in_order = [(5, "boss"), (4, "boss"), (3, "boss"), (10, "money"), (10, "law"), (2, "boss"), (1, "boss")]
    assert await world.pages() == [in_order]
    for size in (1, 2, 3):
        pages = await world.pages(page_size=size)
        assert [one for page in pages for one in page] == in_order
        assert all(0 < len({saga for saga, _ in page}) <= size for page in pages[:-1])
    assert await world.pages(definition="contract") == [[(10, "money"), (10, "law")]]
    assert await world.pages(definition="none") == [[]]


async def test_what_is_marked_and_asks_for_nothing_leaves_no_gap(world: World) -> None:
    """As a migration may have marked it: it waits for a time, or has been answered by now."""
    for number in range(1, 8):
        world.insert(number, "expense", 100, lunch=100)
    world.insert(8, "expense", 50)
    world.insert(9, "expense", 10, boss=10)
    assert [page for page in await world.pages(page_size=2) if page] == [[(9, "boss")]]
    first = await world.steps.ListApprovals(pb.ListApprovalsRequest(page_size=2), timeout=10)
    assert len(first.approvals) == 1, "a page without anything is passed over"


async def test_a_token_is_good_for_its_own_list_alone(world: World) -> None:
    for number in (1, 2):
        world.insert(number, "expense", 100, boss=100)
    first = await world.steps.ListApprovals(pb.ListApprovalsRequest(page_size=1), timeout=10)
    for wrong in (
        pb.ListApprovalsRequest(page_token=first.next_page_token, definition="expense"),
        pb.ListApprovalsRequest(page_token=first.next_page_token[:-4]),
        pb.ListApprovalsRequest(page_token="x" * len(first.next_page_token)),
    ):
        assert field_violations(await refusal(world.steps.ListApprovals(wrong, timeout=10))) == ["page_token"]


async def test_the_command_goes_over_as_many_pages_as_it_takes(world: World) -> None:
    for number in range(1, 4):
        world.insert(number, "expense", 100 * number, boss=100 * number)
    world.insert(10, "contract", 50, law=50)

    async def approvals(*arguments: str) -> str:
        command = ["approvals", "--endpoint", f"127.0.0.1:{world.api.served.port}", *arguments]
        result = await asyncio.to_thread(CliRunner().invoke, app, command)
        assert result.exit_code == 0, result.output
        return result.output

    listed = json.loads(await approvals("--json"))["approvals"]
    assert [UUID(one["saga_id"]).int for one in listed] == [3, 2, 1, 10]
    text = await approvals("--limit", "2")
    assert "more wait: see --limit" in text
    assert "more wait" not in await approvals("--definition", "contract", "--limit", "2")
