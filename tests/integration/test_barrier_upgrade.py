"""A participant whose barrier was made by an earlier version: its rows are answered as before."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest
from google.protobuf.struct_pb2 import Struct

from participants.call import request_hash
from participants.database import migrate
from participants.pb.shop.v1 import echo_pb2, echo_pb2_grpc
from participants.server import MIGRATIONS, Service
from tests.integration.shop import action, compensation, connected, running

DO, UNDO = "shop.v1.EchoService/Do", "shop.v1.EchoService/Undo"

EARLIER = """
INSERT INTO old.barrier (saga_id, step, kind, epoch, code, message, response, tombstone) VALUES
    ('done', 'step', 'action', 1, 0, '', '\\x0a0573746f7265', false),
    ('refused', 'step', 'action', 1, 9, 'no', '', false),
    ('buried', 'step', 'action', 1, 0, '', '', true),
    ('buried', 'step', 'compensation', 1, 0, '', '', false);
"""


class Servicer(echo_pb2_grpc.EchoServiceServicer):
    """Says what it was asked."""

    async def Do(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        return echo_pb2.EchoResponse(text=request.text)

    async def Undo(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        return await self.Do(request, context)


@pytest.fixture
async def service(database: str, tmp_path: Path) -> Service:
    """A service over a database that the first version of the barrier has filled."""
    first, own = tmp_path / "first" / "barrier", tmp_path / "old"
    first.mkdir(parents=True)
    own.mkdir()
    name = "0001_barrier.sql"
    shutil.copy(Path(str(MIGRATIONS / "barrier" / name)), first / name)
    assert await migrate(database, "old", [first]) == ["barrier/0001_barrier"]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(EARLIER)
    return Service(
        "old", echo_pb2_grpc.add_EchoServiceServicer_to_server, lambda _database, _settings: Servicer(), "", own
    )


async def test_rows_without_a_hash_answer_any_request_and_new_ones_do_not(service: Service, database: str) -> None:
    async with running(service, database) as participant, connected(participant.port) as client:
        one, other = echo_pb2.EchoRequest(text="one"), echo_pb2.EchoRequest(text="other")
        for request in (one, other):
            assert (await client.call(DO, request, action("done"))).response == b"\x0a\x05store"
            assert (await client.call(DO, request, action("refused"))).message == "no"
            assert (await client.call(UNDO, request, compensation("buried"))).code == 0
            assert (await client.call(DO, request, action("buried"))).message.startswith("TOMBSTONE")
        assert (await client.call(UNDO, one, compensation("done"))).code == 0
        assert (await client.call(UNDO, other, compensation("done"))).name == "DATA_LOSS"


def test_a_hash_does_not_depend_on_the_order_in_which_a_map_was_written() -> None:
    names = [f"field{number}" for number in range(50)]
    one, other = Struct(), Struct()
    for name in names:
        one[name] = name
    for name in reversed(names):
        other[name] = name
    assert request_hash(one) == request_hash(other)
    other["field0"] = "another"
    assert request_hash(one) != request_hash(other)
