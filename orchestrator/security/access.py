"""The file of callers: who there is, by what each is recognized, and what it may do.

    callers:
      - name: checkout
        certificate: checkout.shop.example
        roles: [starter]
        definitions: [order, "return-*"]

Pure: text in, callers out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from orchestrator.errors import Unauthenticated
from orchestrator.security.caller import ALL_DEFINITIONS, Caller, Limits
from orchestrator.security.roles import Role
from orchestrator.security.tokens import Claims, token_hash

ROLES_CLAIM = "baton_roles"
DEFINITIONS_CLAIM = "baton_definitions"
GROUPS_CLAIM = "baton_groups"


class _Limits(BaseModel):
    model_config = ConfigDict(extra="forbid")

    calls_per_s: float = Field(0.0, ge=0)
    calls: int = Field(0, ge=0)
    streams: int = Field(0, ge=0)
    message_bytes: int = Field(0, ge=0)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    certificate: str | list[str] | None = None
    token_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    subject: str | None = None
    expires: datetime | None = None
    roles: list[Role] = Field(min_length=1)
    definitions: list[str] = list(ALL_DEFINITIONS)
    groups: list[str] = []
    limits: _Limits | None = None

    @field_validator("expires")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        return value if value is None or value.tzinfo is not None else value.replace(tzinfo=UTC)

    @model_validator(mode="after")
    def _recognizable(self) -> _Entry:
        if not (self.certificate or self.token_sha256 or self.subject):
            raise ValueError(f"{self.name}: by what is it recognized? certificate, token_sha256 or subject")
        return self

    def caller(self, by: str) -> Caller:
        limits = None if self.limits is None else Limits(**self.limits.model_dump())
        return Caller(self.name, frozenset(self.roles), tuple(self.definitions), by, limits, frozenset(self.groups))


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    callers: list[_Entry]


@dataclass(frozen=True, slots=True)
class AccessList:
    """The callers of a file. An entry may be recognized by more than one thing; of two that fit, the first counts."""

    _certificates: tuple[tuple[str, _Entry], ...] = ()
    _tokens: Mapping[str, _Entry] | None = None
    _subjects: Mapping[str, _Entry] | None = None

    @classmethod
    def parse(cls, content: bytes) -> AccessList:
        """Raises ValueError that says what is wrong, and where."""
        try:
            document = _Document.model_validate(yaml.safe_load(content) or {})
        except yaml.YAMLError as error:
            raise ValueError(f"is no YAML: {error}") from None
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
            raise ValueError(problems) from None
        certificates: list[tuple[str, _Entry]] = []
        tokens: dict[str, _Entry] = {}
        subjects: dict[str, _Entry] = {}
        for entry in document.callers:
            patterns = [entry.certificate] if isinstance(entry.certificate, str) else entry.certificate or []
            certificates += [(pattern, entry) for pattern in patterns]
            for known, value in ((tokens, entry.token_sha256), (subjects, entry.subject)):
                if value is not None and known.setdefault(value, entry) is not entry:
                    raise ValueError(f"{entry.name} and {known[value].name} are recognized by the same: {value}")
        return cls(tuple(certificates), tokens, subjects)

    def by_certificate(self, names: Iterable[str], now: datetime) -> Caller:
        """The caller whose certificate bears one of these names. Raises Unauthenticated."""
        shown = tuple(names)
        for pattern, entry in self._certificates:
            if any(fnmatchcase(name, pattern) for name in shown):
                return self._valid(entry, now, "certificate")
        raise Unauthenticated(f"nobody is known by a certificate for {', '.join(shown) or 'no name'}")

    def by_token(self, token: str, now: datetime) -> Caller:
        """The caller who bears this token. Raises Unauthenticated."""
        try:
            entry = (self._tokens or {}).get(token_hash(token))
        except ValueError:
            entry = None
        if entry is None:
            raise Unauthenticated("nobody is known by this token")
        return self._valid(entry, now, "token")

    def by_claims(self, claims: Claims, now: datetime) -> Caller:
        """The caller of a signed token that was verified: as the file has its subject, else as the token itself says.

        Raises Unauthenticated.
        """
        entry = (self._subjects or {}).get(claims.subject)
        if entry is not None:
            return self._valid(entry, now, "jwt")
        roles = frozenset(Role(word) for word in _words(claims.values.get(ROLES_CLAIM)) if word in set(Role))
        if Role.REPLICA in roles:
            raise Unauthenticated("a replica is recognized by its certificate, not by a token")
        definitions: tuple[str, ...] = ALL_DEFINITIONS
        if DEFINITIONS_CLAIM in claims.values:
            definitions = tuple(_words(claims.values[DEFINITIONS_CLAIM]))
        groups = frozenset(_words(claims.values.get(GROUPS_CLAIM)))
        return Caller(claims.subject, roles, definitions, "jwt", groups=groups)

    @staticmethod
    def _valid(entry: _Entry, now: datetime, by: str) -> Caller:
        if entry.expires is not None and now >= entry.expires:
            raise Unauthenticated(f"{entry.name} was known until {entry.expires.isoformat()}: its time has expired")
        return entry.caller(by)


def _words(claim: object) -> list[str]:
    """A claim that is a list of strings, or a string of words."""
    if isinstance(claim, str):
        return claim.split()
    return [word for word in claim if isinstance(word, str)] if isinstance(claim, list) else []
