"""How a call ends: the answer, the refusal, and which errors of the database leave the outcome certain.

Pure: no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import grpc
import psycopg

OK = 0

# The status table of Baton: these codes say that the step has definitely not taken effect and never will.
REFUSALS = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

# Classes of SQLSTATE after which the same statement may well succeed: connection, transaction state, a pooler that lost
# a prepared statement, rollback by the server, resources, locks, an operator, the disk, a defect of the server.
_TRANSIENT_CLASSES = frozenset({"08", "25", "26", "40", "53", "55", "57", "58", "XX"})


class Reason(StrEnum):
    """Why the kit itself, and not the service, turned a call away. Sent as the reason of google.rpc.ErrorInfo."""

    TOMBSTONE = "TOMBSTONE"
    REQUEST_MISMATCH = "REQUEST_MISMATCH"
    PURGED = "PURGED"
    NOT_DONE = "NOT_DONE"
    COMPENSATED = "COMPENSATED"
    STALE_EPOCH = "STALE_EPOCH"
    IN_PROGRESS = "IN_PROGRESS"
    DATABASE_ERROR = "DATABASE_ERROR"
    DATABASE_UNAVAILABLE = "DATABASE_UNAVAILABLE"


class Refusal(Exception):
    """The call ends with this status and leaves no effect; raise it, or call `context.abort`.

    With a code of REFUSALS the refusal of an action is stored and repeated to every duplicate. With any other code
    nothing is stored, and the next attempt runs again.
    """

    def __init__(self, code: grpc.StatusCode, message: str, reason: Reason | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller gets: the serialized response when `code` is 0, else a google.rpc.Code and a message."""

    code: int
    message: str = ""
    response: bytes = b""
    reason: Reason | None = None
    # With the code 0: the call was accepted, and its answer comes later.
    accepted: bool = False

    @property
    def status_code(self) -> grpc.StatusCode:
        """The code as gRPC's enum."""
        return status_code(self.code)


def status_code(number: int) -> grpc.StatusCode:
    """The gRPC status code of this number; UNKNOWN for a number that gRPC does not know."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def number_of(code: grpc.StatusCode) -> int:
    """The number of a gRPC status code, as google.rpc.Code has it."""
    number: int = code.value[0]
    return number


def refused(refusal: Refusal) -> Answer:
    """The answer that a refusal is; the kit's own reasons open the message, for callers that see no details."""
    message = f"{refusal.reason}: {refusal.message}" if refusal.reason else refusal.message
    return Answer(number_of(refusal.code), message, reason=refusal.reason)


def certainly_undone(error: psycopg.Error) -> bool:
    """Whether the database refused the statement itself, so that trying again would be refused again.

    False for a lost connection, a deadlock, a lock not granted in time, a server that stops or is read-only: the
    statement may succeed later, and a commit may even have happened.
    """
    if error.sqlstate is None:
        # psycopg's own DataError: the value cannot be sent at all, such as text with a NUL.
        return isinstance(error, psycopg.DataError)
    return error.sqlstate[:2] not in _TRANSIENT_CLASSES


def is_defect(error: psycopg.Error) -> bool:
    """Whether psycopg, and not the database, complains: a mistake in the service's own code."""
    return error.sqlstate is None and not isinstance(error, psycopg.OperationalError | psycopg.DataError)


def database_refusal(error: psycopg.Error) -> Refusal:
    """The refusal that a certainly undone statement becomes, in the database's own words."""
    return Refusal(grpc.StatusCode.FAILED_PRECONDITION, f"database error: {_words(error)}", Reason.DATABASE_ERROR)


def database_unavailable(error: psycopg.Error) -> Refusal:
    """The transient status for everything that leaves the outcome open."""
    return Refusal(grpc.StatusCode.UNAVAILABLE, f"database: {_words(error)}", Reason.DATABASE_UNAVAILABLE)


def _words(error: psycopg.Error) -> str:
    primary = error.diag.message_primary
    return primary or " ".join(str(error).split()) or type(error).__name__
