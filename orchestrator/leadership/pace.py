"""How patient a campaign and its parts are."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.leadership.membership import LeaseTerms
from orchestrator.leadership.readiness import ReadinessPace


@dataclass(frozen=True, slots=True)
class CampaignPace:
    """How patient a campaign is. Times are in seconds."""

    # A transaction that failed is repeated after so long, doubled each time up to the second.
    retry_first_s: float = 0.02
    retry_max_s: float = 1.0
    # The first claims wait for etcd's answer only so long; later ones as long as any request may take.
    claim_hurry_s: float = 0.25
    claims_hurried: int = 10
    # A cancelled term that has not ended after so long loses its key all the same, and stays alone in this process.
    term_end_max_s: float = 2.0
    # Longest wait for etcd on the way out.
    goodbye_max_s: float = 2.0
    # What a defect, or being fenced while the key was still ours, leaves to the others.
    defect_cooldown_s: float = 1.0
    fenced_cooldown_s: float = 0.1
    # A frozen leader may wake: an accusation that old is not acted on any more.
    frozen_fresh_s: float = 0.5
    # Accusations at once, and seconds until one more is allowed. A leader that is gone is proven to be.
    gone_burst: int = 10
    gone_refill_s: float = 1.0
    frozen_burst: int = 3
    frozen_refill_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Paces:
    """The paces of a campaign and of its parts."""

    campaign: CampaignPace = field(default_factory=CampaignPace)
    lease: LeaseTerms = field(default_factory=LeaseTerms)
    readiness: ReadinessPace = field(default_factory=ReadinessPace)
