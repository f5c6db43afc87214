"""The client of etcd against real members that die, freeze, ask for certificates and for passwords."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.embedded.etcd import EtcdCluster, EtcdMember
from orchestrator.leadership.errors import CoordinatorAway, CoordinatorError, CoordinatorRefused, OutcomeUnknown
from orchestrator.leadership.etcd import EtcdCoordinator
from orchestrator.leadership.etcd_transport import EtcdAccess
from orchestrator.leadership.lease import Lease, LeaseState
from orchestrator.leadership.port import Change, Delete, LeaseId, Put, Txn
from orchestrator.leadership.pulse import Pulse, boottime_s
from orchestrator.leadership.renewal import RenewalPace, RenewalThread

SOON_S = 30.0


@pytest.fixture
def prefix() -> str:
    """A prefix that no other test uses."""
    return f"/baton/{uuid.uuid4().hex}/"


@pytest.fixture
async def coordinator(etcd: EtcdCluster) -> AsyncIterator[EtcdCoordinator]:
    client = EtcdCoordinator(EtcdAccess(etcd.endpoints))
    yield client
    await client.close()


@contextmanager
def frozen(*members: EtcdMember) -> Iterator[None]:
    """Members that do not run, with their connections open."""
    for member in members:
        member.suspend()
    try:
        yield
    finally:
        for member in members:
            member.resume()
        for member in members:
            member.wait_healthy()


@contextmanager
def dead(member: EtcdMember) -> Iterator[None]:
    """A member killed, and started again afterwards."""
    member.kill()
    member.wait(SOON_S)
    try:
        yield
    finally:
        member.start()
        member.wait_healthy()


def preferred(etcd: EtcdCluster, coordinator: EtcdCoordinator) -> EtcdMember:
    """The member that this client asks first."""
    return next(member for member in etcd.members if member.endpoint == coordinator.transport.endpoints[0])


async def put(coordinator: EtcdCoordinator, key: str, value: bytes = b"v") -> int:
    """Put a key, repeating it while etcd elects a leader of its own."""
    async with asyncio.timeout(SOON_S):
        while True:
            try:
                return (await coordinator.txn(Txn((), (Put(key, value),)))).revision
            except (OutcomeUnknown, CoordinatorAway):
                await asyncio.sleep(0.05)


async def take(batches: AsyncGenerator[tuple[Change, ...]], count: int) -> list[Change]:
    async with asyncio.timeout(SOON_S):
        return [change for _ in range(count) for change in await anext(batches)]


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_reads_go_on_at_once_when_the_member_asked_first_dies(
    etcd: EtcdCluster, coordinator: EtcdCoordinator, prefix: str
) -> None:
    await put(coordinator, prefix + "a")
    member = preferred(etcd, coordinator)
    with dead(member):
        async with asyncio.timeout(SOON_S):
            while not await _answers(coordinator, prefix):
                await asyncio.sleep(0.05)
        assert preferred(etcd, coordinator) is not member


async def _answers(coordinator: EtcdCoordinator, prefix: str) -> bool:
    try:
        return len((await coordinator.range(prefix)).entries) == 1
    except CoordinatorAway:
        return False


async def test_a_frozen_member_delays_a_read_by_the_hedge_alone(
    etcd: EtcdCluster, coordinator: EtcdCoordinator, prefix: str
) -> None:
    await put(coordinator, prefix + "a")
    followers = [member for member in etcd.members if member is not _leader(etcd)]
    # The frozen one is waited for much longer than the hedge lasts, and than the machine may stand still.
    hedged = EtcdCoordinator(EtcdAccess(etcd.endpoints, call_timeout_s=SOON_S))
    hedged.transport.trust(followers[0].endpoint)
    with frozen(followers[0]):
        began_s = time.monotonic()
        snapshot = await hedged.range(prefix)

        assert len(snapshot.entries) == 1
        assert time.monotonic() - began_s < SOON_S / 3
    await hedged.close()


async def test_a_transaction_at_a_frozen_member_has_an_unknown_outcome_and_the_next_one_goes_elsewhere(
    etcd: EtcdCluster, prefix: str
) -> None:
    follower = next(member for member in etcd.members if member is not _leader(etcd))
    # Long enough for the others, also when the machine stands still for a moment.
    coordinator = EtcdCoordinator(EtcdAccess(etcd.endpoints, call_timeout_s=3.0))
    await put(coordinator, prefix + "a")
    coordinator.transport.trust(follower.endpoint)
    with frozen(follower):
        began_s = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            await coordinator.txn(Txn((), (Put(prefix + "b", b"1"),)))
        assert time.monotonic() - began_s < SOON_S / 2

        assert (await coordinator.txn(Txn((), (Put(prefix + "c", b"1"),)))).succeeded
    await coordinator.close()


@pytest.mark.parametrize("trouble", ["dead", "frozen"])
async def test_a_watch_goes_on_elsewhere_without_a_hole(
    etcd: EtcdCluster,
    coordinator: EtcdCoordinator,
    prefix: str,
    trouble: str,
) -> None:
    writer = EtcdCoordinator(EtcdAccess(etcd.endpoints))
    revision = await put(coordinator, prefix + "first")
    if trouble == "frozen":
        # A watch that was silent for two seconds may come while the others still elect a leader: then nobody keeps it.
        follower = next(member for member in etcd.members if member is not _leader(etcd))
        coordinator.transport.trust(follower.endpoint)
    member = preferred(etcd, coordinator)
    async with aclosing(coordinator.watch(prefix, revision)) as batches:
        assert [change.key for change in await take(batches, 1)] == [prefix + "first"]
        with frozen(member) if trouble == "frozen" else dead(member):
            written = [await put(writer, f"{prefix}{n}") for n in range(5)]
            seen = [revision]
            while seen[-1] < written[-1]:
                seen += [change.revision for change in await take(batches, 1)]
    await writer.close()

    assert set(written) <= set(seen)
    assert seen == sorted(set(seen))


async def test_without_a_quorum_everything_ends_within_its_deadline_and_works_again_afterwards(
    etcd: EtcdCluster, coordinator: EtcdCoordinator, prefix: str
) -> None:
    revision = await put(coordinator, prefix + "a")
    began_s = time.monotonic()
    with frozen(*etcd.members[:2]):
        with pytest.raises(CoordinatorAway):
            await coordinator.range(prefix)
        with pytest.raises(OutcomeUnknown):
            await coordinator.txn(Txn((), (Put(prefix + "a", b"2"),)))
        with pytest.raises(CoordinatorAway):
            await coordinator.grant(2)
        with pytest.raises(CoordinatorAway):
            async with aclosing(coordinator.watch(prefix, revision + 1)) as batches:
                await take(batches, 10)
        assert time.monotonic() - began_s < SOON_S / 2

    await put(coordinator, prefix + "b")
    assert prefix + "b" in {entry.key for entry in (await coordinator.range(prefix)).entries}


@pytest.mark.parametrize("trouble", ["frozen", "dead"])
async def test_a_lease_is_renewed_without_a_gap_through_the_loss_of_a_member(etcd: EtcdCluster, trouble: str) -> None:
    access = EtcdAccess(etcd.endpoints, call_timeout_s=SOON_S)
    coordinator = EtcdCoordinator(access)
    pace = RenewalPace(interval_s=0.2, stall_max_s=600)
    renewal = RenewalThread(access, Pulse(), pace)
    renewal.start()
    follower = next(member for member in etcd.members if member is not _leader(etcd))
    asked_at_s = boottime_s()
    # It outlasts a machine that stands still for a moment; how quickly it is renewed is told by when it was.
    lease, ttl_s = await coordinator.grant(10)
    renewal.hold(Lease.granted(lease, asked_at_s, ttl_s, 0.2))
    states, deadlines_s = set(), [_deadline_s(renewal)]
    with frozen(follower) if trouble == "frozen" else dead(follower):
        async with asyncio.timeout(2 * SOON_S):
            while len(deadlines_s) < 15:
                held = renewal.lease()
                assert held is not None
                states.add(held.state(boottime_s()))
                if held.deadline_s > deadlines_s[-1]:
                    deadlines_s.append(held.deadline_s)
                await asyncio.sleep(0.02)
    await asyncio.to_thread(renewal.close)
    await coordinator.revoke(lease)
    await coordinator.close()

    assert states == {LeaseState.HELD}
    # Nobody waits for the member that is not there: not even for as long as one round may take.
    gaps_s = [later - sooner for sooner, later in itertools.pairwise(deadlines_s)]
    assert statistics.median(gaps_s) < pace.timeout_s


async def test_a_main_loop_that_stalls_loses_its_lease(etcd_single: EtcdCluster) -> None:
    access = EtcdAccess(etcd_single.endpoints, call_timeout_s=SOON_S)
    coordinator = EtcdCoordinator(access)
    # A pulse that nobody beats.
    renewal = RenewalThread(access, Pulse(), RenewalPace(interval_s=0.1, stall_max_s=0.3))
    renewal.start()
    asked_at_s = boottime_s()
    lease, ttl_s = await coordinator.grant(1)
    renewal.hold(Lease.granted(lease, asked_at_s, ttl_s, 0.2))

    def in_doubt() -> bool:
        held = renewal.lease()
        return held is not None and held.state(boottime_s()) is LeaseState.IN_DOUBT

    await eventually(in_doubt)
    await asyncio.to_thread(renewal.close)
    await coordinator.close()


async def test_tls_with_each_members_own_certificate(tmp_path: Path, prefix: str) -> None:
    with EtcdCluster(tmp_path / "etcd", members=3, auto_tls=True, unsafe_no_fsync=True) as etcd:
        assert etcd.ca_file is not None
        access = EtcdAccess.from_files(etcd.endpoints, "", "", etcd.ca_file, None, None)
        access = replace(access, call_timeout_s=SOON_S)
        coordinator = EtcdCoordinator(access)
        for endpoint in etcd.endpoints:
            # Alone: whatever is answered, this member has answered it.
            alone = EtcdCoordinator(replace(access, endpoints=(endpoint,)))
            revision = await put(alone, prefix + "a", endpoint.encode())
            await alone.close()
        async with aclosing(coordinator.watch(prefix, revision)) as batches:
            assert len(await take(batches, 1)) == 1
        await _is_renewed(access, coordinator)
        await coordinator.close()

        plain = EtcdCoordinator(EtcdAccess(etcd.endpoints))
        with pytest.raises(CoordinatorError):
            await plain.range(prefix)
        await plain.close()


async def test_user_and_password_and_a_token_that_expires(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path / "etcd", members=1, unsafe_no_fsync=True) as etcd:
        etcd.enable_auth("baton", "secret")
        access = EtcdAccess(etcd.endpoints, user="baton", password="secret", call_timeout_s=SOON_S / 6)
        coordinator = EtcdCoordinator(access)
        revision = await put(coordinator, "/baton/c/a")
        renewal = RenewalThread(access, Pulse(), RenewalPace(interval_s=0.1, stall_max_s=600))
        renewal.start()
        asked_at_s = boottime_s()
        lease, ttl_s = await coordinator.grant(30)
        renewal.hold(Lease.granted(lease, asked_at_s, ttl_s, 0.2))
        async with aclosing(coordinator.watch("/baton/c/", revision)) as batches:
            assert len(await take(batches, 1)) == 1
            # A member that restarts has forgotten all tokens.
            with dead(etcd.members[0]):
                pass
            with pytest.raises(CoordinatorAway):
                await take(batches, 1)
        restarted_at_s = boottime_s()
        revision = await put(coordinator, "/baton/c/b")
        assert {entry.key for entry in (await coordinator.range("/baton/c/")).entries} >= {"/baton/c/a", "/baton/c/b"}
        async with aclosing(coordinator.watch("/baton/c/", revision)) as batches:
            assert len(await take(batches, 1)) == 1
        await eventually(lambda: _deadline_s(renewal) > restarted_at_s + ttl_s - 0.2)
        await asyncio.to_thread(renewal.close)
        await coordinator.close()


async def test_a_watch_is_let_in_again_when_its_token_expired(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path / "etcd", members=1, unsafe_no_fsync=True) as etcd:
        etcd.enable_auth("baton", "secret")
        coordinator = EtcdCoordinator(EtcdAccess(etcd.endpoints, user="baton", password="secret"))
        revision = await put(coordinator, "/baton/c/a")
        with dead(etcd.members[0]):
            pass

        async def first() -> list[Change]:
            while True:
                try:
                    async with aclosing(coordinator.watch("/baton/c/", revision)) as batches:
                        return await take(batches, 1)
                except CoordinatorAway:
                    await asyncio.sleep(0.05)

        async with asyncio.timeout(SOON_S):
            assert [change.key for change in await first()] == ["/baton/c/a"]
        await coordinator.close()


async def test_what_etcd_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path / "etcd", members=1, unsafe_no_fsync=True) as etcd:
        etcd.enable_auth("baton", "secret")
        patient = EtcdAccess(etcd.endpoints, call_timeout_s=SOON_S)
        wrong = EtcdCoordinator(replace(patient, user="baton", password="guess"))
        with pytest.raises(CoordinatorRefused, match="authentication failed"):
            await wrong.range("/baton/c/")
        nobody = EtcdCoordinator(patient)
        with pytest.raises(CoordinatorRefused, match="user name is empty"):
            await nobody.range("/baton/c/")
        beside = EtcdCoordinator(replace(patient, user="baton", password="secret"))
        with pytest.raises(CoordinatorRefused, match="permission denied"):
            await beside.txn(Txn((), (Delete("/elsewhere"),)))
        for client in (wrong, nobody, beside):
            await client.close()


async def _is_renewed(access: EtcdAccess, coordinator: EtcdCoordinator) -> None:
    renewal = RenewalThread(access, Pulse(), RenewalPace(interval_s=0.1, stall_max_s=600))
    renewal.start()
    asked_at_s = boottime_s()
    lease, ttl_s = await coordinator.grant(30)
    renewal.hold(first := Lease.granted(lease, asked_at_s, ttl_s, 0.2))
    await eventually(lambda: _deadline_s(renewal) > first.deadline_s)
    await asyncio.to_thread(renewal.close)
    await coordinator.revoke(LeaseId(lease))


def _deadline_s(renewal: RenewalThread) -> float:
    lease = renewal.lease()
    return 0.0 if lease is None else lease.deadline_s


def _leader(etcd: EtcdCluster) -> EtcdMember:
    """The member that leads etcd itself: freezing a follower costs no election."""
    rows = etcd.etcdctl("endpoint", "status", "--write-out=simple").splitlines()
    endpoint = next(row.split(", ")[0] for row in rows if row.split(", ")[4] == "true")
    return next(member for member in etcd.members if endpoint.endswith(member.endpoint))
