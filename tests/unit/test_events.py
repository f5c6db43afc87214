"""Events as values: places, filters, rounds, and the CloudEvent that others see."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.events.cloudevent import cloud_event, source_of
from orchestrator.events.model import Cursor, EventFilter, EventRecord, earliest, rounds
from orchestrator.saga.events import Status
from orchestrator.saga.model import Failure, SagaId, SagaState
from orchestrator.sagalog.records import TransitionRecord
from tests.unit.event_log import an_event

NUMBERS = st.integers(0, 10**17)
WORDS = st.text(min_size=1, max_size=30)
STATUSES = st.sampled_from([status.value for status in Status]) | WORDS
SECRET = "hunter2-the-secret"


@st.composite
def events(draw: st.DrawFn) -> EventRecord:
    """Any row of the log, its result and its error holding a secret."""
    transition = TransitionRecord(
        SagaId(draw(st.uuids())),
        draw(st.integers(1, 2**62)),
        draw(st.none() | WORDS),
        draw(st.integers(0, 1000)),
        draw(STATUSES),
        draw(st.integers(0, 1000)),
        draw(st.none() | st.just(orjson.dumps({"token": SECRET}).decode())),
        draw(st.none() | st.builds(Failure, st.just("pay"), st.just("UNKNOWN"), st.just(f"bad card {SECRET}"))),
        draw(st.integers(1, 2**62)),
        draw(st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.just(UTC))),
        draw(st.sampled_from([state.value for state in SagaState])),
        draw(st.none() | st.just(orjson.dumps({"by": "ann", "reason": SECRET, "evidence": SECRET}).decode())),
    )
    return EventRecord(Cursor(draw(NUMBERS), draw(NUMBERS)), draw(WORDS), draw(st.integers(1, 10**6)), transition)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_a_cursor_is_read_back_from_its_text(epoch: int, position: int, accepted: int) -> None:
    cursor = Cursor(epoch, position, accepted)
    again = Cursor.parse(str(cursor))
    assert again == cursor
    for horizon in (0, position, position + 1, accepted, accepted + 1):
        assert again.expired(horizon) == cursor.expired(horizon)


@pytest.mark.parametrize("text", ["", "1", "1-", "-1-2", "1-2-3-4", "1-2 ", "1-" + "9" * 19, "a-b", "1٣-2"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a cursor"):
        Cursor.parse(text)


def test_places_are_ordered_by_epoch_and_then_by_position() -> None:
    ordered = [earliest(99), Cursor(1, 5), Cursor(1, 6), Cursor(2, 3), Cursor(2, 4)]
    assert sorted(reversed(ordered)) == ordered


@given(events())
def test_every_row_is_a_cloud_event_of_version_1_0(event: EventRecord) -> None:
    sent = orjson.loads(orjson.dumps(cloud_event(event, source_of("main"))))
    assert sent["specversion"] == "1.0"
    # Required, and not empty.
    assert all(isinstance(sent[name], str) and sent[name] for name in ("id", "source", "type"))
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", name) for name in sent)
    assert datetime.fromisoformat(sent["time"]) == event.transition.at
    assert sent["time"].endswith("Z")
    assert sent["id"] == f"{event.transition.saga_id}/{event.transition.sequence}"
    assert sent["subject"] == sent["partitionkey"] == sent["data"]["saga_id"] == str(event.transition.saga_id)
    transition = event.transition
    assert {name: sent["data"][name] for name in ("step", "status", "state", "epoch", "sequence", "attempt")} == {
        "step": transition.step,
        "status": transition.status,
        "state": transition.state,
        "epoch": transition.epoch,
        "sequence": transition.sequence,
        "attempt": transition.attempt,
    }


@given(events())
def test_what_a_participant_said_is_sent_only_when_asked_for(event: EventRecord) -> None:
    assert SECRET.encode() not in orjson.dumps(cloud_event(event, source_of("main")))
    told = cloud_event(event, source_of("main"), payloads=True)["data"]
    assert told.get("ordered") == (orjson.loads(event.transition.ordered) if event.transition.ordered else None)
    assert told["result"] == (orjson.loads(event.transition.result) if event.transition.result else None)
    assert told["error_message"] == (event.transition.failure.message if event.transition.failure else None)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), max_size=30, unique=True))
def test_no_two_events_have_one_id_and_no_saga_is_twice_in_a_round(keys: list[tuple[int, int]]) -> None:
    found = [an_event(number, saga, sequence) for number, (saga, sequence) in enumerate(keys, 1)]
    assert len({event.id for event in found}) == len(found)
    split = rounds(found)
    for part in split:
        assert part
        assert len({event.transition.saga_id for event in part}) == len(part)
    flat = [event for part in split for event in part]
    assert sorted(flat, key=lambda event: event.cursor) == found
    for saga in {event.transition.saga_id for event in found}:
        of_one = [event for event in flat if event.transition.saga_id == saga]
        assert of_one == [event for event in found if event.transition.saga_id == saga]


@pytest.mark.parametrize(
    ("status", "state", "expected"),
    [
        ("completed", "RUNNING", "baton.step.v1.completed"),
        ("completed", "COMPLETED", "baton.saga.v1.completed"),
        ("failed", "COMPENSATING", "baton.step.v1.failed"),
        ("failed", "COMPENSATED", "baton.saga.v1.compensated"),
        ("compensated", "COMPENSATED", "baton.saga.v1.compensated"),
        ("parked", "FAILED", "baton.saga.v1.failed"),
        # It was parked before, and stays so.
        ("completed", "FAILED", "baton.step.v1.completed"),
        ("moved", "COMPLETED", "baton.saga.v1.completed"),
    ],
)
def test_the_transition_that_ends_a_saga_is_an_event_of_the_saga(status: str, state: str, expected: str) -> None:
    assert an_event(1, status=status, state=state).type == expected


def test_filters_must_all_fit() -> None:
    event = an_event(1, saga=7, status="completed", state="COMPLETED")
    fitting = [
        EventFilter(),
        EventFilter(definitions=frozenset({"order", "return"})),
        EventFilter(types=("baton.saga.v1.*",)),
        EventFilter(types=("x", "baton.saga.v1.completed"), statuses=frozenset({"completed"})),
        EventFilter(saga_id=SagaId(UUID(int=7))),
    ]
    others = [
        EventFilter(definitions=frozenset({"return"})),
        EventFilter(types=("baton.step.v1.*",)),
        EventFilter(types=("baton.saga.v1.complete",)),
        EventFilter(statuses=frozenset({"failed"}), types=("baton.saga.v1.*",)),
        EventFilter(saga_id=SagaId(UUID(int=8))),
    ]
    assert [f.fits(event) for f in fitting] == [True] * len(fitting)
    assert [f.fits(event) for f in others] == [False] * len(others)
