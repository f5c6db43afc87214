"""What a caller may do by its roles and its rights to definitions, and what is noted. Every "may not" has its test."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2

import orchestrator.pb.baton.v1 as api
from orchestrator.errors import Forbidden
from orchestrator.pb.baton.v1 import saga_pb2
from orchestrator.security.audit import target_of
from orchestrator.security.caller import Caller
from orchestrator.security.roles import METHODS, UNLISTED, Role, Rule, Scope, includes, rule_of, rule_of_page


def caller(*roles: Role, definitions: tuple[str, ...] = ("*",)) -> Caller:
    return Caller("somebody", frozenset(roles), definitions)


def methods_served() -> Iterator[str]:
    """Every method of every service of the API, by the descriptors of all its files."""
    files: list[FileDescriptor] = [
        importlib.import_module(f"{api.__name__}.{module.name}").DESCRIPTOR
        for module in pkgutil.iter_modules(api.__path__)
        if module.name.endswith("_pb2")
    ]
    for file in (*files, health_pb2.DESCRIPTOR):
        for service in file.services_by_name.values():
            yield from (f"/{service.full_name}/{method.name}" for method in service.methods)


def test_every_method_of_the_api_has_a_rule() -> None:
    served = set(methods_served())
    assert len(served) > 10
    missing = sorted(served - METHODS.keys())
    assert not missing, f"say in security/roles.py who may call {missing}; until then operators alone may"
    gone = {method for method in METHODS.keys() - served if "reflection" not in method}
    assert not gone


def test_what_nobody_thought_of_is_for_operators_and_audited() -> None:
    rule = rule_of("/baton.v1.NewService/Anything")
    assert (rule.role, rule.scope, rule.audited) == (Role.OPERATOR, Scope.CLUSTER, True)
    assert rule_of_page("POST", "/metrics") == UNLISTED
    assert rule_of_page("DELETE", "/failpoints/term.append.before") == UNLISTED


@pytest.mark.parametrize(
    ("held", "may", "may_not"),
    [
        (Role.METRICS, {Role.METRICS}, set(Role) - {Role.METRICS}),
        (Role.READER, {Role.METRICS, Role.READER}, set(Role) - {Role.METRICS, Role.READER}),
        (
            Role.STARTER,
            {Role.METRICS, Role.READER, Role.STARTER},
            {Role.PARTICIPANT, Role.OPERATOR, Role.REPLICA},
        ),
        (Role.PARTICIPANT, {Role.PARTICIPANT}, set(Role) - {Role.PARTICIPANT}),
        (Role.OPERATOR, set(Role) - {Role.REPLICA}, {Role.REPLICA}),
        (Role.REPLICA, set(Role), set()),
    ],
)
def test_what_a_role_includes(held: Role, may: set[Role], may_not: set[Role]) -> None:
    assert may | may_not == set(Role)
    assert all(includes(held, role) for role in may)
    assert not any(includes(held, role) for role in may_not)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("role", list(Role))
def test_a_method_lets_in_exactly_the_roles_that_include_its_own(method: str, role: Role) -> None:
    rule = METHODS[method]
    if rule.role is None or includes(role, rule.role):
        caller(role).check(rule, method)
    else:
        with pytest.raises(Forbidden, match=f"is for the role {rule.role}"):
            caller(role).check(rule, method)


def test_rights_to_single_definitions_hold_for_these_alone() -> None:
    bound = caller(Role.STARTER, definitions=("order", "return-*"))
    bound.require("order")
    bound.require("return-2026")
    for other in ("orders", "return", "Order", ""):
        with pytest.raises(Forbidden, match="has no right to definition"):
            bound.require(other)
    assert not caller(Role.STARTER, definitions=()).may_touch("order")


def test_who_is_bound_to_definitions_may_not_what_touches_all() -> None:
    bound = caller(Role.OPERATOR, definitions=("order",))
    bound.check(Rule(Role.OPERATOR, Scope.DEFINITION), "one")
    bound.check(Rule(Role.READER, Scope.HARMLESS), "the cluster")
    with pytest.raises(Forbidden, match="touches all definitions"):
        bound.check(Rule(Role.OPERATOR, Scope.CLUSTER), "step down")
    with pytest.raises(Forbidden, match="touches all definitions"):
        bound.check(rule_of_page("GET", "/metrics"), "metrics")
    caller(Role.METRICS, definitions=("order",)).check(rule_of_page("GET", "/metrics"), "metrics")


def test_operators_pause_their_own_definitions_and_only_those_of_all_definitions_a_participant() -> None:
    service = "/baton.v1.PauseService"
    bound, free = caller(Role.OPERATOR, definitions=("order",)), caller(Role.OPERATOR)
    for order in ("Pause", "Resume"):
        of_definition, of_participant = f"{service}/{order}Definition", f"{service}/{order}Participant"
        bound.check(rule_of(of_definition), of_definition)
        with pytest.raises(Forbidden, match="touches all definitions"):
            bound.check(rule_of(of_participant), of_participant)
        for method in (of_definition, of_participant):
            assert rule_of(method).audited
            free.check(rule_of(method), method)
            for role in (Role.READER, Role.STARTER, Role.PARTICIPANT):
                with pytest.raises(Forbidden, match="is for the role operator"):
                    caller(role).check(rule_of(method), method)
    caller(Role.READER, definitions=("order",)).check(rule_of(f"{service}/ListPauses"), "list")


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/healthz", None),
        ("GET", "/readyz", None),
        ("GET", "/leaderz", None),
        ("GET", "/metrics", Role.METRICS),
        ("HEAD", "/metrics", Role.METRICS),
        ("GET", "/", Role.READER),
        ("GET", "/sagas/1", Role.READER),
        ("GET", "/metrics/../sagas", Role.READER),
        ("GET", "/failpoints", Role.OPERATOR),
        ("GET", "/failpoints/term.append.before", Role.OPERATOR),
        ("PUT", "/failpoints/term.append.before", Role.OPERATOR),
        ("POST", "/healthz", Role.OPERATOR),
    ],
)
def test_what_a_page_asks_for(method: str, path: str, role: Role | None) -> None:
    assert rule_of_page(method, path).role is role


def test_a_decision_is_for_the_groups_that_the_definition_names_or_an_operator() -> None:
    accountant = Caller("ann", frozenset({Role.READER}), groups=frozenset({"accounting"}))
    accountant.require_decision(["board", "accounting"], "step pay")
    caller(Role.OPERATOR).require_decision(["board"], "step pay")
    for groups in (["board"], []):
        with pytest.raises(Forbidden, match="asks for the word of"):
            accountant.require_decision(groups, "step pay")


def test_the_audit_log_has_no_payloads() -> None:
    request = saga_pb2.StartSagaRequest(definition="order", version=3, input_json='{"iban": "secret"}', wait=True)
    assert target_of(request) == {"definition": "order", "version": "3", "wait": "True"}
    applied = saga_pb2.ApplyDefinitionRequest(yaml="secret", file_name="f" * 1000, descriptor_set=b"x")
    assert target_of(applied) == {"file_name": "f" * 300}
