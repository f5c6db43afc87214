"""What a look at one thing has found, how bad it is, and what to do about it.

Pure: values only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"  # It works, and will not always.
    FAILED = "failed"  # It does not work, or is not safe.


class Area(StrEnum):
    """What a finding is about, in the order in which findings are shown."""

    VERSIONS = "versions"
    SETTINGS = "settings"
    POSTGRES = "postgres"
    ETCD = "etcd"
    REPLICAS = "replicas"
    PARTICIPANTS = "participants"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; `advice` says what to do, and is empty where nothing is to be done."""

    area: Area
    severity: Severity
    text: str
    advice: str = ""

    def json(self) -> dict[str, str]:
        """For programs."""
        return {name: str(value) for name, value in asdict(self).items()}


def ok(area: Area, text: str) -> Finding:
    """Nothing to do."""
    return Finding(area, Severity.OK, text)


def warning(area: Area, text: str, advice: str) -> Finding:
    """It works, and will not always."""
    return Finding(area, Severity.WARNING, text, advice)


def failed(area: Area, text: str, advice: str) -> Finding:
    """It does not work, or is not safe."""
    return Finding(area, Severity.FAILED, text, advice)
