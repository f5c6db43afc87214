"""Tells Baton the answers that came later, by `baton.v1.StepService` of any replica."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from participants.answers import NotReported, NotWanted
from participants.pb.baton.v1 import steps_pb2, steps_pb2_grpc
from participants.tls import Certificates

# One replica is waited for so long, in seconds: it waits for the leader for half of that.
_ATTEMPT_S = 4.0

# What no other replica, and no later attempt, would answer otherwise: the step was answered before, is being undone,
# or does not exist.
_FINAL = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
    }
)

_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # The API is a neighbour, and the proxy of a user's environment knows nothing of it.
    ("grpc.enable_http_proxy", 0),
)


class StepReporter:
    """Implements `Reporter` over the replicas at `endpoints`, each host:port; stays with one that answers.

    With `certificates` (see `certificates_of`) it speaks TLS, and shows the participant's own, whose name the replicas'
    file of callers gives the role `participant`.
    """

    def __init__(self, endpoints: Sequence[str], certificates: Certificates | None = None) -> None:
        """Raises ValueError without any endpoint."""
        self._certificates = certificates
        self._generation = 0
        # Of certificates that were replaced: a call may be under way on one.
        self._retired: list[Any] = []
        if not endpoints:
            raise ValueError("endpoints: name the API of at least one replica, host:port")
        self._endpoints = tuple(endpoints)
        self._stubs: dict[str, Any] = {}
        self._first = 0

    async def complete(self, token: str, response: bytes) -> None:
        """See `Reporter.complete`."""
        await self._tell("CompleteStep", steps_pb2.CompleteStepRequest(token=token, response=response))

    async def fail(self, token: str, code: grpc.StatusCode, message: str) -> None:
        """See `Reporter.fail`."""
        await self._tell("FailStep", steps_pb2.FailStepRequest(token=token, code=code.name, message=message))

    async def heartbeat(self, token: str) -> None:
        """See `Reporter.heartbeat`."""
        await self._tell("HeartbeatStep", steps_pb2.HeartbeatStepRequest(token=token))

    async def _tell(self, method: str, request: Any) -> None:
        said = ""
        for _ in self._endpoints:
            endpoint = self._endpoints[self._first]
            try:
                await getattr(self._stub(endpoint), method)(request, timeout=_ATTEMPT_S)
            except grpc.aio.AioRpcError as error:
                said = f"{endpoint}: {error.code().name}: {error.details()}"
                if error.code() in _FINAL:
                    raise NotWanted(said) from None
                # Whoever tells next begins with another one, also when there is no time left for it now.
                self._first = (self._endpoints.index(endpoint) + 1) % len(self._endpoints)
            else:
                return
        raise NotReported(said)

    def _stub(self, endpoint: str) -> Any:
        # Made within the event loop that uses it; a participant keeps it for as long as it lives.
        credentials = None if self._certificates is None else self._certificates.for_calls()
        if self._certificates is not None and self._certificates.generation != self._generation:
            self._generation = self._certificates.generation
            self._retired += self._stubs.values()
            self._stubs.clear()
        if endpoint not in self._stubs:
            channel = (
                grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
                if credentials is None
                else grpc.aio.secure_channel(endpoint, credentials, options=_OPTIONS)
            )
            self._stubs[endpoint] = steps_pb2_grpc.StepServiceStub(channel)
        return self._stubs[endpoint]
