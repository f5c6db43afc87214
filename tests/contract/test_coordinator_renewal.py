"""What port.py says of a renewal, held against the thread that speaks to etcd and against its model in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from orchestrator.leadership.etcd import EtcdCoordinator
from orchestrator.leadership.etcd_transport import EtcdAccess
from orchestrator.leadership.lease import Lease, LeaseState
from orchestrator.leadership.memory import MemoryCoordinator, MemoryRenewal, MemoryStore
from orchestrator.leadership.port import Coordinator, LeaseId, Renewal
from orchestrator.leadership.pulse import Pulse, boottime_s
from orchestrator.leadership.renewal import RenewalPace, RenewalThread

INTERVAL_S = 0.1
MARGIN_S = 0.2
SOON_S = 30.0


@dataclass(frozen=True)
class Subject:
    """A renewal under test, and the coordinator whose leases it renews."""

    renewal: Renewal
    coordinator: Coordinator
    # As short as may be for a lease that is outlived: the store's clock goes on while the machine stands still.
    short_s: int

    async def granted(self, ttl_s: int = 4) -> Lease:
        asked_at_s = boottime_s()
        lease, ttl_s = await self.coordinator.grant(ttl_s)
        return Lease.granted(lease, asked_at_s, ttl_s, MARGIN_S)

    def state(self) -> LeaseState:
        lease = self.renewal.lease()
        assert lease is not None
        return lease.state(boottime_s())


@pytest.fixture(params=["memory", "etcd"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        memory = MemoryCoordinator(MemoryStore())
        renewal = MemoryRenewal(memory, boottime_s, interval_s=INTERVAL_S, margin_s=MARGIN_S)
        yield Subject(renewal, memory, 1)
        renewal.release()
        return
    access = EtcdAccess(request.getfixturevalue("etcd_single").endpoints, call_timeout_s=SOON_S)
    etcd = EtcdCoordinator(access)
    thread = RenewalThread(access, Pulse(), RenewalPace(interval_s=INTERVAL_S, margin_s=MARGIN_S, stall_max_s=600))
    thread.start()
    yield Subject(thread, etcd, 4)
    await asyncio.to_thread(thread.close)
    await etcd.close()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_lease_held_outlives_its_first_term(subject: Subject) -> None:
    granted = await subject.granted(subject.short_s)
    subject.renewal.hold(granted)
    await eventually(lambda: boottime_s() > granted.deadline_s + 2 * MARGIN_S + 1)

    assert subject.state() is LeaseState.HELD
    lease = subject.renewal.lease()
    assert lease is not None
    assert lease.id == granted.id
    assert lease.deadline_s > granted.deadline_s


async def test_a_revoked_lease_is_found_lost(subject: Subject) -> None:
    granted = await subject.granted()
    subject.renewal.hold(granted)
    await subject.coordinator.revoke(LeaseId(granted.id))

    await eventually(lambda: subject.state() is LeaseState.LOST)


async def test_a_lease_released_is_not_renewed(subject: Subject) -> None:
    granted = await subject.granted()
    subject.renewal.hold(granted)
    subject.renewal.release()

    assert subject.renewal.lease() is None


async def test_another_lease_takes_the_place_of_the_first(subject: Subject) -> None:
    first, second = await subject.granted(), await subject.granted()
    subject.renewal.hold(first)
    await subject.coordinator.revoke(LeaseId(first.id))
    await eventually(lambda: subject.state() is LeaseState.LOST)
    subject.renewal.hold(second)

    lease = subject.renewal.lease()
    assert lease is not None
    assert lease.id == second.id
    await eventually(lambda: deadline_s(subject) > second.deadline_s)
    assert subject.state() is LeaseState.HELD


def deadline_s(subject: Subject) -> float:
    lease = subject.renewal.lease()
    assert lease is not None
    return lease.deadline_s
