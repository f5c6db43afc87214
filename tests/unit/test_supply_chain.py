"""The audit of dependencies: what is not known is not taken for sound, and what is known is not passed over."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

_PATH = Path(__file__).parents[2] / "scripts" / "supply_chain.py"


@pytest.fixture(scope="module")
def supply_chain() -> Any:
    spec = importlib.util.spec_from_file_location("supply_chain", _PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SOUND = {"name": "a", "version": "1", "vulns": []}
HOLED = {
    "name": "b",
    "version": "2",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"]}],
}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "accepted", "verdict"),
    [
        ([SOUND, SOUND], {}, "PASSED: no advisory for 2 of 2 packages"),
        ([SOUND, UNKNOWN], {}, "PASSED: no advisory for 1 of 2 packages; nothing is known about 1 others"),
        ([UNKNOWN, UNKNOWN], {}, "SKIPPED: no service of advisories answered, so nothing is known"),
        ([], {}, "SKIPPED: no service of advisories answered, so nothing is known"),
        ([SOUND, HOLED], {}, "FAILED: 1 advisories"),
        ([SOUND, HOLED], {"CVE-1": "never called"}, "PASSED: no advisory for 2 of 2 packages"),
        ([SOUND, HOLED], {"CVE-2": "another"}, "FAILED: 1 advisories"),
    ],
)
def test_the_verdict(supply_chain: Any, packages: list[Any], accepted: dict[str, str], verdict: str) -> None:
    assert supply_chain.audit_of({"dependencies": packages}, accepted).verdict == verdict


def test_a_hole_is_named_with_the_version_that_mends_it(supply_chain: Any) -> None:
    found = supply_chain.audit_of({"dependencies": [HOLED]}, {})
    assert found.holes == ("b 2: PYSEC-1, mended in 2.1",)
