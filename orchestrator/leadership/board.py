"""What a replica knows of who leads and who is there: read once, then kept up to date by a watch, as long as it lasts.

Only what ends a term or makes a campaign worth while is concluded from here. That this replica leads is never read
off the board: it follows from the outcome of a transaction alone.

Two sources tell of the leader's key, the watch and the outcomes of this replica's own transactions, and they may
arrive in either order. `asked` settles it: what etcd answers to a question that was asked when the board knew
revision n is newer than n, unless etcd's history was replaced, and then it is right as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

import structlog

from orchestrator.leadership.errors import CoordinatorError, HistoryGone
from orchestrator.leadership.keys import Keys, decode
from orchestrator.leadership.port import Change, Coordinator, Entry, LeaseId, Member
from orchestrator.leadership.pulse import Clock
from orchestrator.leadership.signal import Signal

log = structlog.get_logger()

_RETRY_FIRST_S = 0.05
_RETRY_MAX_S = 1.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the leader's key, since which revision of etcd, under which lease."""

    member: Member
    mod_revision: int
    lease: LeaseId

    @classmethod
    def of(cls, entry: Entry) -> Holder:
        """The holder that an entry names."""
        return cls(decode(entry), entry.mod_revision, entry.lease)


class Leaving(StrEnum):
    """How the last holder's key went."""

    UNSEEN = "unseen"  # it was gone when we looked, or there was none
    DELETED = "deleted"  # its holder deleted it
    EXPIRED = "expired"  # its lease ended, and all of the lease's keys with it


@dataclass(frozen=True, slots=True)
class Vacancy:
    """How the leader's key became free, and when that was noticed, in seconds of the clock."""

    leaving: Leaving
    noticed_at_s: float


class Board:
    """Watches one cluster's keys, and notifies a signal of every change."""

    def __init__(self, coordinator: Coordinator, keys: Keys, signal: Signal, clock: Clock) -> None:
        self._coordinator = coordinator
        self._keys = keys
        self._signal = signal
        self._clock = clock
        self._leader: Holder | None = None
        self._leader_revision = 0
        self.known = False
        self.trouble: str | None = None
        self.vacancy = Vacancy(Leaving.UNSEEN, clock())
        self.members: dict[str, Member] = {}

    @property
    def leader(self) -> Holder | None:
        """Who holds the leader's key, as far as is known."""
        return self._leader

    @property
    def asked(self) -> int:
        """What to hand to `learn` with the answer to a question that is asked now."""
        return self._leader_revision

    def learn(self, leader: Holder | None, revision: int, asked: int, leaving: Leaving = Leaving.UNSEEN) -> None:
        """Take note of the leader's key as a transaction found or left it at a revision."""
        if revision > self._leader_revision or asked == self._leader_revision:
            self._note_leader(leader, revision, leaving)
            self._signal.notify()

    async def run(self) -> None:
        """Keep the board up to date until cancelled, through every trouble with etcd."""
        retry_s = _RETRY_FIRST_S
        while True:
            try:
                async for _ in self._follow(await self._read()):
                    retry_s = _RETRY_FIRST_S
                log.info("etcd_watch_interrupted", reaction="reading the keys again")
            except HistoryGone as error:
                log.warning("etcd_history_gone", reason=str(error), reaction="reading the keys again")
            except CoordinatorError as error:
                if self.trouble is None:
                    log.warning("etcd_not_watched", reason=str(error), reaction="trying again, a term goes on")
                self.trouble = str(error)
                self._signal.notify()
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, _RETRY_MAX_S)

    async def _read(self) -> int:
        """Read all keys; the revision to watch from."""
        while True:
            asked = self._leader_revision
            snapshot = await self._coordinator.range(self._keys.all)
            if snapshot.revision >= self._leader_revision or asked == self._leader_revision:
                break
        entries = {entry.key: entry for entry in snapshot.entries}
        self._note_leader(_holder(entries.pop(self._keys.leader, None)), snapshot.revision, Leaving.UNSEEN)
        replicas = [decode(entry) for key, entry in entries.items() if key.startswith(self._keys.replicas)]
        self.members = {member.replica_id: member for member in replicas}
        if self.trouble is not None:
            log.info("etcd_watched_again")
        self.known, self.trouble = True, None
        self._signal.notify()
        return snapshot.revision + 1

    async def _follow(self, from_revision: int) -> AsyncGenerator[None]:
        async with aclosing(self._coordinator.watch(self._keys.all, from_revision)) as batches:
            async for batch in batches:
                if not batch:
                    # The watch was lost, and etcd may have gone back in time and on again unseen: read the keys.
                    return
                for change in batch:
                    self._note(change, batch)
                self._signal.notify()
                yield

    def _note(self, change: Change, batch: tuple[Change, ...]) -> None:
        if change.key == self._keys.leader:
            if change.revision > self._leader_revision:
                self._note_leader(_holder(change.entry), change.revision, self._leaving(batch))
        elif change.key.startswith(self._keys.replicas):
            if change.entry is None:
                self.members.pop(change.key.removeprefix(self._keys.replicas), None)
            else:
                member = decode(change.entry)
                self.members[change.key.removeprefix(self._keys.replicas)] = member

    def _leaving(self, batch: tuple[Change, ...]) -> Leaving:
        """A holder deletes its key alone; with its lease, its own replica's key goes at the same revision."""
        alone = all(change.key == self._keys.leader for change in batch)
        return Leaving.DELETED if alone else Leaving.EXPIRED

    def _note_leader(self, leader: Holder | None, revision: int, leaving: Leaving) -> None:
        if leader is None and (self._leader is not None or not self.known):
            self.vacancy = Vacancy(leaving, self._clock())
        self._leader = leader
        self._leader_revision = revision


def _holder(entry: Entry | None) -> Holder | None:
    return None if entry is None else Holder.of(entry)
