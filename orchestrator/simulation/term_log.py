"""A replica's way to the simulated Postgres: one writer with group commit, as in sagalog/term.py, and a reader.

A write whose outcome is unknown is sent again, on a new connection, until it is known. Times are in seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from orchestrator.errors import Fenced, InvariantError, LogUnavailable, Resign
from orchestrator.saga.events import Event
from orchestrator.saga.model import Epoch, Saga, SagaId, SagaState
from orchestrator.sagalog.port import Claim, Heard, NewChild, StoredPause, StoredSaga, StoredSignal
from orchestrator.simulation.loop import Process, SimulationLoop
from orchestrator.simulation.network import Network, NoAnswer, Reply, Serve, Weather
from orchestrator.simulation.postgres import PostgresModel, Transition
from orchestrator.simulation.trace import Trace

T = TypeVar("T")

TIMEOUT_S = 2.0
ABSENCE_MAX_S = 5.0
RECONNECT_S = 0.1
BATCH_MAX = 8


@dataclass(frozen=True, slots=True)
class Line:
    """How one process reaches Postgres."""

    loop: SimulationLoop
    network: Network
    postgres: PostgresModel
    process: Process
    weather: Weather
    trace: Trace

    async def ask(self, serve: Serve[T], timeout_s: float = TIMEOUT_S) -> T:
        """Run a statement. Raises LogUnavailable: then its outcome is unknown."""
        try:
            return await self.network.ask(self.process, self.postgres.server, self.weather, serve, timeout_s)
        except NoAnswer as error:
            raise LogUnavailable("Postgres does not answer") from error

    async def read(self, run: Callable[[PostgresModel], T]) -> T:
        """Read what is there in one moment. Raises LogUnavailable."""
        return await self.ask(lambda reply: reply.send(run(self.postgres)))


class RemoteSagaLog:
    """Implements `SagaLog` for one replica."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def raise_epoch(self, claim: Claim) -> RemoteTermLog | None:
        """See `SagaLog.raise_epoch`."""
        epoch = await self._raise(claim, None)
        return None if epoch is None else RemoteTermLog(self._line, epoch)

    async def raise_epoch_again(self, claim: Claim) -> RemoteTermLog:
        """See `SagaLog.raise_epoch_again`."""
        seen = await self._line.read(lambda postgres: postgres.log.epoch)
        epoch = await self._raise(claim, seen)
        if epoch is None:
            raise Fenced(f"another replica raised the epoch of shard {claim.shard} meanwhile")
        return RemoteTermLog(self._line, epoch)

    async def _raise(self, claim: Claim, seen: Epoch | None) -> Epoch | None:
        def serve(reply: Reply[Epoch | None]) -> None:
            self._line.postgres.raise_epoch(claim, seen, reply)

        try:
            return await self._line.ask(serve)
        except LogUnavailable:
            # It may be raised all the same, by somebody who does not lead: that is a cause for the next change.
            self._line.postgres.history.raises_unheard += 1
            raise

    async def reachable(self) -> bool:
        """Whether Postgres answers now."""
        try:
            await self._line.read(lambda _: None)
        except LogUnavailable:
            return False
        return True


@dataclass(slots=True)
class _Waiting:
    """One transition that waits for its commit."""

    saga: Saga
    events: Sequence[Event]
    heard: Sequence[Heard]
    done: asyncio.Future[None]


class RemoteTermLog:
    """Implements `TermLog`."""

    def __init__(self, line: Line, epoch: Epoch) -> None:
        self._line = line
        self._epoch = epoch
        self._proven_at_s = line.loop.time()
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()

    @property
    def epoch(self) -> Epoch:
        """The epoch under which this log writes."""
        return self._epoch

    @property
    def proven_at_s(self) -> float:
        """When the epoch was last proven: the time the proof was asked for."""
        return self._proven_at_s

    def now(self) -> datetime:
        """See `TermLog.now`."""
        return self._postgres.log.now()

    async def append(self, saga: Saga, events: Sequence[Event], heard: Sequence[Heard] = ()) -> None:
        """See `TermLog.append`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(saga, events, heard, done))
        self._wake.set()
        await done

    async def run(self) -> None:
        """See `TermLog.run`."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))]
                async with self._writing:
                    await self._commit([(waiting.saga, waiting.events, waiting.heard) for waiting in batch])
                for waiting in batch:
                    if not waiting.done.done():
                        waiting.done.set_result(None)

    async def _commit(self, transitions: list[Transition]) -> None:
        rows = sum(len(events) for _, events, _ in transitions)
        await self._until_known(lambda reply: self._postgres.append(self._epoch, transitions, reply), rows)

    async def begin_child(self, parent: Saga, step: str, child: NewChild) -> None:
        """See `TermLog.begin_child`."""
        async with self._writing:
            await self._until_known(lambda reply: self._postgres.begin_child(self._epoch, parent, step, child, reply))

    async def undo_child(self, parent: Saga, step: str, asking: int) -> str:
        """See `TermLog.undo_child`."""
        states: list[str] = []
        async with self._writing:
            await self._until_known(
                lambda reply: self._postgres.undo_child(self._epoch, parent, step, asking, states, reply)
            )
        return states[-1]

    async def refuse(self, heard: Sequence[Heard]) -> None:
        """See `TermLog.refuse`."""
        async with self._writing:
            await self._until_known(lambda reply: self._postgres.refuse(self._epoch, heard, reply))

    async def park(self, stored: StoredSaga, reason: str) -> None:
        """See `TermLog.park`."""
        async with self._writing:
            await self._until_known(lambda reply: self._postgres.park(self._epoch, stored, reason, reply))

    async def prove(self) -> None:
        """See `TermLog.prove`."""
        async with self._writing:
            await self._until_known(lambda reply: self._postgres.prove(self._epoch, reply))

    @property
    def _postgres(self) -> PostgresModel:
        return self._line.postgres

    async def _until_known(self, serve: Callable[[Reply[int | None]], None], rows: int = 0) -> None:
        away_since_s: float | None = None
        while True:
            sent_s = self._line.loop.time()
            try:
                logged = await self._line.ask(serve)
            except LogUnavailable as error:
                self._line.trace.count("writes_repeated")
                away_since_s = away_since_s or sent_s
                await self._reconnect(away_since_s, error)
                continue
            if logged is None:
                self._line.trace.note("fenced", self._line.process.name, f"epoch={self._epoch}")
                raise Fenced(f"epoch {self._epoch} no longer holds the fence")
            if logged != rows and away_since_s is None:
                raise InvariantError(f"{rows - logged} rows were in the log before they were written")
            self._proven_at_s = sent_s
            return

    async def _reconnect(self, away_since_s: float, cause: Exception) -> None:
        while True:
            away_s = self._line.loop.time() - away_since_s
            if away_s > ABSENCE_MAX_S:
                raise Resign(f"Postgres has taken no write for {away_s:.1f} s: {cause}", cooldown_s=1.0)
            try:
                await self._line.read(lambda _: None)
                return
            except LogUnavailable as error:
                cause = error
                await asyncio.sleep(RECONNECT_S)

    def forget(self, sagas: Collection[SagaId]) -> None:
        """See `TermLog.forget`: no upkeep runs here."""

    async def unfinished(self, first: int, most: int) -> AsyncGenerator[list[StoredSaga]]:
        """See `TermLog.unfinished`."""
        page = first
        for state in (SagaState.COMPENSATING, SagaState.RUNNING):
            last: SagaId | None = None
            while found := await self._page(state, last, page):
                yield found
                last, page = found[-1].id, min(page * 2, most)

    async def _page(self, state: SagaState, last: SagaId | None, limit: int) -> list[StoredSaga]:
        return await self._line.read(lambda postgres: postgres.unfinished(state, self._epoch, last, limit))

    async def pending(self, limit: int, exclude: Sequence[SagaId]) -> list[StoredSaga]:
        """See `TermLog.pending`."""
        return await self._line.read(lambda postgres: postgres.log.pending(limit, exclude))

    async def cancellations(self) -> list[tuple[SagaId, str]]:
        """See `TermLog.cancellations`."""
        return await self._line.read(lambda postgres: postgres.log.cancellations())

    async def due(self, page: int) -> AsyncGenerator[list[StoredSaga]]:
        """See `TermLog.due`."""
        seen: set[SagaId] = set()
        while True:
            found = await self._line.read(lambda postgres: postgres.due())
            fresh = [stored for stored in found if stored.id not in seen][:page]
            if not fresh:
                return
            yield fresh
            seen.update(stored.id for stored in fresh)

    async def next_due_s(self) -> float | None:
        """See `TermLog.next_due_s`."""
        return await self._line.read(lambda postgres: postgres.log.next_due_s())

    async def sagas(self, ids: Sequence[SagaId]) -> list[StoredSaga]:
        """See `TermLog.sagas`."""
        return await self._line.read(lambda postgres: postgres.sagas(ids))

    async def signals(self, after: int, page: int) -> list[StoredSignal]:
        """See `TermLog.signals`."""
        return await self._line.read(lambda postgres: postgres.log.signals(after, page))

    async def pauses(self) -> list[StoredPause]:
        """See `TermLog.pauses`."""
        return await self._line.read(lambda postgres: postgres.log.pauses())

    async def held(self, until: datetime, page: int) -> AsyncGenerator[list[StoredSaga]]:
        """See `TermLog.held`."""
        seen: set[SagaId] = set()
        while True:
            # Each page is a read of its own, as in Postgres: an older one would show sagas as they no longer are.
            found = await self._line.read(lambda postgres: postgres.log.held(until))
            fresh = [stored for stored in found if stored.id not in seen][:page]
            if not fresh:
                return
            yield fresh
            seen.update(stored.id for stored in fresh)

    async def heed_pauses(self, heeded: Collection[UUID], released: Collection[UUID]) -> None:
        """See `TermLog.heed_pauses`."""
        async with self._writing:
            await self._until_known(lambda reply: self._postgres.heed_pauses(self._epoch, heeded, released, reply))

    async def listen(self, wake: Callable[[], None]) -> None:
        """See `TermLog.listen`: a connection that is lost is noticed only by silence, and polling makes up for it."""
        line = self._line

        def told() -> None:
            if (line.postgres.server.name, line.process.name) not in line.network.cut:
                line.loop.schedule(line.process, 0.001, wake)

        try:
            while True:
                try:
                    await line.read(lambda postgres: postgres.listen(told))
                    wake()
                except LogUnavailable:
                    await asyncio.sleep(RECONNECT_S)
                    continue
                await line.postgres.next_stop()
        finally:
            line.postgres.unlisten(told)

    async def close(self) -> None:
        """See `TermLog.close`."""
        for waiting in self._waiting:
            waiting.done.cancel()
        self._waiting.clear()
