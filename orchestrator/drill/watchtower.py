"""What a drill sees of a deployed cluster through its API alone: who leads, its sagas, and how long none was driven."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from orchestrator.drill.load import Load
from orchestrator.drill.result import Term
from orchestrator.errors import BatonError
from orchestrator.pb.baton.v1 import cluster_pb2, saga_pb2
from orchestrator.starter import ConnectReader, SagaReader

_VIEW_TIMEOUT_S = 1.0
_LOOK_EVERY_S = 0.5
_ASK_INTERVAL_S = 0.05
_SAGAS_MAX = 1_000_000
_COUNTED_MAX = 2000
_OUTCOMES = frozenset({"completed", "failed", "compensated"})
_UNDER_WAY = (saga_pb2.SAGA_STATE_PENDING, saga_pb2.SAGA_STATE_RUNNING, saga_pb2.SAGA_STATE_COMPENSATING)


class Unhealed(BatonError):
    """A deployed cluster did not come back after a fault. It may need its operator."""


@dataclass(frozen=True, slots=True)
class LeaderSeen:
    """Who leads, by the newest answer."""

    replica_id: str
    pid: int
    epoch: int

    @property
    def placeholders(self) -> Mapping[str, str]:
        """What an operator's command may name."""
        return {"replica": self.replica_id, "pid": str(self.pid)}


@dataclass(slots=True)
class Watchtower:
    """Looks at the replicas at `endpoints`, each asked for itself; an async context manager.

    `labels` are those of the sagas of this run. `terms` grows while `follow` runs: terms shorter than half a second
    may be missed.
    """

    endpoints: Sequence[str]
    connect: ConnectReader
    labels: Mapping[str, str]
    began_s: float = field(default_factory=time.monotonic)
    terms: list[Term] = field(default_factory=list)
    views: dict[str, cluster_pb2.GetClusterResponse | None] = field(default_factory=dict)
    seen: LeaderSeen | None = None
    _eyes: dict[str, SagaReader] = field(default_factory=dict)
    _reader: SagaReader | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def reader(self) -> SagaReader:
        """The client that asks the next replica when one does not answer."""
        if self._reader is None:
            raise Unhealed("the cluster is looked at before it was entered")
        return self._reader

    async def look(self) -> LeaderSeen | None:
        """Ask every replica who leads, and believe the newest epoch; None where nobody leads or answers."""
        async with asyncio.TaskGroup() as group:
            asked = {endpoint: group.create_task(_view(eye)) for endpoint, eye in self._eyes.items()}
        self.views = {endpoint: task.result() for endpoint, task in asked.items()}
        leading = [view for view in self.views.values() if view is not None and view.HasField("leader")]
        newest = max(leading, key=lambda view: view.epoch, default=None)
        if newest is None:
            self.seen = None
            return None
        self.seen = leader = LeaderSeen(newest.leader.replica_id, newest.leader.pid, newest.epoch)
        if leader.epoch > (self.terms[-1].epoch if self.terms else 0):
            self.terms.append(Term(leader.epoch, leader.replica_id, "", time.monotonic() - self.began_s))
        return leader

    @property
    def answering(self) -> int:
        """How many endpoints have answered when they were looked at last, and are in no trouble."""
        return sum(view is not None and not view.trouble for view in self.views.values())

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def leader(self, timeout_s: float, above_epoch: int = 0, answering: int = 1) -> LeaderSeen:
        """Wait for a leader of a higher epoch, and until so many endpoints answer. Raises Unhealed."""
        give_up_at_s = time.monotonic() + timeout_s
        while True:
            leader = await self.look()
            if leader is not None and leader.epoch > above_epoch and self.answering >= answering:
                return leader
            if time.monotonic() > give_up_at_s:
                who = f"{leader.replica_id} leads epoch {leader.epoch}" if leader else "nobody leads"
                raise Unhealed(
                    f"after {timeout_s:g} s {who} (awaited: above {above_epoch}), and {self.answering} of "
                    f"{len(self.endpoints)} endpoints answer without trouble (awaited: {answering})"
                )
            await asyncio.sleep(_ASK_INTERVAL_S)

    async def gap_s(self, load: Load, since_s: float, epoch: int, timeout_s: float) -> float | None:
        """Seconds since then, by the monotonic clock, to the first outcome under a later epoch that a watch brings.

        It watches the newest saga of the load, and the next one when that has ended: while nobody leads, it does not
        move. None if there is none in time.
        """
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + timeout_s):
                while True:
                    async with aclosing(self.reader.watch_saga(load.acknowledged[-1].saga_id)) as transitions:
                        async for transition in transitions:
                            if transition.epoch > epoch and transition.status in _OUTCOMES:
                                return time.monotonic() - since_s
                    await asyncio.sleep(_ASK_INTERVAL_S)
        except TimeoutError:
            return None

    async def sagas(self) -> list[saga_pb2.Saga]:
        """Every saga of this run, without its input."""
        return await self.reader.list_sagas(saga_pb2.ListSagasRequest(labels=dict(self.labels)), _SAGAS_MAX)

    async def under_way(self) -> dict[str, int]:
        """How many sagas of this run have not ended, by state, as far as they can be counted fast."""
        question = saga_pb2.ListSagasRequest(labels=dict(self.labels), states=_UNDER_WAY)
        return dict(Counter(state_name(saga) for saga in await self.reader.list_sagas(question, _COUNTED_MAX)))

    async def all_ended(self, timeout_s: float) -> bool:
        """Wait until every saga of this run is terminal; whether that was in time."""
        give_up_at_s = time.monotonic() + timeout_s
        question = saga_pb2.ListSagasRequest(labels=dict(self.labels), states=_UNDER_WAY)
        while await self.reader.list_sagas(question, 1):
            if time.monotonic() > give_up_at_s:
                return False
            await asyncio.sleep(_LOOK_EVERY_S)
        return True

    async def __aenter__(self) -> Self:
        self._reader = await self._stack.enter_async_context(self.connect(self.endpoints, _quietly))
        for endpoint in self.endpoints:
            self._eyes[endpoint] = await self._stack.enter_async_context(self.connect((endpoint,), _quietly))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()


def state_name(saga: saga_pb2.Saga) -> str:
    """The state by the name that the saga log has for it."""
    return saga_pb2.SagaState.Name(saga.state).removeprefix("SAGA_STATE_")


async def _view(eye: SagaReader) -> cluster_pb2.GetClusterResponse | None:
    try:
        async with asyncio.timeout(_VIEW_TIMEOUT_S):
            return await eye.get_cluster()
    except (BatonError, TimeoutError):
        return None


def _quietly(endpoint: str, why: str) -> None:
    """A call that is asked again is nothing to tell: faults are made for that."""
