"""From a serialized request to an answer: the one path that unary calls and the multiplexed stream share."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import psycopg
import structlog
from google.protobuf.message import DecodeError

from participants.barrier import Barrier
from participants.call import KIND, CallIdentity, Kind, missing_identity, request_hash
from participants.context import CallContext
from participants.faults import Faults, Strike
from participants.standing import as_answer, standing
from participants.status import (
    Answer,
    Refusal,
    certainly_undone,
    database_refusal,
    database_unavailable,
    is_defect,
    number_of,
    refused,
)
from participants.tracing import traceparent_of, within_trace

log = structlog.get_logger()

F = TypeVar("F", bound=Callable[..., Any])

_PLAIN = "_baton_plain"
_INSTANT = "_baton_instant"
_STATUS = "_baton_status"


def plain(method: F) -> F:
    """Mark a servicer's method that may be called outside of any saga: a read, or an administrator's call."""
    setattr(method, _PLAIN, True)
    return method


def instant(method: F) -> F:
    """Mark a servicer's method that never waits for anything and has no effect: it runs without a task of its own."""
    setattr(method, _INSTANT, True)
    return method


def status(method: F) -> F:
    """Mark a servicer's method that says what has become of an action, by the key of that action.

    As a call of a saga it is answered by the barrier (see standing.py): its response message must be the action's. What
    the servicer itself does serves other callers: mark it `@plain` as well, or raise.
    """
    setattr(method, _STATUS, True)
    return method


@dataclass(frozen=True, slots=True)
class Method:
    """One unary method of a registered servicer."""

    name: str
    behaviour: Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    plain: bool
    instant: bool
    status: bool = False


def method_of(name: str, handler: grpc.RpcMethodHandler[Any, Any]) -> Method | None:
    """The method behind a gRPC handler; None for a streaming one. `name` is the full name without leading slash.

    Raises TypeError for a method that is not a coroutine: it would block every other call.
    """
    behaviour: Any = handler.unary_unary
    if behaviour is None:
        return None
    if not inspect.iscoroutinefunction(behaviour):
        raise TypeError(f"{name}: must be an `async def`")
    return Method(
        name,
        behaviour,
        handler.request_deserializer or _unchanged,
        handler.response_serializer or _unchanged,
        plain=getattr(behaviour, _PLAIN, False),
        instant=getattr(behaviour, _INSTANT, False),
        status=getattr(behaviour, _STATUS, False),
    )


@dataclass(frozen=True, slots=True)
class Inbound:
    """What arrived: who calls, with what, and how long the answer is waited for (seconds; None: not said)."""

    call: CallIdentity | None
    request: bytes
    metadata: Iterable[tuple[str, str | bytes]]
    peer: str
    remaining_s: float | None


class Dispatcher:
    """Answers calls: behind the barrier where there is one, else directly."""

    def __init__(self, barrier: Barrier | None, faults: Faults, call_max_s: float) -> None:
        self._barrier = barrier
        self._faults = faults
        self._call_max_s = call_max_s

    async def answer(self, method: Method, inbound: Inbound) -> Answer:
        """The answer to one call, within its time and its trace. Raises nothing but CancelledError."""
        traceparent = traceparent_of(inbound.metadata)
        return await within_trace(traceparent, method.name, inbound.call, lambda: self._answer(method, inbound))

    async def _answer(self, method: Method, inbound: Inbound) -> Answer:
        limit_s = self._call_max_s if inbound.remaining_s is None else min(inbound.remaining_s, self._call_max_s)
        try:
            async with asyncio.timeout(limit_s):
                return await self._perform(method, inbound, time.monotonic() + limit_s)
        except Refusal as refusal:
            return refused(refusal)
        except TimeoutError:
            return Answer(number_of(grpc.StatusCode.DEADLINE_EXCEEDED), f"{method.name}: no answer in {limit_s:.3f} s")
        except Exception as error:
            # The one place for what a servicer did not foresee: its transaction is rolled back, the caller is told
            # that the outcome is unknown, and every other call goes on.
            log.exception("servicer failed", method=method.name, call=inbound.call.key if inbound.call else None)
            return Answer(number_of(grpc.StatusCode.INTERNAL), f"{method.name}: {type(error).__name__}: {error}")

    async def _perform(self, method: Method, inbound: Inbound, deadline: float) -> Answer:
        try:
            request = method.decode(inbound.request)
        except DecodeError as error:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"{method.name}: request: {error}") from None
        context = CallContext(inbound.metadata, inbound.peer, deadline)

        async def run() -> bytes:
            response = await method.behaviour(request, context)
            context.raise_if_refused()
            return method.encode(response)

        call = inbound.call
        if call is None:
            if not method.plain and self._barrier is not None:
                raise missing_identity(method.name)
            return await _plain_call(run)
        strike = self._faults.strike(call, method.name, _order_of(request))
        if strike is not None:
            await strike.on_arrival()
        if self._barrier is None:
            return await _without_barrier(run, strike)
        if method.status:
            return await _status(self._barrier, call)
        return await self._barrier.perform(call, request_hash(request), run, strike)


async def _status(barrier: Barrier, call: CallIdentity) -> Answer:
    if call.kind is not Kind.ACTION:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"{KIND}: a status is asked of an action")
    try:
        return as_answer(await standing(barrier, call), call)
    except psycopg.Error as error:
        if is_defect(error):
            raise
        raise database_unavailable(error) from error


async def _plain_call(run: Callable[[], Awaitable[bytes]]) -> Answer:
    try:
        return Answer(0, response=await run())
    except psycopg.Error as error:
        if is_defect(error):
            raise
        raise database_refusal(error) if certainly_undone(error) else database_unavailable(error) from error


async def _without_barrier(run: Callable[[], Awaitable[bytes]], strike: Strike | None) -> Answer:
    answer = Answer(0, response=await run())
    if strike is not None:
        await strike.before_commit()
        await strike.after_commit()
    return answer


def _order_of(request: Any) -> str:
    """The order that a request is about, for faults that strike by order; empty where the message has none."""
    return str(getattr(request, "order_id", "") or getattr(request, "return_id", ""))


def _unchanged(value: Any) -> Any:
    return value
