"""Who calls, and for which step of which saga: the identity that Baton sends with every call.

Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any

import grpc

from participants.status import Refusal

SAGA_ID = "baton-saga-id"
STEP = "baton-step"
KIND = "baton-kind"
EPOCH = "baton-epoch"
ATTEMPT = "baton-attempt"
SHARD = "baton-shard"
ANSWER_TOKEN = "baton-answer-token"

REQUIRED = (SAGA_ID, STEP, KIND, EPOCH)

# What Postgres' bigint and integer hold, and longer than any id that Baton makes.
_BIGINT_MAX = 2**63 - 1
_INTEGER_MAX = 2**31 - 1
_NAME_LENGTH_MAX = 200
_TOKEN_LENGTH_MAX = 1_000


class Kind(StrEnum):
    """Whether a call does a step or undoes it."""

    ACTION = "action"
    COMPENSATION = "compensation"


@dataclass(frozen=True, slots=True)
class CallIdentity:
    """The idempotency key of a call (saga, step, kind), with the epoch of the leader that makes it."""

    saga_id: str
    step: str
    kind: Kind
    epoch: int
    attempt: int = 1
    shard: int = 0
    # The name of this call's answer, where the step may be answered later; else empty.
    answer_token: str = ""

    @property
    def key(self) -> str:
        """The idempotency key as one string, for messages and logs."""
        return f"{self.saga_id}/{self.step}/{self.kind}"


def identity_from_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> CallIdentity | None:
    """The identity that the metadata of a unary call carries; None when it carries nothing of Baton's.

    Raises Refusal with INVALID_ARGUMENT, naming what is missing or malformed.
    """
    found: dict[str, str] = {}
    for name, value in metadata:
        if name.startswith("baton-"):
            found[name] = value if isinstance(value, str) else value.decode("utf-8", "replace")
    if not found:
        return None
    return identity_from_fields(found)


def identity_from_fields(fields: Mapping[str, str]) -> CallIdentity:
    """The identity from metadata that is already a mapping. Raises Refusal with INVALID_ARGUMENT."""
    if missing := [name for name in REQUIRED if not fields.get(name)]:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"missing call metadata: {', '.join(missing)}")
    try:
        kind = Kind(fields[KIND])
    except ValueError:
        raise Refusal(
            grpc.StatusCode.INVALID_ARGUMENT, f"{KIND}: {fields[KIND]!r} is neither 'action' nor 'compensation'"
        ) from None
    return CallIdentity(
        saga_id=_name(fields, SAGA_ID),
        step=_name(fields, STEP),
        kind=kind,
        epoch=_number(fields, EPOCH, 0, _BIGINT_MAX),
        attempt=_number(fields, ATTEMPT, 1, _INTEGER_MAX),
        shard=_number(fields, SHARD, 0, _INTEGER_MAX),
        answer_token=_name(fields, ANSWER_TOKEN, _TOKEN_LENGTH_MAX),
    )


def request_hash(request: Any) -> bytes:
    """SHA-256 of a request message in its deterministic serialization, or of bytes as they are.

    Senders may write the entries of a map in any order; two that mean the same have the same hash.
    """
    data = request if isinstance(request, bytes) else request.SerializeToString(deterministic=True)
    return sha256(data).digest()


def missing_identity(method: str) -> Refusal:
    """What a call without metadata gets from a method that takes effect only within a saga."""
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"{method} takes effect only as a step of a saga: missing call metadata: {', '.join(REQUIRED)}",
    )


def _name(fields: Mapping[str, str], field: str, length_max: int = _NAME_LENGTH_MAX) -> str:
    value = fields.get(field, "")
    if len(value) > length_max or "\0" in value:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: longer than {length_max} characters, or holds a NUL")
    return value


def _number(fields: Mapping[str, str], field: str, default: int, highest: int) -> int:
    text = fields.get(field) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= highest):
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {text!r} is not a whole number from 0 to {highest}")
    return int(text)
