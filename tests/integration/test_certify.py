"""`baton certify` against participants that keep the contract, and against each way of breaking it."""

from __future__ import annotations

import asyncio
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.certify.certificate import Certificate
from orchestrator.certify.certify import Plan, certify
from orchestrator.certify.demand import uncertified
from orchestrator.certify.findings import CannotCertify, Check, Report, Verdict
from orchestrator.certify.template import Template
from orchestrator.driving.reflection import describe
from orchestrator.embedded.processes import Process
from orchestrator.saga.parse import parse
from tests.integration.flawed_participant import flawed_participant
from tests.integration.shop import TIMEOUT_S
from tests.integration.test_participants_processes import Launcher, until_serving

ECHO = ("/shop.v1.EchoService/Do", "/shop.v1.EchoService/Undo")
_LINES = [{"stock_code": "certify", "quantity": 1}]
_ORDER = {"order_id": "$ID"}
_TIMES = ("--patience", "1", "--timeout", "30")

# Every method pair of the sample shop: service, action, compensation, and their requests.
PAIRS: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
    ("inventory", "InventoryService/Reserve", "InventoryService/Release", {**_ORDER, "lines": _LINES}, _ORDER),
    (
        "inventory",
        "InventoryService/Restock",
        "InventoryService/UndoRestock",
        {"return_id": "$ID", "lines": _LINES},
        {"return_id": "$ID"},
    ),
    ("payment", "PaymentService/Charge", "PaymentService/Refund", {**_ORDER, "amount": "1.00"}, _ORDER),
    ("payment", "PaymentService/Refund", "PaymentService/Recharge", {**_ORDER, "amount": "1.00"}, _ORDER),
    ("orders", "OrdersService/Create", "OrdersService/CancelOrder", {**_ORDER, "total": "1.00"}, _ORDER),
    ("shipping", "ShippingService/Ship", "ShippingService/CancelShipment", {**_ORDER, "destination": "EIRE"}, _ORDER),
]

STATUS = {
    "PaymentService/Charge": "PaymentService/GetCharge",
    "InventoryService/Reserve": "InventoryService/GetReservation",
}


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    launcher.close()


def plan(address: str, **more: Any) -> Plan:
    fields = {"action": ECHO[0], "compensation": ECHO[1], "request": Template({"text": "$ID"}), "patience_s": 1.0}
    return Plan(address, **{**fields, "timeout_s": TIMEOUT_S, **more})


def verdicts(report: Report) -> dict[Check, Verdict]:
    """The verdict of each check; of several, the worst."""
    order = list(Verdict)
    found: dict[Check, Verdict] = {}
    for finding in report.findings:
        found[finding.check] = max(found.get(finding.check, finding.verdict), finding.verdict, key=order.index)
    return found


async def test_our_own_participants_are_safe(launcher: Launcher, database: str) -> None:
    services = sorted({pair[0] for pair in PAIRS})
    ports = {service: launcher.start(service, dsn=database, allow_faults="1")[1] for service in services}
    for port in ports.values():
        await until_serving(port)
    for service, action, compensation, request, undo in PAIRS:
        asked = STATUS.get(action)
        totals = f"/shop.v1.{service.capitalize()}Service/GetTotals"
        report = await certify(
            Plan(
                f"127.0.0.1:{ports[service]}",
                f"/shop.v1.{action}",
                f"/shop.v1.{compensation}",
                Template(request),
                Template(undo),
                observe=totals,
                status=f"/shop.v1.{asked}" if asked else "",
                status_request=Template(_ORDER) if asked else None,
                timeout_s=TIMEOUT_S,
            )
        )
        assert report.safe, report
        assert {finding.form for finding in report.findings} == {"unary", "stream"}
        found = verdicts(report)
        unchecked = {Check.CRASH} if asked else {Check.CRASH, Check.STATUS}
        assert {check for check, verdict in found.items() if verdict is Verdict.NOT_CHECKED} == unchecked
        assert {found[check] for check in set(Check) - unchecked} == {Verdict.PASSED}, report


async def test_echo_is_safe_as_a_pair_without_effect_and_unsafe_as_one_with_effect(launcher: Launcher) -> None:
    _, port = launcher.start("echo")
    await until_serving(port)
    report = await certify(plan(f"127.0.0.1:{port}", effect=False))
    assert report.safe
    assert not report.effect
    assert verdicts(report)[Check.LATE_ACTION] is Verdict.NOT_CHECKED
    assert verdicts(await certify(plan(f"127.0.0.1:{port}")))[Check.LATE_ACTION] is Verdict.FAILED


async def test_a_participant_of_somebody_else_that_keeps_the_contract_is_safe() -> None:
    async with flawed_participant() as (address, _):
        report = await certify(plan(address))
    assert report.safe, report
    assert {finding.form for finding in report.findings} == {"unary"}


@pytest.mark.parametrize(
    ("flaw", "check", "verdict"),
    [
        ("no barrier", Check.DUPLICATE_ACTION, Verdict.FAILED),
        ("no tombstone", Check.LATE_ACTION, Verdict.FAILED),
        ("vague tombstone", Check.LATE_ACTION, Verdict.FAILED),
        ("undo refuses", Check.COMPENSATION_FIRST, Verdict.FAILED),
        ("no epochs", Check.STALE_EPOCH, Verdict.FAILED),
        ("stale is refused for good", Check.STALE_EPOCH, Verdict.FAILED),
        ("one epoch for all shards", Check.EPOCH_PER_SHARD, Verdict.FAILED),
        ("wrong duplicate answer", Check.DUPLICATE_ACTION, Verdict.FAILED),
        ("duplicate is an error", Check.DUPLICATE_ACTION, Verdict.FAILED),
        ("no lock", Check.SAME_KEY_RACE, Verdict.FAILED),
        ("any request", Check.OTHER_REQUEST, Verdict.WARNED),
    ],
)
async def test_a_flaw_is_found(flaw: str, check: Check, verdict: Verdict) -> None:
    async with flawed_participant(flaw) as (address, _):
        report = await certify(plan(address))
    assert verdicts(report)[check] is verdict, report
    assert report.safe == (verdict is not Verdict.FAILED)


async def test_an_effect_that_answers_hide_shows_by_what_is_observed() -> None:
    async with flawed_participant("second effect") as (address, _):
        assert (await certify(plan(address))).safe
        observed = await certify(plan(address, observe=ECHO[0]))
    assert verdicts(observed)[Check.DUPLICATE_ACTION] is Verdict.FAILED
    async with flawed_participant() as (address, _):
        assert (await certify(plan(address, observe=ECHO[0]))).safe


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"action": "/shop.v1.EchoService/Dont"}, "has no method Dont; it has Do, Undo"),
        ({"observe": "/shop.v1.EchoService/Look"}, "has no method Look"),
        ({"request": Template({"txet": "$ID"})}, "--request: txet: "),
        ({"compensation_request": Template({"text": 7})}, "--compensation-request: text: "),
    ],
)
async def test_what_cannot_be_certified_says_why(wrong: dict[str, Any], words: str) -> None:
    async with flawed_participant() as (address, _):
        with pytest.raises(CannotCertify, match=words):
            await certify(plan(address, **wrong))


async def test_a_status_method_that_does_what_it_is_asked_about_is_found() -> None:
    async with flawed_participant() as (address, _):
        report = await certify(plan(address, status=ECHO[0]))
    assert verdicts(report)[Check.STATUS] is Verdict.FAILED


async def test_a_participant_that_is_killed_with_calls_under_way_is_safe(
    launcher: Launcher, database: str, tmp_path: Path
) -> None:
    """The command kills whatever process has written its id, and starts another one on the same port."""
    process, port = launcher.start("payment", dsn=database)
    await until_serving(port)
    kill = tmp_path / "kill"
    ended = threading.Event()
    restarts = asyncio.create_task(asyncio.to_thread(_restart_when_asked, process, kill, ended))
    command = f"touch {shlex.quote(str(kill))}; while test -e {shlex.quote(str(kill))}; do sleep 0.02; done"
    try:
        report = await certify(
            plan(
                f"127.0.0.1:{port}",
                action="/shop.v1.PaymentService/Charge",
                compensation="/shop.v1.PaymentService/Refund",
                request=Template({"order_id": "$ID", "amount": "1.00"}),
                compensation_request=Template(_ORDER),
                observe="/shop.v1.PaymentService/GetTotals",
                crash_command=command,
                patience_s=15.0,
            )
        )
    finally:
        ended.set()
        await restarts
    assert report.safe, report
    assert verdicts(report)[Check.CRASH] in (Verdict.PASSED, Verdict.WARNED)


def _restart_when_asked(process: Process, kill: Path, ended: threading.Event) -> None:
    while not ended.wait(0.01):
        if kill.exists():
            process.kill()
            process.wait(TIMEOUT_S)
            process.start()
            kill.unlink()


def run(*args: str) -> Any:
    """The command as a user gives it."""
    return CliRunner().invoke(app, ["certify", *args])


async def test_the_command_prints_exits_and_writes_a_certificate(tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text('{"text": "$ID"}')
    pair = ("--action", ECHO[0][1:], "--compensation", ECHO[1], "--request", str(request), *_TIMES)
    written = tmp_path / "certificate.json"
    async with flawed_participant() as (address, _):
        result = await asyncio.to_thread(run, address, *pair, "--certificate", str(written))
        assert result.exit_code == 0, result.output
        assert f"SAFE: {ECHO[0][1:]} with {ECHO[1][1:]} at {address}" in result.output
        assert "not checked: crash, lost-answer, status" in result.output
        certificate = Certificate.from_json(written.read_text())
        assert (certificate.participant, certificate.safe) == (address, True)
        result = await asyncio.to_thread(run, address, *pair, "--json")
        assert orjson.loads(result.stdout)["safe"] is True
    async with flawed_participant("no tombstone") as (address, _):
        result = await asyncio.to_thread(run, address, *pair)
        assert result.exit_code == 1
        assert "NOT SAFE" in result.output
        assert "late-action" in result.output


@pytest.mark.parametrize(
    ("args", "exit_code", "words"),
    [
        (("--action", "Do", "--request", "{}"), 2, "--action"),
        (("--action", "a.B/C", "--request", "{"), 2, "is not JSON"),
        (("--action", "a.B/C", "--request", "/nowhere/at/all"), 2, "No such file"),
        (("--action", "a.B/C", "--request", "{}"), 3, "cannot be reached"),
    ],
)
def test_wrong_usage_and_a_participant_that_is_away_have_statuses_of_their_own(
    args: tuple[str, ...], exit_code: int, words: str
) -> None:
    result = run("127.0.0.1:1", "--compensation", "a.B/D", *args)
    assert result.exit_code == exit_code, result.output
    assert words in result.output.replace("\n", " ")


async def test_the_command_that_a_missing_certificate_advises_certifies_the_pair_as_it_stands() -> None:
    async with flawed_participant() as (address, _):
        text = (
            f"name: strict\ncertified: required\nsteps: [{{name: one, service: '{address}', "
            "action: {method: shop.v1.EchoService/Do, request: {text: input.order}}, "
            "compensation: {method: shop.v1.EchoService/Undo, request: {text: results.one.text}}}]"
        )
        described = (await describe(address, ["shop.v1.EchoService"], TIMEOUT_S)).SerializeToString()
        (violation,) = uncertified(parse(text), described, [])
        words = shlex.split(violation.description.partition("run: ")[2])
        assert (words[:3], words[-1]) == (["baton", "certify", address], "--record")
        result = await asyncio.to_thread(run, *words[2:-1], *_TIMES)
        assert result.exit_code == 0, result.output
        assert f"SAFE: {ECHO[0][1:]} with {ECHO[1][1:]} at {address}" in result.output
