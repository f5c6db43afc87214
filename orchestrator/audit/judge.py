"""The audit: do the invariants hold in what the databases say? It stands apart from the code that it checks.

    I1  each saga is all or nothing in the ledgers      I6  every saga is terminal, or parked with a reason
    I2  at most one effect for each key                 I7  the gap without a leader stays within its bound
    I3  nothing takes effect after its tombstone        I8  leadership changes only for a cause
    I4  each effect has an intent committed before      I9  an acknowledged StartSaga is there, and once
    I5  nothing is written under an epoch after the next one was raised
    and the balances: stock and money are what the ledgers and the sagas say.

`judge` is pure; `audit` reads the databases first. The invariants stand in checks.py, the balances in balances.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.audit.balances import balances_agree
from orchestrator.audit.checks import (
    acknowledged_once,
    all_or_nothing,
    changes_have_causes,
    epochs_in_order,
    gaps_bounded,
    intents_first,
    nothing_after_tombstone,
    one_effect_a_key,
    terminal_or_parked,
)
from orchestrator.audit.evidence import Acknowledgement, Circumstances, Evidence, Gap
from orchestrator.audit.finding import Finding
from orchestrator.audit.ledgers import load_evidence


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the audit found, invariant by invariant."""

    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether every invariant holds."""
        return all(finding.holds for finding in self.findings)

    def finding(self, invariant: str) -> Finding:
        """The finding on one invariant, such as I1, or `balances`."""
        return next(finding for finding in self.findings if finding.invariant == invariant)

    def lines(self) -> list[str]:
        """One line for each invariant, and below it what speaks against it."""
        return [line for finding in self.findings for line in finding.lines()]


def audit(
    dsn_log: str,
    dsn_shop: str,
    acknowledged: Sequence[Acknowledgement] = (),
    faults: int = 0,
    gaps: Sequence[Gap] = (),
    since: datetime | None = None,
) -> Verdict:
    """Read the saga log and the participants' ledgers, and judge them. Raises psycopg.Error.

    Run it when no saga is under way any more. `faults` counts what gave leadership a reason to change since `since`.
    """
    return judge(load_evidence(dsn_log, dsn_shop), Circumstances(acknowledged, faults, gaps, since))


def judge(evidence: Evidence, circumstances: Circumstances) -> Verdict:
    """The verdict on what was loaded. Pure."""
    return Verdict(
        (
            all_or_nothing(evidence),
            one_effect_a_key(evidence),
            nothing_after_tombstone(evidence),
            intents_first(evidence),
            epochs_in_order(evidence),
            terminal_or_parked(evidence),
            gaps_bounded(circumstances),
            changes_have_causes(evidence, circumstances),
            acknowledged_once(evidence, circumstances),
            balances_agree(evidence),
        )
    )
