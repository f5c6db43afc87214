"""Retention under load, through leaders that are killed around a removal: nothing is lost, nothing live is removed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.cli.client import Client
from orchestrator.drill.arming import SETTINGS, arm, until_killed
from orchestrator.drill.load import Load
from orchestrator.embedded.cluster import Cluster
from orchestrator.pb.baton.v1 import counting_pb2, saga_pb2

from .house import WITHIN_S, definitions_applied, eventually
from .test_failpoints import order

pytestmark = pytest.mark.timeout(300)

AFTER_S = 3
BATCH = 20
POINTS = ("upkeep.remove.before", "upkeep.remove.inside", "upkeep.remove.after")
PARKED = "01000000-0000-7000-8000-000000000001"


def park_an_old_one(dsn: str) -> None:
    """A saga that failed a day ago, and that nobody has resolved."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input,"
            " finished_at) VALUES (%s, 0, 'parked', '', 'order', 1, 'FAILED', '{}', now() - interval '1 day')",
            [PARKED],
        )


def keep(dsn: str, request_id: str) -> None:
    """Make a finished saga look as if it would end in an hour: it is not due meanwhile."""
    with psycopg.connect(dsn) as connection:
        kept = connection.execute(
            "UPDATE baton.saga SET finished_at = now() + interval '1 hour' WHERE request_id = %s", [request_id]
        )
        assert kept.rowcount == 1, "it was removed before it was due"


def in_log(dsn: str) -> dict[str, str]:
    """The states of what is in the log."""
    with psycopg.connect(dsn) as connection:
        return {str(row[0]): row[1] for row in connection.execute("SELECT id, state FROM baton.saga")}


def counted(dsn: str) -> tuple[dict[Any, int], dict[Any, int]]:
    """The tally, and the truth, of one moment."""
    tally = "SELECT definition, state, sagas FROM baton.tally UNION ALL SELECT definition, state, change FROM"
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        truth = connection.execute("SELECT definition, state, count(*) FROM baton.saga GROUP BY 1, 2").fetchall()
        said = connection.execute(
            f"SELECT definition, state, sum(sagas)::bigint FROM ({tally} baton.tally_change) AS t"
            " GROUP BY 1, 2 HAVING sum(sagas) <> 0".encode()
        ).fetchall()
    return {row[:2]: row[2] for row in said}, {row[:2]: row[2] for row in truth}


def archive(folder: Path) -> list[dict[str, Any]]:
    """Every line of every file; each must be whole, but for a last one that is being written at this moment."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.open(newline="\n")]
    return [json.loads(line) for line in lines if line.endswith("\n")]


async def started_before(client: Client, first: saga_pb2.StartSagaResponse) -> None:
    """The same start gets the same saga, on both replicas."""
    for _ in range(2):
        again = await client.start_saga("order", order("o-kept"), request_id="kept")
        assert (again.existing, again.saga.saga_id) == (True, first.saga.saga_id)
        assert (again.saga.state, again.saga.created_at) == (first.saga.state, first.saga.created_at)


async def test_what_a_killed_leader_was_about_to_remove_is_neither_lost_nor_removed_while_live(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    settings = {
        **SETTINGS,
        "BATON_RETENTION_AFTER_S": str(AFTER_S),
        "BATON_RETENTION_DIR": str(folder),
        "BATON_RETENTION_BATCH": str(BATCH),
        "BATON_RETENTION_INTERVAL_S": "0.1",
    }
    async with (
        Cluster(tmp_path, 2, 1, settings=settings, unsafe_no_fsync=True, restart_replicas=True) as cluster,
        Client(cluster.api_endpoints, spread=True, deadline_s=WITHIN_S) as client,
    ):
        dsn = cluster.baton_dsn
        await definitions_applied(client, 1)
        await asyncio.to_thread(park_an_old_one, dsn)
        first = await client.run_saga("order", order("o-kept"), request_id="kept")
        await asyncio.to_thread(keep, dsn, "kept")
        await started_before(client, first)
        async with (load := Load(client, rate=12.0)).running():
            for point in POINTS:
                leader = await cluster.wait_ready()
                await arm(leader.replica, point, "1*off->1*exit")
                await until_killed(leader.replica, point, WITHIN_S)
                await cluster.wait_leader(above_epoch=leader.epoch)
                await started_before(client, first)
        await cluster.wait_ready()
        assert not load.failed
        acknowledged = {answer.saga_id for answer in load.acknowledged}
        assert first.saga.saga_id not in acknowledged

        async def all_gone() -> bool:
            left = await asyncio.to_thread(in_log, dsn)
            told = {line["saga_id"] for line in await asyncio.to_thread(archive, folder)}
            assert acknowledged <= set(left) | told, "a saga is neither in the log nor in the archive"
            return set(left) == {PARKED, first.saga.saga_id}

        await eventually(all_gone, "all finished sagas to leave the log", 2 * WITHIN_S)
        lines = archive(folder)
        assert {line["saga_id"] for line in lines} == acknowledged
        for line in lines:
            assert line["state"] in ("COMPLETED", "COMPENSATED")
            assert [row["sequence"] for row in line["history"]] == list(range(1, len(line["history"]) + 1))
            assert line["finished_at"] is not None
        # Twice at worst, and only what a kill came in between.
        assert len(lines) - len(acknowledged) <= BATCH * len(POINTS)
        said, truth = await asyncio.to_thread(counted, dsn)
        assert said == truth
        answer = await client.count_sagas(counting_pb2.CountSagasRequest())
        assert answer.total == 2
