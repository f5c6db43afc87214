"""The part of the evidence that is about some sagas alone, where a database holds those of others, too. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from orchestrator.audit.evidence import Evidence


def excerpt(evidence: Evidence, request_prefix: str, acknowledged: Collection[str] = ()) -> Evidence:
    """What concerns the sagas whose request ids begin so, and those of the ids that were acknowledged.

    Epochs and definitions are everybody's. Stock and money are left out where anybody else has sagas: the accounts are
    everybody's too, and others go on.
    """
    sagas = [saga for saga in evidence.sagas if saga.request_id.startswith(request_prefix)]
    ids = {saga.id for saga in sagas} | set(acknowledged)
    alone = len(sagas) == len(evidence.sagas)
    return replace(
        evidence,
        sagas=sagas,
        steps=[row for row in evidence.steps if row.saga_id in ids],
        effects=[effect for effect in evidence.effects if effect.saga_id in ids],
        tombstones=[tombstone for tombstone in evidence.tombstones if tombstone.saga_id in ids],
        stock=evidence.stock if alone else None,
        money=evidence.money if alone else None,
    )
