"""Replicas that campaign against etcd's model in memory, on a clock that jumps: hours pass in milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from orchestrator.leadership.campaign import Campaign
from orchestrator.leadership.keys import Keys
from orchestrator.leadership.memory import MemoryCoordinator, MemoryRenewal, MemoryStore
from orchestrator.leadership.port import Entry, Member, World
from orchestrator.leadership.verdict import Verdict
from orchestrator.leadership.victory import Cause, Ending, Hooks, Victory
from orchestrator.simulation.clock import now_s

KEYS = Keys("test", 0)
TTL_S = 2
# Longer than any backoff and any lease, shorter than anything that waits for ever.
SOON_S = 10.0


async def eventually(condition: Callable[[], bool], within_s: float = SOON_S) -> float:
    """Wait until the condition holds; the virtual seconds that took."""
    began_s = now_s()
    while not condition():
        if now_s() - began_s > within_s:
            raise AssertionError(f"not within {within_s} s")
        await asyncio.sleep(0.001)
    return now_s() - began_s


class Evidence:
    """What there is to be seen of each process, shared by all eyes. By incarnation."""

    def __init__(self) -> None:
        self._verdicts: dict[str, Verdict] = {}
        self._changed = asyncio.Event()

    def against(self, incarnation: str, verdict: Verdict) -> None:
        """From now on whoever looks at this process sees this."""
        self._verdicts[incarnation] = verdict
        self._changed.set()
        self._changed = asyncio.Event()

    def clear(self, incarnation: str) -> None:
        """The process looks healthy again."""
        self._verdicts.pop(incarnation, None)

    async def of(self, incarnation: str) -> Verdict:
        """Wait for evidence."""
        while incarnation not in self._verdicts:
            await self._changed.wait()
        return self._verdicts[incarnation]


class ScriptedEye:
    """An eye that sees what the test says."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self.last_sign_s: float | None = None

    async def observe(self, leader: Member) -> Verdict:
        """Wait until the test speaks against this process."""
        self.last_sign_s = now_s()
        verdict = await self._evidence.of(leader.incarnation)
        self.last_sign_s = now_s()
        return verdict


@dataclass
class Replica:
    """One replica: its campaign, and what it has lived through."""

    id: str
    incarnation: str
    campaign: Campaign
    coordinator: MemoryCoordinator
    renewal: MemoryRenewal
    run: asyncio.Task[None]
    can_lead: bool = True
    victories: list[Victory] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    accusations: list[Verdict] = field(default_factory=list)
    in_term: int = 0
    # What a term does after it has begun; by default it leads until it is cancelled.
    term: Callable[[Victory], Awaitable[None]] | None = None

    async def crash(self) -> None:
        """End as kill -9 ends a process: nothing is said to anybody."""
        self.renewal.release()
        self.run.cancel()
        await asyncio.wait({self.run})

    @property
    def lease_id(self) -> int:
        """The lease that the replica holds."""
        lease = self.renewal.lease()
        if lease is None:
            raise AssertionError(f"{self.id} holds no lease")
        return lease.id


class ClusterWorld:
    """A store, and the replicas around it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.evidence = Evidence()
        self.replicas: list[Replica] = []
        self._starts = 0

    async def __aenter__(self) -> ClusterWorld:
        return self

    async def __aexit__(self, *_: object) -> None:
        running = [replica for replica in self.replicas if not replica.run.done()]
        for replica in running:
            await replica.crash()
        for replica in self.replicas:
            if not replica.run.cancelled() and (defect := replica.run.exception()) is not None:
                raise defect

    def start(
        self,
        replica_id: str,
        *,
        away: bool = False,
        can_lead: bool = True,
        coordinator: MemoryCoordinator | None = None,
    ) -> Replica:
        """Start a replica as a new process."""
        self._starts += 1
        incarnation = f"{replica_id}-{self._starts}"
        coordinator = coordinator or MemoryCoordinator(self.store)
        coordinator.away = away
        renewal = MemoryRenewal(coordinator, now_s, interval_s=0.4, margin_s=0.2)

        async def lead(victory: Victory) -> None:
            replica.victories.append(victory)
            replica.in_term += 1
            try:
                await (
                    replica.term(victory) if replica.term is not None else asyncio.get_running_loop().create_future()
                )
            finally:
                replica.in_term -= 1

        async def may_campaign() -> bool:
            await asyncio.sleep(0.001)
            return replica.can_lead

        me = Member(replica_id, incarnation, f"{replica_id}:7490", f"{replica_id}:7400", f"{replica_id}:7480", 1, "1")
        world = World(coordinator, renewal, ScriptedEye(self.evidence), may_campaign, now_s)
        causes: list[Cause] = []
        endings: list[Ending] = []
        accusations: list[Verdict] = []
        hooks = Hooks(causes.append, endings.append, accusations.append)
        campaign = Campaign(KEYS, me, world, lead, hooks=hooks)
        run = asyncio.ensure_future(campaign.run())
        replica = Replica(replica_id, incarnation, campaign, coordinator, renewal, run, can_lead)
        replica.causes, replica.endings, replica.accusations = causes, endings, accusations
        self.replicas.append(replica)
        return replica

    async def led_by(self, *, but: Replica | None = None, within_s: float = SOON_S) -> Replica:
        """Wait until one replica, `but` not this one, is in its term by the present key."""
        await eventually(lambda: (leader := self.leader()) is not None and leader is not but, within_s)
        leader = self.leader()
        if leader is None:
            raise AssertionError("no leader")
        return leader

    def leader(self) -> Replica | None:
        """The replica whose running term holds the key as it is now."""
        key = self.key
        for replica in self.replicas:
            if key is not None and replica.in_term and replica.victories[-1].revision == key.mod_revision:
                return replica
        return None

    @property
    def key(self) -> Entry | None:
        """The leader's key as it is in the store."""
        return self.store.entries.get(KEYS.leader)

    async def three(self) -> tuple[Replica, list[Replica]]:
        """Start three replicas; the leader, and the standbys once they watch it."""
        for name in ("a", "b", "c"):
            self.start(name)
        leader = await self.led_by()
        standbys = [replica for replica in self.replicas if replica is not leader]
        await eventually(lambda: all(_watches(replica, leader) for replica in standbys))
        await eventually(lambda: all(len(replica.campaign.members()) == 3 for replica in self.replicas))
        return leader, standbys


def _watches(standby: Replica, leader: Replica) -> bool:
    holder = standby.campaign.view.holder
    return holder is not None and holder.member.incarnation == leader.incarnation
