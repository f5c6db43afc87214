"""Bearer tokens: random ones, known by their hashes, and signed ones (JWT), checked against a set of keys."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from orchestrator.errors import Unauthenticated

# A hash without salt or delay is enough for what nobody can guess: 20 characters of 64 have 120 bits.
TOKEN_CHARS_MIN = 20
TOKEN_CHARS_MAX = 8192
_PREFIX = "baton_"

# Signatures by a key that only the issuer has. A shared secret would make every replica an issuer.
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA"}
)


def new_token() -> str:
    """A random token."""
    return _PREFIX + secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What stands in the file of callers in place of a token. Raises ValueError for one that could be guessed."""
    if len(token) < TOKEN_CHARS_MIN:
        raise ValueError(f"has {len(token)} characters: only {TOKEN_CHARS_MIN} or more, at random, cannot be guessed")
    if not token.isascii() or any(character.isspace() for character in token):
        raise ValueError("is not ASCII without blanks, as what travels in a header must be")
    return _digest(token)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def bearer_token(authorization: str) -> str:
    """The token in an `Authorization` header: `Bearer TOKEN`. Raises Unauthenticated."""
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > TOKEN_CHARS_MAX:
        raise Unauthenticated("the authorization must be `Bearer TOKEN`")
    return token


@dataclass(frozen=True, slots=True)
class Claims:
    """What a signed token says of its bearer; `expires_at_s` counts since 1970."""

    subject: str
    expires_at_s: float
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeySet:
    """The public keys of whoever issues tokens, by their ids."""

    keys: tuple[jwt.PyJWK, ...]

    @classmethod
    def parse(cls, content: bytes) -> KeySet:
        """A JWKS document (RFC 7517). Raises ValueError; keys of a kind that Baton does not use are left out."""
        try:
            entries = json.loads(content)["keys"]
            found = []
            for entry in entries:
                if entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
                    continue
                key = jwt.PyJWK(entry)
                if key.algorithm_name in ALGORITHMS:
                    found.append(key)
        except (ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
            raise ValueError(f"is no JWKS: {error}") from None
        if not found:
            raise ValueError("holds no public key for signatures (RSA, EC or OKP)")
        return cls(tuple(found))

    def verify(self, token: str, *, issuer: str, audience: str, leeway_s: float) -> Claims:
        """The claims of a token that one of the keys has signed for us, now. Raises Unauthenticated."""
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=issuer,
                audience=audience,
                leeway=leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired: get a new one") from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Unauthenticated(f"the token is not valid: {error}") from None
        return Claims(str(claims["sub"]), float(claims["exp"]), claims)

    def _key(self, key_id: object) -> jwt.PyJWK:
        if key_id is None and len(self.keys) == 1:
            return self.keys[0]
        for key in self.keys:
            if key.key_id is not None and key.key_id == key_id:
                return key
        raise Unauthenticated("the token is signed by a key that is not in the key set")
