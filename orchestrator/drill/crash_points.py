"""The crash points of a leader: each failpoint that it passes, and how to kill it there.

Most are passed all the time under load. Those of a takeover are passed once in a term, by the replica that takes over:
one standby is armed, and leaders are killed until it is the one that wins.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from orchestrator.audit.gauge import now
from orchestrator.drill.arming import arm, disarm, struck_at, until_killed
from orchestrator.embedded.cluster import Cluster, Leader
from orchestrator.embedded.processes import ProcessFailed
from orchestrator.embedded.servers import Replica
from orchestrator.failpoints.effects import EFFECTS

_WITHIN_S = 30.0
_TAKEOVERS_MAX = 12
_ASK_INTERVAL_S = 0.01

# What a leader does all the time while sagas are started, succeed, and are undone.
_UNDER_LOAD = (
    *("term.append", "call.action", "call.compensation", "exchange.send", "exchange.receive"),
    *("term.pending", "term.cancellations", "intake.start"),
    *("etcd.keep_alive", "beacon.send", "reader.fence", "reader.definitions"),
)
# What a replica does once, when its term begins.
_AT_TAKEOVER = (
    *("etcd.txn", "term.raise_epoch", "log.name"),
    *("term.unfinished_compensating", "term.unfinished_running", "term.unfinished_unknown", "term.events"),
    "log.listen",
)

UNDER_LOAD = tuple(point for name in _UNDER_LOAD for point in EFFECTS[name].points)
AT_TAKEOVER = tuple(point for name in _AT_TAKEOVER for point in EFFECTS[name].points)
PROVE = EFFECTS["term.prove"].points


@dataclass(frozen=True, slots=True)
class Crash:
    """A crash: the leader under whom it began, when, and how many leaders died for it in all."""

    leader: Leader
    died_at: datetime
    deaths: int


async def crash_under_load(cluster: Cluster, point: str) -> Crash:
    """Kill the present leader at a point that it passes under load. Raises ProcessFailed if it does not pass it."""
    leader = await cluster.wait_leader()
    if point in PROVE:
        # A leader that writes has proven its epoch by that. One that cannot write for a while asks.
        await arm(leader.replica, point, "exit")
        await arm(leader.replica, "term.append.before", "1*sleep(2500ms)")
    else:
        await arm(leader.replica, point, "exit")
    await until_killed(leader.replica, point, _WITHIN_S)
    return Crash(leader, struck_at(leader.replica, point), deaths=1)


async def crash_at_takeover(cluster: Cluster, point: str) -> Crash:
    """Kill the leader, and its successor at a point of the takeover; the gap is that of both.

    Raises ProcessFailed if no successor dies there.
    """
    for takeover in range(1, _TAKEOVERS_MAX + 1):
        leader = await cluster.wait_ready()
        standby = next(replica for replica in cluster.replicas if replica is not leader.replica)
        await arm(standby, point, "exit")
        killed_at = now()
        leader.replica.kill()
        if await _dies(cluster, standby, leader.epoch):
            return Crash(leader, killed_at, deaths=takeover + 1)
        await disarm(standby)
    raise ProcessFailed(f"no replica passed {point} in {_TAKEOVERS_MAX} takeovers")


async def _dies(cluster: Cluster, standby: Replica, epoch: int) -> bool:
    """Whether the standby dies of what it is armed with; False once somebody else leads above the epoch."""
    dying = asyncio.create_task(standby.wait_exit())
    try:
        async with asyncio.timeout(_WITHIN_S):
            while not dying.done():
                leader = await cluster.leader()
                if leader is not None and leader.epoch > epoch and leader.replica is not standby:
                    return dying.done()
                await asyncio.sleep(_ASK_INTERVAL_S)
        return True
    except TimeoutError:
        return False
    finally:
        dying.cancel()
        await asyncio.wait({dying})
