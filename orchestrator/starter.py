"""What the demo and the drills need of a client of the API: somebody who starts sagas, and asks on when one is away.

A drill of a deployed cluster sees it through the API alone, and needs a client that reads, too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from orchestrator.pb.baton.v1 import cluster_pb2, saga_pb2


class SagaStarter(Protocol):
    """A client that asks the next replica when one does not answer."""

    async def start_saga(
        self,
        definition: str,
        input_json: str,
        *,
        version: int = 0,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        deadline_s: float | None = None,
    ) -> saga_pb2.StartSagaResponse:
        """Start a saga. Raises BatonError when that was refused, or nobody answered in time."""


# Makes a client of the API for endpoints; it tells of every call that is asked again: the endpoint, and why.
Connect = Callable[[Sequence[str], Callable[[str, str], None]], AbstractAsyncContextManager[SagaStarter]]


class SagaReader(SagaStarter, Protocol):
    """A client that also reads. Every method raises BatonError when nobody answered in time."""

    async def list_sagas(self, request: saga_pb2.ListSagasRequest, limit: int) -> list[saga_pb2.Saga]:
        """At most `limit` sagas that match `request`, newest first."""
        ...

    def watch_saga(self, saga_id: str, after_sequence: int = 0) -> AsyncGenerator[saga_pb2.Transition]:
        """The saga's transitions behind `after_sequence`, as they are written, until it is terminal."""
        ...

    async def get_cluster(self) -> cluster_pb2.GetClusterResponse:
        """Who leads, as one replica sees it."""
        ...


# The same for a client that reads.
ConnectReader = Callable[[Sequence[str], Callable[[str, str], None]], AbstractAsyncContextManager[SagaReader]]
