"""The linter: what is refused, and what is warned of."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.saga.lint import Findings, lint
from orchestrator.saga.parse import locate, parse
from orchestrator.saga.variables import expand

SAMPLES = sorted((Path(__file__).parents[2] / "deploy" / "definitions").glob("*.yaml"))

UNDO = "compensation: {method: t.S/Undo, request: {id: input.id}}"


def findings(*steps: str, top: str = "") -> Findings:
    """What is found in a definition of these steps, each a flow mapping without its braces."""
    lines = [f"name: test\n{top}\nsteps:", *(f"  - {{{step}}}" for step in steps)]
    return lint(parse("\n".join(lines)))


def call(name: str, *more: str, undo: str | None = UNDO) -> str:
    return ", ".join([f"name: {name}, service: 'h:1', action: {{method: t.S/Do}}", *([undo] if undo else []), *more])


def told(found: tuple[object, ...]) -> str:
    return "\n".join(violation.told for violation in found)  # type: ignore[attr-defined]


PIVOT = call("pay", "pivot: true", undo=None)


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.stem)
def test_nothing_is_found_in_the_samples(file: Path) -> None:
    assert lint(parse(expand(file.read_text(), {}))) == Findings((), ())


def test_compensatable_steps_a_pivot_and_retriable_steps_are_in_order() -> None:
    assert findings(call("a"), PIVOT, call("b", undo=None)) == Findings((), ())
    parallel = (call("a"), call("b", "after: []"), PIVOT.replace("pivot", "after: [a, b], pivot"), call("c", undo=None))
    assert findings(*parallel) == Findings((), ())


@pytest.mark.parametrize(
    ("steps", "field", "part"),
    [
        ((PIVOT, call("b", "pivot: true", undo=None)), "steps[1].pivot", "'pay' is the pivot already"),
        ((call("a"), PIVOT.replace("pivot", "after: [], pivot")), "steps[0].after", "neither before nor after"),
        ((PIVOT, call("a", "after: []")), "steps[1].after", "`after: [pay]`"),
        ((PIVOT, call("a")), "steps[1].compensation", "only goes forward"),
        ((call("a", "compensation: none", undo=None), PIVOT), "steps[0].compensation", "say in `reason`"),
        ((PIVOT, "name: ok, approval: {question: q}, within: 1h"), "steps[1].approval", "ask before the pivot"),
        ((PIVOT, call("b", "on_unknown: compensate", undo=None)), "steps[1].on_unknown", "use retry or query"),
        ((call("a", "compensation: none, on_unknown: compensate", undo=None),), "steps[0].on_unknown", "needs a comp"),
    ],
)
def test_a_broken_pivot_is_refused(steps: tuple[str, ...], field: str, part: str) -> None:
    errors = {violation.field: violation.description for violation in findings(*steps).errors}
    assert part in errors[field]


def test_a_step_before_the_pivot_needs_no_compensation_when_it_says_why() -> None:
    lone = "compensation: none, reason: it lapses"
    assert findings(call("a", lone, undo=None), "name: w, delay: 1s", PIVOT) == Findings((), ())
    child = "name: c, saga: {definition: other}"
    assert findings(child, PIVOT).errors == ()
    assert "say in `reason`" in told(findings(child + ", compensation: none", PIVOT).errors)


def reads(expression: str, *more: str) -> str:
    return call("b", *more).replace("t.S/Do}", f"t.S/Do, request: {{x: {expression}}}}}")


@pytest.mark.parametrize(
    ("expression", "refused"),
    [
        ("results.a.x", True),
        ("\"results.a.x || 'none'\"", False),
        ('"results.a.x || results.a.y"', True),
        ('"not_null(results.a.x, input.x)"', False),
        ('"results.a.lines[0].sku"', True),
        ('"results.a.lines[].sku | [0]"', True),
        ('"length(results.a.lines) || `0`"', True),
        ("\"results.a.x == 'y'\"", False),
        ("\"results.a.x == 'y' && results.a.z\"", True),
        ('"{x: results.a.x}"', False),
        ('"to_string(results.a.x)"', True),
        ("\"to_string(results.a.x || '')\"", False),
        ("input.x", False),
    ],
)
def test_what_a_skipped_step_would_have_given_may_be_read_only_with_something_else_at_hand(
    expression: str, refused: bool
) -> None:
    found = findings(call("a", "when: input.wanted"), reads(expression))
    assert [violation.field for violation in found.errors] == (["steps[1].action.request.x"] if refused else [])
    assert findings(call("a"), reads(expression)).errors == ()


def test_a_step_of_the_same_condition_may_read_the_result() -> None:
    skipped = call("a", "when: input.wanted")
    assert findings(skipped, reads("results.a.x", "when: input.wanted")).errors == ()
    assert findings(skipped, reads("results.a.x", "when: input.other")).errors != ()


def test_conditions_and_compensations_and_children_and_dates_are_looked_at_too() -> None:
    skipped = call("a", "when: input.wanted")
    assert findings(skipped, call("b", "when: results.a.x")).errors == ()
    assert "steps[1].when" in told(findings(skipped, call("b", 'when: "length(results.a.x) > `0`"')).errors)
    own = call("a", "when: input.wanted", undo="compensation: {method: t.S/U, request: {x: results.a.x, y: input.y}}")
    assert findings(own).errors == ()
    undo = "compensation: {method: t.S/U, request: {x: results.a.x, y: input.y}}"
    assert "steps[1].compensation.request.x" in told(findings(skipped, call("b", undo=undo)).errors)
    assert "steps[1].delay.until" in told(findings(skipped, "name: w, delay: {until: results.a.x}").errors)
    child = "name: c, saga: {definition: d, input: {x: results.a.x}}"
    assert "steps[1].saga.input.x" in told(findings(skipped, child).errors)


@pytest.mark.parametrize(
    ("request_", "refused"),
    [
        ("{x: results.a.x, why: \"'saga'\"}", True),
        ("{x: results.a.x, y: {z: 'results.a.lines[0].n'}}", True),
        ("{x: \"results.a.x || ''\"}", False),
        ("{x: results.a.x, y: input.y}", False),
        ("{x: results.a.x, y: saga.id}", False),
        ("{why: \"'saga'\"}", False),
        ("{}", False),
    ],
)
def test_a_compensation_that_would_be_empty_after_an_unknown_outcome_is_refused(request_: str, refused: bool) -> None:
    found = findings(call("a", undo=f"compensation: {{method: t.S/U, request: {request_}}}"))
    assert [violation.field for violation in found.errors] == ["steps[0].compensation.request"] * refused
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("steps", "top", "field"),
    [
        ((call("a", "within: 2m"),), "within: 1m", "steps[0].within"),
        ((call("a", "timeout: 2m"),), "within: 1m", "steps[0].timeout"),
        ((call("a", "timeout: 2m, within: 1m"),), "", "steps[0].timeout"),
        ((call("a", "answer: later, heartbeat: 2m, within: 1m"),), "", "steps[0].heartbeat"),
        (("name: w, delay: 2m, within: 1m",), "", "steps[0].delay"),
        (("name: w, delay: 40s", call("a"), "name: v, delay: 30s"), "within: 1m", "steps[2].delay"),
        ((call("a", undo="compensation: {method: t.S/U, within: 1s}"),), "", "steps[0].compensation.within"),
    ],
)
def test_times_that_cannot_fit_are_refused(steps: tuple[str, ...], top: str, field: str) -> None:
    assert [violation.field for violation in findings(*steps, top=top).errors] == [field]


def test_times_that_may_fit_are_accepted() -> None:
    side_by_side = ("name: w, delay: 40s, after: []", "name: v, delay: 40s, after: []")
    assert findings(*side_by_side, top="within: 1m").errors == ()
    assert findings(PIVOT, "name: w, delay: 2h", top="within: 30m").errors == ()
    assert findings("name: w, delay: 2m, when: input.x", top="within: 1m").errors == ()


@pytest.mark.parametrize(
    ("steps", "top", "field", "part"),
    [
        ((call("a", "barrier: none"),), "", "steps[0].retry", "keeps no barrier"),
        ((call("a", "retry: {retries: 0}"),), "", "steps[0].retry", "single lost answer"),
        ((call("a", "retry: {final: [UNAVAILABLE, ABORTED]}"),), "", "steps[0].retry.final", "UNAVAILABLE does not"),
        ((call("a", "compensation: none", undo=None),), "", "steps[0].compensation", "without a `reason`"),
        ((call("a", "answer: later"),), "", "steps[0].answer", "wait for ever"),
        (("name: a, approval: {question: q}",), "", "steps[0].approval", "wait for ever"),
        (("name: a, approval: {}, within: 1h",), "", "steps[0].approval", "no `question`"),
        ((PIVOT, call("b", "retry: {retries: 2}", undo=None)), "", "steps[1].retry", "gives up after 3s"),
        ((PIVOT.replace("pivot", "when: input.x, pivot"),), "", "steps[0].when", "skip the pivot"),
        ((call("a", "when: '!input.rush'"),), "", "steps[0].when", "write `!(a.b)`"),
        ((call("a", "when: 'input.x && !input.y[0]'"),), "", "steps[0].when", "means `(!a).b`"),
        ((PIVOT, "name: c, saga: {definition: d}"), "", "steps[1].saga", "parked"),
        ((call("a"), call("b"), call("c")), "within: 1m", "steps[2].retry", "later than its deadline: 1m"),
        ((call("a"),), "secrets: [input.card]", "secrets[0]", "without `input.`"),
        (
            (call("a", undo="compensation: {method: t.S/U, request: {x: input.x}, retry: {retries: 2}}"),),
            "",
            "steps[0].compensation.retry",
            "gives up after 3s",
        ),
        ((call("a", "pivot: true"),), "", "steps[0].compensation", "never made"),
        ((call("a", "retry: {within: 30d}"),), "", "steps[0].retry", "86,400 attempts"),
        ((call("a", undo=UNDO[:-1] + ", retry: {retries: 10000}}"),), "", "steps[0].compensation.retry", "10,000 att"),
        (("name: w, delay: {until: input.at}, within: 1h",), "", "steps[0].within", "bounds nothing"),
    ],
)
def test_risks_are_told(steps: tuple[str, ...], top: str, field: str, part: str) -> None:
    found = findings(*steps, top=top)
    assert found.errors == ()
    warnings = {violation.field: violation.description for violation in found.warnings}
    assert part in warnings[field]
    assert len(warnings) == 1


def test_a_long_patience_with_long_delays_is_no_risk() -> None:
    assert findings(call("a", "retry: {within: 30d, max: 10m}")) == Findings((), ())


def test_findings_have_lines_and_steps() -> None:
    text = "name: x\nsteps:\n  - name: a\n    service: h:1\n    action: {method: a.B/C}\n    compensation: none\n"
    (warning,) = locate(text, lint(parse(text)).warnings)
    assert (warning.line, warning.step) == (6, "a")
