"""The door of the HTTP port: asks each request who makes it and whether it may, as the API's door does.

A browser has no way to send a bearer token, so it may send it as the password of Basic authentication. What a browser
knows it sends for every page that asks: a request that changes something is refused when another site's page made it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import urlsplit

from orchestrator.errors import BatonError, Forbidden, LimitReached, Unauthenticated
from orchestrator.security.audit import Action, Record
from orchestrator.security.caller import Caller
from orchestrator.security.gate import Gate
from orchestrator.security.roles import Rule, rule_of_page

CHALLENGE = 'Bearer realm="baton", Basic realm="baton: any name, and a token as the password"'
_STATUS: dict[type[BatonError], HTTPStatus] = {
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    LimitReached: HTTPStatus.TOO_MANY_REQUESTS,
}


@dataclass(frozen=True, slots=True)
class Visitor:
    """What is known of whoever makes a request: the names in its certificate, some headers, and its address."""

    names: tuple[str, ...] = ()
    authorization: str | None = None
    origin: str | None = None
    host: str | None = None
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused."""

    status: HTTPStatus
    text: str


class Door:
    """Asked by many threads."""

    def __init__(self, gate: Gate, record: Record) -> None:
        self._gate = gate
        self._record = record

    def known(self, visitor: Visitor) -> bool:
        """Whether somebody with a role asks, or nobody is asked who it is."""
        try:
            return bool(self._gate.identify(visitor.names, _bearer(visitor.authorization)).roles)
        except Unauthenticated:
            return False

    def refusal(self, method: str, path: str, visitor: Visitor) -> Refusal | None:
        """Why the request is refused; None: it is not. What operators ask for is noted either way."""
        rule = rule_of_page(method, path)
        if rule.role is None:
            return None
        caller: Caller | None = None
        try:
            caller = self._gate.identify(visitor.names, _bearer(visitor.authorization))
            self._gate.check(caller, rule, f"{method} {path}")
            self._gate.leave(self._gate.enter(caller, stream=False), stream=False)
            _refuse_other_sites(method, visitor)
        except (Unauthenticated, Forbidden, LimitReached) as error:
            refusal = Refusal(_STATUS[type(error)], str(error))
            self._note(rule, caller, method, path, visitor, refusal)
            return refusal
        self._note(rule, caller, method, path, visitor, None)
        return None

    def _note(
        self, rule: Rule, caller: Caller | None, method: str, path: str, visitor: Visitor, refusal: Refusal | None
    ) -> None:
        if not rule.audited:
            return
        self._record(
            Action(
                at=datetime.now(UTC),
                caller="nobody known" if caller is None else caller.name,
                recognized_by="nothing" if caller is None else caller.by,
                peer=visitor.peer,
                action=f"{method} {path[:200]}",
                target={},
                outcome="LET_IN" if refusal is None else refusal.status.name,
                message="" if refusal is None else refusal.text,
            )
        )


def _refuse_other_sites(method: str, visitor: Visitor) -> None:
    if method not in ("GET", "HEAD") and visitor.origin and urlsplit(visitor.origin).netloc != visitor.host:
        raise Forbidden(f"a page of {visitor.origin[:100]} may not do that")


def _bearer(authorization: str | None) -> str | None:
    """The header as a bearer token's."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return authorization
    try:
        password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        password = ""
    return f"Bearer {password}"
