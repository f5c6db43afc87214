"""Who calls, and what this caller may touch. Services ask for `current()` where a definition is at stake.

Pure but for the variable that carries the caller from the door of the API to its services, task by task.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from orchestrator.errors import Forbidden
from orchestrator.security.roles import Role, Rule, Scope, includes

ALL_DEFINITIONS = ("*",)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller may ask of one replica; 0 leaves it without a limit."""

    calls_per_s: float = 0.0
    calls: int = 0  # unary calls under way at once
    streams: int = 0  # streams open at once
    message_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever calls: `by` says by what it was recognized, `definitions` are patterns in which `*` is any text.

    `groups` are names of its organization's, by which definitions say whose approval they ask for.
    """

    name: str
    roles: frozenset[Role]
    definitions: tuple[str, ...] = ALL_DEFINITIONS
    by: str = "nothing"
    limits: Limits | None = None
    groups: frozenset[str] = frozenset()

    @property
    def unrestricted(self) -> bool:
        """Whether it has the right to every definition."""
        return "*" in self.definitions

    def has(self, role: Role) -> bool:
        """Whether it holds the role, or one that includes it."""
        return any(includes(held, role) for held in self.roles)

    def may_touch(self, definition: str) -> bool:
        """Whether it has the right to a definition and its sagas."""
        return any(fnmatchcase(definition, pattern) for pattern in self.definitions)

    def require(self, definition: str) -> None:
        """Raises Forbidden when it has no right to the definition."""
        if not self.may_touch(definition):
            raise Forbidden(f"{self.name} has no right to definition {definition!r}; it has one to {self._rights()}")

    def require_decision(self, groups: Collection[str], what: str) -> None:
        """Raises Forbidden when the caller is in none of the groups, nor an operator, who may decide everything."""
        if not self.has(Role.OPERATOR) and not self.groups & set(groups):
            asked = ", ".join(groups) or "operators"
            raise Forbidden(f"{what} asks for the word of {asked}; {self.name} is none of them")

    def require_all(self, what: str) -> None:
        """Raises Forbidden when it has rights to single definitions alone, and `what` touches all of them."""
        if not self.unrestricted:
            raise Forbidden(f"{what} touches all definitions, and {self.name} has a right to {self._rights()} alone")

    def check(self, rule: Rule, what: str) -> None:
        """Raises Forbidden when the rule for `what` asks for more than this caller has."""
        if rule.role is None:
            return
        if not self.has(rule.role):
            held = ", ".join(sorted(self.roles)) or "none"
            raise Forbidden(f"{what} is for the role {rule.role}; {self.name} has {held}")
        # Metrics carry the names of all definitions, and whoever was given that role by name may read them.
        metrics = rule.role is Role.METRICS and Role.METRICS in self.roles
        if rule.scope is Scope.CLUSTER and not metrics:
            self.require_all(what)

    def _rights(self) -> str:
        return ", ".join(self.definitions) or "none"


# Where nobody is asked who it is, everybody may everything.
ANONYMOUS = Caller("anonymous", frozenset({Role.REPLICA}))

_CURRENT: ContextVar[Caller] = ContextVar("baton_caller", default=ANONYMOUS)


def current() -> Caller:
    """The caller that this task serves; ANONYMOUS outside of a call."""
    return _CURRENT.get()


def serve(caller: Caller) -> None:
    """From here on this task serves that caller."""
    _CURRENT.set(caller)


def certificate_names(subject: object, alternative: object) -> tuple[str, ...]:
    """The names in a certificate as Python's ssl gives it: the alternative names, else the common name."""
    names = tuple(str(name) for kind, name in _pairs(alternative) if kind in ("DNS", "URI", "email", "IP Address"))
    if names:
        return names
    parts = [pair for part in (subject if isinstance(subject, tuple) else ()) for pair in _pairs(part)]
    return tuple(str(value) for key, value in parts if key == "commonName")


def names_in(context: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in the certificate of a gRPC call, by its authentication context; as `certificate_names`."""
    for key in ("x509_subject_alternative_name", "x509_common_name"):
        if names := tuple(value.decode(errors="replace") for value in context.get(key) or ()):
            return names
    return ()


def _pairs(value: object) -> tuple[tuple[str, object], ...]:
    return tuple(pair for pair in value if len(pair) == 2) if isinstance(value, tuple) else ()
