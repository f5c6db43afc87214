"""The language of definitions beyond a plain list of calls: order, pivot, conditions, waiting, children, bounds."""

from __future__ import annotations

import pytest

from orchestrator.errors import FieldViolation, Rejected
from orchestrator.saga.backoff import ACTION_RETRY, COMPENSATION_RETRY, RetryPolicy
from orchestrator.saga.definition import Approval, Compensation, Definition, Delay, HoldStarts, OnUnknown, Work
from orchestrator.saga.lint_risks import patience
from orchestrator.saga.mapping import holds, value_of
from orchestrator.saga.parse import locate, parse
from orchestrator.saga.parse_step import RETRIES_MAX

RICH = """\
name: travel
description: Books a journey.
within: 2d
compensate: parallel
secrets: [card.number, "travellers[].passport"]
hold_starts: {share: 0.5, of_last: 10, for: 1m}
certified: required
steps:
  - name: flight
    service: flights:1
    action: {method: t.Flights/Book, request: {order: input.order_id}}
    compensation: {method: t.Flights/Cancel, request: {order: input.order_id}, within: 1h, retry: {attempts: 5}}
    retry: {attempts: 4, within: 30s, final: [ABORTED], transient: [NOT_FOUND]}
    status: {method: t.Flights/Find, request: {order: input.order_id}}
    on_unknown: query
    secrets: [ticket.code]
  - name: hotel
    after: []
    service: hotels:1
    within: 10m
    action: {method: t.Hotels/Book}
    compensation: none
    reason: The hotel lets bookings lapse.
    answer: later
    heartbeat: 30s
  - name: consent
    after: [flight, hotel]
    when: input.total > `1000`
    within: 1d
    approval: {question: "Is it worth it?", roles: [boss]}
  - name: cool_down
    delay: {until: input.book_at}
  - name: charge
    pivot: true
    service: payment:1
    action: {method: t.Payment/Charge, request: {ticket: results.flight.ticket}}
  - name: tell
    service: mail:1
    action: {method: t.Mail/Send}
  - name: pause
    after: [charge]
    delay: 90m
  - name: insure
    after: [pause]
    saga: {definition: insurance, version: 3, input: {order: input.order_id, room: results.hotel.room}}
    compensation: none
    reason: It ends by itself.
"""


def changed(old: str, new: str) -> str:
    assert RICH.count(old) == 1, old
    return RICH.replace(old, new)


def violations(text: str) -> dict[str, FieldViolation]:
    with pytest.raises(Rejected) as rejected:
        parse(text)
    return {v.field: v for v in rejected.value.violations}


def rich() -> Definition:
    return parse(RICH, 2)


def test_what_is_said_of_the_whole_saga_is_read() -> None:
    definition = rich()
    assert (definition.within_s, definition.parallel_compensation, definition.certified) == (172_800.0, True, True)
    assert definition.secrets == ("card.number", "travellers[].passport")
    assert definition.hold_starts == HoldStarts(0.5, 10, 60.0)
    assert definition.pivot == 5


def test_the_order_is_read_and_a_step_comes_after_the_one_above_it_unless_it_says_otherwise() -> None:
    after = {step.name: step.after for step in rich().steps}
    assert after == {
        "flight": (),
        "hotel": (),
        "consent": (1, 2),
        "cool_down": (3,),
        "charge": (4,),
        "tell": (5,),
        "pause": (5,),
        "insure": (7,),
    }


def test_every_kind_of_work_is_read() -> None:
    steps = {step.name: step for step in rich().steps}
    assert {name: step.work for name, step in steps.items() if step.work is not Work.CALL} == {
        "consent": Work.APPROVAL,
        "cool_down": Work.DELAY,
        "pause": Work.DELAY,
        "insure": Work.CHILD,
    }
    assert steps["consent"].approval == Approval("Is it worth it?", ("boss",))
    assert steps["consent"].when is not None
    assert holds(steps["consent"].when, {"input": {"total": 1001}})
    assert not holds(steps["consent"].when, {"input": {"total": 1000}})
    assert steps["pause"].delay == Delay(seconds=5400.0)
    assert steps["cool_down"].delay is not None
    assert steps["cool_down"].delay.until is not None
    assert value_of(steps["cool_down"].delay.until, {"input": {"book_at": "2027-01-01T00:00:00Z"}}).startswith("2027")
    child = steps["insure"].child
    assert child is not None
    assert (child.definition, child.version, child.undone) == ("insurance", 3, False)
    assert child.input.evaluate({"input": {"order_id": 1}, "results": {"hotel": {"room": 2}}}) == {
        "order": 1,
        "room": 2,
    }


def test_the_bounds_of_a_call_are_read() -> None:
    flight, hotel, *_ = rich().steps
    codes = {"final": frozenset({"ABORTED"}), "transient": frozenset({"NOT_FOUND"})}
    assert flight.retry == RetryPolicy(retries=3, within_s=30.0, **codes)
    assert flight.within_s == 30.0
    assert flight.compensation is not None
    assert (flight.compensation.retry.retries, flight.compensation.within_s) == (4, 3600.0)
    assert flight.status is not None
    assert (flight.status.path, flight.on_unknown, flight.secrets) == (
        "/t.Flights/Find",
        OnUnknown.QUERY,
        ("ticket.code",),
    )
    assert (hotel.answers_later, hotel.heartbeat_s, hotel.within_s) == (True, 30.0, 600.0)
    assert (hotel.compensation, hotel.no_compensation_reason) == (None, "The hotel lets bookings lapse.")


def test_the_pivot_and_what_is_behind_it_need_no_compensation_and_are_tried_for_long() -> None:
    steps = {step.name: step for step in rich().steps}
    assert steps["charge"].compensation is None
    assert steps["tell"].compensation is None
    assert steps["tell"].retry == COMPENSATION_RETRY
    assert steps["charge"].retry == ACTION_RETRY
    bare = parse(changed("    retry: {attempts: 4, within: 30s, final: [ABORTED], transient: [NOT_FOUND]}\n", ""))
    assert bare.steps[0].retry == ACTION_RETRY


def test_a_time_for_all_attempts_may_stand_with_the_retries_of_a_compensation() -> None:
    definition = parse(changed("within: 1h, retry: {attempts: 5}", "retry: {within: 2h}"))
    compensation = definition.steps[0].compensation
    assert isinstance(compensation, Compensation)
    assert compensation.within_s == 7200.0
    # Nobody counts: after the last attempt of any count there would be time left.
    assert not compensation.retry.exhausted(100_000)
    assert patience(compensation.retry, compensation.within_s) == 7200.0


@pytest.mark.parametrize("counted", ["attempts: 4, ", "retries: 3, "])
def test_where_attempts_and_time_are_bounded_what_comes_first_ends_them(counted: str) -> None:
    definition = parse(changed("{attempts: 4, within: 30s,", f"{{{counted}within: 30s,"))
    assert (definition.steps[0].retry.retries, definition.steps[0].within_s) == (3, 30.0)
    assert parse(changed("{attempts: 4, within: 30s,", "{within: 30s,")).steps[0].retry.retries == RETRIES_MAX


@pytest.mark.parametrize(
    ("old", "new", "field", "part"),
    [
        ("compensate: parallel", "compensate: both", "compensate", "sequential, parallel"),
        ("certified: required", "certified: true", "certified", "`required`"),
        ("share: 0.5", "share: 1.5", "hold_starts.share", "from 0 to 1"),
        ("of_last: 10", "of_last: 0", "hold_starts.of_last", "from 1"),
        ("within: 2d", "within: 2w", "within", "is not a time"),
        ("[card.number,", "[card..number,", "secrets[0]", "is not a path"),
        ("[card.number,", "['travellers[].passport',", "secrets[1]", "there twice"),
        ("after: [flight, hotel]", "after: [flight, motel]", "steps[2].after[1]", "there are flight, hotel"),
        ("after: [flight, hotel]", "after: [hotel, hotel]", "steps[2].after[1]", "there twice"),
        ("after: [flight, hotel]", "after: flight", "steps[2].after", "must be a list"),
        ("after: [flight, hotel]", "after: [consent]", "steps[2].after[0]", "after itself"),
        ("after: []", "after: [tell]", "steps[1].after[0]", "hotel after tell after charge after cool_down after"),
        ("    after: [charge]", "    after: [insure]", "steps[6].after[0]", "cycle: pause after insure after pause"),
        ("after: []", "after: [insure]", "steps[1].after[0]", "cycle"),
        ("when: input.total > `1000`", "when: true", "steps[2].when", "must be an expression"),
        ("when: input.total", "when: results.tell.x", "steps[2].when", "results that exist by then: flight, hotel"),
        ("pivot: true", "pivot: yes please", "steps[4].pivot", "neither true nor false"),
        ("on_unknown: query", "on_unknown: ask", "steps[0].on_unknown", "retry, query, compensate"),
        ("    answer: later\n", "", "steps[1].heartbeat", "`answer: later`"),
        ("answer: later", "answer: soon", "steps[1].answer", "`later`"),
        ("{attempts: 4,", "{attempts: 0,", "steps[0].retry.attempts", "from 1"),
        ("{attempts: 4,", "{attempts: 4, retries: 3,", "steps[0].retry.attempts", "one of them"),
        ("final: [ABORTED]", "final: [ABORT]", "steps[0].retry.final[0]", "none of CANCELLED"),
        ("final: [ABORTED]", "final: [NOT_FOUND]", "steps[0].retry.final", "transient as well"),
        ("1h, retry: {attempts: 5}", "1h, retry: {within: 1h}", "steps[0].compensation.retry.within", "say it once"),
        ("delay: 90m", "delay: 400d", "steps[6].delay", "is not a time"),
        ("delay: 90m", "delay: {after: 1m}", "steps[6].delay.until", "is missing"),
        ("delay: 90m", "delay: 90m\n    retry: {}", "steps[6].retry", "is not a field here"),
        ("delay: 90m", "delay: 90m\n    approval: {}", "steps[6]", "a step does one thing"),
        ("roles: [boss]", "roles: boss", "steps[2].approval.roles", "must be a list"),
        ("{definition: insurance,", "{definition: Insurance!,", "steps[7].saga.definition", "is not a name"),
        ("version: 3", "version: -3", "steps[7].saga.version", "from 0"),
        ("reason: It ends by itself.", "reason: ''", "steps[7].reason", "must say why"),
        ("room: results.hotel.room", "room: results.tell.room", "steps[7].saga.input.room", "exist by then"),
        ("    status: {method: t.Flights", "    statu: {method: t.Flights", "steps[0].on_unknown", "is missing"),
        ("reason: The hotel", "because: The hotel", "steps[1].because", "is not a field here"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_field(old: str, new: str, field: str, part: str) -> None:
    assert part in violations(changed(old, new))[field].description


def test_a_reason_is_for_a_step_that_has_no_compensation() -> None:
    text = changed("    secrets: [ticket.code]\n", "    reason: because\n")
    assert "`compensation: none`" in violations(text)["steps[0].reason"].description


def test_a_violation_names_its_line_and_its_step() -> None:
    found = violations(changed("answer: later", "answer: soon").replace("within: 2d", "within: 2w"))
    assert (found["within"].line, found["within"].step) == (3, "")
    answer = found["steps[1].answer"]
    assert (answer.line, answer.step) == (RICH.split("\n").index("    answer: later") + 1, "hotel")
    assert answer.told.startswith(f"line {answer.line}, step hotel, steps[1].answer: 'soon' must be")


@pytest.mark.parametrize("new", [f"results.{'x' * 4000}.id", f'"{"x" * 4000}".id'])
def test_a_long_name_in_an_expression_is_not_repeated_at_length(new: str) -> None:
    [violation] = violations(changed("room: results.hotel.room", f"room: {new!r}")).values()
    assert len(violation.description) < 1000


def test_a_missing_field_is_found_on_the_line_of_its_step() -> None:
    (missing,) = violations(changed("    service: mail:1\n", "")).values()
    assert (missing.field, missing.step) == ("steps[5].service", "tell")
    assert RICH.split("\n")[missing.line - 1] == "  - name: tell"


def test_lines_are_found_through_aliases_and_merged_fields() -> None:
    text = """\
name: a
steps:
  - &first
    name: one
    service: h:1
    action: {method: a.B/C}
    compensation: none
    retry: &patience {retries: x}
  - {<<: *first, name: two, retry: *patience}
"""
    found = violations(text)
    assert {field: violation.line for field, violation in found.items()} == {
        "steps[0].retry.retries": 8,
        "steps[1].retry.retries": 8,
    }
    (elsewhere,) = locate(text, [FieldViolation("steps[1].service", "is out of order")])
    assert (elsewhere.line, elsewhere.step) == (9, "two")


def test_conditions_hold_as_jmespath_has_it() -> None:
    for value, held in [(0, True), ("", False), ([], False), ({}, False), (None, False), (False, False), ("x", True)]:
        definition = parse(changed("when: input.total > `1000`", "when: input.total"))
        when = definition.steps[2].when
        assert when is not None
        assert holds(when, {"input": {"total": value}}) is held, value


def test_a_finding_is_read_back_from_how_it_is_told() -> None:
    for violation in (
        FieldViolation("steps[1].retry", "has no retries: a lost answer ends it", 7, "ship"),
        FieldViolation("within", "is too short", 2),
    ):
        assert FieldViolation.of_told(violation.told) == violation
    assert FieldViolation.of_told("name: is missing") == FieldViolation("", "name: is missing")
