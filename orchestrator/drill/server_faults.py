"""Faults of what replicas stand on: members of etcd, Postgres, and participants, killed, frozen, and restarted."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Literal

import orjson

from orchestrator.drill.arena import Arena
from orchestrator.drill.fault import Fault, Measure
from orchestrator.embedded.cluster import in_thread
from orchestrator.embedded.etcd import EtcdMember

# A saga is started every 25 ms: a log that is silent for longer than this was held up by something.
_PAUSE_S = 0.3
# After an outage of Postgres everybody connects again.
_RECONNECT_S = 0.5
_ETCD_AWAY_S = 5.0
_QUORUM_AWAY_S = 30.0
_FREEZE_S = 4.0
_ETCD_ELECTS_S = 30.0
_ASK_INTERVAL_S = 0.05


async def _kill_etcd_leader(arena: Arena) -> None:
    leader, victim = await arena.leader(), await _etcd_leader(arena)
    arena.struck(leader)
    victim.kill()
    try:
        await arena.keep(_ETCD_AWAY_S)
    finally:
        await _bring_back(arena, victim)


async def _freeze_etcd_member(arena: Arena, *, leading: bool) -> None:
    leader, etcd_leader = await arena.leader(), await _etcd_leader(arena)
    others = [member for member in arena.cluster.etcd.members if member is not etcd_leader]
    member = etcd_leader if leading else arena.chance.choice(others)
    arena.struck(leader)
    member.suspend()
    try:
        await arena.keep(_FREEZE_S)
    finally:
        member.resume()
    await in_thread(arena.cluster.etcd.wait_healthy)


async def _etcd_without_quorum(arena: Arena) -> None:
    leader = await arena.leader()
    victims = arena.chance.sample(arena.cluster.etcd.members, 2)
    arena.struck(leader)
    for victim in victims:
        victim.kill()
    try:
        await arena.keep(_QUORUM_AWAY_S)
    finally:
        await _bring_back(arena, *victims)


async def _kill_both_leaders(arena: Arena) -> None:
    leader, victim = await arena.leader(), await _etcd_leader(arena)
    arena.struck(leader)
    victim.kill()
    try:
        leader.replica.kill()
        await arena.cluster.wait_leader(above_epoch=leader.epoch)
    finally:
        await _bring_back(arena, victim)


async def _restart_postgres(arena: Arena, mode: Literal["fast", "immediate"]) -> None:
    leader = await arena.leader()
    arena.struck(leader)
    began_s = time.monotonic()
    await in_thread(partial(arena.cluster.postgres.restart, mode=mode))
    arena.outage(time.monotonic() - began_s)
    await arena.driven(20)


async def _restart_postgres_fast(arena: Arena) -> None:
    await _restart_postgres(arena, "fast")


async def _restart_postgres_immediate(arena: Arena) -> None:
    await _restart_postgres(arena, "immediate")


async def _restart_postgres_during_scan(arena: Arena) -> None:
    leader = await arena.leader()
    arena.struck(leader)
    leader.replica.kill()
    await arena.epoch_above(leader.epoch)
    began_s = time.monotonic()
    await in_thread(partial(arena.cluster.postgres.restart, mode="immediate"))
    arena.outage(time.monotonic() - began_s)
    await arena.driven(20)


async def _etcd_leader(arena: Arena) -> EtcdMember:
    """The member that leads etcd itself, once one does. Raises TimeoutError, ProcessFailed."""
    etcd = arena.cluster.etcd
    async with asyncio.timeout(_ETCD_ELECTS_S):
        while True:
            answers = orjson.loads(await asyncio.to_thread(etcd.etcdctl, "endpoint", "status", "--write-out", "json"))
            leading = [a["Endpoint"] for a in answers if a["Status"]["leader"] == a["Status"]["header"]["member_id"]]
            # Nobody while members elect, and two until the former one has heard of it.
            if len(leading) == 1:
                return etcd.members[etcd.endpoints.index(leading[0].removeprefix("http://"))]
            await asyncio.sleep(_ASK_INTERVAL_S)


async def _bring_back(arena: Arena, *members: EtcdMember) -> None:
    for member in members:
        await in_thread(member.start)
    await in_thread(arena.cluster.etcd.wait_healthy)


FAULTS: tuple[Fault, ...] = (
    Fault(
        13,
        "kill-etcd-leader",
        f"etcd's own leader is killed, for {_ETCD_AWAY_S:g} s",
        _kill_etcd_leader,
        measure=Measure.PAUSE,
        bound_s=_PAUSE_S,
        changes_max=0,
    ),
    Fault(
        13,
        "freeze-etcd-follower",
        f"a member of etcd that follows is frozen for {_FREEZE_S:g} s",
        partial(_freeze_etcd_member, leading=False),
        measure=Measure.PAUSE,
        bound_s=_PAUSE_S,
        changes_max=0,
    ),
    # An etcd before 3.5.12 whose leader wakes after longer than a lease takes every lease away, those included that
    # its successor has renewed (etcd issue 15247): then leadership changes, and the pause is no longer for it.
    Fault(
        13,
        "freeze-etcd-leader",
        f"etcd's own leader is frozen for {_FREEZE_S:g} s; an etcd before 3.5.12 takes every lease away when it wakes",
        partial(_freeze_etcd_member, leading=True),
        measure=Measure.PAUSE,
        bound_s=_PAUSE_S,
        changes_max=1,
    ),
    Fault(
        14,
        "etcd-without-quorum",
        f"two members of etcd are away for {_QUORUM_AWAY_S:g} s: our leader goes on",
        _etcd_without_quorum,
        measure=Measure.PAUSE,
        bound_s=_PAUSE_S,
        changes_max=0,
        repetitions=6,
        reason="each lasts for half a minute, and more would show nothing else",
    ),
    Fault(
        15,
        "kill-both-leaders",
        "etcd's leader and ours are killed together",
        _kill_both_leaders,
        bound_s=2.0,
    ),
    Fault(
        17,
        "restart-postgres-fast",
        "Postgres is restarted: connections are ended",
        _restart_postgres_fast,
        measure=Measure.PAUSE,
        bound_s=_RECONNECT_S,
        changes_max=0,
    ),
    Fault(
        17,
        "restart-postgres-immediate",
        "Postgres crashes and recovers",
        _restart_postgres_immediate,
        measure=Measure.PAUSE,
        bound_s=_RECONNECT_S,
        changes_max=0,
    ),
    Fault(
        17,
        "restart-postgres-during-scan",
        "the leader is killed, and Postgres crashes while the next one scans",
        _restart_postgres_during_scan,
        measure=Measure.PAUSE,
        # The pause begins with the kill, and only the restart itself is taken off it. What is left is the failover
        # (0.1 s) and everybody's new connections (0.5 s), since a scan that Postgres cut short begins anew. The new
        # leader may give up instead, before its scan or in it: then it stays out of the campaign for a second, and
        # another one raises, perhaps after a vain try of its own against a server that is not up yet.
        bound_s=2.5,
        changes_max=2,
    ),
)
