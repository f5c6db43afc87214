"""Production speaks TLS on every link: manifests that do not are refused by a rule, and each rule notices."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from orchestrator.config import Settings
from orchestrator.security.access import AccessList
from orchestrator.security.roles import Role

from . import manifest_tls_rules as rules
from .kustomize import Manifest, containers_of, manifests_in, pod_of
from .manifest_rules import Rule
from .manifest_sets import KUBERNETES, PRODUCTION, REPLICA, container_of, manifest_set, of_kind, replica_of, settings_of
from .manifest_tls_rules import TLS_RULES

Breakage = Callable[[list[Manifest]], object]


@pytest.mark.parametrize("name", PRODUCTION)
@pytest.mark.parametrize("rule", TLS_RULES, ids=lambda rule: rule.__name__)
def test_production_keeps_the_rule(name: str, rule: Rule) -> None:
    assert list(rule(manifest_set(name))) == []


@pytest.mark.parametrize("name", ["base", "overlays/dev", "dev-complete"])
def test_what_is_without_tls_is_refused_for_production(name: str) -> None:
    told = [complaint for rule in TLS_RULES for complaint in rule(manifest_set(name))]
    assert any("BATON_TLS_CERT_FILE is not set" in complaint for complaint in told)
    assert any("BATON_ETCD_CA_FILE is not set" in complaint for complaint in told)
    assert any("nobody is asked" in complaint for complaint in told)


def read_by_a_replica(name: str) -> Settings:
    return Settings.model_validate(
        {key.removeprefix("BATON_").lower(): value for key, value in settings_of(manifest_set(name)).items()}
    )


@pytest.mark.parametrize("name", PRODUCTION)
def test_a_replica_takes_productions_settings(name: str) -> None:
    settings = read_by_a_replica(name)
    assert settings.tls_cert_file is not None
    assert not settings.insecure_listen


def test_a_replica_refuses_the_base_without_the_component_or_a_word_that_it_may_be_in_the_clear() -> None:
    with pytest.raises(ValidationError, match="there is no TLS"):
        read_by_a_replica("base")
    assert read_by_a_replica("overlays/dev").insecure_listen


def _config(manifests: list[Manifest], name: str) -> dict[str, str]:
    (config,) = (c for c in of_kind(manifests, "ConfigMap") if c["metadata"]["name"] == name)
    data: dict[str, str] = config["data"]
    return data


def test_the_file_of_callers_knows_the_replicas_and_nobody_else() -> None:
    file = _config(manifest_set("complete"), "baton-access")["access.yaml"]
    now = datetime.now(UTC)
    assert AccessList.parse(file.encode()).by_certificate(["baton"], now).has(Role.REPLICA)
    assert [entry["name"] for entry in yaml.safe_load(file)["callers"]] == ["replicas"]
    # What it shows in comments is what a replica takes.
    shown = AccessList.parse(re.sub(r"^  # (?=-|  )", "  ", file, flags=re.M).replace("HASH", "a" * 64).encode())
    assert shown.by_certificate(["checkout.shop.svc"], now).has(Role.STARTER)


def test_the_examples_certificates_bear_every_name_that_is_asked_for() -> None:
    certificates = {
        m["spec"]["secretName"]: m["spec"]
        for m in manifests_in(KUBERNETES / "examples" / "cert-manager.yaml")
        if m["kind"] == "Certificate"
    }
    own, shop = certificates["baton-tls"], certificates["shop-tls"]
    settings = settings_of(manifest_set("complete"))
    assert settings["BATON_TLS_REPLICA_NAME"] in own["dnsNames"]
    assert settings["BATON_ENDPOINTS"].partition(":")[0] in own["dnsNames"]
    asked: dict[bool, set[str]] = {True: set(), False: set()}
    for service in of_kind(manifest_set("complete"), "Service"):
        if any(port["name"] == "grpc" for port in service["spec"]["ports"]):
            asked[service["spec"]["selector"].items() >= REPLICA.items()].add(service["metadata"]["name"])
    assert {f"{service}.baton.svc" for service in asked[True]} <= set(own["dnsNames"])
    # By the addresses that the definitions name.
    assert asked[False] == set(shop["dnsNames"])
    assert len(asked[True]) == 3
    for usages in (own["usages"], shop["usages"]):
        assert {"server auth", "client auth"} <= set(usages)


def _settings(manifests: list[Manifest]) -> dict[str, str]:
    return _config(manifests, "baton-settings")


def _container(manifests: list[Manifest]) -> dict[str, Any]:
    return container_of(replica_of(manifests), "replica")


def _volume(manifests: list[Manifest], name: str) -> dict[str, Any]:
    (volume,) = (v for v in (pod_of(replica_of(manifests)) or {})["volumes"] if v["name"] == name)
    assert isinstance(volume, dict)
    return volume


def _mount(manifests: list[Manifest], name: str) -> dict[str, Any]:
    (mount,) = (m for m in _container(manifests)["volumeMounts"] if m["name"] == name)
    assert isinstance(mount, dict)
    return mount


def _endpoint(manifests: list[Manifest]) -> dict[str, Any]:
    (monitor,) = of_kind(manifests, "ServiceMonitor")
    endpoint: dict[str, Any] = monitor["spec"]["endpoints"][0]
    return endpoint


def _participant(manifests: list[Manifest]) -> dict[str, Any]:
    (shop,) = (m for m in of_kind(manifests, "Deployment") if m["metadata"]["name"] == "orders")
    return containers_of(shop)[0]


def test_the_example_of_a_participant_keeps_their_rule() -> None:
    assert list(rules.participants_speak_tls(manifests_in(KUBERNETES / "examples" / "participant.yaml"))) == []


def _without(container: dict[str, Any], variable: str) -> None:
    container["env"] = [one for one in container["env"] if one["name"] != variable]


# Each rule, and ways to break it, in the set that has everything.
BREAKAGES: tuple[tuple[Rule, str, Breakage], ...] = (
    (rules.every_link_speaks_tls, "no certificate", lambda m: _settings(m).pop("BATON_TLS_CERT_FILE")),
    (rules.every_link_speaks_tls, "no authority", lambda m: _settings(m).update(BATON_TLS_CA_FILE="")),
    (rules.every_link_speaks_tls, "etcd", lambda m: _settings(m).pop("BATON_ETCD_CA_FILE")),
    (rules.every_link_speaks_tls, "etcd does not know us", lambda m: _settings(m).pop("BATON_ETCD_CERT_FILE")),
    (rules.every_link_speaks_tls, "any replica", lambda m: _settings(m).pop("BATON_TLS_REPLICA_NAME")),
    (rules.every_link_speaks_tls, "in the clear", lambda m: _settings(m).update(BATON_INSECURE_LISTEN="1")),
    (
        rules.every_link_speaks_tls,
        "in the clear, by the pod",
        lambda m: _container(m)["env"].append({"name": "BATON_INSECURE_LISTEN", "value": "true"}),
    ),
    (rules.every_link_speaks_tls, "participants", lambda m: _settings(m).update(BATON_PARTICIPANT_TLS="0")),
    (rules.every_link_speaks_tls, "one participant", lambda m: _settings(m).update(BATON_PARTICIPANT_PLAIN="a:1")),
    (rules.every_link_speaks_tls, "traces", lambda m: _settings(m).update(BATON_TRACING_ENDPOINT="http://c:4317")),
    (rules.every_link_speaks_tls, "events", lambda m: _settings(m).update(BATON_EVENTS_BROKER="nats://n:4222")),
    (rules.callers_are_asked, "nobody", lambda m: _settings(m).pop("BATON_ACCESS_FILE")),
    (
        rules.files_are_mounted_from_what_must_be_there,
        "not mounted",
        lambda m: _container(m)["volumeMounts"].remove(_mount(m, "tls")),
    ),
    (
        rules.files_are_mounted_from_what_must_be_there,
        "a sidecar is told of what it does not have",
        lambda m: container_of(replica_of(m), "leader-label").update(envFrom=_container(m)["envFrom"]),
    ),
    (
        rules.files_are_mounted_from_what_must_be_there,
        "never renewed",
        lambda m: _mount(m, "tls").update(subPath="tls.crt"),
    ),
    (
        rules.files_are_mounted_from_what_must_be_there,
        "perhaps",
        lambda m: _volume(m, "etcd-tls")["secret"].update(optional=True),
    ),
    (
        rules.files_are_mounted_from_what_must_be_there,
        "a key in a ConfigMap",
        lambda m: _volume(m, "tls").update(secret=None, configMap={"name": "keys"}),
    ),
    (
        rules.the_way_to_postgres_has_its_files,
        "the replica's",
        lambda m: _container(m)["volumeMounts"].remove(_mount(m, "postgres-tls")),
    ),
    (
        rules.the_way_to_postgres_has_its_files,
        "the migration's",
        lambda m: containers_of(of_kind(m, "Job")[0])[0].pop("volumeMounts"),
    ),
    (rules.metrics_are_read_over_tls, "http", lambda m: _endpoint(m).pop("scheme")),
    (rules.metrics_are_read_over_tls, "anybody", lambda m: _endpoint(m)["tlsConfig"].update(insecureSkipVerify=True)),
    (rules.metrics_are_read_over_tls, "another name", lambda m: _endpoint(m)["tlsConfig"].update(serverName="other")),
    (rules.metrics_are_read_over_tls, "no authority", lambda m: _endpoint(m)["tlsConfig"].pop("ca")),
    (rules.metrics_are_read_over_tls, "nameless", lambda m: _endpoint(m).pop("authorization")),
    (
        rules.metrics_are_read_over_tls,
        "by annotations",
        lambda m: replica_of(m)["spec"]["template"]["metadata"]["annotations"].pop("prometheus.io/scheme"),
    ),
    (
        rules.services_do_not_say_that_they_are_in_the_clear,
        "h2c",
        lambda m: of_kind(m, "Service")[0]["spec"]["ports"][0].update(appProtocol="kubernetes.io/h2c"),
    ),
    (
        rules.participants_speak_tls,
        "in the clear",
        lambda m: _without(_participant(m), "PARTICIPANT_TLS_CERT_FILE"),
    ),
    (rules.participants_speak_tls, "for everybody", lambda m: _without(_participant(m), "PARTICIPANT_TLS_CALLERS")),
    (
        rules.participants_speak_tls,
        "a probe in the clear",
        lambda m: _participant(m).update(readinessProbe={"grpc": {"port": 7503}}),
    ),
)


@pytest.mark.parametrize(
    ("rule", "breaks"),
    [(rule, breaks) for rule, _, breaks in BREAKAGES],
    ids=[f"{rule.__name__}: {what}" for rule, what, _ in BREAKAGES],
)
def test_the_rule_notices(rule: Rule, breaks: Breakage) -> None:
    manifests = manifest_set("complete")
    breaks(manifests)
    assert list(rule(manifests))


def test_every_rule_is_broken_by_something() -> None:
    assert {rule for rule, _, _ in BREAKAGES} == set(TLS_RULES)
