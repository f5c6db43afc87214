"""Saga ids: UUIDs of version 7, ordered by time, so that the log's indexes grow at one end.

Pure: the time and chance come in as arguments. Layout and the monotonic counter: RFC 9562, sections 5.7 and 6.2
(method 2, a random seed that is incremented).
"""

from __future__ import annotations

from uuid import UUID

from orchestrator.saga.model import SagaId

# How many random bits an id takes from its maker.
RANDOM_BITS = 74

_RANDOM_MASK = (1 << RANDOM_BITS) - 1
_STEP_MASK = (1 << 32) - 1
_VERSION_AND_VARIANT = 0x7 << 76 | 0b10 << 62
_TIME_MASK = (1 << 48) - 1
_LOW_MASK = (1 << 62) - 1


def saga_id(milliseconds: int, random_bits: int, after: SagaId | None = None) -> SagaId:
    """The id of a saga that starts at `milliseconds` since 1970, made unique by `RANDOM_BITS` random bits.

    It is greater than `after`, the id that the same process made last, also within one millisecond and when the
    clock was set back: then it keeps the time of `after` and goes on from its random bits by a random step.
    """
    milliseconds &= _TIME_MASK
    random_bits &= _RANDOM_MASK
    if after is not None:
        last_ms, last_bits = _parts(after)
        if milliseconds <= last_ms:
            total = (last_ms << RANDOM_BITS | last_bits) + 1 + (random_bits & _STEP_MASK)
            milliseconds, random_bits = total >> RANDOM_BITS, total & _RANDOM_MASK
    high, low = random_bits >> 62, random_bits & _LOW_MASK
    return SagaId(UUID(int=milliseconds << 80 | high << 64 | low | _VERSION_AND_VARIANT))


def first_id_at(milliseconds: int) -> SagaId:
    """The lowest id that a saga of that millisecond since 1970 can have: a bound for searches by time."""
    return saga_id(max(0, milliseconds), 0)


def started_at_ms(identity: SagaId) -> int:
    """The milliseconds since 1970 that an id carries."""
    return identity.int >> 80


def _parts(identity: SagaId) -> tuple[int, int]:
    number = identity.int
    return number >> 80, (number >> 64 & 0xFFF) << 62 | number & _LOW_MASK
