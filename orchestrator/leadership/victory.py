"""What a campaign hands out: a victory to lead by, why a term ended, and what is worth counting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.leadership.board import Holder
from orchestrator.leadership.lease import LeaseState
from orchestrator.leadership.port import Coordinator, Equal, Field, Get, LeaseId, Renewal, Txn
from orchestrator.leadership.pulse import Clock
from orchestrator.leadership.verdict import Verdict
from orchestrator.sagalog.port import Claim


class Cause(StrEnum):
    """Why leadership changed."""

    VACANT = "vacant"  # nobody led when this replica looked: the first start, or a gap it did not see begin
    HANDED_OVER = "handed_over"  # the former leader deleted its key
    EXPIRED = "expired"  # the former leader's lease ran out
    GONE = "gone"  # the former leader's process had ended: taken over
    FROZEN = "frozen"  # the former leader's process did not run: taken over


class Ending(StrEnum):
    """Why a term of this replica ended."""

    FENCED = "fenced"  # a later epoch holds the fence
    RESIGNED = "resigned"  # the leader gave up by itself
    RETURNED = "returned"  # there was nothing left to lead
    DEFECT = "defect"  # an error that nobody foresaw
    STEPPED_DOWN = "stepped_down"  # a person asked for it
    CLOSED = "closed"  # the replica shuts down
    LEASE_LOST = "lease_lost"  # etcd says that the lease is gone
    KEY_LOST = "key_lost"  # the key was deleted, or another replica holds it


@dataclass(frozen=True, slots=True)
class Victory:
    """A campaign won: the right to raise the epoch. Times are readings of CLOCK_BOOTTIME in seconds."""

    claim: Claim
    # The last sign of life of the former leader that this replica saw; None if it saw none.
    leader_lost_at_s: float | None
    key: str
    lease: LeaseId
    coordinator: Coordinator
    renewal: Renewal
    clock: Clock

    @property
    def revision(self) -> int:
        """The revision of etcd at which the key was won."""
        return self.claim.revision

    @property
    def cause(self) -> Cause:
        """Why leadership changed."""
        return Cause(self.claim.cause)

    def vouched(self) -> bool:
        """Whether the lease under which the key was won is held for certain at this moment."""
        lease = self.renewal.lease()
        return lease is not None and lease.id == self.lease and lease.state(self.clock()) is LeaseState.HELD

    async def confirm(self) -> bool:
        """Whether the key is still ours, unchanged, by a linearizable read. Raises CoordinatorAway."""
        unchanged = Equal(self.key, Field.MOD_REVISION, self.revision)
        result = await self.coordinator.txn(Txn((unchanged,), (Get(self.key),)))
        return result.succeeded


# Serves one term; cancelled when leadership is lost. May raise Fenced or Resign.
Lead = Callable[[Victory], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class View:
    """What a replica knows of its cluster's leadership. `lease_left_s` is that of its own lease."""

    holder: Holder | None
    leading: bool
    lease_left_s: float
    trouble: str | None


def _nothing(_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Hooks:
    """What to call when something worth counting happens; each must return at once. The lease left is in the view."""

    term_began: Callable[[Cause], None] = _nothing
    term_ended: Callable[[Ending], None] = _nothing
    accused: Callable[[Verdict], None] = _nothing
