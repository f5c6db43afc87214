"""What can go wrong between a replica and etcd, named by the reaction that it asks for."""

from __future__ import annotations

from orchestrator.errors import BatonError, Retryable


class CoordinatorError(BatonError):
    """The base of everything that etcd, or its absence, can do to a caller."""


class CoordinatorAway(CoordinatorError, Retryable):
    """etcd did not answer, or has no quorum; what was asked did not happen or changes nothing. Ask again later."""


class OutcomeUnknown(CoordinatorError):
    """A transaction was sent to etcd and its answer was lost: it may have happened, or may yet. Find out before you
    repeat it."""


class HistoryGone(CoordinatorError):
    """The revision to watch from is compacted, or etcd's history was replaced. Read the keys again, then watch."""


class LeaseGone(CoordinatorError):
    """etcd says that the lease does not exist: it has expired or was revoked, and its keys went with it."""


class CoordinatorRefused(CoordinatorError):
    """etcd answers and refuses: a wrong password, a missing permission, a malformed request. A person must act."""
