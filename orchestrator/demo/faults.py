"""The faults of the demo: the leader is killed, then the next one frozen, each in the middle of work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.audit.evidence import Gap
from orchestrator.audit.gauge import Gauge, now
from orchestrator.demo.feed import Feed
from orchestrator.embedded.cluster import Cluster, Leader

# On a machine of its own a killed leader is replaced in some 30 ms and a frozen one in 0.6 s. The bounds leave room for
# a busy laptop, and still tell a takeover from the 2 to 4 s that the end of a lease takes.
KILL_GAP_MAX_S = 1.0
FREEZE_GAP_MAX_S = 2.0

_FREEZE_S = 3.0
_LEADER_TIMEOUT_S = 20.0
_GAP_TIMEOUT_S = 20.0
# How many orders come at once just before a fault, so that it strikes in the middle of work.
_RUSH_MAX = 30

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """Behind how many orders each fault strikes, and how many come in a rush before it."""

    first: int
    second: int
    rush: int


def plan_for(orders: int) -> Plan:
    """The plan for so many orders."""
    rush = max(1, min(_RUSH_MAX, orders // 8))
    return Plan(first=orders * 3 // 10, second=orders * 6 // 10, rush=rush)


async def strike(cluster: Cluster, feed: Feed, gauge: Gauge, tell: Tell) -> list[Gap]:
    """Let the feed run, and kill and freeze leaders on the way; returns the gaps. All replicas run at the end.

    Raises ProcessFailed when a replica does not come back, or nobody leads.
    """
    plan = plan_for(len(feed.invoices))
    await feed.allow(plan.first)
    await feed.reached(plan.first)
    killed = await _kill(cluster, feed, gauge, plan, tell)
    await feed.reached(plan.second)
    frozen = await _freeze(cluster, feed, gauge, plan, tell)
    return [killed, frozen]


async def _kill(cluster: Cluster, feed: Feed, gauge: Gauge, plan: Plan, tell: Tell) -> Gap:
    leader = await _leader(cluster)
    await feed.allow(plan.first + plan.rush, at_once=True)
    await feed.reached(plan.first + plan.rush)
    before = await gauge.picture()
    struck_at = now()
    leader.replica.kill()
    await feed.allow(plan.second)
    tell(
        f"SIGKILL to {leader.replica.name} (pid {leader.replica.pid}), which leads epoch {before.epoch}, "
        f"with {before.unfinished} sagas under way"
    )
    gap = Gap("SIGKILL", await gauge.gap_s(struck_at, before.epoch, _GAP_TIMEOUT_S), KILL_GAP_MAX_S)
    await _report(gauge, gap, tell)
    index = cluster.replicas.index(leader.replica)
    await cluster.start_replica(index)
    tell(f"{leader.replica.name} is back (pid {leader.replica.pid})")
    return gap


async def _freeze(cluster: Cluster, feed: Feed, gauge: Gauge, plan: Plan, tell: Tell) -> Gap:
    leader = await _leader(cluster)
    everything = len(feed.invoices)
    await feed.allow(plan.second + plan.rush, at_once=True)
    await feed.reached(plan.second + plan.rush)
    before = await gauge.picture()
    struck_at, wake_at_s = now(), time.monotonic() + _FREEZE_S
    leader.replica.suspend()
    try:
        await feed.allow(everything)
        tell(
            f"SIGSTOP to {leader.replica.name} (pid {leader.replica.pid}), which leads epoch {before.epoch}, "
            f"with {before.unfinished} sagas under way"
        )
        gap = Gap("SIGSTOP", await gauge.gap_s(struck_at, before.epoch, _GAP_TIMEOUT_S), FREEZE_GAP_MAX_S)
        await _report(gauge, gap, tell)
        await asyncio.sleep(max(0.0, wake_at_s - time.monotonic()))
    finally:
        leader.replica.resume()
    tell(f"SIGCONT to {leader.replica.name}, which does not know yet that it no longer leads")
    await cluster.wait_ready()
    return gap


async def _leader(cluster: Cluster) -> Leader:
    return await cluster.wait_leader(timeout_s=_LEADER_TIMEOUT_S)


async def _report(gauge: Gauge, gap: Gap, tell: Tell) -> None:
    if gap.seconds is None:
        tell(f"nobody has driven a step for {_GAP_TIMEOUT_S:.0f} s after the {gap.fault}")
        return
    after = await gauge.picture()
    took_ms = gap.seconds * 1000
    tell(f"{after.holder} leads epoch {after.epoch}: its first step was done {took_ms:.0f} ms after the signal")
