"""A few faults of exact places, by the drill's own runner: a leader that dies, stops, hangs, and is lied to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cli.client import Client
from orchestrator.drill.crash_faults import FAULTS
from orchestrator.drill.runner import run_fault
from orchestrator.drill.stages import StageOptions

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    ("name", "repetitions"),
    [("crash-under-load", 4), ("stop-inside-transaction", 1), ("outcome-unknown", 4), ("gil-held-half-a-second", 1)],
)
async def test_every_invariant_holds(tmp_path: Path, name: str, repetitions: int) -> None:
    fault = next(fault for fault in FAULTS if fault.name == name)
    options = StageOptions(tmp_path, lambda e, tell: Client(e, spread=True, deadline_s=60, on_retry=tell), print)
    # How long it takes is judged by the drill, on a machine that does nothing else.
    result = await run_fault(replace(fault, bound_s=None), options, repetitions)
    assert result.complaints() == []
    assert result.changes <= result.changes_max
