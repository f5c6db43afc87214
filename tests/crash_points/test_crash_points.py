"""A saga survives a crash at every effect of every flow, and a second one at every effect of the run that follows."""

from __future__ import annotations

import os

import pytest

from .cases import Case, Rule, Turn, cases
from .explore import Explorer, meanwhile
from .flows import DEFINITIONS, FLOWS, SINGLE_FAULTS_IN_SUITE, flow, names
from .report import Explored, explore_all, staged
from .world import DatedLog, new_world


@pytest.fixture(scope="module")
def explored() -> dict[str, Explored]:
    processes = os.cpu_count() or 1
    return {one.name: one for one in explore_all(names(), processes, singles_alone=SINGLE_FAULTS_IN_SUITE)}


def test_every_definition_that_is_deployed_is_a_flow() -> None:
    assert {path.stem for path in DEFINITIONS.glob("*.yaml")} == set(FLOWS)


@pytest.mark.parametrize("name", names())
def test_every_crash_and_every_pair_of_crashes_ends_well(name: str, explored: dict[str, Explored]) -> None:
    tally = explored[name].tally
    assert not tally.violations, f"{len(tally.violations)} violations\n" + "\n".join(tally.violations[:5])
    assert tally.singles == 4 * tally.effects
    assert tally.pairs > tally.singles or name in SINGLE_FAULTS_IN_SUITE


@pytest.mark.parametrize("name", names())
def test_every_case_comes_about(name: str) -> None:
    """Without any crash a case ends in one way only, and the cases of a flow show all the ways."""
    ends: dict[str, set[str]] = {}
    with staged() as stage:
        for case in cases(flow(name).definition, moves=flow(name).next is not None):
            run = stage.perform(new_world(flow(name), DatedLog(stage.clock)), case, meanwhile(case))
            assert run.broken is None
            assert run.world.row.state in case.ends
            ends.setdefault(run.world.row.state, set()).add(case.name)
    assert {"COMPLETED", "COMPENSATED"} <= ends.keys()


@pytest.mark.parametrize("acknowledged", [False, True], ids=["before", "after"])
def test_a_real_crash_leaves_what_the_witness_noted(acknowledged: bool) -> None:
    subject = flow("order-reserve-pay-ship")
    case = Case("ship_order refused", frozenset({"COMPENSATED"}), (Rule(3, Turn.REFUSED),))
    with staged() as stage:
        golden = stage.perform(new_world(subject, DatedLog(stage.clock)), case)
        assert len(golden.points) == 12
        for number, point in enumerate(golden.points):
            died = stage.die(new_world(subject, DatedLog(stage.clock)), case, number, acknowledged=acknowledged)
            noted = point.after if acknowledged else point.before
            assert died.state() == noted.state()
            assert died.shop == noted.shop
            assert died.row == noted.row


def test_worlds_in_the_same_state_have_the_same_future() -> None:
    """What makes the pairs affordable: exploring a case with and without it finds the same."""
    subject = flow("return")
    for case in list(cases(subject.definition))[:4]:
        with staged() as stage:
            tallies = [
                Explorer(stage, case, exact=exact).explore(new_world(subject, DatedLog(stage.clock)))
                for exact in (False, True)
            ]
        assert not tallies[0].violations
        assert not tallies[1].violations
        assert tallies[0].pairs == tallies[1].pairs
        assert tallies[0].runs < tallies[1].runs


def test_a_move_that_is_ordered_before_the_last_write_is_made() -> None:
    subject = flow("moved")
    versions = {}
    with staged() as stage:
        for case in cases(subject.definition, moves=True):
            run = stage.perform(new_world(subject, DatedLog(stage.clock)), case, meanwhile(case))
            versions[case.name] = run.world.row.version
    assert [versions[f"moved before effect {effect}"] for effect in range(6)] == [2, 2, 2, 2, 2, 1]
