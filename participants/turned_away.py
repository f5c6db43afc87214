"""What calls hear that the barrier itself turns away, whatever the service would say.

Pure: no I/O but the log.
"""

from __future__ import annotations

import grpc
import structlog

from participants.call import CallIdentity
from participants.status import Reason, Refusal

log = structlog.get_logger()


def in_progress(call: CallIdentity) -> Refusal:
    """Another call is at work on the key."""
    return Refusal(
        grpc.StatusCode.ABORTED, f"{call.key} is being served by another call: try again", Reason.IN_PROGRESS
    )


def tombstoned(call: CallIdentity) -> Refusal:
    """The action must never take effect."""
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"{call.saga_id}/{call.step} was compensated, or found not done, before its action came, "
        "which must not happen any more",
        Reason.TOMBSTONE,
    )


def mismatched(call: CallIdentity) -> Refusal:
    """The key was claimed for another request."""
    log.error("same key, other request", call=call.key, attempt=call.attempt, epoch=call.epoch)
    return Refusal(
        grpc.StatusCode.DATA_LOSS,
        f"{call.key} was called before with another request: this one has had no effect, the first one may have had; "
        "the caller must repeat a call as it was",
        Reason.REQUEST_MISMATCH,
    )


def purged(call: CallIdentity, watermark: str) -> Refusal:
    """The saga is behind the watermark: nobody knows any more what its calls have done."""
    log.error("call behind the watermark", call=call.key, epoch=call.epoch, watermark=watermark)
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"{call.key} belongs to a saga before {watermark}: those are over, and what they did has been forgotten; "
        "this call has had no effect",
        Reason.PURGED,
    )
