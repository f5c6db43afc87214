"""Errors as clients get them: a google.rpc.Status with a stable reason, the fields at fault, and when to ask again."""

from __future__ import annotations

import functools
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from orchestrator.errors import (
    AlreadyTold,
    BatonError,
    Conflict,
    FieldViolation,
    Forbidden,
    LimitReached,
    LogUnavailable,
    NotFound,
    Overloaded,
    Rejected,
    Retryable,
    StartsHeld,
    Unauthenticated,
    WrongState,
)
from orchestrator.events.port import CursorExpired

DOMAIN = "baton"

# A status travels in the trailing metadata, for which clients have 8 kB.
_MESSAGE_CHARS_MAX = 1000
_FIELD_CHARS_MAX = 300
_VIOLATION_CHARS_MAX = 1000
_DETAILS_BYTES_MAX = 3500
_RETRY_DELAY_MS = 100

_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)
_Service = TypeVar("_Service")
Context = grpc.aio.ServicerContext[Any, Any]

log = structlog.get_logger()


class NoLeader(Retryable):
    """Nobody leads at the moment."""


class UnknownName(NotFound):
    """A field of the request names something that does not exist."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(description)
        self.violations = (FieldViolation(field, description),)


# The first class that fits. The reasons are part of the API: they never change.
_KINDS: tuple[tuple[type[BatonError], grpc.StatusCode, str], ...] = (
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    (Forbidden, grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN"),
    (LimitReached, grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_REACHED"),
    (Rejected, grpc.StatusCode.INVALID_ARGUMENT, "INVALID"),
    (NotFound, grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
    (Conflict, grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
    (AlreadyTold, grpc.StatusCode.ALREADY_EXISTS, "ALREADY_TOLD"),
    (WrongState, grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE"),
    (CursorExpired, grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED"),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
    (StartsHeld, grpc.StatusCode.RESOURCE_EXHAUSTED, "STARTS_HELD"),
    (LogUnavailable, grpc.StatusCode.UNAVAILABLE, "LOG_UNAVAILABLE"),
    (NoLeader, grpc.StatusCode.UNAVAILABLE, "NO_LEADER"),
    (Retryable, grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
)


def kind(error: BatonError) -> tuple[grpc.StatusCode, str]:
    """The status code and the stable reason of an error."""
    for error_type, code, reason in _KINDS:
        if isinstance(error, error_type):
            return code, reason
    return grpc.StatusCode.INTERNAL, "INTERNAL"


def status(error: BatonError) -> status_pb2.Status:
    """The google.rpc.Status of an error that a client is meant to see."""
    code, reason = kind(error)
    details = [_packed(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))]
    violations: tuple[FieldViolation, ...] = getattr(error, "violations", ())
    if violations:
        details.append(_packed(_bad_request(violations)))
    if isinstance(error, Retryable | StartsHeld):
        delay = Duration()
        delay.FromMilliseconds(_pushback_ms(error) or _RETRY_DELAY_MS)
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=code.value[0], message=shortened(str(error), _MESSAGE_CHARS_MAX), details=details)


def answered(
    method: Callable[[_Service, _Request, Context], Awaitable[_Response]],
) -> Callable[[_Service, _Request, Context], Awaitable[_Response]]:
    """Make a unary method end in the status that its error asks for."""

    @functools.wraps(method)
    async def call(service: _Service, request: _Request, context: Context) -> _Response:
        try:
            return await method(service, request, context)
        except BatonError as error:
            await _abort(context, error)
        except Exception as error:
            # The one place of the API that catches everything: a defect costs one call, and its inside stays here.
            await _abort_defect(context, error)

    return call


def streamed(
    method: Callable[[_Service, _Request, Context], AsyncGenerator[_Response]],
) -> Callable[[_Service, _Request, Context], AsyncIterator[_Response]]:
    """Make a method that streams its answers end in the status that its error asks for."""

    @functools.wraps(method)
    async def call(service: _Service, request: _Request, context: Context) -> AsyncGenerator[_Response]:
        try:
            async with aclosing(method(service, request, context)) as answers:
                async for answer in answers:
                    yield answer
        except BatonError as error:
            await _abort(context, error)
        except Exception as error:
            # As above.
            await _abort_defect(context, error)

    return call


def shortened(text: str, chars_max: int) -> str:
    """The text, or as much of it as fits."""
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"


async def abort(context: Context, error: BatonError) -> NoReturn:
    """End the call in the status that the error asks for."""
    await _abort(context, error)


async def _abort(context: Context, error: BatonError) -> NoReturn:
    code, _ = kind(error)
    if code is grpc.StatusCode.INTERNAL:
        await _abort_defect(context, error)
    # gRPC's own exception keeps this one alive in a cycle, and its frames keep all that the caller has sent, and what
    # was made of that. Garbage is collected too seldom for megabytes.
    error.__traceback__ = error.__context__ = None
    answer = rpc_status.to_status(status(error))
    pushback_ms = _pushback_ms(error)
    trailers = answer.trailing_metadata if pushback_ms is None else (*answer.trailing_metadata, _pushback(pushback_ms))
    await context.abort(answer.code, answer.details, trailers)
    raise error


def _pushback_ms(error: BatonError) -> int | None:
    """When the caller is asked to come again, in milliseconds, where the error says that."""
    after_s = error.retry_after_s if isinstance(error, Overloaded | StartsHeld) else None
    return None if after_s is None else round(after_s * 1000)


def _pushback(milliseconds: int) -> tuple[str, str]:
    """What gRPC's own retry policy waits for instead of its backoff (proposal A6)."""
    return ("grpc-retry-pushback-ms", str(milliseconds))


async def _abort_defect(context: Context, error: Exception) -> NoReturn:
    """Say no more than an id under which the log has the rest."""
    error_id = secrets.token_hex(8)
    log.error("api_defect", error_id=error_id, exc_info=error)
    info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"error_id": error_id})
    message = f"an internal error; the replica's log has it under the id {error_id}"
    code = grpc.StatusCode.INTERNAL.value[0]
    await context.abort_with_status(
        rpc_status.to_status(status_pb2.Status(code=code, message=message, details=[_packed(info)]))
    )
    raise error


def _bad_request(violations: tuple[FieldViolation, ...]) -> error_details_pb2.BadRequest:
    """As many violations as fit; the last one says how many more there are."""
    bad = error_details_pb2.BadRequest()
    for number, violation in enumerate(violations):
        description = shortened(violation.located, _VIOLATION_CHARS_MAX)
        bad.field_violations.add(field=shortened(violation.field, _FIELD_CHARS_MAX), description=description)
        if bad.ByteSize() > _DETAILS_BYTES_MAX and number:
            bad.field_violations[number].field = ""
            bad.field_violations[number].description = f"and {len(violations) - number} more"
            break
    return bad


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
