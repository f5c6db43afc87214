"""The participant under test: the two methods, called as a leader would call them, under keys of the test's own.

Epochs are counted in a shard of the run's own, high above those that clusters use: a participant that keeps epochs for
each shard, as it must, never holds the test's epochs against a real leader.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio

from orchestrator.certify.findings import CannotCertify
from orchestrator.certify.template import Template
from orchestrator.driving.codec import MethodCodec
from orchestrator.driving.grpc_edge import CallSettings, GrpcParticipants
from orchestrator.driving.port import Answer, Invocation
from orchestrator.driving.scalars import WrongType
from orchestrator.saga.commands import Unknown
from orchestrator.saga.definition import Method
from orchestrator.saga.ids import RANDOM_BITS, saga_id
from orchestrator.saga.mapping import Mapping
from orchestrator.saga.model import Epoch, Json, Kind, SagaId
from orchestrator.security.dialer import PLAIN, Dialer
from orchestrator.telemetry import Metrics

UNARY, STREAM = "unary", "stream"
SHARDS = range(1_000_000_000, 2**31 - 1)

_SETTINGS = {"calls_max": 200, "message_bytes_max": 16_000_000, "reply_bytes_max": 4_000_000}
# What says nothing about the call: the participant is busy with the same key, or away.
_PASSING = frozenset({"ABORTED", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED"})
_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Pair:
    """The methods (`/pkg.Service/Name`) with their codecs, and the templates of their requests."""

    action: str
    compensation: str
    codecs: dict[str, MethodCodec]
    action_request: Template
    compensation_request: Template
    status: str = ""
    status_request: Template | None = None


@dataclass(slots=True)
class Case:
    """One saga of the test's own, with one step."""

    saga_id: SagaId
    tag: str
    step: str = "certify"
    result: Json | None = None
    attempts: dict[Kind, int] = field(default_factory=lambda: {Kind.ACTION: 0, Kind.COMPENSATION: 0})


class Subject:
    """Calls the pair at `address`, by unary calls or over the stream. Close it at the end."""

    def __init__(
        self,
        address: str,
        pair: Pair,
        form: str,
        shard: int,
        timeout_s: float,
        patience: timedelta,
        dialer: Dialer = PLAIN,
    ) -> None:
        self.form = form
        self.pair = pair
        self.epoch = 1
        self.shard = shard
        self._address = address
        self._timeout_s = timeout_s
        self._patience_s = patience.total_seconds()
        settings = CallSettings(**_SETTINGS, multiplexed=form == STREAM)
        self._participants = GrpcParticipants(
            lambda _name, _version, path: pair.codecs[path], settings, _metrics(), dialer
        )

    def case(self, step: str = "certify") -> Case:
        """A fresh saga."""
        identity = saga_id(time.time_ns() // 1_000_000, random.getrandbits(RANDOM_BITS))
        return Case(identity, f"certify-{identity.hex[-12:]}", step)

    async def call(
        self, case: Case, kind: Kind, *, epoch: int | None = None, shard: int | None = None, other: bool = False
    ) -> Answer:
        """One attempt, whatever comes of it. `other` sends another request under the same key."""
        return await self._attempt(case, kind, epoch, shard, other=other)

    async def late(self, case: Case) -> Answer:
        """The action once more as its first attempt, as if it had been held up on its way."""
        begun, case.attempts[Kind.ACTION] = case.attempts[Kind.ACTION], 0
        try:
            return await self._attempt(case, Kind.ACTION, None, None, other=False)
        finally:
            case.attempts[Kind.ACTION] = begun

    async def _attempt(self, case: Case, kind: Kind, epoch: int | None, shard: int | None, *, other: bool) -> Answer:
        path, template = (
            (self.pair.action, self.pair.action_request)
            if kind is Kind.ACTION
            else (self.pair.compensation, self.pair.compensation_request)
        )
        tag = f"{case.tag}-other" if other else case.tag
        place = (self.shard if shard is None else shard, self.epoch if epoch is None else epoch)
        return await self._call(case, kind, path, template.fill(tag, case.result), place)

    async def ask(self, case: Case) -> Answer:
        """What the status method says of the case's action: OK, NOT_FOUND, or anything else for not known.

        As an orchestrator asks: after an attempt of which nobody has heard.
        """
        case.attempts[Kind.ACTION] = max(1, case.attempts[Kind.ACTION])
        template = self.pair.status_request or self.pair.action_request
        request = template.fill(case.tag, case.result)
        return await self._call(case, Kind.ACTION, self.pair.status, request, (self.shard, self.epoch))

    async def _call(self, case: Case, kind: Kind, path: str, request: Json, place: tuple[int, int]) -> Answer:
        case.attempts[kind] += 1
        shard, epoch = place
        invocation = Invocation(
            saga_id=case.saga_id,
            definition="certify",
            version=1,
            step=case.step,
            service=self._address,
            method=Method(path, Mapping({})),
            kind=kind,
            attempt=case.attempts[kind],
            shard=shard,
            epoch=Epoch(epoch),
            request=request,
            timeout_s=self._timeout_s,
        )
        return await self._participants.call(invocation)

    async def settle(self, case: Case, kind: Kind, *, other: bool = False, patience_s: float | None = None) -> Answer:
        """Attempts under the same key until one says something about the call; else the last one's outcome."""
        give_up_at_s = time.monotonic() + (patience_s or self._patience_s)
        while True:
            outcome = await self.call(case, kind, other=other)
            if not passing(outcome) or time.monotonic() >= give_up_at_s:
                return outcome
            await asyncio.sleep(_AGAIN_S)

    async def settle_all(self, calls: Iterable[tuple[Case, Kind]]) -> list[Answer]:
        """All of them at once."""
        return list(await asyncio.gather(*(self.settle(case, kind) for case, kind in calls)))

    async def close(self) -> None:
        """End the connections."""
        await self._participants.close()


class Gauge:
    """A read of the participant that shows how often something took effect, such as totals."""

    def __init__(
        self, channel: grpc.aio.Channel, path: str, codec: MethodCodec, request: Json, timeout_s: float
    ) -> None:
        """Raises CannotCertify when the request does not fit the method."""
        self._call: Any = channel.unary_unary(path)
        self._path = path
        self._codec = codec
        self._timeout_s = timeout_s
        try:
            self._request = codec.encode(request)
        except WrongType as error:
            raise CannotCertify(f"--observe-request: {error}") from None

    async def read(self) -> Json:
        """What it shows now. Raises CannotCertify."""
        try:
            return self._codec.decode(await self._call(self._request, timeout=self._timeout_s))
        except grpc.aio.AioRpcError as error:
            raise CannotCertify(f"--observe: {self._path}: {error.code().name}: {error.details()}") from None
        except ValueError as error:
            raise CannotCertify(f"--observe: {self._path}: {error}") from None


def passing(outcome: Answer) -> bool:
    """Whether the outcome says nothing yet: the same call is to be made again."""
    return isinstance(outcome, Unknown) and outcome.code in _PASSING


def _metrics() -> Metrics:
    return Metrics("certify", "certify")
