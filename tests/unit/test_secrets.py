"""What a definition marks as secret is hidden wherever it is shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.driving.registry import Compiled
from orchestrator.driving.veil import ALL_HIDDEN, Veil, Veils, of_definition, shown_request
from orchestrator.errors import NotFound
from orchestrator.saga.commands import Accepted, Held, Outcome, Ready, Refused, Succeeded, Unknown
from orchestrator.saga.machine import decide
from orchestrator.saga.mapping import PointsNowhere, compile_mapping
from orchestrator.saga.model import Failure, Saga, SagaId
from orchestrator.saga.parse import parse
from orchestrator.saga.secrets import EVERYTHING, HIDDEN, blanked, redacted, scrubbed, secret_texts
from orchestrator.saga.signals import Signal, Verb, heed
from orchestrator.sagalog.records import SagaRecord, TransitionRecord
from orchestrator.telemetry import set_up_log

from .sagas import moment

ORDER = {"id": 7, "card": {"number": "4111-1111", "cvc": 123}, "items": [{"sku": "a", "code": "xyzzy"}, {"sku": "b"}]}


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        ([], ORDER),
        (["nothing", "id.nothing"], ORDER),
        (["card.number"], {**ORDER, "card": {"number": HIDDEN, "cvc": 123}}),
        (["card"], {**ORDER, "card": {"number": HIDDEN, "cvc": HIDDEN}}),
        (["card.number", "card"], {**ORDER, "card": {"number": HIDDEN, "cvc": HIDDEN}}),
        (["items[].code"], {**ORDER, "items": [{"sku": "a", "code": HIDDEN}, {"sku": "b"}]}),
        (["items.code", "id"], {**ORDER, "id": HIDDEN, "items": [{"sku": "a", "code": HIDDEN}, {"sku": "b"}]}),
    ],
)
def test_what_the_paths_name_is_hidden_and_nothing_else(paths: list[str], shown: Any) -> None:
    before = orjson.dumps(ORDER)
    assert redacted(ORDER, paths) == shown
    assert orjson.dumps(ORDER) == before


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
_paths = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join), max_size=3)


def _at(value: Any, names: list[str]) -> list[Any]:
    """What a path finds, written down anew."""
    if isinstance(value, list):
        return [found for item in value for found in _at(item, names)]
    if not names:
        return [found for item in value.values() for found in _at(item, [])] if isinstance(value, dict) else [value]
    return _at(value[names[0]], names[1:]) if isinstance(value, dict) and names[0] in value else []


@given(_values, _paths)
def test_nothing_that_a_path_finds_is_left(value: Any, paths: list[str]) -> None:
    shown = redacted(value, paths)
    for path in paths:
        assert set(map(repr, _at(shown, path.split(".")))) <= {repr(HIDDEN), repr(None)}
    assert redacted(shown, paths) == shown


@given(_values)
def test_with_everything_hidden_no_value_is_left(value: Any) -> None:
    assert set(map(repr, _at(redacted(value, EVERYTHING), []))) <= {repr(HIDDEN), repr(None)}


def test_messages_lose_the_secrets_that_they_quote() -> None:
    texts = secret_texts(ORDER, ["card", "items.code", "id"])
    assert texts == {"4111-1111", "xyzzy"}
    assert scrubbed("card 4111-1111 (xyzzy) is refused", texts) == "card *** (***) is refused"


def test_requests_lose_what_was_taken_over_from_secrets() -> None:
    request = {
        "card": "4111-1111",
        "cvc": "123",
        "sum": 123,
        "note": "paid by 4111-1111",
        "id": 7,
        "ok": True,
        "x": [123],
    }
    shown = {"card": HIDDEN, "cvc": HIDDEN, "sum": HIDDEN, "note": "paid by ***", "id": 7, "ok": True, "x": [HIDDEN]}
    assert blanked(request, ORDER, ["card"]) == shown
    assert blanked(request, ORDER, []) == request


DEFINITION = parse("""
name: order
secrets: [card.number]
steps:
  - name: pay
    service: h:1
    action: {method: t.S/Pay}
    compensation: none
    secrets: [token]
  - name: ship
    service: h:1
    action: {method: t.S/Ship}
    compensation: none
""")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def saga(input_: str | None = orjson.dumps(ORDER).decode(), message: str = "no: 4111-1111") -> SagaRecord:
    outcome = {"steps_executed": [1, 2], "steps_compensated": [], "result": {"token": "t0ken", "id": 9}}
    failure = Failure("pay", "ABORTED", message)
    texts = (input_, orjson.dumps(outcome).decode(), failure)
    return SagaRecord(SagaId(UUID(int=1)), "order", 1, "FAILED", None, 3, *texts, {}, "r", None, None, NOW, NOW, NOW)


def transition(step: str) -> TransitionRecord:
    result = '{"token": "t0ken", "id": 9}'
    failure = Failure(step, "ABORTED", "no: 4111-1111")
    return TransitionRecord(SagaId(UUID(int=1)), 1, step, 1, "completed", 1, result, failure, 1, NOW, "RUNNING")


class Registry:
    def __init__(self, known: bool) -> None:
        self.known = known

    async def get(self, name: str, version: int) -> Compiled:
        if not self.known:
            raise NotFound("gone")
        return Compiled(DEFINITION, {})


async def veil(record: SagaRecord, known: bool = True) -> Veil:
    return await Veils(Registry(known)).of(record)  # type: ignore[arg-type]


async def test_a_saga_and_its_history_are_shown_without_secrets() -> None:
    found = await veil(saga())
    shown = found.saga(saga())
    assert orjson.loads(shown.input or "") == redacted(ORDER, ["card.number"])
    assert orjson.loads(shown.result or "") == {
        "steps_executed": [1, 2],
        "steps_compensated": [],
        "result": {"token": HIDDEN, "id": 9},
    }
    assert shown.failure == Failure("pay", "ABORTED", "no: ***")
    assert found.saga(replace(saga(), cancel_reason="it is 4111-1111")).cancel_reason == "it is ***"
    order = '{"by": "ann", "reason": "4111-1111 is wrong", "evidence": "7"}'
    ordered = found.transition(replace(transition("ship"), ordered=order)).ordered
    assert orjson.loads(ordered or "") == {"by": "ann", "reason": "*** is wrong", "evidence": "7"}
    hidden = ALL_HIDDEN.transition(replace(transition("ship"), ordered=order)).ordered
    assert orjson.loads(hidden or "") == {"by": "ann", "reason": HIDDEN, "evidence": HIDDEN}
    assert orjson.loads(found.transition(transition("pay")).result or "") == {"token": HIDDEN, "id": 9}
    assert found.transition(transition("ship")).result == '{"token":"t0ken","id":9}'
    assert found.transition(transition("ship")).failure == Failure("ship", "ABORTED", "no: ***")


async def test_a_saga_whose_definition_is_unknown_is_shown_without_any_value() -> None:
    found = await veil(saga(), known=False)
    assert found == ALL_HIDDEN
    shown = f"{found.saga(saga())} {found.transition(transition('pay'))}"
    assert not any(value in shown for value in ("4111", "xyzzy", "t0ken", "123", "no:"))
    assert orjson.loads(found.saga(saga()).result or "")["steps_executed"] == [1, 2]


async def test_what_a_message_of_a_listed_saga_quotes_cannot_be_told_without_its_input() -> None:
    shown = (await veil(saga(None))).saga(saga(None))
    assert (shown.input, shown.failure) == (None, Failure("pay", "ABORTED", HIDDEN))


def test_a_definition_without_secrets_hides_nothing() -> None:
    assert of_definition(parse("name: x\nsteps: [{name: w, delay: 1s}]")).clear


def test_a_planned_request_is_shown_without_secrets_of_the_input_and_of_results() -> None:
    saga_ = Saga(SagaId(UUID(int=1)), DEFINITION, ORDER, {}, NOW, results=((1, {"token": "t0ken", "id": 9}),))
    source = {
        "card": "input.card.number",
        "token": "results.pay.token",
        "id": "results.pay.id",
        "first": "input.card.number[0:4] || 'none'",
        "masked": "join('-', ['x', input.cvc])",
        "inner": {"token": "reverse(results.pay.token)", "cvc": "to_string(input.card.cvc)"},
    }
    mapping, violations = compile_mapping(source, "request", frozenset({"pay"}))
    assert violations == []
    request = {
        "card": "4111-1111",
        "token": "t0ken",
        "id": 9,
        "first": "4111",
        "masked": "x-12",
        "inner": {"token": "nek0t", "cvc": "123"},
    }
    assert shown_request(saga_, mapping, request) == {
        "card": HIDDEN,
        "token": HIDDEN,
        "id": 9,
        "first": HIDDEN,
        # No secret of this definition.
        "masked": "x-12",
        "inner": {"token": HIDDEN, "cvc": "123"},
    }


TWO = Saga(SagaId(UUID(int=2)), DEFINITION, ORDER, {}, NOW)
QUOTES = "4111-1111 and t0ken are not liked"


def after_payment() -> Saga:
    saga_, _ = decide(TWO, Ready(), moment())
    saga_, _ = decide(saga_, Succeeded({"token": "t0ken"}), moment())
    return saga_


REFUSED, UNKNOWN, HELD = Refused("ABORTED", QUOTES), Unknown("UNKNOWN", QUOTES), Held("U", QUOTES, 1.0, called=True)


@pytest.mark.parametrize("outcome", [REFUSED, UNKNOWN, HELD])
def test_no_secret_of_the_input_or_of_a_result_gets_into_the_log_by_a_message(outcome: Outcome) -> None:
    saga_, events = decide(after_payment(), outcome, moment())
    assert [event.message for event in events if event.message] == ["*** and *** are not liked"]
    assert "t0ken" not in repr(saga_.failure)


def test_no_secret_gets_into_the_log_by_an_answer_that_came_later_or_a_reason() -> None:
    later = parse("""
name: later
secrets: [card.number]
steps:
  - {name: pay, service: 'h:1', action: {method: t.S/Pay}, compensation: none, answer: later}
""")
    saga_, _ = decide(Saga(SagaId(UUID(int=3)), later, ORDER, {}, NOW), Ready(), moment())
    saga_, _ = decide(saga_, Accepted(), moment())
    heeded = heed(saga_, Signal(1, Verb.FAIL, "pay", None, "ABORTED", QUOTES), moment())
    assert heeded is not None
    assert heeded.saga.failure == Failure("pay", "ABORTED", "*** and t0ken are not liked")


@pytest.mark.parametrize("expression", ["length(input.pin)", "abs(input.word)", "max_by(input.many, &k)"])
def test_an_expression_that_cannot_be_evaluated_quotes_no_value(expression: str) -> None:
    mapping, violations = compile_mapping({"x": expression}, "request", frozenset())
    assert violations == []
    value = {"pin": 471, "word": "xyzzy", "many": [{"k": 471}, {"k": "xyzzy"}]}
    with pytest.raises(PointsNowhere, match="cannot be evaluated") as raised:
        mapping.evaluate({"input": value, "results": {}, "saga": {}})
    assert not any(secret in str(raised.value) for secret in ("471", "xyzzy"))


def test_a_traceback_in_the_log_shows_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(card: str) -> None:
        raise ValueError(f"a card of {len(card)} digits")

    try:
        for log_format in ("json", "console"):
            set_up_log(log_format, "info")  # type: ignore[arg-type]
            try:
                fail(ORDER["card"]["number"])  # type: ignore[index]
            except ValueError:
                structlog.get_logger().exception("defect")
    finally:
        structlog.reset_defaults()
    shown = capsys.readouterr().err
    assert shown.count("a card of 9 digits") == 2
    assert "4111" not in shown
