"""Makes a fault again and again under load, and lets all sagas end: on a cluster of our own as on a deployed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from orchestrator.audit.finding import Finding
from orchestrator.audit.gauge import now
from orchestrator.drill.fault import FaultProfile, Measure
from orchestrator.drill.load import Load
from orchestrator.drill.progress import Progress
from orchestrator.drill.result import FaultResult, Mark, Timeline
from orchestrator.errors import BatonError

# How long after the last strike sagas may take to end: participants are asked again after up to 30 s.
HEAL_S = 120.0
# Sagas that are started between two strikes, so that each finds a cluster at work.
BETWEEN = 15
# I7 and I8 are judged by the measures, and by the changes, of all repetitions together.
JUDGED_TOGETHER = ("I7", "I8")


@dataclass(frozen=True, slots=True)
class Found:
    """What came of all strikes: sagas by state, changes of leadership, and what the audit says."""

    states: Mapping[str, int]
    changes: int
    findings: Sequence[Finding]
    timeline: Timeline
    unchecked: Sequence[str] = ()


class Ground(Protocol):
    """Where a fault is made, with a load on it."""

    @property
    def load(self) -> Load:
        """The load, which runs while the fault is made."""
        ...

    @property
    def progress(self) -> Progress:
        """What is said to those who look on."""
        ...

    @property
    def tell(self) -> Callable[[str], None]:
        """Takes a line for a person."""
        ...

    async def make(self, began_at: datetime) -> Mark:
        """Make the fault once, wait until all is healed, and measure. Raises BatonError, TimeoutError."""
        ...

    async def all_ended(self, timeout_s: float) -> bool:
        """Wait until every saga is terminal; whether that was in time. Raises BatonError."""
        ...

    async def found(self, marks: Sequence[Mark], began_at: datetime) -> Found:
        """Look at what came of it. Raises BatonError."""
        ...


async def rounds(ground: Ground, result: FaultResult) -> FaultResult:
    """Strike under load until done or in trouble; and judge in either case, as far as that can be told."""
    fault, progress = result.fault, ground.progress
    began_at = now()
    marks: list[Mark] = []
    progress.fault, progress.of = fault.title, result.repetitions
    with troubles_within() as troubles:
        async with ground.load.running():
            for number in range(1, result.repetitions + 1):
                progress.number = number
                marks.append(await ground.make(began_at))
                measured = in_words(fault, marks[-1])
                progress.measures.append(measured)
                ground.tell(f"{fault.name} {number} of {result.repetitions}: {measured}")
                await ground.load.reached(BETWEEN)
        if not await ground.all_ended(HEAL_S):
            ground.tell(f"{fault.name}: some sagas have not ended {HEAL_S:.0f} s after the last fault")
    found = await ground.found(marks, began_at)
    return replace(
        result,
        error=troubles[0] if troubles else None,
        states=found.states,
        failed_starts=tuple(ground.load.failed),
        changes=found.changes,
        findings=tuple(finding for finding in found.findings if finding.invariant not in JUDGED_TOGETHER),
        timeline=found.timeline,
        unchecked=tuple(found.unchecked),
    )


def in_words(fault: FaultProfile, mark: Mark) -> str:
    """What was measured at a strike."""
    if fault.measure is Measure.NONE:
        return "healed"
    return "nobody drove on" if mark.measured_s is None else f"{fault.measure} {mark.measured_s * 1000:.0f} ms"


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
