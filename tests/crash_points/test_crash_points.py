"""A saga survives a crash at every effect of every flow, and a second one at every effect of the run that follows."""

from __future__ import annotations

import os

import pytest

from orchestrator.saga.events import Status
from orchestrator.saga.signals import Verb

from .explore import Explorer, meanwhile
from .flows import DEFINITIONS, FLOWS, LANGUAGE, SINGLE_FAULTS_IN_SUITE, flow, names
from .judging import demands
from .report import Explored, explore_all, staged
from .world import DatedLog, new_world

# What no flow here comes to; whoever adds a status shows it in a flow, or names it here.
SHOWN_ELSEWHERE: frozenset[Status] = frozenset()


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
    if name not in SINGLE_FAULTS_IN_SUITE and any(case.pairs for case in flow(name).cases(flow(name))):
        assert tally.pairs > tally.effects
    if name not in LANGUAGE:
        assert tally.pairs > tally.singles or name in SINGLE_FAULTS_IN_SUITE


@pytest.mark.parametrize("name", names())
def test_every_case_comes_about(name: str) -> None:
    """Without any crash a case ends in one way only, and the cases of a flow show all the ways."""
    ends: dict[str, set[str]] = {}
    with staged() as stage:
        for case in flow(name).cases(flow(name)):
            run = stage.perform(new_world(flow(name), DatedLog(stage.clock)), case, meanwhile(case))
            assert run.broken is None, case.name
            assert run.world.row.state in case.ends, case.name
            assert list(demands(run.world)) == [], case.name
            ends.setdefault(run.world.row.state, set()).add(case.name)
    assert {"COMPLETED", "COMPENSATED"} <= ends.keys() or flow(name).cancelled_when is not None


def test_a_move_that_is_ordered_before_the_last_write_is_made() -> None:
    subject = flow("moved")
    versions = {}
    with staged() as stage:
        for case in subject.cases(subject):
            run = stage.perform(new_world(subject, DatedLog(stage.clock)), case, meanwhile(case))
            versions[case.name] = run.world.row.version
    assert [versions[f"moved before effect {effect}"] for effect in range(6)] == [2, 2, 2, 2, 2, 1]


def test_every_transition_and_every_word_to_a_saga_is_struck() -> None:
    """What a saga can come to, and what it can be told, comes about in some flow, where a crash strikes it."""
    statuses: set[Status] = set()
    verbs: set[Verb] = set()
    with staged() as stage:
        for subject in LANGUAGE.values():
            for case in subject.cases(subject):
                world = stage.perform(new_world(subject, DatedLog(stage.clock)), case, meanwhile(case)).world
                statuses |= {event.status for row in world.log.rows.values() for event in row.events}
                verbs |= {posted.signal.verb for posted in world.log.posted.values()}
    assert set(Status) - statuses == SHOWN_ELSEWHERE
    assert verbs == set(Verb)


REAL = {
    "order-reserve-pay-ship": ("ship_order refused", 12),
    "parallel": ("pack refused while pay is under way", 12),
    "children": ("the parent fails behind its child", 24),
    "later": ("done later", 9),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("acknowledged", [False, True], ids=["before", "after"])
def test_a_real_crash_leaves_what_the_witness_noted(name: str, acknowledged: bool) -> None:
    subject, (case_name, effects) = flow(name), REAL[name]
    case = next(case for case in subject.cases(subject) if case.name == case_name)
    with staged() as stage:
        golden = stage.perform(new_world(subject, DatedLog(stage.clock)), case)
        assert len(golden.points) == effects
        for number, point in enumerate(golden.points):
            died = stage.die(new_world(subject, DatedLog(stage.clock)), case, number, acknowledged=acknowledged)
            noted = point.after if acknowledged else point.before
            assert died.state() == noted.state()
            assert died.shop == noted.shop
            assert died.log.rows == noted.log.rows


@pytest.mark.parametrize(("name", "cases"), [("return", 4), ("later", 1), ("retries", 1), ("children", 1)])
def test_worlds_in_the_same_state_have_the_same_future(name: str, cases: int) -> None:
    """What makes the pairs affordable: exploring a case with and without it finds the same."""
    subject = flow(name)
    for case in list(subject.cases(subject))[:cases]:
        with staged() as stage:
            tallies = [
                Explorer(stage, case, exact=exact).explore(new_world(subject, DatedLog(stage.clock)))
                for exact in (False, True)
            ]
        assert not tallies[0].violations
        assert not tallies[1].violations
        assert tallies[0].pairs == tallies[1].pairs
        assert tallies[0].runs < tallies[1].runs
