"""The ids of traces and spans: derived from what the log says, so that every leader gives the same and stores none.

A saga's trace id is the saga's id. A span's id is a hash of what the span is of. A successor therefore knows the
parents of its spans, and the span of the attempt that was broken off, before anybody has told it.

Pure: values only. The format of `traceparent`: W3C Trace Context, section 3.2.
"""

from __future__ import annotations

from hashlib import blake2b

from orchestrator.saga.model import Epoch, Kind, SagaId

_SHARE_ONE = 1 << 64
_CARRIED_LENGTH = 55


def root_id(saga: SagaId) -> int:
    """The span of the whole saga."""
    return _span_id(saga, "saga")


def start_id(saga: SagaId) -> int:
    """The span of the StartSaga call."""
    return _span_id(saga, "start")


def again_id(saga: SagaId, sequence: int) -> int:
    """The span of a saga's life after an end, when it was parked and went on; `sequence` is its last row."""
    return _span_id(saga, f"again/{sequence}")


def step_id(saga: SagaId, step: str, kind: Kind) -> int:
    """The span of a step in one direction, with all its attempts."""
    return _span_id(saga, f"step/{step}/{kind}")


def attempt_id(saga: SagaId, step: str, kind: Kind, attempt: int, epoch: Epoch) -> int:
    """The span of one call: the participant's own spans are below it."""
    return _span_id(saga, f"attempt/{step}/{kind}/{attempt}/{epoch}")


def _span_id(saga: SagaId, of: str) -> int:
    # Zero is no id.
    return int.from_bytes(blake2b(of.encode(), digest_size=8, key=saga.bytes).digest()) or 1


def sampled(saga: SagaId, share: float) -> bool:
    """Whether this saga is one of the `share` (0 to 1) that are traced: every replica and every time the same answer.

    By a hash: an id's own bits are a time and a counter, not chance.
    """
    return int.from_bytes(blake2b(saga.bytes, digest_size=8).digest()) < share * _SHARE_ONE


def traceparent(saga: SagaId, span: int, *, traced: bool) -> str:
    """What a call carries, so that the participant goes on in the trace; also where it is not traced, to say so."""
    return f"00-{saga.int:032x}-{span:016x}-{'01' if traced else '00'}"


def carried(text: str) -> tuple[int, int] | None:
    """The trace and the span that a `traceparent` names; None when it names none."""
    parts = text.split("-")
    if len(text) < _CARRIED_LENGTH or len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2]:
        return None
    if (
        parts[0] == "ff"
        or (parts[0] == "00" and len(parts) > 4)
        or not set("".join(parts[:4])) <= set("0123456789abcdef")
    ):
        return None
    trace, span = int(parts[1], 16), int(parts[2], 16)
    return (trace, span) if trace and span else None
