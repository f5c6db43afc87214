"""Who calls: known by a certificate, by a token, or by what an identity provider signed. Every "no" has its test."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from orchestrator.errors import Unauthenticated
from orchestrator.security.access import AccessList
from orchestrator.security.caller import Limits, certificate_names, names_in
from orchestrator.security.roles import Role
from orchestrator.security.tokens import KeySet, bearer_token, new_token, token_hash

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ISSUER, AUDIENCE = "https://login.example", "baton"

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


def test_names_of_a_certificate_are_the_alternative_ones_else_the_common_one() -> None:
    subject = ((("commonName", "cn"),), (("organizationName", "o"),))
    assert certificate_names(subject, (("DNS", "a"), ("URI", "b"), ("DirName", "c"))) == ("a", "b")
    assert certificate_names(subject, None) == ("cn",)
    assert certificate_names(None, None) == ()
    assert names_in({"x509_subject_alternative_name": [b"a"], "x509_common_name": [b"cn"]}) == ("a",)
    assert names_in({"x509_common_name": [b"cn"]}) == ("cn",)


def test_an_entry_that_ends_ends(tmp_path: Path) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    listed = AccessList.parse(f"callers: [{{name: a, certificate: x, roles: [reader], expires: '{soon}'}}]".encode())
    assert listed.by_certificate(("x",), datetime.now(UTC)).name == "a"
    with pytest.raises(Unauthenticated, match="expired"):
        listed.by_certificate(("x",), datetime.now(UTC) + timedelta(hours=2))
