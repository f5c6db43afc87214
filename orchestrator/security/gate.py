"""The one place that decides who calls and whether it may: for the API, the HTTP port and the heartbeat alike.

Asked by threads of all of them.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.errors import Forbidden, LimitReached, Unauthenticated
from orchestrator.security.access import AccessList
from orchestrator.security.caller import ANONYMOUS, Caller, Limits
from orchestrator.security.files import Reloaded
from orchestrator.security.limits import Account, Ledger
from orchestrator.security.roles import Role, Rule
from orchestrator.security.tokens import KeySet, bearer_token

_VERIFIED_MAX = 2_000
_VERIFIED_S = 60.0
NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class SignedTokens:
    """Whose signed tokens are taken, and for whom they must be made out."""

    keys: Reloaded[KeySet]
    issuer: str
    audience: str
    leeway_s: float = 30.0


class Gate:
    """Knows callers by certificate or token. With neither a file of callers nor a key set, everybody is let in.

    `refused` hears of every refusal, by its kind: `unauthenticated`, `forbidden` or `limit`.
    """

    def __init__(
        self,
        access: Reloaded[AccessList] | None = None,
        signed: SignedTokens | None = None,
        limits: Limits = NO_LIMITS,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._access = access
        self._signed = signed
        self._ledger = Ledger(limits)
        self._refused = refused
        self._lock = threading.Lock()
        # Verified tokens by their hashes: a signature costs a hundred times what a look costs.
        self._verified: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._verified_under = (0, 0)

    @property
    def asks(self) -> bool:
        """Whether callers have to say who they are."""
        return self._access is not None or self._signed is not None

    def identify(self, names: tuple[str, ...], authorization: str | None) -> Caller:
        """Who calls, by the names in its certificate or its `Authorization`, which counts if there is one.

        Raises Unauthenticated.
        """
        if not self.asks:
            return ANONYMOUS
        try:
            if authorization is not None:
                return self._bearer(bearer_token(authorization))
            if names:
                return self._listed().by_certificate(names, datetime.now(UTC))
            raise Unauthenticated("who are you? Show a client certificate, or `authorization: Bearer TOKEN`")
        except Unauthenticated:
            self._refused("unauthenticated")
            raise

    def check(self, caller: Caller, rule: Rule, what: str) -> None:
        """Raises Forbidden when the caller may not do `what`."""
        try:
            caller.check(rule, what)
        except Forbidden:
            self._refused("forbidden")
            raise

    def enter(self, caller: Caller, *, stream: bool, cost: float = 1.0, size_bytes: int = 0) -> Account:
        """Count a call under the caller's limits; `leave` must follow. Raises LimitReached."""
        try:
            with self._lock:
                return self._ledger.enter(caller, cost, size_bytes, time.monotonic(), stream=stream)
        except LimitReached:
            self._refused("limit")
            raise

    def leave(self, account: Account, *, stream: bool) -> None:
        """A call has ended."""
        with self._lock:
            self._ledger.leave(account, stream=stream)

    def is_replica(self, names: tuple[str, ...]) -> bool:
        """Whether a certificate with these names is that of a replica."""
        try:
            return self.identify(names, None).has(Role.REPLICA)
        except Unauthenticated:
            return False

    def _listed(self) -> AccessList:
        return AccessList() if self._access is None else self._access.current()

    def _bearer(self, token: str) -> Caller:
        if self._signed is None or token.count(".") != 2:
            return self._listed().by_token(token, datetime.now(UTC))
        # What was verified counts as long as the files are as they were, and the token has not expired.
        under = (self._signed.keys.generation, 0 if self._access is None else self._access.generation)
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        with self._lock:
            if self._verified_under != under:
                self._verified.clear()
                self._verified_under = under
            known = self._verified.get(digest)
        if known is not None and time.time() < known[1]:
            return known[0]
        signed = self._signed
        claims = signed.keys.current().verify(
            token, issuer=signed.issuer, audience=signed.audience, leeway_s=signed.leeway_s
        )
        caller = self._listed().by_claims(claims, datetime.now(UTC))
        with self._lock:
            self._verified[digest] = (caller, min(claims.expires_at_s, time.time() + _VERIFIED_S))
            if len(self._verified) > _VERIFIED_MAX:
                self._verified.popitem(last=False)
        return caller


OPEN = Gate()
