"""What each gRPC status of a participant means for the step. The table is published in docs/participants.md.

A refusal says for certain that the call took no effect. Everything else but OK leaves that open (R7): the call is
repeated under the same key, and once its budget is spent, compensated.
"""

from __future__ import annotations

from grpc import StatusCode

REFUSALS = frozenset(
    {
        StatusCode.INVALID_ARGUMENT,
        StatusCode.NOT_FOUND,
        StatusCode.ALREADY_EXISTS,
        StatusCode.PERMISSION_DENIED,
        StatusCode.UNAUTHENTICATED,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.OUT_OF_RANGE,
        StatusCode.UNIMPLEMENTED,
    }
)

BY_NUMBER = {code.value[0]: code for code in StatusCode}


def is_refusal(code: StatusCode) -> bool:
    """Whether `code` says that the call took no effect and never will."""
    return code in REFUSALS
