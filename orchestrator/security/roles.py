"""Who may do what: the roles, and what every method of the API and every page of the HTTP port asks for.

Pure: names in, rules out. What stands in no table below is for operators who are not bound to single definitions, and
is audited: a method that somebody adds and forgets here is closed, not open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    """What a caller is allowed; see `includes`."""

    METRICS = "metrics"  # may read /metrics
    READER = "reader"  # may read sagas, definitions, the cluster, and its pages
    STARTER = "starter"  # may start and cancel sagas, and read them
    PARTICIPANT = "participant"  # may answer for steps that it has accepted, and nothing else
    OPERATOR = "operator"  # may do everything that a person does
    REPLICA = "replica"  # another replica: everything, and the heartbeat


_INCLUDES: Mapping[Role, frozenset[Role]] = MappingProxyType(
    {
        Role.METRICS: frozenset({Role.METRICS}),
        Role.READER: frozenset({Role.METRICS, Role.READER}),
        Role.STARTER: frozenset({Role.METRICS, Role.READER, Role.STARTER}),
        Role.PARTICIPANT: frozenset({Role.PARTICIPANT}),
        Role.OPERATOR: frozenset(set(Role) - {Role.REPLICA}),
        Role.REPLICA: frozenset(Role),
    }
)


def includes(held: Role, asked: Role) -> bool:
    """Whether whoever holds the one role may do what the other one may."""
    return asked in _INCLUDES[held]


class Scope(StrEnum):
    """How a rule goes together with rights that are bound to single definitions."""

    DEFINITION = "definition"  # the service asks for the right to each definition that it touches
    HARMLESS = "harmless"  # tells nothing about sagas: whoever has the role may
    CLUSTER = "cluster"  # touches all definitions: only for callers who have the right to all of them


@dataclass(frozen=True, slots=True)
class Rule:
    """What a call asks of its caller; without a role, nothing, not even who it is. `audited`: it goes into the log."""

    role: Role | None
    scope: Scope = Scope.CLUSTER
    audited: bool = False


UNLISTED = Rule(Role.OPERATOR, Scope.CLUSTER, audited=True)
_OPEN = Rule(None, Scope.HARMLESS)
_REFLECTION = Rule(Role.READER, Scope.HARMLESS)
_ANSWER = Rule(Role.PARTICIPANT, Scope.DEFINITION)
_ORDER = Rule(Role.OPERATOR, Scope.DEFINITION, audited=True)
# Whose word counts, the definition says by groups; where it does not, operators' does. The service asks for that.
_DECISION = Rule(Role.READER, Scope.DEFINITION, audited=True)

METHODS: Mapping[str, Rule] = MappingProxyType(
    {
        "/baton.v1.SagaService/StartSaga": Rule(Role.STARTER, Scope.DEFINITION),
        "/baton.v1.SagaService/StartSagas": Rule(Role.STARTER, Scope.DEFINITION),
        "/baton.v1.SagaService/GetSaga": Rule(Role.READER, Scope.DEFINITION),
        "/baton.v1.SagaService/ListSagas": Rule(Role.READER, Scope.DEFINITION),
        "/baton.v1.SagaService/WatchSaga": Rule(Role.READER, Scope.DEFINITION),
        "/baton.v1.SagaService/CancelSaga": Rule(Role.STARTER, Scope.DEFINITION, audited=True),
        "/baton.v1.DefinitionService/ApplyDefinition": Rule(Role.OPERATOR, audited=True),
        "/baton.v1.DefinitionService/GetDefinition": Rule(Role.READER, Scope.DEFINITION),
        "/baton.v1.DefinitionService/ListDefinitions": Rule(Role.READER, Scope.DEFINITION),
        # The replica connects to whatever addresses a definition names.
        "/baton.v1.VersionService/CheckDefinition": Rule(Role.OPERATOR),
        "/baton.v1.VersionService/DiffDefinitions": Rule(Role.READER, Scope.DEFINITION),
        "/baton.v1.VersionService/RetireDefinition": _ORDER,
        "/baton.v1.VersionService/ReinstateDefinition": _ORDER,
        "/baton.v1.VersionService/ListRetirements": Rule(Role.READER, Scope.DEFINITION),
        "/baton.v1.VersionService/PlanMove": Rule(Role.READER, Scope.DEFINITION),
        "/baton.v1.VersionService/MoveSaga": _ORDER,
        "/baton.v1.CountingService/CountSagas": Rule(Role.READER, Scope.DEFINITION),
        "/baton.v1.BulkService/BulkCancel": Rule(Role.OPERATOR, audited=True),
        "/baton.v1.BulkService/BulkRetry": Rule(Role.OPERATOR, audited=True),
        "/baton.v1.BulkService/BulkMove": Rule(Role.OPERATOR, audited=True),
        "/baton.v1.CertificationService/RecordCertificate": Rule(Role.OPERATOR, audited=True),
        "/baton.v1.CertificationService/ListCertificates": Rule(Role.READER, Scope.HARMLESS),
        "/baton.v1.ClusterService/GetCluster": Rule(Role.READER, Scope.HARMLESS),
        "/baton.v1.ClusterService/StepDown": Rule(Role.OPERATOR, audited=True),
        "/baton.v1.StepService/CompleteStep": _ANSWER,
        "/baton.v1.StepService/FailStep": _ANSWER,
        "/baton.v1.StepService/HeartbeatStep": _ANSWER,
        "/baton.v1.StepService/ApproveStep": _DECISION,
        "/baton.v1.StepService/RejectStep": _DECISION,
        "/baton.v1.StepService/ListApprovals": Rule(Role.READER, Scope.DEFINITION),
        "/baton.v1.OperationService/PauseSaga": _ORDER,
        "/baton.v1.OperationService/ResumeSaga": _ORDER,
        "/baton.v1.OperationService/RetrySaga": _ORDER,
        "/baton.v1.OperationService/SkipStep": _ORDER,
        "/baton.v1.OperationService/ResolveStep": _ORDER,
        "/baton.v1.OperationService/ForceStep": _ORDER,
        "/baton.v1.OperationService/ListParked": Rule(Role.READER, Scope.DEFINITION),
        "/baton.v1.OperationService/PlanCancel": Rule(Role.READER, Scope.DEFINITION),
        "/baton.v1.HoldService/ListStartHolds": Rule(Role.READER, Scope.DEFINITION),
        "/baton.v1.HoldService/ReleaseStarts": _ORDER,
        "/baton.v1.PauseService/PauseDefinition": _ORDER,
        "/baton.v1.PauseService/ResumeDefinition": _ORDER,
        # Sagas of all definitions may call a participant.
        "/baton.v1.PauseService/PauseParticipant": Rule(Role.OPERATOR, audited=True),
        "/baton.v1.PauseService/ResumeParticipant": Rule(Role.OPERATOR, audited=True),
        "/baton.v1.PauseService/ListPauses": Rule(Role.READER, Scope.DEFINITION),
        "/baton.v1.EventService/StreamEvents": Rule(Role.READER),
        "/baton.v1.EventService/ListConsumers": Rule(Role.READER),
        "/baton.v1.EventService/CommitPosition": Rule(Role.READER),
        # Positions of consumers are moved by hand: what they have not handled yet may be passed over.
        "/baton.v1.EventService/ResetConsumer": Rule(Role.OPERATOR, audited=True),
        "/baton.v1.EventService/DeleteConsumer": Rule(Role.OPERATOR, audited=True),
        "/baton.v1.AuditService/ListAuditEntries": Rule(Role.OPERATOR),
        # Load balancers and probes have no identity, and learn no more than whether this replica serves.
        "/grpc.health.v1.Health/Check": _OPEN,
        "/grpc.health.v1.Health/List": _OPEN,
        "/grpc.health.v1.Health/Watch": _OPEN,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _REFLECTION,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _REFLECTION,
    }
)

_PAGES: Mapping[str, Rule] = MappingProxyType(
    {
        # A probe has no identity. Without one, these say yes or no, and not why.
        "/healthz": _OPEN,
        "/readyz": _OPEN,
        "/leaderz": _OPEN,
        "/metrics": Rule(Role.METRICS),
    }
)
_FAILPOINTS = "/failpoints"
_READS = ("GET", "HEAD")


def rule_of(method: str) -> Rule:
    """What a gRPC method, such as `/baton.v1.SagaService/GetSaga`, asks for."""
    return METHODS.get(method, UNLISTED)


def rule_of_page(method: str, path: str) -> Rule:
    """What a request to the HTTP port asks for; `path` is without its query."""
    if method not in _READS:
        return UNLISTED
    if f"{path}/".startswith(f"{_FAILPOINTS}/"):
        return Rule(Role.OPERATOR)
    return _PAGES.get(path, Rule(Role.READER))
