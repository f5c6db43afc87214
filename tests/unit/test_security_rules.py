"""Who may do what: roles, rights to definitions, the file of callers, tokens, limits. Every "may not" has its test."""

from __future__ import annotations

import importlib
import json
import pkgutil
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2

import orchestrator.pb.baton.v1 as api
from orchestrator.errors import Forbidden, LimitReached, Unauthenticated
from orchestrator.pb.baton.v1 import saga_pb2
from orchestrator.security.access import AccessList
from orchestrator.security.audit import target_of
from orchestrator.security.caller import ANONYMOUS, Caller, Limits, certificate_names, names_in
from orchestrator.security.limits import Ledger
from orchestrator.security.roles import METHODS, UNLISTED, Role, Rule, Scope, includes, rule_of, rule_of_page
from orchestrator.security.tokens import KeySet, bearer_token, new_token, token_hash

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ISSUER, AUDIENCE = "https://login.example", "baton"


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


ACCESS = """
callers:
  - {name: checkout, certificate: [checkout.example, "spiffe://shop/checkout"], roles: [starter], definitions: [order]}
  - {name: replicas, certificate: "*.baton.svc", roles: [replica]}
  - {name: temp, certificate: temp.example, roles: [reader], expires: 2025-12-31}
  - {name: prometheus, token_sha256: TOKEN, roles: [metrics], limits: {calls_per_s: 2}}
  - {name: alice, subject: alice@example, roles: [operator]}
"""
TOKEN = "a-token-that-nobody-guesses-1"


@pytest.fixture
def listed() -> AccessList:
    return AccessList.parse(ACCESS.replace("TOKEN", token_hash(TOKEN)).encode())


def test_callers_are_known_by_a_name_in_their_certificate(listed: AccessList) -> None:
    for name in ("checkout.example", "spiffe://shop/checkout"):
        known = listed.by_certificate(("other", name), NOW)
        assert (known.name, known.by, known.definitions) == ("checkout", "certificate", ("order",))
    assert listed.by_certificate(("r1.baton.svc",), NOW).has(Role.REPLICA)
    for names in ((), ("checkout",), ("checkout.example.evil",), ("baton.svc",)):
        with pytest.raises(Unauthenticated, match="nobody is known"):
            listed.by_certificate(names, NOW)
    with pytest.raises(Unauthenticated, match="has expired"):
        listed.by_certificate(("temp.example",), NOW)


def test_callers_are_known_by_the_hash_of_their_token(listed: AccessList) -> None:
    known = listed.by_token(TOKEN, NOW)
    assert (known.name, known.by) == ("prometheus", "token")
    assert known.limits == Limits(calls_per_s=2)
    for token in (TOKEN + "x", "", "short", token_hash(TOKEN)):
        with pytest.raises(Unauthenticated):
            listed.by_token(token, NOW)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("callers: [{name: a, roles: [reader]}]", "by what is it recognized"),
        ("callers: [{name: a, certificate: x, roles: [king]}]", "callers.0.roles.0"),
        ("callers: [{name: a, certificate: x, roles: []}]", "callers.0.roles"),
        ("callers: [{name: a, certificate: x, role: [reader]}]", "callers.0.role"),
        ("callers: [{name: a, token_sha256: secret, roles: [reader]}]", "callers.0.token_sha256"),
        ("callers: [{name: a, subject: s, roles: [reader]}, {name: b, subject: s, roles: [operator]}]", "the same"),
        ("callers: [", "is no YAML"),
        ("nobody: here", "callers"),
    ],
)
def test_a_file_of_callers_with_a_mistake_is_refused_and_the_place_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        AccessList.parse(text.encode())


def test_tokens_that_could_be_guessed_are_not_hashed() -> None:
    assert token_hash(new_token()) != token_hash(new_token())
    for token in ("hunter2", "x" * 19, "has a blank in the middle", "schlüssel-schlüssel-schlüssel"):
        with pytest.raises(ValueError, match=r"cannot be guessed|not ASCII"):
            token_hash(token)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "token", "Bearer " + "x" * 9000])
def test_an_authorization_that_is_no_bearer_token_is_refused(header: str) -> None:
    with pytest.raises(Unauthenticated):
        bearer_token(header)


class Issuer:
    """Signs tokens, as an identity provider does."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        public = json.loads(jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).to_jwk(self.key.public_key()))
        self.jwks = json.dumps({"keys": [{**public, "kid": "k1", "alg": "ES256", "use": "sig"}]}).encode()

    def token(self, *, key: Any = None, algorithm: str = "ES256", kid: str | None = "k1", **changes: Any) -> str:
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "bob", "exp": time.time() + 60, **changes}
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, self.key if key is None else key, algorithm, headers={"kid": kid} if kid else None)


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


def verify(issuer: Issuer, token: str) -> Any:
    return KeySet.parse(issuer.jwks).verify(token, issuer=ISSUER, audience=AUDIENCE, leeway_s=1)


def test_a_signed_token_is_taken_with_the_rights_it_names(issuer: Issuer, listed: AccessList) -> None:
    claims = verify(issuer, issuer.token(baton_roles=["starter", "king"], baton_definitions="order return"))
    known = listed.by_claims(claims, NOW)
    assert (known.name, known.by, known.roles) == ("bob", "jwt", {Role.STARTER})
    assert known.definitions == ("order", "return")
    assert not listed.by_claims(verify(issuer, issuer.token()), NOW).roles
    # What the file says of a subject goes before what the token says.
    alice = listed.by_claims(verify(issuer, issuer.token(sub="alice@example", baton_roles="metrics")), NOW)
    assert alice.roles == {Role.OPERATOR}


def test_a_token_does_not_make_a_replica(issuer: Issuer, listed: AccessList) -> None:
    with pytest.raises(Unauthenticated, match="by its certificate"):
        listed.by_claims(verify(issuer, issuer.token(baton_roles=["replica"])), NOW)


def test_signed_tokens_that_are_not_for_us_now_are_refused(issuer: Issuer) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(Unauthenticated, match="has expired"):
        verify(issuer, issuer.token(exp=time.time() - 10))
    refused = [
        issuer.token(iss="https://elsewhere.example"),
        issuer.token(aud="another"),
        issuer.token(nbf=time.time() + 60),
        issuer.token(exp=None),
        issuer.token(sub=None),
        issuer.token(iss=None),
        issuer.token(aud=None),
        issuer.token(key=other),
        issuer.token(kid="k2"),
        # The public key as if it were a shared secret, and no signature at all.
        issuer.token(key="x" * 32, algorithm="HS256"),
        issuer.token(key="", algorithm="none"),
        issuer.token(key=rsa.generate_private_key(65537, 2048), algorithm="RS256"),
        issuer.token()[:-4],
        "a.b.c",
    ]
    for token in refused:
        with pytest.raises(Unauthenticated):
            verify(issuer, token)


def test_a_key_set_with_nothing_but_shared_secrets_is_refused() -> None:
    for content in (b"", b"{}", b'{"keys": 3}', b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]}'):
        with pytest.raises(ValueError, match=r"JWKS|holds no public key"):
            KeySet.parse(content)


def enter(
    ledger: Ledger, now_s: float, *, name: str = "a", cost: float = 1, size: int = 0, stream: bool = False
) -> Any:
    return ledger.enter(replace(ANONYMOUS, name=name), cost, size, now_s, stream=stream)


def test_a_caller_makes_no_more_calls_than_it_may_and_is_told_when_to_come_again() -> None:
    ledger = Ledger(Limits(calls_per_s=2))
    for _ in range(2):
        ledger.leave(enter(ledger, 0.0), stream=False)
    with pytest.raises(LimitReached) as refused:
        enter(ledger, 0.1)
    assert refused.value.retry_after_s == pytest.approx(0.4)
    enter(ledger, 0.1, name="another")
    enter(ledger, 0.5)


def test_a_batch_counts_as_what_it_holds() -> None:
    ledger = Ledger(Limits(calls_per_s=10))
    # Larger than a second's worth: let in when nothing was asked before, and paid off afterwards.
    ledger.leave(enter(ledger, 0.0, cost=30), stream=False)
    with pytest.raises(LimitReached):
        enter(ledger, 2.0)
    enter(ledger, 2.2)


def test_calls_and_streams_under_way_are_bounded_apart() -> None:
    ledger = Ledger(Limits(calls=1, streams=1))
    stream = enter(ledger, 0.0, stream=True)
    call = enter(ledger, 0.0)
    for kind in (True, False):
        with pytest.raises(LimitReached, match="1 are allowed"):
            enter(ledger, 0.0, stream=kind)
    ledger.leave(stream, stream=True)
    ledger.leave(call, stream=False)
    enter(ledger, 0.0, stream=True)
    enter(ledger, 0.0)


def test_a_caller_may_have_limits_of_its_own() -> None:
    ledger = Ledger(Limits(calls_per_s=1))
    own = Caller("own", frozenset(), limits=Limits(message_bytes=10))
    for _ in range(5):
        ledger.leave(ledger.enter(own, 1, 10, 0.0, stream=False), stream=False)
    with pytest.raises(LimitReached, match="larger than max"):
        ledger.enter(own, 1, 11, 0.0, stream=False)


def test_idle_callers_are_forgotten_and_busy_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.security.limits.CALLERS_MAX", 3)
    ledger = Ledger(Limits(calls=5))
    ledger.leave(enter(ledger, 0.0, name="idle"), stream=False)
    for number in range(3):
        enter(ledger, 0.0, name=f"busy-{number}")
    assert list(ledger.accounts) == ["busy-0", "busy-1", "busy-2"]
    enter(ledger, 0.0, name="busy-3")
    assert "busy-0" in ledger.accounts


def test_names_of_a_certificate_are_the_alternative_ones_else_the_common_one() -> None:
    subject = ((("commonName", "cn"),), (("organizationName", "o"),))
    assert certificate_names(subject, (("DNS", "a"), ("URI", "b"), ("DirName", "c"))) == ("a", "b")
    assert certificate_names(subject, None) == ("cn",)
    assert certificate_names(None, None) == ()
    assert names_in({"x509_subject_alternative_name": [b"a"], "x509_common_name": [b"cn"]}) == ("a",)
    assert names_in({"x509_common_name": [b"cn"]}) == ("cn",)


def test_the_audit_log_has_no_payloads() -> None:
    request = saga_pb2.StartSagaRequest(definition="order", version=3, input_json='{"iban": "secret"}', wait=True)
    assert target_of(request) == {"definition": "order", "version": "3", "wait": "True"}
    applied = saga_pb2.ApplyDefinitionRequest(yaml="secret", file_name="f" * 1000, descriptor_set=b"x")
    assert target_of(applied) == {"file_name": "f" * 300}


def test_an_entry_that_ends_ends(tmp_path: Path) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    listed = AccessList.parse(f"callers: [{{name: a, certificate: x, roles: [reader], expires: '{soon}'}}]".encode())
    assert listed.by_certificate(("x",), datetime.now(UTC)).name == "a"
    with pytest.raises(Unauthenticated, match="expired"):
        listed.by_certificate(("x",), datetime.now(UTC) + timedelta(hours=2))


def test_a_decision_is_for_the_groups_that_the_definition_names_or_an_operator() -> None:
    accountant = Caller("ann", frozenset({Role.READER}), groups=frozenset({"accounting"}))
    accountant.require_decision(["board", "accounting"], "step pay")
    caller(Role.OPERATOR).require_decision(["board"], "step pay")
    for groups in (["board"], []):
        with pytest.raises(Forbidden, match="asks for the word of"):
            accountant.require_decision(groups, "step pay")
