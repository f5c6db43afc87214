"""The door of the API: asks each call who makes it, whether it may, and within which limits; notes operators' actions.

An interceptor. What it lets in finds its caller by `security.caller.current()`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio

from orchestrator.api.errors import Context, abort
from orchestrator.errors import BatonError, Forbidden, LimitReached, Unauthenticated
from orchestrator.security.audit import Action, Record, target_of
from orchestrator.security.caller import Caller, names_in, serve
from orchestrator.security.gate import Gate
from orchestrator.security.limits import Account
from orchestrator.security.roles import Role, Rule, rule_of

# Set by a replica that passes a call on to the leader; believed if a replica's certificate came with it.
ON_BEHALF_KEY = "baton-on-behalf-of"

_Handler = Any  # grpc.RpcMethodHandler, which is generic to the type checker alone


class Guard(grpc.aio.ServerInterceptor):
    """Belongs to one event loop."""

    def __init__(self, gate: Gate, record: Record) -> None:
        self._gate = gate
        self._record = record
        self._guarded: dict[str, _Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Called by gRPC for every call."""
        method = handler_call_details.method
        guarded = self._guarded.get(method)
        if guarded is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            # Only methods that exist get here, so this stays as small as the API is.
            guarded = self._guarded[method] = _wrapped(handler, _Door(self._gate, self._record, method))
        return guarded


@dataclass(slots=True)
class _Visit:
    """One call that was let in: who makes it, from where, and in whose name, where that is noted.

    All of it is read at the door. A stream whose caller has gone away is left when gRPC has forgotten the call: asked
    about it then, gRPC reads memory that is no longer there, and the process dies.
    """

    caller: Caller
    account: Account
    peer: str
    behalf: str


class _Door:
    """The way into one method."""

    def __init__(self, gate: Gate, record: Record, method: str) -> None:
        self._gate = gate
        self._record = record
        self._method = method
        self._rule: Rule = rule_of(method)

    async def enter(self, request: Any, context: Context, *, stream: bool) -> _Visit:
        """Let the call in, or end it with the status that says why not."""
        caller = None
        peer = context.peer() if self._rule.audited else ""
        behalf = _behalf(context) if self._rule.audited else ""
        try:
            caller = self._caller(context)
            self._gate.check(caller, self._rule, self._method)
            size_bytes = request.ByteSize() if caller.limits and hasattr(request, "ByteSize") else 0
            # A batch counts as what it holds.
            cost = max(1, len(getattr(request, "requests", ())))
            account = self._gate.enter(caller, stream=stream, cost=cost, size_bytes=size_bytes)
        except (Unauthenticated, Forbidden, LimitReached) as error:
            self._note(caller, request, peer, behalf, _CODES[type(error)].name, str(error))
            await abort(context, error)
        serve(caller)
        return _Visit(caller, account, peer, behalf)

    def leave(
        self, visit: _Visit, request: Any, context: Context, error: BaseException | None, *, stream: bool
    ) -> None:
        """The call has ended."""
        self._gate.leave(visit.account, stream=stream)
        code: Any = context.code()
        match error:
            case None:
                outcome = "OK"
            case asyncio.CancelledError():
                outcome = grpc.StatusCode.CANCELLED.name
            case _:
                outcome = code.name if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN.name
        details: Any = context.details() if error is not None else ""
        message = details if isinstance(details, str) else ""
        self._note(visit.caller, request, visit.peer, visit.behalf, outcome, message)

    def _caller(self, context: Context) -> Caller:
        if self._rule.role is None:
            # Known by its address alone, so that one who asks too much stands in nobody else's way.
            return Caller(context.peer().rpartition(":")[0], frozenset())
        if not self._gate.asks:
            return self._gate.identify((), None)
        authorization = None
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                authorization = value if isinstance(value, str) else value.decode(errors="replace")
        return self._gate.identify(names_in(context.auth_context()), authorization)

    def _note(self, caller: Caller | None, request: Any, peer: str, behalf: str, outcome: str, message: str) -> None:
        if not self._rule.audited:
            return
        name = "nobody known" if caller is None else caller.name
        if behalf and caller is not None and caller.by == "certificate" and caller.has(Role.REPLICA):
            name = f"{behalf} via {name}"
        self._record(
            Action(
                at=datetime.now(UTC),
                caller=name,
                recognized_by="nothing" if caller is None else caller.by,
                peer=peer,
                action=self._method.rpartition(".")[2],
                target=target_of(request),
                outcome=outcome,
                message=message,
            )
        )


def _behalf(context: Context) -> str:
    """In whose name the call says that it is made; empty when it says nothing of the kind."""
    found = (str(value) for key, value in context.invocation_metadata() or () if key == ON_BEHALF_KEY)
    return next(found, "")[:200]


_CODES: dict[type[BatonError], grpc.StatusCode] = {
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    LimitReached: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def _wrapped(handler: _Handler, door: _Door) -> _Handler:
    """The handler behind the door; gRPC asks of each of its four kinds a function of the right kind."""
    codec = (handler.request_deserializer, handler.response_serializer)
    behaviour: Any
    if handler.request_streaming:
        behaviour = handler.stream_stream if handler.response_streaming else handler.stream_unary
    else:
        behaviour = handler.unary_stream if handler.response_streaming else handler.unary_unary
    stream = bool(handler.request_streaming or handler.response_streaming)
    guarded: Any = _answering(behaviour, door, stream=stream)
    if inspect.isasyncgenfunction(behaviour):
        guarded = _yielding(behaviour, door)
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler(guarded, *codec)
        case False, True:
            return grpc.unary_stream_rpc_method_handler(guarded, *codec)
        case True, False:
            return grpc.stream_unary_rpc_method_handler(guarded, *codec)
        case _:
            return grpc.stream_stream_rpc_method_handler(guarded, *codec)


def _answering(behaviour: Any, door: _Door, *, stream: bool) -> Any:
    async def guarded(request: Any, context: Context) -> Any:
        visit = await door.enter(request, context, stream=stream)
        error: BaseException | None = None
        try:
            return await behaviour(request, context)
        except BaseException as raised:
            error = raised
            raise
        finally:
            door.leave(visit, request, context, error, stream=stream)

    return guarded


def _yielding(behaviour: Any, door: _Door) -> Any:
    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        visit = await door.enter(request, context, stream=True)
        error: BaseException | None = None
        try:
            async with aclosing(behaviour(request, context)) as answers:
                async for answer in answers:
                    yield answer
        except BaseException as raised:
            error = raised
            raise
        finally:
            door.leave(visit, request, context, error, stream=True)

    return guarded
