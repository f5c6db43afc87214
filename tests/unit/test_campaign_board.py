"""The board: two sources tell of the leader's key, and neither may overwrite what is newer."""

from __future__ import annotations

import asyncio

from orchestrator.leadership.board import Board, Holder, Leaving
from orchestrator.leadership.keys import encode
from orchestrator.leadership.memory import MemoryCoordinator, MemoryStore
from orchestrator.leadership.port import NO_LEASE, Delete, LeaseId, Member, Put, Snapshot, Txn
from orchestrator.leadership.signal import Signal
from orchestrator.simulation.clock import now_s, virtually

from .campaign_world import KEYS, eventually

ME = Member("a", "a-1", "a:7490", "a:7400", "a:7480", 1, "1")
OTHER = Member("b", "b-1", "b:7490", "b:7400", "b:7480", 1, "1")


def _put(store: MemoryStore, member: Member, lease: LeaseId = NO_LEASE) -> int:
    return store.run(Txn((), (Put(KEYS.leader, encode(member), lease),))).revision


class _Scene:
    """A board that runs on a store of its own, and lags a second behind it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.coordinator = _Lagging(self.store)
        self.board = Board(self.coordinator, KEYS, Signal(), now_s)

    async def __aenter__(self) -> _Scene:
        self._run = asyncio.ensure_future(self.board.run())
        await eventually(lambda: self.board.known)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._run.cancel()
        await asyncio.wait({self._run})


class _Lagging(MemoryCoordinator):
    """Every request and every change takes a second; an answer too, if it is to be late."""

    answers_late = False
    answered = 0

    async def range(self, prefix: str) -> Snapshot:
        """Every key below `prefix`."""
        snapshot = await super().range(prefix)
        if self.answers_late:
            self.answered += 1
            await asyncio.sleep(1.0)
        return snapshot

    async def _reach(self) -> None:
        await asyncio.sleep(1.0)
        await super()._reach()


def test_changes_from_before_a_victory_do_not_end_it() -> None:
    async def scenario() -> None:
        async with _Scene() as scene:
            asked = scene.board.asked
            _put(scene.store, OTHER)
            scene.store.run(Txn((), (Delete(KEYS.leader),)))
            won = _put(scene.store, ME)
            scene.board.learn(Holder(ME, won, NO_LEASE), won, asked)
            seen = set()
            for _ in range(100):
                seen.add(scene.board.leader)
                await asyncio.sleep(0.1)

            assert seen == {Holder(ME, won, NO_LEASE)}

    virtually(scenario)


def test_the_answer_to_an_old_question_does_not_undo_what_came_since() -> None:
    async def scenario() -> None:
        async with _Scene() as scene:
            asked, before = scene.board.asked, scene.store.revision
            _put(scene.store, OTHER)
            await eventually(lambda: scene.board.leader is not None)
            scene.board.learn(None, before, asked)

            assert scene.board.leader is not None

    virtually(scenario)


def test_an_answer_of_a_younger_history_counts() -> None:
    async def scenario() -> None:
        async with _Scene() as scene:
            newest = [_put(scene.store, OTHER) for _ in range(5)][-1]
            await eventually(lambda: scene.board.asked == newest)
            scene.store.rewind()
            asked = scene.board.asked
            won = _put(scene.store, ME)
            assert won < asked
            scene.board.learn(Holder(ME, won, NO_LEASE), won, asked)

            assert scene.board.leader == Holder(ME, won, NO_LEASE)

    virtually(scenario)


def test_a_read_that_was_answered_before_a_victory_does_not_undo_it() -> None:
    async def scenario() -> None:
        async with _Scene() as scene:
            scene.store.compact(scene.store.revision + 1)
            scene.coordinator.answers_late = True
            _put(scene.store, OTHER)
            scene.store.compact(scene.store.revision + 1)
            await eventually(lambda: scene.coordinator.answered > 0)
            asked = scene.board.asked
            won = _put(scene.store, ME)
            scene.board.learn(Holder(ME, won, NO_LEASE), won, asked)
            seen = set()
            for _ in range(100):
                seen.add(scene.board.leader)
                await asyncio.sleep(0.1)

            assert seen == {Holder(ME, won, NO_LEASE)}

    virtually(scenario)


def test_how_a_key_went_is_told_apart() -> None:
    async def scenario() -> None:
        async with _Scene() as scene:
            lease = scene.store.grant(1000)
            scene.store.run(Txn((), (Put(KEYS.replica("b"), encode(OTHER), lease),)))
            _put(scene.store, OTHER, lease)
            await eventually(lambda: scene.board.leader is not None)
            scene.store.run(Txn((), (Delete(KEYS.leader),)))
            await eventually(lambda: scene.board.leader is None)
            deleted = scene.board.vacancy

            _put(scene.store, OTHER, lease)
            await eventually(lambda: scene.board.leader is not None)
            scene.store.revoke(lease)
            await eventually(lambda: scene.board.leader is None)
            expired = scene.board.vacancy

            assert [deleted.leaving, expired.leaving] == [Leaving.DELETED, Leaving.EXPIRED]
            assert scene.board.members == {}

    virtually(scenario)
