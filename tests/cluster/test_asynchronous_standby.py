"""What a standby that lags costs when it is promoted, and what it does not; beside it, that one in step costs nothing.

`pytest tests/cluster/test_asynchronous_standby.py -s` shows the figures of docs/postgres-failover.md anew.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, LiteralString

import psycopg
import pytest

from orchestrator.audit.gauge import Gauge
from orchestrator.audit.judge import Verdict, audit
from orchestrator.cli.demo import connect
from orchestrator.drill.load import Load
from orchestrator.embedded.cluster import Cluster, in_thread
from orchestrator.embedded.standby import PostgresPair

from .house import eventually

pytestmark = pytest.mark.timeout(300)

Standby = Literal["synchronous", "asynchronous"]

# Two seconds of the load.
BEHIND = 80
AFTERWARDS = 40
ENDED_WITHIN_S = 120.0
# What lost rows must not break: no effect twice or behind a tombstone, no row of a deposed leader, no saga without end.
STANDS = ("I2", "I3", "I5", "I6")

_WAITING = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
_WRITTEN = "SELECT pg_current_wal_flush_lsn()::text"
_FOLLOWED = "SELECT coalesce(bool_and(flush_lsn >= %s::pg_lsn), false) FROM pg_stat_replication"


@dataclass(frozen=True)
class Aftermath:
    """The starts that were acknowledged, all and those behind the freeze, and what was found in the end."""

    told_meanwhile: frozenset[str]
    told: frozenset[str]
    failed: list[str]
    logged: frozenset[str]
    epochs: list[int]
    verdict: Verdict

    @property
    def lost(self) -> frozenset[str]:
        """Acknowledged sagas that the promoted server does not have."""
        return self.told - self.logged

    def show(self, standby: Standby) -> None:
        print(f"\n{standby}: {len(self.told)} starts acknowledged, {len(self.lost)} of them lost")
        for invariant in ("I1", "I4", "I9", *STANDS):
            print(f"  {invariant}: {len(self.verdict.finding(invariant).offences)} offences")


async def lose_the_primary(folder: Path, standby: Standby) -> Aftermath:
    """Under load, freeze what sends the log to the standby, have the primary die, and promote the standby."""
    async with (
        Cluster(folder, unsafe_no_fsync=True, log_standby=standby) as cluster,
        connect(cluster.api_endpoints, lambda *_: None) as client,
    ):
        pair = cluster.pair
        assert pair is not None
        load = Load(client)
        async with load.running():
            before = len(load.acknowledged)
            await caught_up(pair)
            await in_thread(pair.hold_back)
            if standby == "asynchronous":
                await load.reached(BEHIND)
            else:
                await commits_wait(pair)
            await in_thread(pair.primary.crash)
            await in_thread(pair.promote)
            # What the old primary had committed has been answered by now.
            meanwhile = len(load.acknowledged)
            await load.reached(AFTERWARDS)
        async with Gauge(cluster.baton_dsn) as gauge:
            assert await gauge.all_ended(ENDED_WITHIN_S), f"unfinished: {await gauge.picture()}"
        verdict = await asyncio.to_thread(audit, cluster.baton_dsn, cluster.shop_dsn, load.acknowledged, 1)
        with psycopg.connect(cluster.baton_dsn) as connection:
            logged = frozenset(str(row[0]) for row in connection.execute("SELECT id FROM baton.saga"))
            raised = connection.execute("SELECT epoch FROM baton.epoch_history ORDER BY raised_at").fetchall()
        told = [each.saga_id for each in load.acknowledged]
        return Aftermath(
            frozenset(told[before:meanwhile]),
            frozenset(told),
            load.failed,
            logged,
            [epoch for (epoch,) in raised],
            verdict,
        )


async def caught_up(pair: PostgresPair) -> None:
    """Wait until the standby has what the primary has now."""
    async with await psycopg.AsyncConnection.connect(pair.primary.dsn(), autocommit=True) as connection:
        (written,) = await first(connection, _WRITTEN)

        async def followed() -> bool:
            return bool((await first(connection, _FOLLOWED, written))[0])

        await eventually(followed, "the standby to catch up")


async def commits_wait(pair: PostgresPair) -> None:
    """Wait until a commit waits for the standby."""
    async with await psycopg.AsyncConnection.connect(pair.primary.dsn(), autocommit=True) as connection:

        async def waiting() -> bool:
            return bool((await first(connection, _WAITING))[0])

        await eventually(waiting, "commits that wait for the standby")


async def first(connection: psycopg.AsyncConnection, query: LiteralString, *parameters: object) -> tuple[Any, ...]:
    row = await (await connection.execute(query, parameters)).fetchone()
    assert row is not None
    return row


async def test_an_asynchronous_standby_loses_starts_and_the_intents_of_effects(tmp_path: Path) -> None:
    after = await lose_the_primary(tmp_path, "asynchronous")
    after.show("asynchronous")

    # Only what was acknowledged while the standby lagged is gone, and the audit names each.
    assert after.lost
    assert after.lost <= after.told_meanwhile
    assert set(after.verdict.finding("I9").sagas) == after.lost
    # The participants did what the log has forgotten.
    assert not after.verdict.finding("I1").holds
    assert not after.verdict.finding("I4").holds
    assert after.logged.isdisjoint(after.verdict.finding("I1").sagas)
    # The rest stands, and work goes on.
    assert [
        line for name in STANDS if not (finding := after.verdict.finding(name)).holds for line in finding.lines()
    ] == []
    assert after.epochs == sorted(set(after.epochs))
    assert after.failed == []


async def test_a_synchronous_standby_loses_nothing_while_it_is_held_back(tmp_path: Path) -> None:
    after = await lose_the_primary(tmp_path, "synchronous")
    after.show("synchronous")

    assert after.lost == frozenset()
    assert after.verdict.holds, "\n".join(after.verdict.lines())
    assert after.epochs == sorted(set(after.epochs))
    assert after.failed == []
