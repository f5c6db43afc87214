"""Postgres fails over and etcd goes back in time under load, once each; `baton drill` does so as often as you like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cli.demo import connect
from orchestrator.drill.catalogue import named
from orchestrator.drill.runner import run_fault
from orchestrator.drill.stages import StageOptions

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("name", ["postgres-fails-over", "postgres-primary-read-only", "etcd-restored", "etcd-wiped"])
async def test_the_fault_breaks_no_promise(name: str, tmp_path: Path) -> None:
    (fault,) = named([name])
    # How long it takes is judged by the drill, on a machine that does nothing else.
    fault = replace(fault, bound_s=None)
    result = await run_fault(fault, StageOptions(tmp_path, connect, print), repetitions=1)
    assert result.complaints() == []
    assert result.changes <= result.changes_max
