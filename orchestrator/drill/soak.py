"""A soak: hours of steady load, a fault drawn by chance every few seconds, the vital signs of every process, audits.

A drill makes one fault many times; a soak mixes them, and lets the cluster grow old. What it looks for is what only
time shows: memory, files, connections or tasks that grow, and invariants that break where faults meet.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from orchestrator.audit.evidence import Circumstances, Evidence
from orchestrator.audit.finding import Finding
from orchestrator.audit.gauge import now
from orchestrator.audit.judge import judge
from orchestrator.audit.ledgers import load_evidence
from orchestrator.drill.arena import Arena
from orchestrator.drill.catalogue import named
from orchestrator.drill.fault import Fault, Stage
from orchestrator.drill.flat import Trend, trends
from orchestrator.drill.result import FaultResult, Mark, Timeline
from orchestrator.drill.rounds import HEAL_S, JUDGED_TOGETHER, in_words, troubles_within
from orchestrator.drill.runner import make, timeline
from orchestrator.drill.stages import StageOptions, set_stage
from orchestrator.drill.vitals import Vitals, examine, subjects
from orchestrator.errors import Rejected

# What is drawn from, and how often in relation to the others. All of them can be made where every link goes through a
# proxy, and are healed within seconds. A replica dies in about every third, so that some live for many minutes.
WEIGHTS = {
    "sigterm-leader": 2,
    "kill-leader": 3,
    "kill-leader-twice": 1,
    "kill-all-start-one": 1,
    "freeze-leader": 2,
    "three-generations": 1,
    "stop-inside-transaction": 1,
    "kill-etcd-leader": 2,
    "freeze-etcd-follower": 2,
    "freeze-etcd-leader": 1,
    "kill-both-leaders": 1,
    "restart-postgres-fast": 1,
    "restart-postgres-immediate": 1,
    "outcome-unknown": 2,
    "etcd-unplugged": 1,
    "standbys-reset": 2,
    "standbys-unplugged": 1,
    "participant-cut": 2,
    "participant-mute": 1,
    "commit-unheard": 2,
    "start-unheard": 2,
    "calls-duplicated": 2,
    "loop-blocked-1s": 2,
}
SAMPLE_EVERY_S = 5.0
AUDIT_EVERY_S = 600.0
# Pools and caches fill for some minutes: the trends of a shorter run are told, not judged.
GROWTH_JUDGED_FROM_S = 1200.0


@dataclass(frozen=True, slots=True)
class SoakOptions:
    """How long a soak lasts, and how often a fault begins, in seconds."""

    stage: StageOptions
    duration_s: float = 3600.0
    fault_every_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Audit:
    """One audit of everything so far, with all sagas at their end."""

    at_s: float
    sagas: int
    findings: Sequence[Finding]

    @property
    def holds(self) -> bool:
        """Whether every invariant held."""
        return all(finding.holds for finding in self.findings)


@dataclass(frozen=True, slots=True)
class SoakResult:
    """What came of a soak. `faults` has a result for each fault that was drawn, with its strikes as marks."""

    duration_s: float
    audits: Sequence[Audit] = ()
    faults: Sequence[FaultResult] = ()
    states: dict[str, int] = field(default_factory=dict)
    failed_starts: Sequence[str] = ()
    changes: int = 0
    samples: Sequence[Vitals] = ()
    trends: Sequence[Trend] = ()
    timeline: Timeline | None = None
    error: str | None = None

    @property
    def changes_max(self) -> int:
        """How many changes of leadership all strikes together are a reason for."""
        return sum(result.changes_max for result in self.faults)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the cluster."""
        return not self.complaints()

    def complaints(self) -> list[str]:
        """Everything that speaks against it, in words."""
        lines = [] if self.error is None else [self.error]
        lines += [f"StartSaga failed: {failure}" for failure in self.failed_starts]
        for audit in self.audits:
            for finding in audit.findings:
                lines += [] if finding.holds else [f"after {audit.at_s:.0f} s: {line}" for line in finding.lines()]
        if self.changes > self.changes_max:
            lines.append(f"I8: leadership changed {self.changes} times, for {self.changes_max} reasons")
        lines += [f"{result.fault.name}: {line}" for result in self.faults for line in result.complaints()]
        judged = self.trends if self.duration_s >= GROWTH_JUDGED_FROM_S else ()
        return lines + [str(trend) for trend in judged if not trend.flat]


async def run_soak(options: SoakOptions) -> SoakResult:
    """Soak a cluster on this machine. Raises Rejected, ProcessFailed; what goes wrong later is in the result."""
    faults = named(list(WEIGHTS))
    if unfit := [fault.name for fault in faults if fault.stage not in (Stage.PLAIN, Stage.LINKS) or fault.prepare]:
        raise Rejected(f"a soak cannot make {', '.join(unfit)}")
    async with set_stage(Stage.LINKS, options.stage) as arena:
        await arena.leader()
        soak = _Soak(arena, options, [fault for fault in faults if fault.needs() is None])
        with troubles_within() as troubles:
            await soak.run()
        return replace(await soak.result(), error=troubles[0] if troubles else None)


class _Soak:
    """A soak as it goes on."""

    def __init__(self, arena: Arena, options: SoakOptions, faults: Sequence[Fault]) -> None:
        self._arena = arena
        self._options = options
        self._faults = faults
        self._began_at = now()
        self._began_s = time.monotonic()
        self._ends_s = self._began_s + options.duration_s
        self._marks: list[tuple[Fault, Mark]] = []
        self._samples: list[Vitals] = []
        self._audits: list[Audit] = []
        self._evidence: Evidence | None = None

    async def run(self) -> None:
        """Strike and sample until the time is over; every ten minutes, and at the end, let all sagas end and audit."""
        async with asyncio.TaskGroup() as group:
            sampling = group.create_task(self._sample())
            while (left_s := self._ends_s - time.monotonic()) > 0:
                # A last part of a few seconds would be no part of its own.
                whole = left_s < 1.5 * AUDIT_EVERY_S
                async with self._arena.load.running():
                    await self._strike_until(self._ends_s if whole else time.monotonic() + AUDIT_EVERY_S)
                await self._audit()
            sampling.cancel()

    async def _strike_until(self, end_s: float) -> None:
        chance: random.Random = self._arena.chance
        weights = [WEIGHTS[fault.name] for fault in self._faults]
        due_s = time.monotonic()
        while (due_s := max(due_s + self._options.fault_every_s, time.monotonic())) < end_s:
            await asyncio.sleep(due_s - time.monotonic())
            fault = chance.choices(self._faults, weights)[0]
            progress = self._arena.progress
            progress.fault, progress.number = fault.title, len(self._marks) + 1
            mark = await make(fault, self._arena, self._began_at)
            self._marks.append((fault, mark))
            progress.measures.append(f"{fault.name}: {in_words(fault, mark)}")
            self._arena.tell(f"{self._age_s():6.0f} s  {fault.name}: {in_words(fault, mark)}")
        await asyncio.sleep(max(0.0, end_s - time.monotonic()))

    async def _sample(self) -> None:
        while True:
            with suppress(ProcessLookupError):
                self._samples += await examine(subjects(self._arena.cluster), self._age_s())
            await asyncio.sleep(SAMPLE_EVERY_S)

    async def _audit(self) -> None:
        arena = self._arena
        if not await arena.gauge.all_ended(HEAL_S):
            arena.tell(f"some sagas have not ended {HEAL_S:.0f} s after the load")
        cluster = arena.cluster
        evidence = await asyncio.to_thread(load_evidence, cluster.baton_dsn, cluster.shop_dsn)
        verdict = await asyncio.to_thread(judge, evidence, Circumstances(arena.load.acknowledged))
        findings = tuple(finding for finding in verdict.findings if finding.invariant not in JUDGED_TOGETHER)
        self._evidence = evidence
        self._audits.append(Audit(self._age_s(), len(evidence.sagas), findings))
        broken = [finding.invariant for finding in findings if not finding.holds]
        arena.tell(f"{self._age_s():6.0f} s  audit of {len(evidence.sagas)} sagas: {', '.join(broken) or 'all holds'}")

    async def result(self) -> SoakResult:
        """What came of it so far."""
        evidence = self._evidence
        duration_s = self._age_s()
        result = SoakResult(
            duration_s,
            self._audits,
            _by_fault(self._marks),
            failed_starts=tuple(self._arena.load.failed),
            samples=tuple(self._samples),
            trends=trends(self._samples, duration_s),
        )
        if evidence is None:
            return result
        marks = [mark for _, mark in self._marks]
        return replace(
            result,
            states=dict(Counter(saga.state for saga in evidence.sagas)),
            changes=sum(row.raised_at >= self._began_at for row in evidence.epochs),
            timeline=await timeline(self._arena, evidence, marks, self._began_at),
        )

    def _age_s(self) -> float:
        return time.monotonic() - self._began_s


def _by_fault(marks: Sequence[tuple[Fault, Mark]]) -> list[FaultResult]:
    """A result for each fault that was made. Sagas and invariants are those of the soak, so it has none."""
    made: dict[str, FaultResult] = {}
    for fault, mark in marks:
        earlier = made.get(fault.name, FaultResult(fault, timeline=Timeline(0.0, (), (), {})))
        before = earlier.timeline.marks if earlier.timeline else ()
        made[fault.name] = replace(
            earlier, repetitions=earlier.repetitions + 1, timeline=Timeline(0.0, (*before, mark), (), {})
        )
    return sorted(made.values(), key=lambda result: (result.fault.number, result.fault.name))
