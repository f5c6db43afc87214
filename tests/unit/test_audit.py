"""The audit: it passes a sound log, and each invariant is shown to fail on a log that was doctored against it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from orchestrator.audit.evidence import (
    Acknowledgement,
    Circumstances,
    EffectRow,
    EpochRow,
    Evidence,
    Gap,
    Money,
    SagaRow,
    StepRow,
    StepShape,
    StockRow,
    Tombstone,
)
from orchestrator.audit.judge import Verdict, judge
from orchestrator.audit.ledgers import shape

START = datetime(2024, 6, 3, 8, 0, tzinfo=UTC)
DONE, UNDONE, RETURNED, PARKED = "saga-done", "saga-undone", "saga-returned", "saga-parked"


def at(ms: int) -> datetime:
    return START + timedelta(milliseconds=ms)


def saga(saga_id: str, state: str, definition: str = "order", **fields: Any) -> SagaRow:
    amount = {DONE: "30.00", RETURNED: "10.00"}.get(saga_id, "7.00")
    return SagaRow(saga_id, f"request-{saga_id}", 0, definition, 1, state, fields.get("error"), {"amount": amount})


def row(saga_id: str, sequence: int, step: str, status: str, epoch: int, ms: int) -> StepRow:
    return StepRow(saga_id, sequence, step, status, epoch, at(ms))


_ids = iter(range(1, 1_000_000))


def effect(saga_id: str, step: str, kind: str, epoch: int, ms: int, name: str, **fields: Any) -> EffectRow:
    service = "inventory" if "quantity" in fields else "payment"
    return EffectRow(service, next(_ids), saga_id, step, kind, epoch, {"effect": name, **fields}, at(ms))


def sound() -> Evidence:
    """Two leaders (epochs 5 and 9); an order, one that was declined and undone, and a return."""
    return Evidence(
        sagas=[saga(DONE, "COMPLETED"), saga(UNDONE, "COMPENSATED"), saga(RETURNED, "COMPLETED", "return")],
        steps=[
            row(DONE, 1, "reserve", "executing", 5, 10),
            row(DONE, 2, "reserve", "completed", 5, 20),
            row(DONE, 3, "charge", "executing", 5, 20),
            row(DONE, 4, "charge", "executing", 9, 120),
            row(DONE, 5, "charge", "completed", 9, 130),
            row(UNDONE, 1, "reserve", "executing", 5, 10),
            row(UNDONE, 2, "reserve", "completed", 5, 30),
            row(UNDONE, 3, "charge", "executing", 5, 30),
            row(UNDONE, 4, "charge", "failed", 9, 140),
            row(UNDONE, 5, "reserve", "compensating", 9, 140),
            row(UNDONE, 6, "reserve", "compensated", 9, 150),
            row(RETURNED, 1, "refund", "executing", 9, 160),
            row(RETURNED, 2, "refund", "completed", 9, 170),
        ],
        epochs=[EpochRow(0, 5, "replica-1", "vacant", at(0)), EpochRow(0, 9, "replica-2", "gone", at(100))],
        definitions={
            ("order", 1): (StepShape("reserve", True), StepShape("charge", True)),
            ("return", 1): (StepShape("refund", True),),
        },
        effects=[
            effect(DONE, "reserve", "action", 5, 15, "reserve", quantity=3),
            effect(DONE, "charge", "action", 9, 125, "charge", amount="30.00"),
            effect(UNDONE, "reserve", "action", 5, 25, "reserve", quantity=2),
            effect(UNDONE, "reserve", "compensation", 9, 145, "release", quantity=2),
            effect(RETURNED, "refund", "action", 9, 165, "refund", amount="10.00"),
        ],
        tombstones=[Tombstone("payment", UNDONE, "charge")],
        stock=[StockRow("41000", 100, 97, 3, 0)],
        money=Money(Decimal("30.00"), Decimal("10.00"), Decimal("20.00")),
    )


CIRCUMSTANCES = Circumstances(
    acknowledged=[Acknowledgement(f"request-{name}", name) for name in (DONE, UNDONE, RETURNED)],
    faults=1,
    gaps=[Gap("kill -9", 0.03, 1.0)],
)


def violated(verdict: Verdict) -> set[str]:
    return {finding.invariant for finding in verdict.findings if not finding.holds}


def without(evidence: Evidence, step: str, kind: str, saga_id: str) -> Evidence:
    return replace(evidence, effects=[e for e in evidence.effects if e.key != (saga_id, step, kind)])


def with_effects(evidence: Evidence, *effects: EffectRow) -> Evidence:
    return replace(evidence, effects=[*evidence.effects, *effects])


def with_saga(evidence: Evidence, changed: SagaRow) -> Evidence:
    return replace(evidence, sagas=[*(s for s in evidence.sagas if s.id != changed.id), changed])


def with_rows(evidence: Evidence, *rows: StepRow) -> Evidence:
    changed = {(r.saga_id, r.sequence): r for r in [*evidence.steps, *rows]}
    return replace(evidence, steps=[changed[key] for key in sorted(changed)])


def test_a_sound_log_passes_and_says_what_was_checked() -> None:
    verdict = judge(sound(), CIRCUMSTANCES)
    assert verdict.holds, verdict.lines()
    assert len(verdict.findings) == 10
    assert verdict.finding("I6").checked == "1 COMPENSATED, 2 COMPLETED"
    assert verdict.finding("balances").checked == "97 pieces of 1 articles, money 20.00"


def test_an_empty_log_passes() -> None:
    assert judge(Evidence([], [], [], {}, [], []), Circumstances()).holds


def test_i1_a_completed_saga_that_lacks_an_effect() -> None:
    verdict = judge(without(sound(), "reserve", "action", DONE), CIRCUMSTANCES)
    assert "I1" in violated(verdict)
    assert verdict.finding("I1").sagas == (DONE,)


def test_i1_a_completed_saga_of_which_a_step_was_undone() -> None:
    undone = effect(DONE, "reserve", "compensation", 9, 150, "release", quantity=3)
    assert "I1" in violated(judge(with_effects(sound(), undone), CIRCUMSTANCES))


def test_i1_a_compensated_saga_that_left_an_effect() -> None:
    verdict = judge(without(sound(), "reserve", "compensation", UNDONE), CIRCUMSTANCES)
    assert verdict.finding("I1").sagas == (UNDONE,)


def test_i1_a_compensation_without_its_action() -> None:
    assert "I1" in violated(judge(without(sound(), "reserve", "action", UNDONE), CIRCUMSTANCES))


def test_i1_a_step_that_nothing_undoes_may_remain() -> None:
    evidence = without(sound(), "reserve", "compensation", UNDONE)
    shapes = {**evidence.definitions, ("order", 1): (StepShape("reserve", False), StepShape("charge", True))}
    assert judge(replace(evidence, definitions=shapes), CIRCUMSTANCES).finding("I1").holds


def with_shape(evidence: Evidence, *steps: StepShape) -> Evidence:
    return replace(evidence, definitions={**evidence.definitions, ("order", 1): steps})


def test_i1_a_step_that_calls_nobody_has_no_effect() -> None:
    steps = (StepShape("reserve", True), StepShape("consent", False, calls=False), StepShape("charge", True))
    assert judge(with_shape(sound(), *steps), CIRCUMSTANCES).finding("I1").holds
    struck = with_effects(sound(), effect(DONE, "consent", "action", 9, 150, "charge", amount="0"))
    assert judge(with_shape(struck, *steps), CIRCUMSTANCES).finding("I1").sagas == (DONE,)


@pytest.mark.parametrize("status", ["skipped", "forced"])
def test_i1_a_step_that_was_passed_over_by_hand_or_by_its_condition_may_have_no_effect(status: str) -> None:
    lacking = without(sound(), "charge", "action", DONE)
    assert judge(with_rows(lacking, row(DONE, 5, "charge", status, 9, 130)), CIRCUMSTANCES).finding("I1").holds
    twice = effect(DONE, "charge", "action", 9, 126, "charge", amount="30.00")
    passed = with_rows(with_effects(sound(), twice), row(DONE, 5, "charge", status, 9, 130))
    assert judge(passed, CIRCUMSTANCES).finding("I1").sagas == (DONE,)


def test_i1_a_compensation_that_was_done_by_hand_may_have_no_effect() -> None:
    lacking = without(sound(), "reserve", "compensation", UNDONE)
    resolved = with_rows(lacking, row(UNDONE, 6, "reserve", "resolved", 9, 150))
    assert judge(resolved, CIRCUMSTANCES).finding("I1").holds


def test_the_shape_of_a_definition_is_read_as_replicas_read_it() -> None:
    text = """
        steps:
          - {name: ask, approval: {question: Really?, roles: [sales]}}
          - {name: ship, action: {method: a.B/C}}
          - {name: pay, action: {method: a.B/D}, compensation: {method: a.B/E}}
          - {name: log, action: {method: a.B/F}, compensation: none}
    """
    assert shape(text) == (
        StepShape("ask", False, calls=False),
        StepShape("ship", False),
        StepShape("pay", True),
        StepShape("log", False),
    )


def test_i1_effects_of_a_saga_or_a_step_that_nobody_knows() -> None:
    stranger = effect("saga-lost", "charge", "action", 9, 150, "charge", amount="0")
    assert judge(with_effects(sound(), stranger), CIRCUMSTANCES).finding("I1").sagas == ("saga-lost",)
    step = effect(DONE, "gift_wrap", "action", 9, 150, "wrap", amount="0")
    assert judge(with_effects(sound(), step), CIRCUMSTANCES).finding("I1").sagas == (DONE,)


def test_i2_a_key_with_two_effects() -> None:
    evidence = sound()
    verdict = judge(with_effects(evidence, evidence.effects[1]), CIRCUMSTANCES)
    assert {"I1", "I2", "balances"} <= violated(verdict)
    assert verdict.finding("I2").sagas == (DONE,)


def test_i3_an_action_after_its_tombstone() -> None:
    late = effect(UNDONE, "charge", "action", 9, 300, "charge", amount="7.00")
    verdict = judge(with_effects(sound(), late), CIRCUMSTANCES)
    assert verdict.finding("I3").sagas == (UNDONE,)


def test_i3_an_action_after_its_compensation() -> None:
    evidence = without(sound(), "reserve", "action", UNDONE)
    late = effect(UNDONE, "reserve", "action", 5, 200, "reserve", quantity=2)
    assert violated(judge(with_effects(evidence, late), CIRCUMSTANCES)) == {"I3"}


def test_i4_an_effect_without_an_intent_of_its_epoch() -> None:
    evidence = without(sound(), "charge", "action", DONE)
    foreign = effect(DONE, "charge", "action", 7, 125, "charge", amount="30.00")
    assert violated(judge(with_effects(evidence, foreign), CIRCUMSTANCES)) == {"I4"}


def test_i4_an_effect_before_its_intent() -> None:
    verdict = judge(with_rows(sound(), row(DONE, 1, "reserve", "executing", 5, 16)), CIRCUMSTANCES)
    assert violated(verdict) == {"I4"}
    assert "0.001000 s before its intent" in verdict.finding("I4").offences[0].what


def test_i5_a_row_of_an_epoch_that_had_ended() -> None:
    verdict = judge(with_rows(sound(), row(DONE, 3, "charge", "executing", 5, 101)), CIRCUMSTANCES)
    assert violated(verdict) == {"I5"}
    assert verdict.finding("I5").sagas == (DONE,)


def test_i5_a_saga_that_goes_back_to_an_older_epoch() -> None:
    assert violated(judge(with_rows(sound(), row(DONE, 5, "charge", "completed", 5, 90)), CIRCUMSTANCES)) == {"I5"}


def test_i5_a_row_of_an_epoch_that_nobody_raised_and_a_gap_in_the_sequence() -> None:
    assert "I5" in violated(judge(with_rows(sound(), row(DONE, 6, "", "parked", 12, 200)), CIRCUMSTANCES))
    assert "I5" in violated(judge(with_rows(sound(), row(DONE, 7, "", "parked", 9, 200)), CIRCUMSTANCES))


def test_i5_knows_the_epochs_of_each_shard_apart() -> None:
    evidence = sound()
    other = EpochRow(1, 6, "replica-3", "vacant", at(0))
    assert judge(replace(evidence, epochs=[*evidence.epochs, other]), CIRCUMSTANCES).finding("I5").holds


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPENSATING", "LOST"])
def test_i6_a_saga_that_has_not_ended(state: str) -> None:
    verdict = judge(with_saga(sound(), saga(DONE, state)), CIRCUMSTANCES)
    assert verdict.finding("I6").sagas == (DONE,)


def test_i6_a_parked_saga_needs_a_reason() -> None:
    reason = {"code": "PARKED", "message": "could not compensate: charge"}
    assert judge(with_saga(sound(), saga(PARKED, "FAILED", error=reason)), CIRCUMSTANCES).holds
    verdict = judge(with_saga(sound(), saga(PARKED, "FAILED")), CIRCUMSTANCES)
    assert violated(verdict) == {"I6"}


@pytest.mark.parametrize("seconds", [1.001, None])
def test_i7_a_gap_that_is_too_long_or_never_ends(seconds: float | None) -> None:
    circumstances = replace(CIRCUMSTANCES, gaps=[Gap("kill -9", seconds, 1.0)])
    assert violated(judge(sound(), circumstances)) == {"I7"}


def test_i8_a_change_of_leadership_without_a_cause() -> None:
    assert violated(judge(sound(), replace(CIRCUMSTANCES, faults=0))) == {"I8"}
    assert judge(sound(), replace(CIRCUMSTANCES, faults=0, since=at(50))).holds


def test_i9_an_acknowledged_saga_that_is_lost() -> None:
    lost = [*CIRCUMSTANCES.acknowledged, Acknowledgement("request-lost", "saga-lost")]
    verdict = judge(sound(), replace(CIRCUMSTANCES, acknowledged=lost))
    assert violated(verdict) == {"I9"}
    assert verdict.finding("I9").sagas == ("saga-lost",)


def test_i9_a_request_that_became_two_sagas() -> None:
    evidence = sound()
    twin = replace(evidence.sagas[1], id="saga-twin")
    assert "I9" in violated(judge(replace(evidence, sagas=[*evidence.sagas, twin]), CIRCUMSTANCES))


def test_i9_a_client_that_was_told_two_sagas() -> None:
    told = [*CIRCUMSTANCES.acknowledged, Acknowledgement(f"request-{DONE}", UNDONE)]
    assert violated(judge(sound(), replace(CIRCUMSTANCES, acknowledged=told))) == {"I9"}


def test_balances_stock_that_is_gone() -> None:
    assert violated(judge(replace(sound(), stock=[StockRow("41000", 100, 96, 3, 0)]), CIRCUMSTANCES)) == {"balances"}
    assert violated(judge(replace(sound(), stock=[StockRow("41000", 100, 96, 4, 0)]), CIRCUMSTANCES)) == {"balances"}


@pytest.mark.parametrize(
    "money",
    [Money(Decimal(30), Decimal(10), Decimal("19.99")), Money(Decimal("30.01"), Decimal(10), Decimal("20.01"))],
)
def test_balances_money_that_does_not_add_up(money: Money) -> None:
    assert violated(judge(replace(sound(), money=money), CIRCUMSTANCES)) == {"balances"}


def test_balances_money_that_the_sagas_do_not_explain() -> None:
    evidence = sound()
    dearer = replace(evidence.sagas[0], input={"amount": "31.00"})
    assert violated(judge(with_saga(evidence, dearer), CIRCUMSTANCES)) == {"balances"}


def test_the_words_of_a_verdict_name_the_first_offences_and_count_the_rest() -> None:
    evidence = sound()
    many = [saga(f"saga-{number}", "RUNNING") for number in range(7)]
    lines = judge(replace(evidence, sagas=[*evidence.sagas, *many]), CIRCUMSTANCES).lines()
    at_fault = next(i for i, line in enumerate(lines) if line.startswith("I6 VIOLATED"))
    assert lines[at_fault + 1] == "    saga saga-0: is still RUNNING"
    assert lines[at_fault + 6] == "    and 2 more"
