"""What the demo and the drills need of a client of the API: somebody who starts sagas, and asks on when one is away."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from orchestrator.pb.baton.v1 import saga_pb2


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
