"""The client commands against a replica's API: what they print, for people and programs, and how they exit."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.embedded.loopback import free_ports, release_ports
from tests.integration.api_world import INPUT
from tests.integration.cli_world import START, Served, served

__all__ = ["served"]


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


def test_sagas_are_found_by_label_name_and_by_their_input(served: Served) -> None:
    started = [
        served.json("saga", "start", "order", "-i", json.dumps({**INPUT, "n": n}), "-l", f"found-{n}=here")
        for n in (1, 2)
    ]
    found = served.json("saga", "list", "--has-label", "found-2", "--where", "$.n > 1")
    assert [saga["saga_id"] for saga in found] == [started[1]["saga_id"]]
    assert served.json("saga", "list", "--has-label", "found-2", "--where", "$.n > 2") == []
    wrong = served.baton("saga", "list", "--where", "$.n >")
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert "input_path" in wrong.stderr


def test_sagas_are_counted(served: Served) -> None:
    before = served.json("saga", "count", "--state", "pending")
    served.json(*START)
    after = served.json("saga", "count", "--state", "pending", "--definition", "order")
    assert after["total"] == before["total"] + 1
    assert after["counts"] == [{"definition": "order", "state": "PENDING", "count": after["total"]}]
    table = [line.split() for line in served.baton("saga", "count").stdout.splitlines()]
    assert table[0] == ["DEFINITION", "STATE", "SAGAS"]
    assert ["order", "PENDING", str(after["total"])] in table
    assert table[-1][0] == "total"


def test_many_are_cancelled_after_a_dry_run_and_the_exit_status_is_true(served: Served) -> None:
    sagas = [served.json(*START, "--label", "many=one")["saga_id"] for _ in range(3)]
    dry = served.baton("saga", "cancel", "--label", "many=one", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert dry.stdout.splitlines()[-1] == "3 would be ordered"
    assert [line.split()[0] for line in dry.stdout.splitlines()[:-1]] == sagas[::-1]
    assert all(served.json("saga", "get", saga)["cancel_reason"] is None for saga in sagas)

    some = served.baton("saga", "cancel", "--label", "many=one", "--reason", "recall", "--max", "2")
    assert (some.exit_code, some.stdout.splitlines()[-2:]) == (
        6,
        ["2 ordered", "more sagas may match than --max allows: give the order again"],
    )
    rest = served.baton("saga", "cancel", "--label", "many=one", "--reason", "recall", "--json")
    *items, end = [json.loads(line) for line in rest.stdout.splitlines()]
    assert (rest.exit_code, end["finished"], end["outcomes"]) == (0, True, {"ALREADY_ORDERED": 2, "ORDERED": 1})
    assert [item["saga_id"] for item in items] == sagas[::-1]
    assert all(served.json("saga", "get", saga)["cancel_reason"] == "recall" for saga in sagas)

    served.execute("UPDATE baton.saga SET state = 'COMPLETED', finished_at = now() WHERE id = %s", sagas[0])
    late = served.baton("saga", "cancel", "--label", "many=one", "--state", "completed")
    assert (late.exit_code, late.stdout.splitlines()[-1]) == (6, "1 had ended")
    none = served.baton("saga", "cancel", "--label", "many=none")
    assert (none.exit_code, none.stdout) == (0, "no saga matches\n")


@pytest.mark.parametrize("args", [(), (str(UUID(int=7)), "--all"), (str(UUID(int=7)), "--dry-run")])
def test_a_cancellation_says_what_it_means(served: Served, args: tuple[str, ...]) -> None:
    result = served.baton("saga", "cancel", *args)
    assert result.exit_code == 2, result.output
    assert "SAGA" in result.stderr


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
    waiting = (*START, "--request-id", "cli-wait", "--wait", "--timeout", "3", "--json")
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


def test_the_lines_of_the_guide_to_finding_sagas_do_what_it_says(served: Served) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "finding.md").read_text()
    lines = guide.split("```sh\n")[1].split("```")[0].splitlines()
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("baton ")]
    printed = [served.baton(*command) for command in commands]
    assert [result.exit_code for result in printed] == [0] * len(commands), [result.output for result in printed]
    first, second, gold, heavy, many, _, live, dry, cancelled = (result.stdout for result in printed)
    ids = [text.split()[1] for text in (first, second)]
    for text, there in ((gold, [True, False]), (heavy, [True, False]), (many, [False, True]), (dry, [True, False])):
        assert [saga in text for saga in ids] == there, text
    assert "PENDING" in live
    assert cancelled.splitlines()[-1] == "1 ordered"
    assert served.json("saga", "get", ids[0])["cancel_reason"] == "recall of 41000"
