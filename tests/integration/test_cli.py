"""The client commands against a replica's API: what they print, for people and programs, and how they exit."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.processes import Process, inherited_environment
from orchestrator.sagalog.migrate import migrate
from tests.integration.api_world import INPUT, definition, descriptors
from tests.integration.flawed_participant import flawed_participant

START = ("saga", "start", "order", "--input", json.dumps(INPUT))


class Served:
    """A replica's API without a leader, and the command pointed at it."""

    def __init__(self, dsn: str, port: int) -> None:
        self.dsn = dsn
        self.endpoint = f"127.0.0.1:{port}"

    def baton(self, *args: str, input_: str | None = None) -> Result:
        """Run a command."""
        return CliRunner().invoke(app, [*args, "--endpoint", self.endpoint], input=input_)

    def json(self, *args: str) -> Any:
        """What a command that succeeds prints with --json."""
        result = self.baton(*args, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def execute(self, statement: str, *parameters: Any) -> None:
        """Change the log by hand."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(statement.encode(), parameters)


@pytest.fixture(scope="module")
def served(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    dsn = postgres.create_database("test_cli")
    migrate(dsn)
    (port,) = ports = free_ports(1)
    log = tmp_path_factory.mktemp("cli") / "replica.log"
    argv = [sys.executable, "-m", "tests.integration.api_replica", dsn, str(port)]
    process = Process("api", argv, inherited_environment("BATON_"), log)
    process.start()
    world = Served(dsn, port)
    # The client asks until the replica answers.
    assert world.baton("cluster", "status").exit_code == 0, log.read_text()
    while not world.json("definition", "list"):
        pass
    yield world
    process.stop()
    release_ports(ports)
    postgres.drop_database("test_cli")


async def test_a_certificate_is_recorded_and_the_newest_is_listed(served: Served) -> None:
    async with flawed_participant() as (address, _), flawed_participant("no tombstone") as (unsafe, _):
        for participant in (address, address, unsafe):
            pair = ("--action", "shop.v1.EchoService/Do", "--compensation", "shop.v1.EchoService/Undo")
            command = ("certify", participant, *pair, "--request", '{"text": "$ID"}', "--record")
            result = await asyncio.to_thread(served.baton, *command)
            assert result.exit_code == (participant == unsafe), result.output
    listed = await asyncio.to_thread(served.json, "certificates")
    assert [(each["participant"], each["safe"]) for each in listed] == [(unsafe, False), (address, True)]
    assert await asyncio.to_thread(served.json, "certificates", "--participant", address) == listed[1:]
    table = await asyncio.to_thread(served.baton, "certificates")
    assert "UNSAFE" in table.output


def test_a_saga_is_started_read_and_listed(served: Served) -> None:
    started = served.json(*START, "--label", "shop=berlin", "--label", "test=listed")
    assert (started["state"], started["input"], started["existing"]) == ("PENDING", INPUT, False)
    found = served.json("saga", "list", "--label", "test=listed", "--state", "pending", "--definition", "order")
    assert [saga["saga_id"] for saga in found] == [started["saga_id"]]
    read = served.json("saga", "get", started["saga_id"])
    assert (read["labels"], read["history"]) == ({"shop": "berlin", "test": "listed"}, [])
    table = served.baton("saga", "list", "--label", "test=listed").stdout.splitlines()
    assert table[0].split()[:3] == ["SAGA", "DEFINITION", "STATE"]
    assert table[1].split()[:4] == [started["saga_id"], "order", "v1", "PENDING"]


def test_the_same_request_id_gives_the_same_saga_and_another_body_is_refused(served: Served) -> None:
    first = served.json(*START, "--request-id", "cli-1")
    again = served.json(*START, "--request-id", "cli-1")
    assert (again["saga_id"], again["existing"]) == (first["saga_id"], True)
    other = served.baton(*START, "--request-id", "cli-1", "--label", "a=b")
    assert other.exit_code == 1
    assert "another body" in other.stderr


def test_the_input_comes_from_a_file_or_standard_input(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_text(json.dumps(INPUT))
    assert served.json("saga", "start", "order", "--input", f"@{file}")["input"] == INPUT
    piped = served.baton("saga", "start", "order", "--input", "@-", "--json", input_=json.dumps(INPUT))
    assert json.loads(piped.stdout)["input"] == INPUT
    missing = served.baton("saga", "start", "order", "--input", "@/no/such/file")
    assert missing.exit_code == 2
    assert "/no/such/file" in missing.stderr


@pytest.mark.parametrize(
    ("args", "exit_code", "words"),
    [
        (("saga", "start", "nothing", "--input", "{}"), 1, ["definition", "nothing"]),
        (("saga", "start", "order", "--input", "[1"), 1, ["input_json", "is not JSON"]),
        (("saga", "start", "order", "--input", "{}"), 1, ["input.order_id"]),
        ((*START, "--label", "no-equals-sign"), 2, ["--label", "KEY=VALUE"]),
        (("saga", "get", "not-an-id"), 1, ["saga_id"]),
        (("saga", "get", str(UUID(int=7))), 1, ["there is no saga"]),
        (("saga", "list", "--state", "HAPPY"), 2, ["--state", "HAPPY", "COMPENSATING"]),
        (("saga", "list", "--since", "yesterday"), 2, ["--since", "yesterday"]),
        (("definition", "get", "nothing"), 1, ["there is no definition"]),
    ],
)
def test_what_is_wrong_is_named(served: Served, args: tuple[str, ...], exit_code: int, words: list[str]) -> None:
    result = served.baton(*args)
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr


def test_nobody_there_is_another_exit_status() -> None:
    (port,) = ports = free_ports(1)
    try:
        result = CliRunner().invoke(app, [*START, "--timeout", "0.3", "--endpoint", f"127.0.0.1:{port}"])
    finally:
        release_ports(ports)
    assert result.exit_code == 3
    assert f"127.0.0.1:{port}" in result.stderr


def test_endpoints_come_as_a_comma_list_and_a_dead_one_is_passed_over(served: Served) -> None:
    (port,) = ports = free_ports(1)
    try:
        args = ["cluster", "status", "--json", "--endpoint", f"127.0.0.1:{port}, {served.endpoint}"]
        result = CliRunner().invoke(app, args)
        by_environment = CliRunner().invoke(
            app, ["cluster", "status"], env={"BATON_ENDPOINTS": f"127.0.0.1:{port},{served.endpoint}"}
        )
    finally:
        release_ports(ports)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["cluster"] == "test"
    assert by_environment.exit_code == 0, by_environment.output


def test_waiting_tells_by_its_exit_status_how_the_saga_ended(served: Served) -> None:
    waiting = (*START, "--request-id", "cli-wait", "--wait", "--timeout", "0.5", "--json")
    unended = served.baton(*waiting)
    assert unended.exit_code == 5
    saga_id = json.loads(unended.stdout)["saga_id"]
    for state, exit_code in (("COMPLETED", 0), ("COMPENSATED", 4), ("FAILED", 4)):
        served.execute("UPDATE baton.saga SET state = %s WHERE id = %s", state, saga_id)
        ended = served.baton(*waiting)
        assert (json.loads(ended.stdout)["state"], ended.exit_code) == (state, exit_code)


def test_a_watch_prints_each_transition_and_ends_with_the_saga(served: Served) -> None:
    saga_id = served.json(*START)["saga_id"]
    rows = [("reserve", 1, "executing"), ("reserve", 1, "failed")]
    for number, (step, position, status) in enumerate(rows, 1):
        served.execute(
            "INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, epoch, error_code)"
            " VALUES (%s, %s, %s, %s, %s, 1, 7, %s)",
            *(saga_id, number, step, position, status, "NOT_FOUND" if status == "failed" else None),
        )
    served.execute("UPDATE baton.saga SET state = 'COMPENSATED', sequence = 2 WHERE id = %s", saga_id)
    result = served.baton("saga", "watch", saga_id)
    assert result.exit_code == 4, result.output
    first, second = result.stdout.splitlines()
    assert "executing" in first
    assert "NOT_FOUND" in second
    assert second.endswith("COMPENSATED")
    lines = [json.loads(line) for line in served.baton("saga", "watch", saga_id, "--json").stdout.splitlines()]
    assert [(line["sequence"], line["state"]) for line in lines] == [(1, "RUNNING"), (2, "COMPENSATED")]
    assert served.baton("saga", "watch", saga_id, "--after", "2").exit_code == 4


def test_a_saga_is_cancelled_with_a_reason(served: Served) -> None:
    saga_id = served.json(*START)["saga_id"]
    assert served.json("saga", "cancel", saga_id, "--reason", "wrong address")["cancel_reason"] == "wrong address"
    assert "wrong address" in served.baton("saga", "get", saga_id).stdout


def test_definitions_are_applied_with_their_variables_filled_in(served: Served, tmp_path: Path) -> None:
    good, described = tmp_path / "good.yaml", tmp_path / "set.bin"
    good.write_text(definition("cli-order").replace("127.0.0.1:1", "${CLI_TEST_ADDRESS:-127.0.0.1:1}"))
    described.write_bytes(descriptors())
    applied = served.baton("definition", "apply", str(good), "--descriptors", str(described))
    assert applied.exit_code == 0, applied.output
    assert f"{good} is now cli-order version 1" in applied.stdout
    again = served.baton("definition", "apply", str(good), "--descriptors", str(described))
    assert "is there already as cli-order version 1" in again.stdout
    shown = served.baton("definition", "get", "cli-order").stdout
    assert "service: 127.0.0.1:1\n" in shown
    assert "$" not in shown


def test_every_file_is_tried_and_each_complaint_names_file_and_field(served: Served, tmp_path: Path) -> None:
    bad, unset, good = (tmp_path / f"{name}.yaml" for name in ("bad", "unset", "good"))
    bad.write_text(definition("cli-bad").replace("shop.v1.PaymentService/Charge", "shop.v1.PaymentService/Nothing"))
    unset.write_text("name: ${CLI_TEST_UNSET_VARIABLE}")
    good.write_text(definition("cli-good"))
    described = tmp_path / "set.bin"
    described.write_bytes(descriptors())
    result = served.baton("definition", "apply", str(bad), str(unset), str(good), "--descriptors", str(described))
    assert result.exit_code == 1
    line = next(n for n, line in enumerate(bad.read_text().split("\n"), start=1) if "PaymentService/Nothing" in line)
    assert f"{bad}:{line}: step pay: steps[1].action.method: " in result.stderr
    assert f"{unset}: " in result.stderr
    assert "CLI_TEST_UNSET_VARIABLE" in result.stderr
    assert "cli-good version 1" in result.stdout


def test_definitions_are_validated_by_their_text_by_descriptors_and_by_a_replica(
    served: Served, tmp_path: Path
) -> None:
    good, typo, risky = (tmp_path / f"{name}.yaml" for name in ("good", "typo", "risky"))
    good.write_text(definition("cli-valid"))
    typo.write_text(definition("cli-valid").replace("shop.v1.PaymentService/Charge", "shop.v1.PaymentService/Nothing"))
    risky.write_text(
        definition("cli-valid").replace("PaymentService/Charge", "PaymentService/Charge") + "\nwithin: 1m\n"
    )
    described = tmp_path / "set.bin"
    described.write_bytes(descriptors())
    by_text = CliRunner().invoke(app, ["definition", "validate", str(good), str(typo)])
    assert (by_text.exit_code, by_text.stderr) == (0, "")
    by_descriptors = ["definition", "validate", str(good), str(typo), "--descriptors", str(described)]
    result = CliRunner().invoke(app, by_descriptors)
    assert result.exit_code == 1
    assert f"{good} is valid" in result.stdout
    assert "step pay: steps[1].action.method: shop.v1.PaymentService has no method Nothing" in result.stderr
    result = served.baton(*by_descriptors, "--online")
    assert result.exit_code == 1
    # Nobody listens at the addresses of the definition: a replica cannot ask them.
    assert served.baton("definition", "validate", str(good), "--online").exit_code != 0
    result = CliRunner().invoke(app, ["definition", "validate", str(risky)])
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert CliRunner().invoke(app, ["definition", "validate", str(risky), "--strict"]).exit_code == 1
    (found,) = json.loads(CliRunner().invoke(app, ["definition", "validate", str(risky), "--json"]).stdout)["warnings"]
    assert found["line"] > 0
    assert "cli-valid" not in served.baton("definition", "list").stdout


def test_versions_are_compared_retired_and_reinstated(served: Served, tmp_path: Path) -> None:
    described = tmp_path / "set.bin"
    described.write_bytes(descriptors())
    for number, description in enumerate(("one", "two"), start=1):
        file = tmp_path / f"v{number}.yaml"
        file.write_text(definition("cli-versions", description))
        applied = served.json("definition", "apply", str(file), "--descriptors", str(described))
        assert applied["version"] == number
    changed = served.json("definition", "diff", "cli-versions", "1", "2")
    assert changed["changes"] == [{"kind": "changed", "path": "description", "before": "one", "after": "two"}]
    assert "~ description: one -> two" in served.baton("definition", "diff", "cli-versions", "1").stdout
    assert "mean the same" in served.baton("definition", "diff", "cli-versions", "2", "0").stdout
    unknown = served.baton("definition", "diff", "cli-versions", "1", "9")
    assert (unknown.exit_code, "there is no version 9" in unknown.stderr) == (1, True)

    start = ("saga", "start", "cli-versions", "--input", json.dumps(INPUT))
    running = served.json(*start, "--request-id", "cli-versions-1")
    retire = ("definition", "retire", "cli-versions", "2", "--reason", "it ships to the moon", "--by", "ada")
    assert served.json(*retire)["existing"] is False
    assert "was retired before, by ada" in served.baton(*retire).stdout
    refused = served.baton(*start)
    assert refused.exit_code == 1
    assert "version 2 of definition 'cli-versions' was retired by ada: it ships to the moon" in refused.stderr
    assert served.json(*start, "--version", "1")["version"] == 1
    retired = {d["version"]: d["retired"] for d in served.json("definition", "list") if d["name"] == "cli-versions"}
    assert retired == {1: None, 2: "it ships to the moon"}
    # What has begun goes on, and whoever started it is answered as before.
    assert served.json(*start, "--request-id", "cli-versions-1")["saga_id"] == running["saga_id"]
    assert served.json("saga", "get", running["saga_id"])["state"] == "PENDING"

    assert served.baton("definition", "retire", "cli-versions", "--reason", "no more").exit_code == 0
    assert "definition 'cli-versions' was retired" in served.baton(*start, "--version", "1").stderr
    for version in ("0", "2"):
        assert "is reinstated" in served.baton("definition", "reinstate", "cli-versions", version).stdout
    assert "was not retired" in served.baton("definition", "reinstate", "cli-versions").stdout
    assert served.json(*start)["version"] == 2


def test_the_cluster_is_shown(served: Served) -> None:
    status = served.json("cluster", "status")
    assert status["cluster"] == "test"
    assert "REPLICA" in served.baton("cluster", "status").stdout


def test_migrate_says_what_it_did_and_what_is_wrong(database: str) -> None:
    first = CliRunner().invoke(app, ["migrate", "--dsn", database])
    assert first.exit_code == 0
    assert "migration 0001" in first.stdout
    assert "up to date" in CliRunner().invoke(app, ["migrate"], env={"BATON_DSN": database}).stdout
    nowhere = CliRunner().invoke(app, ["migrate", "--dsn", "postgresql://127.0.0.1:1/none"])
    assert nowhere.exit_code == 3
    assert "cannot migrate" in nowhere.stderr


def test_the_package_runs_as_the_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "orchestrator", "--help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    for command in ("replica", "migrate", "demo", "dev", "definition", "saga", "cluster"):
        assert command in shown
