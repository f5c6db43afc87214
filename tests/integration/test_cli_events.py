"""`baton events` against a replica's API: what it prints, where it goes on, how it exits."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from tests.integration.cli_world import Served, served

__all__ = ["served"]

SAGA = UUID(int=1)
STREAM = ("events", "stream", "--until-caught-up")


@pytest.fixture(scope="module", autouse=True)
def three_events(served: Served) -> None:
    served.execute(
        "INSERT INTO baton.saga"
        " (id, shard, request_id, request_hash, definition, version, state, sequence, input)"
        " VALUES (%s, 0, 'events', '', 'order', 1, 'COMPLETED', 3, '{}')",
        SAGA,
    )
    for sequence, status in enumerate(("executing", "retrying", "completed"), 1):
        served.execute(
            "INSERT INTO baton.step_log"
            " (saga_id, sequence, step, position, status, attempt, error_code, error_message, result, epoch)"
            """ VALUES (%s, %s, 'pay', 1, %s, 1, %s, %s, '{"card": "4711"}', 7)""",
            *(SAGA, sequence, status),
            *(("UNAVAILABLE", "no line") if status == "retrying" else (None, None)),
        )


def lines(served: Served, *args: str) -> list[dict[str, object]]:
    result = served.baton(*STREAM, "--json", *args)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_events_are_printed_for_people(served: Served) -> None:
    result = served.baton(*STREAM)
    assert result.exit_code == 0, result.output
    first, second, third = (line.split() for line in result.stdout.splitlines())
    assert first[2:] == [str(SAGA), "order", "pay", "executing", "RUNNING", first[-1]]
    assert second[5:8] == ["retrying", "UNAVAILABLE", "RUNNING"]
    assert third[5:7] == ["completed", "COMPLETED"]


def test_each_json_line_is_a_cloud_event_with_the_cursor_to_go_on_from(served: Served) -> None:
    events = lines(served)
    assert [event["id"] for event in events] == [f"{SAGA}/{number}" for number in (1, 2, 3)]
    assert events[2]["type"] == "baton.saga.v1.completed"
    assert events[2]["source"] == "/baton/test"
    assert "4711" not in json.dumps(events)
    assert "no line" not in json.dumps(events)
    assert lines(served, "--after", str(events[0]["cursor"])) == events[1:]
    (told,) = lines(served, "--payloads", "--status", "retrying")
    assert told["data"]["result"] == {"card": "4711"}  # type: ignore[index]
    assert told["data"]["error_message"] == "no line"  # type: ignore[index]
    assert lines(served, "--type", "baton.step.v1.*") == events[:2]
    assert lines(served, "--definition", "return") == []


def test_a_consumer_goes_on_where_its_last_run_ended(served: Served) -> None:
    assert len(lines(served, "--consumer", "mail")) == 3
    assert lines(served, "--consumer", "mail") == []
    (listed,) = served.json("events", "consumers")
    assert (listed["name"], listed["lag_events"], listed["expired"]) == ("mail", 0, False)
    table = served.baton("events", "consumers").stdout.splitlines()
    assert table[0].split()[:3] == ["CONSUMER", "CURSOR", "BEHIND"]
    assert table[1].split()[:3] == ["mail", listed["cursor"], "0"]
    assert served.json("events", "reset", "mail", "--to", "earliest")["consumer"] == "mail"
    assert served.json("events", "consumers")[0]["lag_events"] == 3
    assert len(lines(served, "--consumer", "mail")) == 3
    assert served.baton("events", "delete", "mail").exit_code == 0
    assert served.json("events", "consumers") == []


def test_what_is_refused_is_said_with_its_field(served: Served) -> None:
    for args, complaint in (
        ((*STREAM, "--after", "soon"), "after: 'soon' is not a cursor"),
        (("events", "reset", "mail", "--to", "yesterday"), "cursor: 'yesterday' is not a cursor"),
        (("events", "delete", "nobody"), "there is no consumer 'nobody'"),
    ):
        result = served.baton(*args)
        assert result.exit_code == 1
        assert complaint in result.stderr
