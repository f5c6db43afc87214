"""Checks of the fields of requests, before anything is stored. Every complaint names the field."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from orchestrator.errors import FieldViolation, Rejected
from orchestrator.events.model import Cursor
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.signal_box import Place
from orchestrator.security.caller import ANONYMOUS, current

LABELS_MAX = 32
REQUEST_ID_CHARS_MAX = 200
REASON_CHARS_MAX = 1000
PAGE_DEFAULT = 100
PAGE_MAX = 1000

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LABEL_KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE_CHARS_MAX = 256
_CONSUMER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,98}[A-Za-z0-9])?")
_NAME_CHARS_MAX = 100
_BY_CHARS_MAX = 200
_TOKEN_VERSION = b"\x01"
_DIGEST_BYTES = 8
_FOREIGN = "is not a token that this list has given"
_EPOCH = datetime.fromtimestamp(0, UTC)


def saga_id(text: str) -> SagaId:
    """The id of a saga. Raises Rejected."""
    if not _UUID.fullmatch(text):
        raise rejected("saga_id", f"{text!r:.60} is not the id of a saga, which is a UUID")
    return SagaId(UUID(text))


def name(field: str, text: str) -> str:
    """The name of a definition. Raises Rejected."""
    if not text:
        raise rejected(field, "is missing")
    if len(text) > _NAME_CHARS_MAX or not text.isprintable():
        raise rejected(field, f"{text!r:.60} is not the name of a definition")
    return text


def consumer(text: str) -> str:
    """The name of a consumer of events. Raises Rejected."""
    if not _CONSUMER.fullmatch(text):
        raise rejected("consumer", f"{text!r:.60} is not a name: 1 to 100 letters, digits, and . _ / - between them")
    return text


def cursor(field: str, text: str) -> Cursor:
    """A place in the order of events. Raises Rejected."""
    try:
        return Cursor.parse(text)
    except ValueError as error:
        raise rejected(field, str(error)) from None


def version(number: int) -> int:
    """The version of a definition, 0 for the newest. Raises Rejected."""
    if number < 0:
        raise rejected("version", f"{number} is not a version; they count from 1, and 0 is the newest")
    return number


def reason(text: str) -> str:
    """Why somebody wants something, for the log. Raises Rejected."""
    if len(text) > REASON_CHARS_MAX or "\x00" in text:
        raise rejected("reason", f"must have at most {REASON_CHARS_MAX} characters, and none of them NUL")
    return text or "no reason given"


def ordered_by(by: str) -> str:
    """Whose order it is. Where callers are asked who they are, nobody gives orders in another's name."""
    caller = current()
    return (by or "somebody who gave no name") if caller is ANONYMOUS else caller.name


def who_and_why(by: str, reason_given: str) -> tuple[str, str]:
    """Who orders something, and the reason, which is mandatory. Raises Rejected."""
    if not reason_given.strip():
        raise rejected("reason", "is missing; whoever looks into it later reads it")
    by = ordered_by(by)
    if len(by) > _BY_CHARS_MAX or not by.isprintable():
        raise rejected("by", f"must have at most {_BY_CHARS_MAX} characters, all printable")
    return by, reason(reason_given)


# A saga that was started under such a request id would be taken for the child of another one.
_CHILD_REQUEST = re.compile(r"child:[0-9a-f-]{36}/")


def start_violations(request_id: str, labels: Mapping[str, str]) -> Iterator[FieldViolation]:
    """What is wrong with a start apart from its input."""
    if len(request_id) > REQUEST_ID_CHARS_MAX or not request_id.isprintable():
        yield FieldViolation("request_id", f"must have at most {REQUEST_ID_CHARS_MAX} characters, all printable")
    if _CHILD_REQUEST.match(request_id):
        yield FieldViolation("request_id", "must not begin like those of child sagas, child:SAGA/STEP")
    if len(labels) > LABELS_MAX:
        yield FieldViolation("labels", f"there are {len(labels)}; {LABELS_MAX} are allowed")
        return
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            yield FieldViolation(
                f"labels.{key!r:.60}", "a label's name has 1 to 63 letters, digits, and . _ / - between them"
            )
        if len(value) > _LABEL_VALUE_CHARS_MAX or "\x00" in value:
            yield FieldViolation(
                f"labels.{key:.60}", f"a label has at most {_LABEL_VALUE_CHARS_MAX} characters, and none of them NUL"
            )


def page_size(asked: int) -> int:
    """How many sagas a page may have. Raises Rejected."""
    if asked < 0:
        raise rejected("page_size", f"{asked} is negative; 0 means {PAGE_DEFAULT}")
    return min(asked or PAGE_DEFAULT, PAGE_MAX)


def page_token(filters: bytes, last: SagaId) -> str:
    """An opaque token for the page behind `last`, good for the same filters alone."""
    return _sealed(filters, last.bytes)


def page_start(token: str, filters: bytes) -> SagaId | None:
    """Where the page of `token` begins: behind this saga; None at the newest. Raises Rejected."""
    return SagaId(UUID(bytes=_unsealed(token, filters, 16))) if token else None


def place_token(filters: bytes, last: Place) -> str:
    """As `page_token`, where the order is not that of the ids."""
    return _sealed(filters, ((last.at - _EPOCH) // timedelta(microseconds=1)).to_bytes(8) + last.id.bytes)


def place_start(token: str, filters: bytes) -> Place | None:
    """Where the page of `token` begins: behind this place; None at the first. Raises Rejected."""
    if not token:
        return None
    data = _unsealed(token, filters, 24)
    try:
        at = _EPOCH + timedelta(microseconds=int.from_bytes(data[:8]))
    except OverflowError:
        raise rejected("page_token", _FOREIGN) from None
    return Place(at, SagaId(UUID(bytes=data[8:])))


def _sealed(filters: bytes, place: bytes) -> str:
    return base64.urlsafe_b64encode(_TOKEN_VERSION + _digest(filters) + place).decode().rstrip("=")


def _unsealed(token: str, filters: bytes, place_bytes: int) -> bytes:
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != len(_TOKEN_VERSION) + _DIGEST_BYTES + place_bytes or not data.startswith(_TOKEN_VERSION):
        raise rejected("page_token", _FOREIGN)
    if data[len(_TOKEN_VERSION) : -place_bytes] != _digest(filters):
        raise rejected("page_token", "belongs to a list with other filters")
    return data[-place_bytes:]


def _digest(filters: bytes) -> bytes:
    return hashlib.sha256(filters).digest()[:_DIGEST_BYTES]


def rejected(field: str, description: str) -> Rejected:
    """The complaint about one field."""
    return Rejected("the request is not valid", (FieldViolation(field, description),))
