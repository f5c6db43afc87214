"""The report of a drill: figures, verdicts, the page and its timeline, from made-up results."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.audit.finding import Finding, Offence
from orchestrator.drill.arena import Arena
from orchestrator.drill.catalogue import FAULTS, named
from orchestrator.drill.fault import REPETITIONS, Fault, Measure
from orchestrator.drill.figures import COLUMNS, numbers, row, seconds
from orchestrator.drill.page import page
from orchestrator.drill.report import catalogue_in_markdown
from orchestrator.drill.result import FaultResult, Mark, Term, Timeline, quantile
from orchestrator.drill.timeline import drawing, nice_step
from orchestrator.errors import InvariantError, Rejected


async def _nothing(arena: Arena) -> None:
    """Strikes nowhere."""


FAULT = Fault(2, "kill-leader", "the leader is killed", _nothing, bound_s=0.1)
HOLDS = Finding("I2", "at most one effect for each key", "9 effects")
BROKEN = Finding("I2", "at most one effect for each key", "9 effects", (Offence("s<1>", "charged twice"),))
TERMS = (Term(1, "replica-1", "started", -3.0), Term(2, "replica-2", "lost <&>", 5.03))


def result(
    *gaps_s: float | None, fault: Fault = FAULT, finding: Finding = HOLDS, failed: tuple[str, ...] = ()
) -> FaultResult:
    marks = [Mark(5.0 + number, 5.5 + number, gap_s) for number, gap_s in enumerate(gaps_s)]
    ended = {"COMPLETED": [3] * 80, "COMPENSATED": [1] * 80}
    timeline = Timeline(20.0, marks, TERMS, ended)
    states = {"COMPLETED": 240, "COMPENSATED": 80, "FAILED": 1}
    return FaultResult(fault, None, None, len(gaps_s), states, failed, len(gaps_s), (finding,), timeline)


def cell(of: FaultResult, column: str) -> str:
    return row(of).cells[COLUMNS.index(column)]


def test_a_row_tells_the_quantiles_the_bound_and_how_sagas_ended() -> None:
    of = result(0.03, 0.04, 0.08)
    told = [cell(of, name) for name in ("p50", "p99", "max", "bound", "started", "completed", "compensated", "parked")]
    assert told == ["40 ms", "80 ms", "80 ms", "100 ms", "321", "240", "80", "1"]
    assert row(of).verdict == "holds"


def test_a_gap_beyond_the_bound_is_a_violation_of_i7() -> None:
    of = result(0.03, 0.2)
    assert not of.passed
    assert cell(of, "invariants") == "I7 broken"
    assert any(complaint.startswith("I7") for complaint in of.complaints())


def test_a_gap_that_never_ended_is_a_violation_and_null_in_the_numbers() -> None:
    of = result(0.03, None)
    assert not of.passed
    assert cell(of, "max") == "never"
    assert json.loads(json.dumps(numbers([of]), allow_nan=False))["faults"][0]["measured_s"] == [0.03, None]


def test_the_outage_that_a_fault_is_does_not_count() -> None:
    fault = Fault(17, "restart", "Postgres away", _nothing, measure=Measure.PAUSE, bound_s=0.5)
    timeline = Timeline(20.0, [Mark(1.0, 3.0, 2.3, outage_s=2.0)], TERMS, {})
    of = FaultResult(fault, repetitions=1, timeline=timeline)
    assert of.measured == pytest.approx([0.3])
    assert of.within_bound


def test_what_is_not_measured_is_no_endless_gap() -> None:
    of = result(None, fault=Fault(23, "crash", "a participant crashes", _nothing, measure=Measure.NONE))
    assert of.passed
    assert cell(of, "max") == ""
    assert numbers([of])["faults"][0]["measured_s"] == []


def test_a_broken_invariant_and_a_failed_start_each_fail_the_drill() -> None:
    for bad in (result(0.03, finding=BROKEN), result(0.03, failed=("r1: nobody answered",))):
        assert row(bad).verdict == "VIOLATED"
        assert not numbers([result(0.03), bad])["passed"]
    assert numbers([result(0.03)])["passed"]


def test_a_skipped_fault_says_why_and_fails_nothing() -> None:
    of = FaultResult(FAULT, skipped="no namespaces here")
    assert row(of).verdict == "skipped: no namespaces here"
    assert len(row(of).cells) == len(COLUMNS) - 1
    assert numbers([of])["passed"]


def test_the_page_is_whole_and_escapes_what_it_quotes() -> None:
    written = page([result(0.03, finding=BROKEN), FaultResult(FAULT, skipped="<no>")], "Drill", "today")
    assert "s&lt;1&gt;" in written
    assert "&lt;no&gt;" in written
    assert not re.search(r'(src|href)="(?!#)', written)
    assert "$" not in written


def test_the_drawing_has_a_band_for_each_epoch_and_a_mark_and_a_shade_for_each_strike() -> None:
    drawn = ElementTree.fromstring(drawing(result(0.03, 0.7).timeline or pytest.fail("no timeline")))
    classes = [element.get("class", "") for element in drawn.iter()]
    assert sum(name.startswith("band") for name in classes) == len(TERMS)
    assert classes.count("mark") == classes.count("gap") == 2
    assert classes.count("completed") == classes.count("compensated") == 1


@given(
    st.floats(0, 5000, allow_nan=False),
    st.lists(st.tuples(st.floats(0, 5000), st.none() | st.floats(0, 100)), max_size=5),
    st.dictionaries(st.sampled_from(["COMPLETED", "FAILED"]), st.lists(st.integers(0, 999), min_size=9, max_size=9)),
)
def test_whatever_happened_can_be_drawn_within_the_picture(
    duration_s: float, strikes: list[tuple[float, float | None]], ended: dict[str, list[int]]
) -> None:
    marks = [Mark(at_s, at_s + 1, gap_s) for at_s, gap_s in strikes]
    drawn = ElementTree.fromstring(drawing(Timeline(duration_s, marks, TERMS, ended)))
    for rect in drawn.iter("rect"):
        assert float(rect.get("x", "nan")) >= 0
        assert float(rect.get("width", "nan")) >= 0
        assert float(rect.get("x", "nan")) + float(rect.get("width", "nan")) <= 1002


@given(st.floats(1e-6, 1e6), st.integers(1, 12))
def test_a_nice_step_reaches_the_largest_value_in_time(largest: float, steps: int) -> None:
    assert nice_step(largest, steps) * steps >= largest * (1 - 1e-9)


def test_durations_are_told_as_people_read_them() -> None:
    assert [seconds(value) for value in (0.0349, 1.5, math.inf)] == ["35 ms", "1.50 s", "never"]


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_the_smallest_value_that_so_many_do_not_exceed(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_fewer_repetitions_want_a_reason() -> None:
    with pytest.raises(InvariantError, match="need a reason"):
        Fault(2, "seldom", "says", _nothing, repetitions=REPETITIONS - 1)


def test_the_catalogue_names_each_fault_once_and_in_order() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)
    assert [fault.number for fault in FAULTS] == sorted(fault.number for fault in FAULTS)


def test_the_catalogue_has_all_26_faults() -> None:
    assert {fault.number for fault in FAULTS} == set(range(1, 27))


def test_each_fault_is_made_twenty_times_over_its_variants_unless_it_says_why_not() -> None:
    for number in {fault.number for fault in FAULTS}:
        variants = [fault for fault in FAULTS if fault.number == number]
        if sum(fault.repetitions for fault in variants) < REPETITIONS:
            assert all(fault.reason and "variants" not in fault.reason for fault in variants)


def test_the_catalogue_of_the_docs_is_the_catalogue() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "drill.md").read_text().splitlines()
    table = catalogue_in_markdown(FAULTS)
    begins = lines.index(table[0])
    told = lines[begins : lines.index("", begins)]
    assert told == table, "docs/drill.md wants what `baton drill --list --markdown` prints"


def test_faults_are_found_by_name_and_by_number() -> None:
    assert [fault.name for fault in named(["kill-leader"])] == ["kill-leader"]
    assert {fault.number for fault in named(["13"])} == {13}
    with pytest.raises(Rejected, match="no fault nonsense"):
        named(["nonsense"])
