"""What the log says of each transition: who, what, under which epoch; and nothing of what sagas carry in them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime

from orchestrator.driving.transition_log import TransitionLog
from orchestrator.saga.events import Event, Order, Status
from orchestrator.saga.model import Epoch, Saga
from orchestrator.telemetry import EventLines, LogFormat

from .sagas import new_saga

SECRET = {"card": "4111111111111111"}
DONE = Event(2, Status.COMPLETED, Epoch(7), 1, 1, dict(SECRET))
INTENT = Event(3, Status.EXECUTING, Epoch(7), 2, 1)


def saga() -> Saga:
    return replace(new_saga(True, True), input=dict(SECRET))


def written(
    *events: Event, log_format: LogFormat = "json", level: str = "info", payloads: bool = False, of: Saga | None = None
) -> list[str]:
    file = io.StringIO()
    TransitionLog(EventLines(log_format, level, file), payloads=payloads)(of or saga(), events)
    assert not file.getvalue() or file.getvalue().endswith("\n")
    return file.getvalue().splitlines()


def test_every_transition_is_one_event_with_its_saga_and_epoch() -> None:
    subject = saga()
    lines = [json.loads(line) for line in written(DONE, INTENT)]
    assert [line["sequence"] for line in lines] == [2, 3]
    assert [line["status"] for line in lines] == ["completed", "executing"]
    assert [line["step"] for line in lines] == [subject.definition.step(1).name, subject.definition.step(2).name]
    for line in lines:
        assert line["event"] == "transition"
        assert line["saga"] == str(subject.id)
        assert line["epoch"] == 7
        assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None
    # Two events of one write: the saga was never in a state between them.
    assert "state" not in lines[0]
    assert lines[1]["state"] == subject.state.value


def test_payloads_are_logged_only_when_asked_for() -> None:
    first = Event(1, Status.EXECUTING, Epoch(7), 1, 1)
    quiet = "\n".join(written(first, DONE) + written(first, DONE, log_format="console"))
    assert "4111" not in quiet
    asked = [json.loads(line) for line in written(first, DONE, payloads=True)]
    assert asked[0]["input"] == SECRET
    assert asked[1]["result"] == SECRET
    assert "input" not in asked[1]


def test_what_has_secrets_in_it_is_never_logged() -> None:
    first = Event(1, Status.EXECUTING, Epoch(7), 1, 1)
    subject = saga()
    marked = replace(subject.definition.step(1), secrets=("card",))
    of_a_step = replace(subject.definition, steps=(marked, *subject.definition.steps[1:]))
    of_the_input = replace(subject.definition, secrets=("card",))
    lines = written(DONE, payloads=True, of=replace(subject, definition=of_a_step))
    lines += written(first, DONE, payloads=True, of=replace(subject, definition=of_the_input))
    assert "4111" not in "\n".join(lines)
    assert [json.loads(line).get("result") for line in lines] == ["(has secrets)", None, "(has secrets)"]


def test_an_order_names_who_gave_it_and_why() -> None:
    ordered = Event(2, Status.PAUSED, Epoch(7), order=Order("ada", "the bank is closed"))
    line = json.loads(written(ordered)[0])
    assert (line["by"], line["reason"]) == ("ada", "the bank is closed")


def test_what_a_participant_says_is_cut_and_cannot_forge_a_line() -> None:
    evil = Event(2, Status.FAILED, Epoch(7), 1, 1, code="NOT_FOUND", message="no\nepoch=9 event=forged " + "x" * 1000)
    (line,) = written(evil, log_format="console")
    assert "code=NOT_FOUND" in line
    assert "'no\\nepoch=9 event=forged " in line
    assert len(line) < 700
    (parsed,) = [json.loads(line) for line in written(evil)]
    assert parsed["message"].startswith("no\nepoch=9")


def test_what_needs_a_person_is_a_warning_and_the_level_is_kept() -> None:
    parked = Event(4, Status.PARKED, Epoch(7))
    assert json.loads(written(parked)[0])["level"] == "warning"
    assert "step" not in json.loads(written(parked)[0])
    assert [json.loads(line)["status"] for line in written(DONE, parked, level="warning")] == ["parked"]
    assert written(DONE, level="error") == []


def test_a_wait_says_until_when() -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    waits = Event(2, Status.RETRYING, Epoch(7), 1, 1, code="UNAVAILABLE", retry_at=at)
    assert json.loads(written(waits)[0])["retry_at"] == at.isoformat()
