"""A store that goes back in time and on again while nobody watches, held against etcd and against its model in memory.

When a watch comes back, the other history has passed the revision that was seen last: no number tells of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from orchestrator.drill.proxy import Link, Proxy
from orchestrator.embedded.cluster import in_thread
from orchestrator.embedded.etcd import EtcdCluster
from orchestrator.leadership.board import Board
from orchestrator.leadership.errors import CoordinatorAway, OutcomeUnknown
from orchestrator.leadership.etcd import EtcdCoordinator
from orchestrator.leadership.etcd_transport import EtcdAccess
from orchestrator.leadership.keys import Keys, encode
from orchestrator.leadership.memory import MemoryCoordinator, MemoryStore
from orchestrator.leadership.port import Coordinator, Member, Put, Txn
from orchestrator.leadership.pulse import boottime_s
from orchestrator.leadership.signal import Signal

from .test_coordinator import SOON_S

KEYS = Keys("c", 0)
LEADER = Member("a", "a-1", "a:7490", "a:7400", "a:7480", 1, "1")
STANDBY = Member("b", "b-1", "b:7490", "b:7400", "b:7480", 1, "1")
NEWCOMER = Member("c", "c-1", "c:7490", "c:7400", "c:7480", 1, "1")


class Store(Protocol):
    """A store, and two ways to it: one for whoever watches, and one for all that happens unseen."""

    watcher: Coordinator
    direct: Coordinator

    async def keep(self) -> None:
        """Remember this moment."""
        ...

    async def go_back(self) -> None:
        """Go back to that moment; the watch hears nothing yet."""
        ...

    async def interrupt(self) -> None:
        """Let the watch notice that its connection is gone. It finds another one."""
        ...


class AtOnce(MemoryCoordinator):
    """Lets nobody else run in between."""

    async def _reach(self) -> None:
        pass


class Model:
    """The model goes back to its beginning; whoever watches runs when the test waits, and not before."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self.watcher: Coordinator = MemoryCoordinator(self._store)
        self.direct: Coordinator = AtOnce(self._store)

    async def keep(self) -> None:
        """Nothing comes before what must be forgotten."""

    async def go_back(self) -> None:
        self._store.rewind()

    async def interrupt(self) -> None:
        """Connections end with the past of the model."""


@dataclass
class Etcd:
    """One member of etcd, watched through a link; there is a second address to turn to."""

    etcd: EtcdCluster
    proxy: Proxy
    link: Link
    snapshot: Path
    watcher: Coordinator
    direct: Coordinator

    async def keep(self) -> None:
        await in_thread(lambda: self.etcd.save_snapshot(self.snapshot))

    async def go_back(self) -> None:
        await self.proxy.ask(self.link.blackhole)
        await in_thread(lambda: self.etcd.restore(self.snapshot))

    async def interrupt(self) -> None:
        await self.proxy.ask(self.link.cut)


@contextmanager
def linked_etcd(folder: Path) -> Iterator[tuple[EtcdCluster, Proxy, Link]]:
    with EtcdCluster(folder, members=1, unsafe_no_fsync=True) as etcd, Proxy() as proxy:
        host, port = etcd.endpoints[0].split(":")
        yield etcd, proxy, proxy.link("etcd", (host, int(port)))


@pytest.fixture(params=["memory", "etcd"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield Model()
        return
    with linked_etcd(tmp_path / "etcd") as (etcd, proxy, link):
        endpoints = (":".join(map(str, link.address)), *etcd.endpoints)
        # However slow the link's answers are, the second address is not preferred.
        watcher = EtcdCoordinator(EtcdAccess(endpoints, call_timeout_s=10.0, hedge_s=10.0))
        direct = EtcdCoordinator(EtcdAccess(etcd.endpoints, call_timeout_s=10.0))
        yield Etcd(etcd, proxy, link, tmp_path / "snapshot", watcher, direct)
        await watcher.close()
        await direct.close()


async def reached(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0.01)


async def put(coordinator: Coordinator, key: str, value: bytes = b"v") -> int:
    """Put a key, again if the connection to an earlier store was found dead."""
    async with asyncio.timeout(SOON_S):
        while True:
            try:
                return (await coordinator.txn(Txn((), (Put(key, value),)))).revision
            except (OutcomeUnknown, CoordinatorAway):
                await asyncio.sleep(0.01)


async def pass_revision(coordinator: Coordinator, revision: int) -> None:
    """Have the history, as it is now, go beyond a revision, with keys that are nobody's business."""
    while await put(coordinator, "/elsewhere") <= revision + 5:
        pass


async def test_a_board_forgets_a_leader_that_another_history_does_not_know(store: Store) -> None:
    await store.keep()
    await put(store.direct, KEYS.replica("a"), encode(LEADER))
    await put(store.direct, KEYS.leader, encode(LEADER))
    board = Board(store.watcher, KEYS, Signal(), boottime_s)
    running = asyncio.create_task(board.run())
    await reached(lambda: board.leader is not None)
    # It watches now, and is told of this.
    seen = await put(store.direct, KEYS.replica("b"), encode(STANDBY))
    await reached(lambda: set(board.members) == {"a", "b"})
    await store.go_back()
    await put(store.direct, KEYS.replica("c"), encode(NEWCOMER))
    await pass_revision(store.direct, seen)
    await store.interrupt()
    await reached(lambda: board.leader is None and set(board.members) == {"c"})
    assert not running.done()
    running.cancel()
    await asyncio.wait({running})


async def test_a_watch_that_goes_on_says_that_it_was_interrupted(store: Store) -> None:
    first = await put(store.direct, KEYS.leader, b"1")
    async with asyncio.timeout(SOON_S), aclosing(store.watcher.watch(KEYS.all, first)) as batches:
        assert [change.revision for change in await anext(batches)] == [first]
        if isinstance(store, Model):
            await store.go_back()
            await pass_revision(store.direct, first)
        await store.interrupt()
        assert await anext(batches) == ()
        second = await put(store.direct, KEYS.leader, b"2")
        assert [change.revision for change in await anext(batches)] == [second]
