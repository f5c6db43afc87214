"""Prometheus' own programs for the tests: from PATH, or from Debian's package unpacked into .tools/prometheus."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

_UNPACKED = Path(__file__).resolve().parents[1] / ".tools" / "prometheus" / "usr" / "bin"


def program(name: str) -> str:
    """The path of `promtool` or `prometheus`; skips the test where there is none."""
    found = shutil.which(name) or shutil.which(name, path=str(_UNPACKED))
    if found is None:
        pytest.skip(
            f"no {name} here: `apt-get download prometheus && dpkg -x prometheus_*.deb .tools/prometheus` brings one"
        )
    return found
