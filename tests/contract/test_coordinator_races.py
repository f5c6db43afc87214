"""Races between two replicas, and watches that resume, held against etcd and against its model in memory.

That a transaction's answer is lost (OutcomeUnknown) needs a network that loses it: tests/integration/test_etcd.py.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.embedded.etcd import EtcdCluster
from orchestrator.leadership.errors import CoordinatorAway, HistoryGone
from orchestrator.leadership.etcd import EtcdCoordinator
from orchestrator.leadership.etcd_transport import EtcdAccess
from orchestrator.leadership.memory import MemoryCoordinator, MemoryStore
from orchestrator.leadership.port import Change, Coordinator, Delete, Equal, Field, Get, Put, Txn

from .test_coordinator import SOON_S, Subject, patient, patient_watches, take

__all__ = ["patient_watches"]

ROUNDS = 20


@dataclass(frozen=True)
class Pair:
    """Two replicas' ways to one store."""

    one: Subject
    other: Subject

    @property
    def both(self) -> tuple[Subject, Subject]:
        return (self.one, self.other)


@pytest.fixture(params=["memory", "etcd"])
async def pair(request: pytest.FixtureRequest, patient_watches: None) -> AsyncIterator[Pair]:
    prefix = f"/baton/{uuid.uuid4().hex}/"
    if request.param == "memory":
        store = MemoryStore()
        yield Pair(Subject(MemoryCoordinator(store), prefix), Subject(MemoryCoordinator(store), prefix))
        return
    coordinators = [patient(request.getfixturevalue("etcd_single").endpoints) for _ in range(2)]
    yield Pair(*(Subject(coordinator, prefix) for coordinator in coordinators))
    for coordinator in coordinators:
        await coordinator.close()


async def test_of_two_takeovers_at_once_one_succeeds(pair: Pair) -> None:
    seen = await pair.one.put("leader", b"dead")
    for _ in range(ROUNDS):
        unchanged = Equal(pair.one.key, Field.MOD_REVISION, seen)
        results = await asyncio.gather(
            *(
                replica.coordinator.txn(Txn((unchanged,), (Put(replica.key, name),), (Get(replica.key),)))
                for replica, name in zip(pair.both, (b"one", b"other"), strict=True)
            )
        )
        (winner,) = [result for result in results if result.succeeded]
        (loser,) = [result for result in results if not result.succeeded]
        assert winner.revision == seen + 1
        # The loser learns from the same transaction who was faster.
        assert [entry.mod_revision for entry in loser.found] == [winner.revision]
        seen = winner.revision


async def test_a_takeover_and_the_end_of_the_lease_at_once_leave_the_key_to_the_new_leader_or_to_nobody(
    pair: Pair,
) -> None:
    for _ in range(ROUNDS):
        lease, _ = await pair.one.coordinator.grant(60)
        mine, _ = await pair.other.coordinator.grant(60)
        seen = await pair.one.put("leader", b"old", lease)
        unchanged = Equal(pair.one.key, Field.MOD_REVISION, seen)
        taken, _ = await asyncio.gather(
            pair.other.coordinator.txn(Txn((unchanged,), (Put(pair.one.key, b"new", mine),))),
            pair.one.coordinator.revoke(lease),
        )
        entry = await pair.one.entry("leader")
        assert (entry is not None) == taken.succeeded
        assert entry is None or (entry.value, entry.lease) == (b"new", mine)
        await pair.other.coordinator.revoke(mine)
        assert await pair.one.entry("leader") is None


async def test_a_key_that_comes_and_goes_is_created_by_one_at_a_time(pair: Pair) -> None:
    holders: list[str] = []

    async def campaign(replica: Subject, name: str) -> None:
        free = Equal(replica.key, Field.CREATED, 0)
        for _ in range(ROUNDS):
            result = await replica.coordinator.txn(Txn((free,), (Put(replica.key, name.encode()),)))
            if result.succeeded:
                holders.append(name)
                mine = Equal(replica.key, Field.MOD_REVISION, result.revision)
                assert (await replica.coordinator.txn(Txn((mine,), (Delete(replica.key),)))).succeeded

    revision = (await pair.one.coordinator.range(pair.one.prefix)).revision
    await asyncio.gather(campaign(pair.one, "one"), campaign(pair.other, "other"))
    async with aclosing(pair.one.watch(revision + 1)) as batches:
        history = [batch[0] for batch in await take(batches, 2 * len(holders))]
    assert holders
    assert [change.entry is not None for change in history] == [True, False] * len(holders)


async def test_a_watch_that_is_begun_again_and_again_has_no_hole(pair: Pair) -> None:
    beginning = (await pair.one.coordinator.range(pair.one.prefix)).revision
    written: list[int] = []

    async def change() -> None:
        for number in range(100):
            written.append(await pair.other.put(f"key-{number % 7}", b"%d" % number))

    async def follow() -> list[Change]:
        seen: list[Change] = []
        while len(seen) < 100:
            resume = seen[-1].revision + 1 if seen else beginning + 1
            async with aclosing(pair.one.watch(resume)) as batches:
                for batch in await take(batches, min(1 + len(seen) % 5, 100 - len(seen))):
                    seen += batch
        return seen

    _, seen = await asyncio.gather(change(), follow())
    assert [change.revision for change in seen] == written
    assert [change.entry.value for change in seen if change.entry] == [b"%d" % number for number in range(100)]


async def test_a_watch_that_keeps_up_is_not_harmed_by_a_compaction(pair: Pair) -> None:
    first = await pair.one.put("leader", b"0")
    async with aclosing(pair.one.watch(first)) as batches:
        await take(batches, 1)
        last = first
        for number in range(1, 6):
            last = await pair.other.put("leader", b"%d" % number)
        seen = await take(batches, 5)
        await pair.other.compact(last)
        after = await pair.other.put("leader", b"after")
        seen += await take(batches, 1)
    assert [batch[0].revision for batch in seen] == [*range(first + 1, last + 1), after]


async def test_whoever_resumes_behind_a_compaction_reads_again_and_misses_nothing(pair: Pair) -> None:
    first = await pair.one.put("leader", b"0")
    for number in range(1, 6):
        last = await pair.other.put("leader", b"%d" % number)
    await pair.other.compact(last)
    with pytest.raises(HistoryGone):
        await take(pair.one.watch(first + 1), 1)
    snapshot = await pair.one.coordinator.range(pair.one.prefix)
    assert [entry.value for entry in snapshot.entries] == [b"5"]
    async with aclosing(pair.one.watch(snapshot.revision + 1)) as batches:
        revision = await pair.other.put("leader", b"6")
        [batch] = await take(batches, 1)
    assert batch[0].revision == revision


async def test_an_expired_lease_deletes_its_keys_at_one_revision(pair: Pair) -> None:
    lease, _ = await pair.one.coordinator.grant(1)
    await pair.one.put("replica", b"1", lease)
    revision = await pair.one.put("leader", b"1", lease)
    async with aclosing(pair.other.watch(revision + 1)) as batches:
        [batch] = await take(batches, 1)
    assert {change.key for change in batch} == {pair.one.key, pair.one.prefix + "replica"}
    assert {(change.entry, change.revision) for change in batch} == {(None, batch[0].revision)}


@dataclass
class Expiring:
    """A coordinator with a user and a password, and the way to let its token expire."""

    coordinator: Coordinator

    async def expire(self) -> None:
        match self.coordinator:
            case MemoryCoordinator() as memory:
                memory.token_expired = True
            case _:
                # The token lives for a second after its last use, and nothing tells that it has ended.
                await asyncio.sleep(2.5)


@pytest.fixture(params=["memory", "etcd"])
async def expiring(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Expiring]:
    if request.param == "memory":
        yield Expiring(MemoryCoordinator(MemoryStore()))
        return
    with EtcdCluster(tmp_path / "etcd", members=1, unsafe_no_fsync=True, extra_args=["--auth-token-ttl=1"]) as etcd:
        etcd.enable_auth("baton", "secret")
        coordinator = EtcdCoordinator(EtcdAccess(etcd.endpoints, user="baton", password="secret", call_timeout_s=10.0))
        yield Expiring(coordinator)
        await coordinator.close()


async def test_a_call_under_an_expired_token_is_answered(expiring: Expiring) -> None:
    put = Txn((), (Put("/baton/c/a", b"1"),))
    first = await expiring.coordinator.txn(put)
    await expiring.expire()
    assert (await expiring.coordinator.txn(put)).revision == first.revision + 1
    await expiring.expire()
    assert len((await expiring.coordinator.range("/baton/c/")).entries) == 1


async def test_a_watch_under_an_expired_token_ends_and_the_next_one_has_a_new_token(expiring: Expiring) -> None:
    put = Txn((), (Put("/baton/c/a", b"1"),))
    first = await expiring.coordinator.txn(put)
    await expiring.expire()
    with pytest.raises(CoordinatorAway, match=r"permission denied|invalid auth token"):
        await take(expiring.coordinator.watch("/baton/c/", first.revision), 1)
    async with asyncio.timeout(SOON_S), aclosing(expiring.coordinator.watch("/baton/c/", first.revision)) as batches:
        [batch] = await take(batches, 1)
    assert [change.revision for change in batch] == [first.revision]
