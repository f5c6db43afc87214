"""The pure parts of the participant kit and the sample shop: metadata, statuses, faults, money, declines."""

from __future__ import annotations

from decimal import Decimal

import grpc
import orjson
import psycopg
import pytest

from participants.call import CallIdentity, Kind, identity_from_metadata
from participants.faults import BadFault, Fault, Faults, faults_from_json
from participants.fields import money, money_not_negative, quantities, refuse_marked, spelled
from participants.payment import refuse_over_limit
from participants.pb.shop.v1 import inventory_pb2
from participants.settings import ParticipantSettings
from participants.status import (
    REFUSALS,
    Reason,
    Refusal,
    certainly_undone,
    database_refusal,
    is_defect,
    number_of,
    refused,
    status_code,
)

FULL = {
    "baton-saga-id": "s1",
    "baton-step": "charge",
    "baton-kind": "action",
    "baton-epoch": "7",
    "baton-attempt": "3",
    "baton-shard": "2",
}
CALL = CallIdentity("s1", "charge", Kind.ACTION, 7, attempt=3, shard=2)
METHOD = "shop.v1.PaymentService/Charge"


def test_metadata_gives_the_identity() -> None:
    metadata = [*FULL.items(), ("user-agent", "grpc"), ("traceparent", "00-1-2-3"), ("baton-idempotency-key", "x")]
    assert identity_from_metadata(metadata) == CALL
    assert CALL.key == "s1/charge/action"


def test_attempt_and_shard_have_defaults() -> None:
    fields = {name: value for name, value in FULL.items() if name not in ("baton-attempt", "baton-shard")}
    assert identity_from_metadata(fields.items()) == CallIdentity("s1", "charge", Kind.ACTION, 7)


def test_a_call_without_any_of_batons_metadata_has_no_identity() -> None:
    assert identity_from_metadata([("user-agent", "grpcurl"), ("traceparent", "00-1-2-3")]) is None


@pytest.mark.parametrize("name", ["baton-saga-id", "baton-step", "baton-kind", "baton-epoch"])
def test_missing_metadata_is_named(name: str) -> None:
    fields = {key: value for key, value in FULL.items() if key != name}
    with pytest.raises(Refusal, match=f"missing call metadata: {name}$") as caught:
        identity_from_metadata(fields.items())
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("baton-kind", "undo"),
        ("baton-epoch", "-1"),
        ("baton-epoch", "1.5"),
        ("baton-epoch", "\u0663"),
        ("baton-epoch", str(2**63)),
        ("baton-attempt", "x"),
        ("baton-shard", str(2**31)),
        ("baton-saga-id", "s" * 201),
        ("baton-step", "a\0b"),
    ],
)
def test_malformed_metadata_is_named(name: str, value: str) -> None:
    with pytest.raises(Refusal, match=f"^{name}: "):
        identity_from_metadata({**FULL, name: value}.items())


def test_the_status_table_leaves_everything_transient_out() -> None:
    transient = {"CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL"}
    transient |= {"UNAVAILABLE", "DATA_LOSS", "OK"}
    assert {code.name for code in grpc.StatusCode} - transient == {code.name for code in REFUSALS}
    assert all(status_code(number_of(code)) is code for code in grpc.StatusCode)
    assert status_code(99) is grpc.StatusCode.UNKNOWN


def test_the_kits_own_reasons_open_the_message() -> None:
    answer = refused(Refusal(grpc.StatusCode.ABORTED, "somebody else leads", Reason.STALE_EPOCH))
    assert (answer.status_code, answer.message) == (grpc.StatusCode.ABORTED, "STALE_EPOCH: somebody else leads")


@pytest.mark.parametrize(
    ("error", "certain"),
    [
        (psycopg.errors.CheckViolation, True),
        (psycopg.errors.UniqueViolation, True),
        (psycopg.errors.NumericValueOutOfRange, True),
        (psycopg.errors.RaiseException, True),
        (psycopg.errors.UndefinedTable, True),
        (psycopg.errors.SerializationFailure, False),
        (psycopg.errors.DeadlockDetected, False),
        (psycopg.errors.LockNotAvailable, False),
        (psycopg.errors.AdminShutdown, False),
        (psycopg.errors.ReadOnlySqlTransaction, False),
        (psycopg.errors.DiskFull, False),
        (psycopg.errors.QueryCanceled, False),
        (psycopg.OperationalError, False),
        (psycopg.DataError, True),
    ],
)
def test_only_a_refused_statement_is_certainly_undone(error: type[psycopg.Error], certain: bool) -> None:
    assert certainly_undone(error("why")) is certain
    assert not is_defect(error("why"))


def test_a_complaint_of_psycopg_itself_is_a_defect() -> None:
    error = psycopg.ProgrammingError("the query has 2 placeholders but 1 parameters were passed")
    assert is_defect(error)
    assert not certainly_undone(error)


def test_a_database_error_is_told_in_one_line() -> None:
    assert database_refusal(psycopg.errors.CheckViolation("no\nway")).message == "database error: no way"


@pytest.mark.parametrize(
    ("fault", "fits"),
    [
        (Fault(delay_ms=1), True),
        (Fault(delay_ms=1, step="charge"), True),
        (Fault(delay_ms=1, step="reserve"), False),
        (Fault(delay_ms=1, method="Charge"), True),
        (Fault(delay_ms=1, method=METHOD), True),
        (Fault(delay_ms=1, method="Refund"), False),
        (Fault(delay_ms=1, order_id="o1", kind="action"), True),
        (Fault(delay_ms=1, order_id="o2"), False),
        (Fault(delay_ms=1, kind="compensation"), False),
    ],
)
def test_a_fault_fits_what_it_names(fault: Fault, fits: bool) -> None:
    assert fault.fits(CALL, METHOD, "o1") is fits


def test_a_fault_strikes_as_often_as_it_may_and_then_the_next_one_does() -> None:
    faults = Faults()
    twice = faults.inject(Fault(error_code="UNAVAILABLE", times=2))
    always = faults.inject(Fault(delay_ms=1))
    for _ in range(5):
        assert faults.strike(CALL, METHOD, "o1") is not None
    assert {fault.id: fault.struck for fault in faults.list()} == {twice: 2, always: 3}
    assert faults.clear(twice) == 1
    assert faults.clear() == 1
    assert faults.strike(CALL, METHOD, "o1") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("{}", "must be a JSON list"),
        ('[{"delay_ms": 1}, {"stpe": "x"}]', r"^\[1\]: unknown field stpe"),
        ('[{"delay_ms": "1"}]', r"^\[0\]\.delay_ms: must be int"),
        ('[{"delay_ms": true}]', r"^\[0\]\.delay_ms: must be int"),
        ('[{"step": "x"}]', r"^\[0\]\.a fault must do something"),
        ('[{"error_code": "FUNNY"}]', r"^\[0\]\.error_code: 'FUNNY'"),
        ('[{"error_code": "OK"}]', "OK is no error"),
        ('[{"delay_ms": 1, "kind": "undo"}]', r"^\[0\]\.kind: 'undo'"),
        ('[{"delay_ms": -1}]', "may not be negative"),
        ('[{"delay_ms": 1, "error_after_commit": true}]', "needs an error_code"),
    ],
)
def test_a_fault_that_makes_no_sense_is_named(text: str, words: str) -> None:
    with pytest.raises(BadFault, match=words):
        faults_from_json(text)


def test_faults_are_read_from_json() -> None:
    text = orjson.dumps([{"crash_before_commit": True, "order_id": "o1", "times": 1}]).decode()
    assert faults_from_json(text) == (Fault(crash_before_commit=True, order_id="o1", times=1),)


@pytest.mark.parametrize(
    ("text", "canonical"), [("17.85", "17.85"), ("0", "0.00"), ("-1.5", "-1.50"), ("1.001", "1.001")]
)
def test_money_is_exact(text: str, canonical: str) -> None:
    assert money(text, "amount") == Decimal(text)
    assert spelled(money(text, "amount")) == canonical


@pytest.mark.parametrize("text", ["", "1,5", "1e3", "NaN", "Infinity", " 1", "1.", ".5", "1.00001", "1" * 13, "\u0661"])
def test_malformed_money_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match=r"^amount: "):
        money(text, "amount")


def test_what_is_paid_is_not_negative() -> None:
    with pytest.raises(Refusal, match="negative"):
        money_not_negative("-0.01", "amount")


def test_a_charge_at_the_limit_passes_and_one_above_is_declined() -> None:
    refuse_over_limit(Decimal("10.00"), Decimal("10.00"))
    with pytest.raises(Refusal, match=r"card declined: 10\.01 is over the limit of 10\.00"):
        refuse_over_limit(Decimal("10.01"), Decimal("10.00"))


def test_lines_are_added_up_in_the_order_of_their_codes() -> None:
    lines = [inventory_pb2.Line(stock_code=code, quantity=n) for code, n in (("B", 1), ("A", 2), ("B", 3))]
    assert list(quantities(lines).items()) == [("A", 2), ("B", 4)]


def test_only_marked_orders_are_refused() -> None:
    for order_id in ("fail-payment", "fail-payment-1"):
        with pytest.raises(Refusal):
            refuse_marked(order_id, "fail-payment", "no")
    for order_id in ("fail-payments", "o1", "xfail-payment"):
        refuse_marked(order_id, "fail-payment", "no")


def test_faults_in_the_settings_need_permission() -> None:
    with pytest.raises(ValueError, match="PARTICIPANT_ALLOW_FAULTS"):
        ParticipantSettings(faults="[]")
