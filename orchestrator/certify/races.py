"""The checks that call at once: one key many times, and actions against their compensations."""

from __future__ import annotations

import asyncio
import random

from orchestrator.certify.checks import ACTION, COMPENSATION, Bench, spelled
from orchestrator.certify.findings import CannotCertify, Check, Finding, Verdict
from orchestrator.driving.port import Answer
from orchestrator.saga.commands import Refused, Succeeded
from orchestrator.saga.model import Kind

_AT_ONCE = 12
_ROUNDS = 5
_SAGAS = 20


async def same_key(bench: Bench) -> list[Finding]:
    """One key at once, many times, for several keys."""
    check, subject = Check.SAME_KEY_RACE, bench.subject
    for _ in range(_ROUNDS):
        case = subject.case()
        outcomes = await subject.settle_all([(case, ACTION)] * _AT_ONCE)
        outcomes.append(await subject.settle(case, ACTION))
        if all(not isinstance(outcome, Succeeded) for outcome in outcomes):
            raise CannotCertify(f"--request: the action must succeed, but it said {spelled(outcomes[0])}")
        if (text := _different(outcomes)) is not None:
            return [bench.found(check, Verdict.FAILED, f"{_AT_ONCE} calls of one key at once: {text}")]
        undone = await subject.settle_all([(case, COMPENSATION)] * _AT_ONCE)
        if not isinstance(undone[0], Succeeded) or (text := _different(undone)) is not None:
            text = text or spelled(undone[0])
            return [bench.found(check, Verdict.FAILED, f"{_AT_ONCE} compensations of one key at once: {text}")]
    return [bench.found(check, Verdict.PASSED, f"{_ROUNDS} keys, {_AT_ONCE} calls of each at once")]


async def opposites(bench: Bench) -> list[Finding]:
    """Actions and their compensations at once, in every order."""
    check, subject = Check.OPPOSITE_RACE, bench.subject
    if not bench.effect:
        return [bench.found(check, Verdict.NOT_CHECKED, "declared to have no effect")]
    cases = [subject.case() for _ in range(_SAGAS)]
    shown = await bench.measure()
    calls = [(case, kind) for case in cases for kind in (ACTION, COMPENSATION) for _ in "12"]
    random.shuffle(calls)
    outcomes = await subject.settle_all(calls)
    late = await asyncio.gather(*(subject.settle(case, ACTION) for case in cases))
    refused = 0
    for case, at_last in zip(cases, late, strict=True):
        of_case = [(kind, outcome) for (c, kind), outcome in zip(calls, outcomes, strict=True) if c is case]
        if (text := _torn(of_case, at_last)) is not None:
            return [bench.found(check, Verdict.FAILED, f"saga {case.saga_id}: {text}")]
        refused += isinstance(at_last, Refused)
    text = f"{_SAGAS} sagas; in {refused} the compensation came first"
    if bench.gauge is not None and refused == _SAGAS and await bench.measure() != shown:
        return [bench.found(check, Verdict.FAILED, f"{text}, but --observe shows an effect")]
    return [bench.found(check, Verdict.PASSED, text)]


def _different(outcomes: list[Answer]) -> str | None:
    first = outcomes[0]
    for outcome in outcomes:
        if outcome != first:
            return f"one was answered {spelled(first)}, another {spelled(outcome)}"
    return None


def _torn(outcomes: list[tuple[Kind, Answer]], at_last: Answer) -> str | None:
    """What is wrong about the answers to one saga, whose action was repeated `at_last`, after all others."""
    undone = [outcome for kind, outcome in outcomes if kind is COMPENSATION]
    if not all(isinstance(outcome, Succeeded) for outcome in undone) or _different(undone) is not None:
        return f"its compensations must succeed alike, and said {' and '.join(map(spelled, undone))}"
    actions = [outcome for kind, outcome in outcomes if kind is ACTION]
    if (text := _different([*actions, at_last])) is not None:
        return f"one action took effect or was refused, not both: {text}"
    if not isinstance(at_last, Succeeded | Refused):
        return f"its action found no end: {spelled(at_last)}"
    return None
