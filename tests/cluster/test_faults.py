"""The catalogue's faults on clusters of real processes, by the drill's own runner, each audited for every invariant.

`baton drill` makes all of them, as often as it takes to judge how long they cost. Here a fault is made a few times: the
bounds of a pause or a gap may meet a machine that is busy with something else, so that the median counts, and only
where a case says so. Whether a leader that is silent for almost too long is accused is such a bound as well.
Whatever else speaks against the cluster counts in full.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from orchestrator.cli.client import Client
from orchestrator.drill.catalogue import named
from orchestrator.drill.result import FaultResult
from orchestrator.drill.runner import run_fault
from orchestrator.drill.stages import StageOptions

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, how often it is made, and what is expected beyond what the catalogue says.

    `timed` holds the median against the bound, `changes` is how often leadership must have changed, no less, and `said`
    is what the strike must have told: that it has struck. With `mostly` fewer than half of the strikes may have changed
    it, each once, which the catalogue does not allow.
    """

    name: str
    repetitions: int = 1
    timed: bool = False
    changes: int | None = None
    said: str = ""
    mostly: bool = False
    seed: int = 0

    def __str__(self) -> str:
        return self.name


CASES = (
    Case("sigterm-leader", 5, timed=True, changes=5),
    Case("kill-leader", 5, timed=True, changes=5),
    Case("crash-under-load", 4),
    Case("kill-leader-twice", changes=2),
    Case("kill-all-start-one", changes=1),
    Case("freeze-leader", timed=True, changes=1),
    Case("stop-inside-transaction"),
    Case("three-generations", changes=2),
    Case("etcd-cut", changes=1),
    # Its beats did not come, and nothing could be asked: nobody was accused.
    Case("standbys-unplugged", changes=0, said="0 answers swallowed"),
    Case("kill-etcd-leader", changes=0),
    Case("freeze-etcd-follower", 2, changes=0),
    Case("freeze-etcd-leader", 2),
    Case("kill-both-leaders", changes=1),
    Case("etcd-restored"),
    Case("etcd-wiped"),
    Case("restart-postgres-fast", changes=0),
    Case("restart-postgres-immediate", changes=0),
    Case("restart-postgres-during-scan"),
    # Three answers to writes of one leader were lost with their connections; it led on.
    Case("commit-unheard", changes=0, said="3 answers swallowed"),
    Case("outcome-unknown", 4, changes=0),
    Case("postgres-fails-over"),
    Case("postgres-primary-read-only"),
    # A standby accuses after 0.5 to 0.6 s of silence and 0.15 s for a greeting: as little as 0.05 s are left for a
    # leader that runs again to be given a processor.
    Case("gil-held-half-a-second", 3, mostly=True),
    Case("participant-crashes-after-commit", 2, changes=0),
)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_the_fault_breaks_no_promise(case: Case, tmp_path: Path) -> None:
    (fault,) = named([case.name])
    told: list[str] = []
    options = StageOptions(
        tmp_path,
        lambda endpoints, tell: Client(endpoints, spread=True, deadline_s=60, on_retry=tell),
        told.append,
        seed=case.seed,
    )
    changes_max = 1 if case.mostly else fault.changes_max
    result = await run_fault(replace(fault, bound_s=None, changes_max=changes_max), options, case.repetitions)
    assert result.complaints() == []
    assert {finding.invariant for finding in result.findings} >= {"I1", "I2", "I3", "I4", "I5", "I6", "I9", "balances"}
    assert result.changes <= result.changes_max
    assert case.changes in (None, result.changes)
    assert case.said in "\n".join(told)
    if case.mostly:
        assert 2 * result.changes < case.repetitions, result.timeline
    if case.timed:
        assert_median_within(result, fault.bound_s)


def assert_median_within(result: FaultResult, bound_s: float | None) -> None:
    assert bound_s is not None
    assert len(result.measured) == result.repetitions
    assert statistics.median(result.measured) <= bound_s, result.measured
