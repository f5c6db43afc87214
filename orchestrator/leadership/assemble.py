"""A campaign on real parts: etcd, the renewal thread, the beacon, the observer, and the pulse of the main loop."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from importlib.metadata import version

from orchestrator.config import Settings, process_id
from orchestrator.leadership.beacon import Beacon, Hello
from orchestrator.leadership.campaign import Campaign
from orchestrator.leadership.companions import Companions
from orchestrator.leadership.etcd import EtcdCoordinator
from orchestrator.leadership.etcd_transport import EtcdAccess
from orchestrator.leadership.keys import Keys
from orchestrator.leadership.membership import LeaseTerms
from orchestrator.leadership.observer import Observer
from orchestrator.leadership.pace import Paces
from orchestrator.leadership.peer import ObserverPace
from orchestrator.leadership.port import MayCampaign, Member, World
from orchestrator.leadership.pulse import Pulse, boottime_s
from orchestrator.leadership.renewal import RenewalPace, RenewalThread
from orchestrator.leadership.victory import Hooks, Lead, View
from orchestrator.security.assemble import Security

PULSE_INTERVAL_S = 0.05
# A heartbeat that is silent for longer does not come back.
SILENCE_MAX_S = 15.0


def _ignore(_: float) -> None:
    pass


class Leadership:
    """One replica's part in leadership. Make it on the event loop that it is to run on; `run` it once.

    Raises BadFile when a certificate cannot be used, OSError when the peer address cannot be listened on. `loop_lag_s`
    is told how many seconds late each beat of the main loop was.
    """

    def __init__(
        self,
        settings: Settings,
        lead: Lead,
        may_campaign: MayCampaign,
        hooks: Hooks | None = None,
        loop_lag_s: Callable[[float], None] = _ignore,
        security: Security | None = None,
    ) -> None:
        security = security or Security(settings)
        access = EtcdAccess(settings.etcd_addresses, settings.etcd_user, settings.etcd_password, security.etcd)
        self._loop_lag_s = loop_lag_s
        self._pulse = Pulse()
        incarnation = uuid.uuid4().hex
        hello = Hello(settings.replica, incarnation)
        self._beacon = Beacon(
            settings.peer_listen, hello, self._pulse, interval_s=settings.beat_interval_s, doors=security.doors
        )
        self._renewal = RenewalThread(access, self._pulse, _renewal_pace(settings))
        self._coordinator = EtcdCoordinator(access)
        self.me = Member(
            replica_id=settings.replica,
            incarnation=incarnation,
            peer_address=_with_port(settings.peer_advertise, self._beacon.port),
            api_address=settings.api_advertise,
            http_address=settings.http_advertise,
            pid=process_id(),
            version=version("baton"),
        )
        pace = ObserverPace(beat_interval_s=settings.beat_interval_s, beat_timeout_s=settings.beat_timeout_s)
        self._companions = Companions(pace, boottime_s, security.replicas)
        observer = Observer(pace, companions=self._companions, dialer=security.replicas)
        world = World(self._coordinator, self._renewal, observer, may_campaign)
        paces = Paces(lease=LeaseTerms(ttl_s=settings.lease_ttl_s, margin_s=settings.lease_margin_s))
        self.campaign = Campaign(Keys(settings.cluster, settings.shard), self.me, world, lead, paces, hooks)

    @property
    def view(self) -> View:
        """Who leads, as far as this replica knows."""
        return self.campaign.view

    @property
    def etcd_trouble(self) -> str | None:
        """Why etcd is not at hand; None while it is."""
        return self.campaign.etcd_trouble

    def complaint(self) -> str | None:
        """What is wrong with this process's own heartbeat, None while it beats. Asks neither etcd nor anybody else."""
        if self._beacon.broken:
            return "the thread that beats to the standbys has ended"
        if self._renewal.broken:
            return "the thread that renews the lease has ended"
        silent_s = self._pulse.age_s()
        return None if silent_s < SILENCE_MAX_S else f"the heartbeat has been silent for {silent_s:.0f} s"

    def members(self) -> tuple[Member, ...]:
        """The replicas whose leases live, by id."""
        return self.campaign.members()

    async def run(self) -> None:
        """Campaign until closed; then every thread has ended and every connection is closed."""
        self._beacon.start()
        self._renewal.start()
        try:
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(part) for part in (self._beat(), self._companions.run(self._others))]
                await self.campaign.run()
                for part in parts:
                    part.cancel()
        finally:
            # After the key is deleted: a beacon that vanished before would be taken for a crash.
            await asyncio.to_thread(self._beacon.close)
            await asyncio.to_thread(self._renewal.close)
            await self._coordinator.close()

    async def resign(self, reason: str, cooldown_s: float) -> bool:
        """Step down; see `Campaign.resign`."""
        return await self.campaign.resign(reason, cooldown_s)

    def withdraw(self, reason: str) -> None:
        """Hand leadership over and campaign no more; see `Campaign.withdraw`."""
        self.campaign.withdraw(reason)

    async def close(self) -> None:
        """Hand leadership over, leave the cluster, and make `run` return; see `Campaign.close`."""
        await self.campaign.close()

    def _others(self) -> list[Member]:
        return [member for member in self.members() if member.replica_id != self.me.replica_id]

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(PULSE_INTERVAL_S)
            self._loop_lag_s(max(0.0, self._pulse.beat() - PULSE_INTERVAL_S))


def _renewal_pace(settings: Settings) -> RenewalPace:
    # Two rounds and the pause between them fit into the lease.
    rounds_s = settings.lease_ttl_s - settings.lease_margin_s - settings.renew_interval_s
    return RenewalPace(
        interval_s=settings.renew_interval_s,
        margin_s=settings.lease_margin_s,
        stall_max_s=settings.loop_stall_max_s,
        timeout_s=rounds_s / 2,
    )


def _with_port(address: str, port: int) -> str:
    """The address with the port that is really listened on, where the settings leave the choice (port 0)."""
    host, _, asked = address.rpartition(":")
    return f"{host}:{port}" if asked == "0" else address
