"""Runs a fault: a cluster of its own under load, the strikes one after another, the healing, and the audit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from orchestrator.audit.evidence import Circumstances, Evidence
from orchestrator.audit.gauge import now
from orchestrator.audit.judge import judge
from orchestrator.audit.ledgers import load_evidence
from orchestrator.drill.arena import Arena
from orchestrator.drill.fault import Fault, Measure
from orchestrator.drill.result import BUCKET_S, FaultResult, Mark, Term, Timeline
from orchestrator.drill.stages import StageOptions, set_stage
from orchestrator.errors import BatonError, InvariantError

# A strike that takes longer than this, its healing included, will never end.
STRIKE_MAX_S = 300.0
# How long after the last strike sagas may take to end: participants are asked again after up to 30 s.
HEAL_S = 120.0
# Sagas that are started between two strikes, so that each finds a cluster at work.
BETWEEN = 15
_GAP_TIMEOUT_S = 60.0
# A pause is looked for until so long after the fault is healed.
_CALM_S = 0.5


async def run_fault(fault: Fault, options: StageOptions, repetitions: int | None = None) -> FaultResult:
    """Make the fault so often (None: as the catalogue says), and judge what came of it. Raises nothing that it met."""
    if (reason := fault.needs()) is not None:
        return FaultResult(fault, skipped=reason)
    times = fault.repetitions if repetitions is None else repetitions
    result = FaultResult(fault, repetitions=times)
    with troubles_within() as troubles:
        async with set_stage(fault.stage, options) as arena:
            result = await _perform(fault, arena, result)
    return replace(result, error=troubles[0]) if troubles else result


async def _perform(fault: Fault, arena: Arena, result: FaultResult) -> FaultResult:
    """Strike under load until done or in trouble; and judge in either case, as far as that can be told."""
    await arena.leader()
    if fault.prepare is not None:
        await fault.prepare(arena)
        await arena.leader()
    began_at = now()
    marks: list[Mark] = []
    with troubles_within() as troubles:
        async with arena.load.running():
            for number in range(result.repetitions):
                marks.append(await make(fault, arena, began_at))
                arena.tell(f"{fault.name} {number + 1} of {result.repetitions}: {in_words(fault, marks[-1])}")
                await arena.driven(BETWEEN)
        if not await arena.gauge.all_ended(HEAL_S):
            arena.tell(f"{fault.name}: some sagas have not ended {HEAL_S:.0f} s after the last fault")
    cluster = arena.cluster
    evidence = await asyncio.to_thread(load_evidence, cluster.baton_dsn, cluster.shop_dsn)
    verdict = judge(evidence, Circumstances(arena.load.acknowledged))
    return replace(
        result,
        error=troubles[0] if troubles else None,
        states=dict(Counter(saga.state for saga in evidence.sagas)),
        failed_starts=tuple(arena.load.failed),
        changes=sum(row.raised_at >= began_at for row in evidence.epochs),
        # I7 and I8 are judged by the measures, and by the changes, of all repetitions together.
        findings=tuple(finding for finding in verdict.findings if finding.invariant not in ("I7", "I8")),
        timeline=await timeline(arena, evidence, marks, began_at),
    )


async def make(fault: Fault, arena: Arena, began_at: datetime) -> Mark:
    """Make a fault once, wait until all is healed, and measure. Raises BatonError, TimeoutError."""
    arena.strike = None
    async with asyncio.timeout(STRIKE_MAX_S):
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


def in_words(fault: Fault, mark: Mark) -> str:
    """What was measured at a strike."""
    if fault.measure is Measure.NONE:
        return "healed"
    return "nobody drove on" if mark.measured_s is None else f"{fault.measure} {mark.measured_s * 1000:.0f} ms"


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


@contextmanager
def troubles_within() -> Iterator[list[str]]:
    """What goes wrong within, in words: the first trouble is the cause, the rest of a group was cancelled for it."""
    troubles: list[str] = []
    try:
        yield troubles
    except* (BatonError, TimeoutError) as failures:
        troubles.append(_words(failures))


def _words(failure: BaseException) -> str:
    if isinstance(failure, BaseExceptionGroup):
        return _words(failure.exceptions[0])
    return str(failure) or ("something took longer than it may" if isinstance(failure, TimeoutError) else repr(failure))
