"""Looks at the files for TLS and for callers: whether they can be used, and when the certificate ends."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from orchestrator.config import Settings
from orchestrator.doctor.finding import Area, Finding, failed, ok, warning
from orchestrator.security.assemble import Security
from orchestrator.security.files import BadFile

S = Area.SETTINGS

_SOON_S = 7 * 86_400.0


def open_files(settings: Settings) -> tuple[Security | None, list[Finding]]:
    """The security that a replica with these settings would have, None if it would refuse to start; and findings."""
    try:
        security = Security(settings)
    except BadFile as error:
        advice = "a replica with these settings refuses to start: mend the file, or the setting that names it"
        return None, [failed(S, str(error), advice)]
    return security, judge_end(security.doors.expires_at_s(), time.time())


def judge_end(ends_s: float, now_s: float) -> list[Finding]:
    """Whether the replica's certificate, or its authority's, has ended or will soon; 0: there is none. Pure."""
    if not ends_s:
        return []
    left_s = ends_s - now_s
    at = datetime.fromtimestamp(ends_s, UTC).isoformat(sep=" ", timespec="minutes")
    advice = "put a new certificate into the files that BATON_TLS_* name; replicas read it within a second"
    if left_s <= 0:
        return [failed(S, f"the certificate, or its authority's, has ended at {at}", advice)]
    if left_s < _SOON_S:
        return [warning(S, f"the certificate, or its authority's, ends at {at}, in {left_s / 86_400:.1f} days", advice)]
    return [ok(S, f"the certificate is good until {at}")]
