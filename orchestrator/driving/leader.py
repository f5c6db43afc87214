"""Leads a shard: raises the epoch by a victory in the election, and serves a term under it."""

from __future__ import annotations

import structlog

from orchestrator.driving.term import Mandate, Means, Term
from orchestrator.errors import Fenced, LogUnavailable, Resign
from orchestrator.saga.model import Epoch, SagaId
from orchestrator.saga.pausing import PauseKind
from orchestrator.sagalog.port import SagaLog, TermLog

log = structlog.get_logger()


class Leader:
    """Leads one shard, one term after the other."""

    def __init__(self, saga_log: SagaLog, means: Means) -> None:
        self._saga_log = saga_log
        self._means = means
        self._term: Term | None = None

    @property
    def epoch(self) -> Epoch | None:
        """The epoch of the present term, if this replica leads."""
        return None if self._term is None else self._term.epoch

    @property
    def cancelling(self) -> set[SagaId]:
        """The sagas being driven whose cancellation this leader has heard of."""
        return set() if self._term is None else self._term.cancelling

    def vouched(self) -> bool:
        """Whether this replica leads for certain at this moment."""
        return self._term is not None and self._term.vouched()

    def wake(self) -> None:
        """Look for new sagas and cancellations at once, if this replica leads."""
        if self._term is not None:
            self._term.wake()

    async def lead(self, mandate: Mandate) -> None:
        """Serve one term; returns never by itself.

        Raises Fenced when a later epoch has taken over, Resign when this replica cannot lead, and whatever defect
        has ended the term.
        """
        term_log = await self._raise_epoch(mandate)
        log.info("term_began", shard=self._means.settings.shard, epoch=term_log.epoch, cause=mandate.claim.cause)
        self._means.metrics.epoch.set(term_log.epoch)
        self._term = Term(self._means, term_log, mandate)
        try:
            await self._term.serve()
        except ExceptionGroup as group:
            raise _cause(group) from None
        finally:
            self._term = None
            self._means.metrics.sagas_in_flight.set(0)
            self._means.metrics.oldest_intent.set(0)
            for kind in PauseKind:
                self._means.metrics.pauses.labels(kind.value).set(0)
            await term_log.close()

    async def _raise_epoch(self, mandate: Mandate) -> TermLog:
        """Raise, then scan; never the reverse (R2)."""
        try:
            term_log = await self._saga_log.raise_epoch(mandate.claim)
            if term_log is not None:
                return term_log
            # Postgres has seen a later revision of this etcd: either the victory is old, or etcd was restored.
            if not await mandate.confirm():
                raise Fenced("the victory was overtaken before the epoch was raised")
            log.warning(
                "etcd_history_restored", revision=mandate.claim.revision, reaction="raising the epoch by itself"
            )
            return await self._saga_log.raise_epoch_again(mandate.claim)
        except LogUnavailable as error:
            raise Resign(f"cannot raise the epoch: {error}", cooldown_s=1.0) from error


def _cause(group: ExceptionGroup[Exception]) -> Exception:
    """What ended the term: being overtaken before giving up, and either before any defect."""
    for reaction in (Fenced, Resign):
        found = group.subgroup(reaction)
        if found is not None:
            return _leaf(found)
    return group


def _leaf(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
