"""Runs a fault of the catalogue: a cluster of its own under load, the strikes one after another, and the audit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from orchestrator.audit.evidence import Circumstances, Evidence
from orchestrator.audit.gauge import now
from orchestrator.audit.judge import judge
from orchestrator.audit.ledgers import load_evidence
from orchestrator.drill.arena import Arena
from orchestrator.drill.fault import Fault, Measure
from orchestrator.drill.load import Load
from orchestrator.drill.progress import Progress
from orchestrator.drill.result import BUCKET_S, FaultResult, Mark, Term, Timeline
from orchestrator.drill.rounds import Found, rounds, troubles_within
from orchestrator.drill.stages import StageOptions, set_stage
from orchestrator.errors import InvariantError

_GAP_TIMEOUT_S = 60.0
# A pause is looked for until so long after the fault is healed.
_CALM_S = 0.5


async def run_fault(fault: Fault, options: StageOptions, repetitions: int | None = None) -> FaultResult:
    """Make the fault so often (None: as the catalogue says), and judge what came of it. Raises nothing that it met."""
    if (reason := fault.needs()) is not None:
        return FaultResult(fault, skipped=reason)
    result = FaultResult(fault, repetitions=fault.repetitions if repetitions is None else repetitions)
    with troubles_within() as troubles:
        async with set_stage(fault.stage, options) as arena:
            await arena.leader()
            if fault.prepare is not None:
                await fault.prepare(arena)
                await arena.leader()
            result = await rounds(_OwnGround(fault, arena), result)
    return replace(result, error=troubles[0]) if troubles else result


@dataclass(frozen=True, slots=True)
class _OwnGround:
    """A fault of the catalogue in its arena."""

    fault: Fault
    arena: Arena

    @property
    def load(self) -> Load:
        return self.arena.load

    @property
    def progress(self) -> Progress:
        return self.arena.progress

    @property
    def tell(self) -> Callable[[str], None]:
        return self.arena.tell

    async def make(self, began_at: datetime) -> Mark:
        return await make(self.fault, self.arena, began_at)

    async def all_ended(self, timeout_s: float) -> bool:
        return await self.arena.gauge.all_ended(timeout_s)

    async def found(self, marks: Sequence[Mark], began_at: datetime) -> Found:
        cluster = self.arena.cluster
        evidence = await asyncio.to_thread(load_evidence, cluster.baton_dsn, cluster.shop_dsn)
        return Found(
            states=dict(Counter(saga.state for saga in evidence.sagas)),
            changes=sum(row.raised_at >= began_at for row in evidence.epochs),
            findings=judge(evidence, Circumstances(self.load.acknowledged)).findings,
            timeline=await timeline(self.arena, evidence, marks, began_at),
        )


async def make(fault: Fault, arena: Arena, began_at: datetime) -> Mark:
    """Make a fault once, wait until all is healed, and measure. Raises BatonError, TimeoutError."""
    arena.strike = None
    async with asyncio.timeout(fault.strike_max_s):
        await fault.strike(arena)
    healed_at = now()
    await arena.leader()
    strike = arena.strike
    if strike is None:
        raise InvariantError(f"{fault.name} did not say when it struck")
    measured_s: float | None = None
    match fault.measure:
        case Measure.GAP:
            measured_s = await arena.gauge.gap_s(strike.at, strike.epoch, _GAP_TIMEOUT_S)
        case Measure.PAUSE:
            await arena.keep(_CALM_S)
            measured_s = await arena.gauge.silence_s(strike.at, now())
        case Measure.NONE:
            pass
    return Mark(
        (strike.at - began_at).total_seconds(), (healed_at - began_at).total_seconds(), measured_s, strike.outage_s
    )


async def timeline(arena: Arena, evidence: Evidence, marks: Sequence[Mark], began_at: datetime) -> Timeline:
    """What happened since `began_at`, in seconds from then on. Raises LogUnavailable."""
    duration_s = (now() - began_at).total_seconds()
    ended: dict[str, list[int]] = {}
    for bucket, state, count in await arena.gauge.ended(began_at, BUCKET_S):
        ended.setdefault(state, [0] * (int(duration_s / BUCKET_S) + 1))[bucket] = count
    terms = [
        Term(row.epoch, row.holder, row.cause, (row.raised_at - began_at).total_seconds()) for row in evidence.epochs
    ]
    return Timeline(duration_s, tuple(marks), tuple(terms), ended)
