"""`baton definition` and `baton certificates` against a replica's API: what they print and how they exit."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from typer.testing import CliRunner

from orchestrator.__main__ import app
from tests.integration.api_world import INPUT, definition, descriptors
from tests.integration.cli_world import Served, served
from tests.integration.flawed_participant import flawed_participant

__all__ = ["served"]


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
    assert served.baton("definition", "validate", str(good), "--online", "--timeout", "3").exit_code != 0
    result = CliRunner().invoke(app, ["definition", "validate", str(risky)])
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert CliRunner().invoke(app, ["definition", "validate", str(risky), "--strict"]).exit_code == 1
    (found,) = json.loads(CliRunner().invoke(app, ["definition", "validate", str(risky), "--json"]).stdout)["warnings"]
    assert found["line"] > 0
    assert "cli-valid" not in served.baton("definition", "list").stdout


def test_what_a_parent_gives_its_child_is_checked_alike_by_the_files_and_by_a_replica(
    served: Served, tmp_path: Path
) -> None:
    described, child, parent = tmp_path / "set.bin", tmp_path / "inner.yaml", tmp_path / "outer.yaml"
    described.write_bytes(descriptors())
    child.write_text(definition("cli-inner"))
    given = "{order_id: input.order_id, lines: input.lines, amount: '`12`'}"
    parent.write_text(
        f"name: cli-outer\nsteps:\n  - name: run\n    saga:\n      definition: cli-inner\n      input: {given}\n"
    )
    with_descriptors = ["--descriptors", str(described)]
    offline = CliRunner().invoke(app, ["definition", "validate", str(parent), str(child), *with_descriptors])
    assert served.baton("definition", "apply", str(child), *with_descriptors).exit_code == 0
    applied = served.baton("definition", "apply", str(parent), *with_descriptors)
    online = served.baton("definition", "validate", str(parent), "--online", *with_descriptors)
    assert (offline.exit_code, applied.exit_code, online.exit_code) == (1, 1, 1)
    assert offline.stderr == applied.stderr == online.stderr
    assert f"{parent}:6: step run: steps[0].saga.input.amount: '`12`' does not fit what 'cli-inner'" in offline.stderr
    assert "must be text, not a number" in offline.stderr
    parent.write_text(parent.read_text().replace("'`12`'", "input.amount"))
    assert served.baton("definition", "apply", str(parent), *with_descriptors).exit_code == 0
    alone = CliRunner().invoke(app, ["definition", "validate", str(parent), *with_descriptors])
    assert (alone.exit_code, alone.stderr) == (0, "")


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
