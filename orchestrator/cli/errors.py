"""What a client can hear from the API beside an answer: no, or nothing."""

from __future__ import annotations

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from orchestrator.errors import BatonError, FieldViolation

_DETAILS_KEY = "grpc-status-details-bin"
_PUSHBACK_KEY = "grpc-retry-pushback-ms"


class ApiUnavailable(BatonError):
    """No replica answered in time. Whether the call took effect is unknown: repeat it with the same request id."""


class CallRefused(BatonError):
    """A replica answered, and the answer is no; repeating the same call will not help.

    `code` is the gRPC status, `reason` the stable reason of the API (empty if it gave none).
    """

    def __init__(
        self, code: grpc.StatusCode, message: str, reason: str = "", violations: tuple[FieldViolation, ...] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.violations = violations

    def lines(self) -> list[str]:
        """The message, and a line for each field that is wrong unless the message says it already."""
        return [
            self.message,
            *(v.told for v in self.violations if v.description not in self.message),
        ]


def retry_delay_s(error: grpc.aio.AioRpcError) -> float:
    """When the replica wants to be asked again, in seconds; 0 if it does not say."""
    for key, value in error.trailing_metadata() or ():
        if key == _PUSHBACK_KEY and isinstance(value, str) and value.isdecimal():
            return int(value) / 1000
    return 0.0


def refused(error: grpc.aio.AioRpcError) -> CallRefused:
    """The refusal that a failed call carries, with the details of its google.rpc.Status."""
    reason, violations = "", []
    for key, value in error.trailing_metadata() or ():
        if key != _DETAILS_KEY or not isinstance(value, bytes):
            continue
        status = status_pb2.Status()
        try:
            status.ParseFromString(value)
        except DecodeError:
            continue
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        for detail in status.details:
            if detail.Unpack(info):
                reason = info.reason
            elif detail.Unpack(bad_request):
                violations = [FieldViolation.of_located(v.field, v.description) for v in bad_request.field_violations]
    message = error.details() or error.code().name
    return CallRefused(error.code(), message, reason, tuple(violations))
