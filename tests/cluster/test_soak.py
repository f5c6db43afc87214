"""Two minutes of the soak that `baton soak` runs for an hour: faults by chance, under load, with audits."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.demo import connect
from orchestrator.drill.catalogue import FAULTS
from orchestrator.drill.fault import Stage
from orchestrator.drill.soak import WEIGHTS, SoakOptions, SoakResult, run_soak
from orchestrator.drill.soak_page import soak_page
from orchestrator.drill.soak_report import numbers
from orchestrator.drill.stages import StageOptions

MINUTES = 2
FAULTS_MIN = 5


def test_a_soak_draws_from_faults_that_its_stage_can_make() -> None:
    drawn = [fault for fault in FAULTS if fault.name in WEIGHTS]
    assert {fault.name for fault in drawn} == set(WEIGHTS)
    assert all(fault.stage in (Stage.PLAIN, Stage.LINKS) and fault.prepare is None for fault in drawn)


@pytest.mark.timeout(600)
async def test_two_minutes_of_load_and_faults_break_no_invariant(tmp_path: Path) -> None:
    stage = StageOptions(tmp_path, connect, print, rate=20, seed=2)
    result = await run_soak(SoakOptions(stage, MINUTES * 60, fault_every_s=12))
    assert result.error is None
    assert [finding.lines() for audit in result.audits for finding in audit.findings if not finding.holds] == []
    assert result.failed_starts == ()
    assert sum(fault.repetitions for fault in result.faults) >= FAULTS_MIN
    assert sum(result.states.values()) > MINUTES * 60 * 20 * 0.8
    assert result.audits
    assert {sample.name for sample in result.samples} >= {"replica-1", "replica-2", "replica-3", "postgres", "payment"}
    _report(result)


def _report(result: SoakResult) -> None:
    page = soak_page(result, "Soak", "two minutes")
    assert all(fault.fault.name in page for fault in result.faults)
    assert page.count("<svg") == 1 + 5 + 5
    assert numbers(result)["sagas"] == result.states
