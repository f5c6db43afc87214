"""Faults of links, as drills make them, each once: that they strike, and that every invariant holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.client import Client
from orchestrator.drill.catalogue import named
from orchestrator.drill.runner import run_fault
from orchestrator.drill.stages import StageOptions

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        # Three answers to writes of one leader were lost with their connections; it led on.
        ("commit-unheard", 0, "3 answers swallowed"),
        # Its beats did not come, and nothing could be asked: nobody was accused.
        ("standbys-unplugged", 0, "0 answers swallowed"),
        ("etcd-cut", 1, ""),
    ],
)
async def test_a_fault_of_a_link(tmp_path: Path, name: str, changes: int, said: str) -> None:
    told: list[str] = []
    options = StageOptions(
        tmp_path, lambda endpoints, _: Client(endpoints, spread=True, deadline_s=60), told.append, rate=20
    )
    (fault,) = named([name])
    result = await run_fault(fault, options, repetitions=1)
    assert result.error is None
    assert [finding for finding in result.findings if not finding.holds] == []
    assert result.failed_starts == ()
    assert result.changes == changes
    assert said in "\n".join(told)
