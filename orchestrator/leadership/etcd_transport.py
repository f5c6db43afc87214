"""How requests reach etcd: one channel an endpoint, fail-over of our own, TLS, and user and password.

gRPC could spread one channel over several addresses by itself, but with TLS it would then check each member's
certificate against the list instead of the member's own name. So every endpoint has its channel, and the endpoint
that answered last is asked first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import grpc
from google.protobuf.message import Message

from orchestrator.errors import InvariantError
from orchestrator.failpoints import effects
from orchestrator.failpoints.armed import ARMED, strike
from orchestrator.failpoints.effects import Effect
from orchestrator.leadership.errors import (
    CoordinatorAway,
    CoordinatorError,
    CoordinatorRefused,
    LeaseGone,
    OutcomeUnknown,
)
from orchestrator.pb.baton.etcd.v1 import etcd_pb2 as pb
from orchestrator.security.dialer import PLAIN, Dialer
from orchestrator.security.identity import identity_from

Response = TypeVar("Response", bound=Message)
Metadata = tuple[tuple[str, str], ...]
REQUIRES_LEADER: Metadata = (("hasleader", "true"),)

# gRPC's name for the longest time that one attempt to connect may take.
CONNECT_TIMEOUT_MS = "grpc.min_reconnect_backoff_ms"
# etcd cuts a client off that pings more often than every 5 s, or without a call under way: hence no
# keepalive_permit_without_calls. The second timeout is set because it overrules the first (60 s by default).
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.http2.ping_timeout_ms", 2000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    (CONNECT_TIMEOUT_MS, 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

_AWAY = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


@dataclass(frozen=True, slots=True)
class Method(Generic[Response]):
    """One of etcd's methods, what it answers, and the effect under which it is known."""

    path: str
    response: type[Response]
    effect: Effect


AUTHENTICATE = Method("/etcdserverpb.Auth/Authenticate", pb.AuthenticateResponse, effects.AUTHENTICATE)


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """Where etcd is and how to be let in. Each endpoint is host:port; `dialer` knows whether it speaks TLS."""

    endpoints: tuple[str, ...]
    user: str = ""
    password: str = field(default="", repr=False)
    dialer: Dialer = PLAIN
    # Longest wait for one answer of one endpoint, and when a second one is asked beside it.
    call_timeout_s: float = 1.0
    hedge_s: float = 0.15
    # Longest wait for a connection to an endpoint that neither takes nor refuses it.
    connect_timeout_s: float = 1.0

    @classmethod
    def from_files(
        cls, endpoints: tuple[str, ...], user: str, password: str, ca: Path | None, cert: Path | None, key: Path | None
    ) -> EtcdAccess:
        """Access with the certificates in these PEM files, TLS if there is an authority. Raises BadFile."""
        return cls(endpoints, user, password, PLAIN if ca is None else Dialer(identity_from(ca, cert, key)))


def token_refused(reason: str) -> bool:
    """Whether etcd's words mean that a token has to be fetched anew."""
    return any(
        words in reason for words in ("invalid auth token", "user name is empty", "revision of auth store is old")
    )


class Transport:
    """Sends requests to whichever endpoint answers. Belongs to one event loop."""

    def __init__(self, access: EtcdAccess) -> None:
        self._access = access
        self._generation = access.dialer.generation
        self._channels = self._open()
        # Of certificates that were replaced: a watch may be open on one, and goes on until etcd ends it.
        self._retired: list[grpc.aio.Channel] = []
        self._order = deque(access.endpoints)
        self._token = ""
        self._token_lock = asyncio.Lock()

    @property
    def address(self) -> str:
        """All endpoints, for people."""
        return ",".join(self._access.endpoints)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All endpoints, the one to ask first in front."""
        return tuple(self._order)

    def channel(self, endpoint: str) -> grpc.aio.Channel:
        """The channel of one endpoint, for a stream; a new one when there are new certificates."""
        if self._generation != (generation := self._access.dialer.generation):
            self._generation = generation
            self._retired += self._channels.values()
            self._channels = self._open()
        return self._channels[endpoint]

    def distrust(self, endpoint: str) -> None:
        """Ask this endpoint last from now on."""
        if self._order[0] == endpoint:
            self._order.rotate(-1)

    def trust(self, endpoint: str) -> None:
        """Ask this endpoint first from now on: it has just answered."""
        self._order.rotate(-self._order.index(endpoint))

    async def close(self) -> None:
        """Close every channel."""
        for channel in (*self._channels.values(), *self._retired):
            await channel.close()

    def _open(self) -> dict[str, grpc.aio.Channel]:
        patience = {CONNECT_TIMEOUT_MS: round(self._access.connect_timeout_s * 1000)}
        options = tuple({**dict(CHANNEL_OPTIONS), **patience}.items())
        return {endpoint: self._access.dialer.channel(endpoint, options) for endpoint in self._access.endpoints}

    async def ask(self, method: Method[Response], request: Message) -> Response:
        """Send a request that may be repeated: to the next endpoint too when one fails or is slow to answer.

        Raises CoordinatorAway when no endpoint answers, CoordinatorRefused, LeaseGone.
        """
        metadata = await self.metadata()
        outcome = await self._hedged(method, request, metadata)
        if self._let_in_again(outcome):
            outcome = await self._hedged(method, request, await self.metadata(refused=metadata))
        if not isinstance(outcome, grpc.aio.AioRpcError):
            return outcome
        raise self._failure(method.path, outcome) from outcome

    async def ask_once(self, method: Method[Response], request: Message) -> Response:
        """Send a request that must not be repeated blindly, to one endpoint.

        Raises OutcomeUnknown when the answer is missing, CoordinatorAway when nothing was sent, CoordinatorRefused,
        LeaseGone. A caller who has waited long enough may cancel it: the next request goes to another endpoint.
        """
        metadata = await self.metadata()
        endpoint = self._order[0]
        try:
            outcome = await self._call(endpoint, method, request, metadata)
            if self._let_in_again(outcome):
                outcome = await self._call(endpoint, method, request, await self.metadata(refused=metadata))
        except asyncio.CancelledError:
            self.distrust(endpoint)
            raise
        if not isinstance(outcome, grpc.aio.AioRpcError):
            return outcome
        if outcome.code() in _AWAY:
            raise OutcomeUnknown(f"etcd at {self.address} left open what {method.path} did: {describe(outcome)}")
        raise refusal(outcome) from outcome

    async def metadata(self, refused: Metadata | None = None) -> Metadata:
        """The metadata of a call: it requires a leader, and carries a token where etcd asks for users.

        `refused` is the metadata of a call that etcd did not let in: its token is fetched anew, once for all callers.
        """
        if not self._access.user:
            return REQUIRES_LEADER
        async with self._token_lock:
            if not self._token or (refused is not None and ("token", self._token) in refused):
                request = pb.AuthenticateRequest(name=self._access.user, password=self._access.password)
                outcome = await self._hedged(AUTHENTICATE, request, REQUIRES_LEADER)
                if isinstance(outcome, grpc.aio.AioRpcError):
                    raise self._failure(AUTHENTICATE.path, outcome) from outcome
                self._token = outcome.token
            return (*REQUIRES_LEADER, ("token", self._token))

    def _failure(self, path: str, error: grpc.aio.AioRpcError) -> CoordinatorError:
        if error.code() in _AWAY:
            return CoordinatorAway(f"etcd at {self.address} does not answer {path}: {describe(error)}")
        return refusal(error)

    def _let_in_again(self, outcome: Message | grpc.aio.AioRpcError) -> bool:
        refused = isinstance(outcome, grpc.aio.AioRpcError) and token_refused(outcome.details() or "")
        return refused and bool(self._access.user)

    async def _hedged(
        self, method: Method[Response], request: Message, metadata: Metadata
    ) -> Response | grpc.aio.AioRpcError:
        waiting = list(self.endpoints)
        pending: set[asyncio.Task[Response | grpc.aio.AioRpcError]] = set()
        failure: grpc.aio.AioRpcError | None = None
        async with asyncio.TaskGroup() as attempts:
            while waiting or pending:
                if waiting:
                    pending.add(attempts.create_task(self._call(waiting.pop(0), method, request, metadata)))
                hedge_s = self._access.hedge_s if waiting else None
                done, pending = await asyncio.wait(pending, timeout=hedge_s, return_when=asyncio.FIRST_COMPLETED)
                for outcome in (task.result() for task in done):
                    if isinstance(outcome, grpc.aio.AioRpcError) and outcome.code() in _AWAY:
                        failure = outcome
                        continue
                    for task in pending:
                        task.cancel()
                    return outcome
        if failure is None:
            raise InvariantError("a request to etcd ended without an outcome")
        return failure

    async def _call(
        self, endpoint: str, method: Method[Response], request: Message, metadata: Metadata
    ) -> Response | grpc.aio.AioRpcError:
        call = self.channel(endpoint).unary_unary(
            method.path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=method.response.FromString,
        )
        try:
            if ARMED:
                await strike(method.effect.before)
            response: Response = await call(request, timeout=self._access.call_timeout_s, metadata=metadata)
            if ARMED:
                await strike(method.effect.after)
        except grpc.aio.AioRpcError as error:
            if error.code() in _AWAY:
                self.distrust(endpoint)
            return error
        self.trust(endpoint)
        return response


def refusal(error: grpc.RpcError) -> CoordinatorError:
    """What etcd's definite answer means: LeaseGone, or CoordinatorRefused with its words."""
    if error.code() is grpc.StatusCode.NOT_FOUND and "lease" in (error.details() or ""):
        return LeaseGone(error.details())
    return CoordinatorRefused(f"etcd refuses: {describe(error)}")


def describe(error: grpc.RpcError) -> str:
    """An RPC's failure in one line, for people."""
    return f"{error.code().name} {error.details()}"
