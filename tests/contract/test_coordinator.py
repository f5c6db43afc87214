"""What port.py says of a coordinator, held against etcd and against its model in memory."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from orchestrator.leadership import etcd as etcd_module
from orchestrator.leadership.errors import HistoryGone, LeaseGone
from orchestrator.leadership.etcd import EtcdCoordinator
from orchestrator.leadership.etcd_transport import EtcdAccess
from orchestrator.leadership.memory import MemoryCoordinator, MemoryStore
from orchestrator.leadership.port import (
    NO_LEASE,
    Change,
    Coordinator,
    Delete,
    Entry,
    Equal,
    Field,
    Get,
    LeaseId,
    Put,
    Txn,
)

SOON_S = 30.0


def patient(endpoints: tuple[str, ...]) -> EtcdCoordinator:
    """A client that waits out a machine that stands still for a moment; how long a call may take is no subject here."""
    return EtcdCoordinator(EtcdAccess(endpoints, call_timeout_s=SOON_S))


@pytest.fixture
def patient_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that gives up a member after seconds of silence, and not after one."""
    monkeypatch.setattr(etcd_module, "_WATCH_SILENCE_S", SOON_S / 2)


@dataclass(frozen=True)
class Subject:
    """A coordinator under test, and a prefix that no other test uses."""

    coordinator: Coordinator
    prefix: str

    @property
    def key(self) -> str:
        return self.prefix + "leader"

    async def put(self, name: str, value: bytes = b"v", lease: LeaseId = NO_LEASE) -> int:
        return (await self.coordinator.txn(Txn((), (Put(self.prefix + name, value, lease),)))).revision

    async def delete(self, name: str) -> int:
        return (await self.coordinator.txn(Txn((), (Delete(self.prefix + name),)))).revision

    async def entry(self, name: str) -> Entry | None:
        snapshot = await self.coordinator.range(self.prefix)
        return next((entry for entry in snapshot.entries if entry.key == self.prefix + name), None)

    async def compact(self, revision: int) -> None:
        match self.coordinator:
            case MemoryCoordinator() as memory:
                memory.store.compact(revision)
            case EtcdCoordinator() as etcd:
                await etcd.compact(revision)

    def watch(self, from_revision: int) -> AsyncGenerator[tuple[Change, ...]]:
        return self.coordinator.watch(self.prefix, from_revision)


@pytest.fixture(params=["memory", "etcd"])
async def subject(request: pytest.FixtureRequest, patient_watches: None) -> AsyncIterator[Subject]:
    prefix = f"/baton/{uuid.uuid4().hex}/"
    if request.param == "memory":
        yield Subject(MemoryCoordinator(MemoryStore()), prefix)
        return
    coordinator = patient(request.getfixturevalue("etcd_single").endpoints)
    yield Subject(coordinator, prefix)
    await coordinator.close()


async def take(batches: AsyncGenerator[tuple[Change, ...]], count: int) -> list[tuple[Change, ...]]:
    """The next batches of a watch."""
    async with asyncio.timeout(SOON_S):
        return [await anext(batches) for _ in range(count)]


async def test_an_empty_prefix_has_no_keys_and_a_revision(subject: Subject) -> None:
    snapshot = await subject.coordinator.range(subject.prefix)

    assert snapshot.entries == ()
    assert snapshot.revision >= 1
    assert snapshot.cluster


async def test_a_range_finds_what_is_below_its_prefix_in_order(subject: Subject) -> None:
    second, first = await subject.put("b", b"2"), await subject.put("a", b"1")
    await subject.coordinator.txn(Txn((), (Put(subject.prefix.rstrip("/") + "0", b"beside"),)))

    snapshot = await subject.coordinator.range(subject.prefix)

    assert snapshot.entries == (
        Entry(subject.prefix + "a", b"1", first, first),
        Entry(subject.prefix + "b", b"2", second, second),
    )
    assert snapshot.revision == first + 1


async def test_only_the_first_of_two_creations_succeeds(subject: Subject) -> None:
    free = Equal(subject.key, Field.CREATED, 0)
    first = await subject.coordinator.txn(Txn((free,), (Put(subject.key, b"1"),), (Get(subject.key),)))
    second = await subject.coordinator.txn(Txn((free,), (Put(subject.key, b"2"),), (Get(subject.key),)))

    assert (first.succeeded, first.found) == (True, ())
    assert (second.succeeded, second.found) == (False, (Entry(subject.key, b"1", first.revision, first.revision),))
    assert second.revision == first.revision
    assert second.cluster == first.cluster == (await subject.coordinator.range(subject.prefix)).cluster


async def test_of_many_creations_at_once_one_succeeds(subject: Subject) -> None:
    free = Equal(subject.key, Field.CREATED, 0)
    claims = [subject.coordinator.txn(Txn((free,), (Put(subject.key, b"%d" % n),))) for n in range(20)]
    results = await asyncio.gather(*claims)

    winners = [n for n, result in enumerate(results) if result.succeeded]
    assert len(winners) == 1
    entry = await subject.entry("leader")
    assert entry is not None
    assert entry.value == b"%d" % winners[0]


async def test_compare_and_swap_on_the_mod_revision(subject: Subject) -> None:
    created = await subject.put("leader", b"1")
    changed = await subject.put("leader", b"2")
    stale = Txn((Equal(subject.key, Field.MOD_REVISION, created),), (Put(subject.key, b"3"),))
    fresh = Txn((Equal(subject.key, Field.MOD_REVISION, changed),), (Put(subject.key, b"3"),))

    assert not (await subject.coordinator.txn(stale)).succeeded
    swapped = await subject.coordinator.txn(fresh)
    assert swapped.succeeded
    assert await subject.entry("leader") == Entry(subject.key, b"3", swapped.revision, created)


async def test_every_field_compares(subject: Subject) -> None:
    lease, _ = await subject.coordinator.grant(60)
    revision = await subject.put("leader", b"1", lease)

    async def holds(field: Field, value: int | bytes, name: str = "leader") -> bool:
        return (await subject.coordinator.txn(Txn((Equal(subject.prefix + name, field, value),), ()))).succeeded

    assert await holds(Field.CREATED, revision)
    assert await holds(Field.MOD_REVISION, revision)
    assert await holds(Field.VALUE, b"1")
    assert await holds(Field.LEASE, lease)
    assert not await holds(Field.CREATED, 0)
    assert not await holds(Field.MOD_REVISION, revision - 1)
    assert not await holds(Field.VALUE, b"2")
    assert not await holds(Field.LEASE, NO_LEASE)
    assert await holds(Field.CREATED, 0, "missing")
    assert await holds(Field.MOD_REVISION, 0, "missing")
    assert await holds(Field.LEASE, NO_LEASE, "missing")
    assert not await holds(Field.VALUE, b"", "missing")
    await subject.coordinator.revoke(lease)


async def test_all_conditions_must_hold(subject: Subject) -> None:
    revision = await subject.put("leader", b"1")
    conditions = (Equal(subject.key, Field.MOD_REVISION, revision), Equal(subject.key, Field.VALUE, b"2"))

    assert not (await subject.coordinator.txn(Txn(conditions, (Delete(subject.key),)))).succeeded
    assert await subject.entry("leader") is not None


async def test_deleting_what_is_not_there_changes_nothing(subject: Subject) -> None:
    revision = await subject.put("leader")

    assert await subject.delete("missing") == revision


async def test_a_deleted_key_can_be_created_again(subject: Subject) -> None:
    await subject.put("leader", b"1")
    await subject.delete("leader")
    free = Equal(subject.key, Field.CREATED, 0)
    again = await subject.coordinator.txn(Txn((free,), (Put(subject.key, b"2"),)))

    assert again.succeeded
    assert await subject.entry("leader") == Entry(subject.key, b"2", again.revision, again.revision)


async def test_a_revoked_lease_takes_all_its_keys_with_it_at_one_revision(subject: Subject) -> None:
    lease, _ = await subject.coordinator.grant(60)
    await subject.put("leader", b"1", lease)
    await subject.put("replica", b"1", lease)
    kept = await subject.put("other", b"1")
    async with aclosing(subject.watch(kept + 1)) as batches:
        await subject.coordinator.revoke(lease)
        [batch] = await take(batches, 1)

    assert {change.key for change in batch} == {subject.key, subject.prefix + "replica"}
    assert {(change.entry, change.revision) for change in batch} == {(None, kept + 1)}
    assert await subject.entry("other") is not None


async def test_a_lease_can_be_revoked_twice(subject: Subject) -> None:
    lease, _ = await subject.coordinator.grant(60)
    await subject.coordinator.revoke(lease)
    await subject.coordinator.revoke(lease)


async def test_a_put_under_a_lease_that_is_gone_does_nothing(subject: Subject) -> None:
    lease, _ = await subject.coordinator.grant(60)
    await subject.coordinator.revoke(lease)

    with pytest.raises(LeaseGone):
        await subject.coordinator.txn(Txn((), (Put(subject.prefix + "a", b"1"), Put(subject.key, b"1", lease))))
    assert (await subject.coordinator.range(subject.prefix)).entries == ()


async def test_a_key_written_under_another_lease_outlives_the_first(subject: Subject) -> None:
    first, _ = await subject.coordinator.grant(60)
    second, _ = await subject.coordinator.grant(60)
    await subject.put("leader", b"1", first)
    await subject.put("leader", b"2", second)
    await subject.coordinator.revoke(first)

    entry = await subject.entry("leader")
    assert entry is not None
    assert entry.lease == second
    await subject.coordinator.revoke(second)


async def test_a_lease_that_nobody_renews_ends(subject: Subject) -> None:
    lease, ttl_s = await subject.coordinator.grant(1)
    revision = await subject.put("leader", b"1", lease)
    async with aclosing(subject.watch(revision + 1)) as batches:
        [batch] = await take(batches, 1)

    assert 1 <= ttl_s <= 2
    assert batch == (Change(subject.key, None, batch[0].revision),)
    with pytest.raises(LeaseGone):
        await subject.put("leader", b"1", lease)


async def test_a_watch_tells_every_change_from_its_revision_on(subject: Subject) -> None:
    before = await subject.put("leader", b"0")
    first = await subject.put("leader", b"1")
    async with aclosing(subject.watch(before + 1)) as batches:
        second = await subject.put("replica", b"2")
        third = await subject.delete("leader")
        seen = await take(batches, 3)
        fourth = await subject.put("leader", b"4")
        seen += await take(batches, 1)

    assert seen == [
        (Change(subject.key, Entry(subject.key, b"1", first, before), first),),
        (Change(subject.prefix + "replica", Entry(subject.prefix + "replica", b"2", second, second), second),),
        (Change(subject.key, None, third),),
        (Change(subject.key, Entry(subject.key, b"4", fourth, fourth), fourth),),
    ]


async def test_a_watch_tells_nothing_of_other_prefixes(subject: Subject) -> None:
    revision = (await subject.coordinator.range(subject.prefix)).revision
    async with aclosing(subject.watch(revision + 1)) as batches:
        await subject.coordinator.txn(Txn((), (Put(subject.prefix.rstrip("/") + "0", b"beside"),)))
        await subject.put("leader", b"1")
        [batch] = await take(batches, 1)

    assert [change.key for change in batch] == [subject.key]


async def test_changes_of_one_transaction_come_together(subject: Subject) -> None:
    revision = (await subject.coordinator.range(subject.prefix)).revision
    names = ("a", "b", "c")
    async with aclosing(subject.watch(revision + 1)) as batches:
        await subject.coordinator.txn(Txn((), tuple(Put(subject.prefix + name, b"1") for name in names)))
        [batch] = await take(batches, 1)

    assert {change.key for change in batch} == {subject.prefix + name for name in names}
    assert {change.revision for change in batch} == {revision + 1}


async def test_two_watches_see_the_same(subject: Subject) -> None:
    revision = (await subject.coordinator.range(subject.prefix)).revision
    async with aclosing(subject.watch(revision + 1)) as one, aclosing(subject.watch(revision + 1)) as other:
        for n in range(5):
            await subject.put("leader", b"%d" % n)

        assert await take(one, 5) == await take(other, 5)


async def test_a_watch_from_a_compacted_revision_says_so(subject: Subject) -> None:
    first = await subject.put("leader", b"1")
    for n in range(5):
        last = await subject.put("leader", b"%d" % n)
    await subject.compact(last)

    with pytest.raises(HistoryGone):
        await take(subject.watch(first), 1)
    assert [batch[0].revision for batch in await take(subject.watch(last), 1)] == [last]


async def test_a_watch_from_beyond_the_history_says_so(subject: Subject) -> None:
    """As after etcd was restored from a backup: waiting would miss everything until the revision came again."""
    revision = await subject.put("leader", b"1")

    with pytest.raises(HistoryGone):
        await take(subject.watch(revision + 100), 1)
