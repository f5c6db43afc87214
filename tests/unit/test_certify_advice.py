"""The command that a missing certificate advises is one that can be run as it stands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NoReturn

import orjson
import pytest
import typer
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.certify.advice import certify_command
from orchestrator.certify.certify import Plan
from orchestrator.certify.demand import uncertified
from orchestrator.cli import certify as certify_commands
from orchestrator.driving.codec import Descriptors
from orchestrator.saga.model import Json
from orchestrator.saga.parse import locate, parse
from tests.unit.test_fitting import described

DESCRIBED = described().SerializeToString()
TEXT = """
name: strict
certified: required
steps:
  - name: pair
    service: 127.0.0.1:1
    action: {{method: t.S/Do, request: {{{action}}}}}
    compensation: {{method: t.S/Do, request: {{{undo}}}}}
"""


def advised(action: str, undo: str) -> list[str]:
    """The words of the command that the refusal of a definition advises, as a shell reads them."""
    definition = parse(TEXT.format(action=action, undo=undo))
    (violation,) = locate(TEXT.format(action=action, undo=undo), uncertified(definition, DESCRIBED, []))
    _, _, command = violation.description.partition("run: ")
    assert command == certify_command(definition.steps[0], Descriptors(DESCRIBED))
    return shlex.split(command)


def planned(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> Plan:
    """What the command line makes of a command's words."""
    plans: list[Plan] = []

    def keep(plan: Plan) -> NoReturn:
        plans.append(plan)
        raise typer.Exit(0)

    monkeypatch.setattr(certify_commands, "_certify", keep)
    result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, result.output
    (plan,) = plans
    return plan


@pytest.mark.parametrize(
    ("action", "undo", "made", "unmade"),
    [
        ("text: input.x", "text: input.x", {"text": "one"}, {"text": "one"}),
        ("text: '`\"it''s\"`', i64: '`7`'", "i64: input.n", {"text": "it's", "i64": 7}, {"i64": 1}),
        (
            "text: input.x",
            "text: results.pair.line.sku, tags: input.t",
            {"text": "one"},
            {"text": "two", "tags": ["one"]},
        ),
        (
            "line: {sku: input.a, n: input.b}, lines: input.l, colour: input.c, flag: input.f, at: input.at",
            "counts: {'7': {sku: input.a}}, number: 'length(input.l)', data: input.d, line: input.l",
            {
                "line": {"sku": "one", "n": 1},
                "lines": [{"sku": "one", "n": 1}],
                "colour": "RED",
                "flag": True,
                "at": "2027-01-02T03:04:05Z",
            },
            {"counts": {"7": {"sku": "one", "n": 1}}, "number": 1.0, "data": "AA==", "line": {"sku": "one", "n": 1}},
        ),
        ("", "", {}, {}),
    ],
)
def test_the_advised_command_is_taken_as_it_stands_and_its_requests_fit_the_methods(
    monkeypatch: pytest.MonkeyPatch, action: str, undo: str, made: Json, unmade: Json
) -> None:
    plan = planned(advised(action, undo), monkeypatch)
    assert (plan.address, plan.action, plan.compensation) == ("127.0.0.1:1", "/t.S/Do", "/t.S/Do")
    assert plan.compensation_request is not None
    found = (plan.request.fill("one"), plan.compensation_request.fill("one", {"line": {"sku": "two"}}))
    assert found == (made, unmade)
    for one in found:
        Descriptors(DESCRIBED).method("t.S", "Do").encode(one)


def test_a_command_without_its_request_is_not_taken() -> None:
    words = advised("text: input.x", "text: input.x")
    at = words.index("--request")
    result = CliRunner().invoke(app, [*words[1:at], *words[at + 2 :]])
    assert result.exit_code == 2
    assert "--request" in result.output


def test_the_advice_is_whole_however_large_the_requests_are() -> None:
    many = ", ".join(f"'{number}': {{sku: input.s}}" for number in range(100))
    words = advised(f"text: input.x, counts: {{{many}}}", "text: input.x")
    assert orjson.loads(words[words.index("--request") + 1]) == {"text": "$ID"}
    assert words[-1] == "--record"


def test_the_advised_command_runs() -> None:
    words = advised("text: input.x", "text: input.x")
    result = CliRunner().invoke(app, [*words[1:-1], "--timeout", "30"])
    # Nobody listens there: as far as that it has come.
    assert result.exit_code == 3
    assert "127.0.0.1:1" in result.output
