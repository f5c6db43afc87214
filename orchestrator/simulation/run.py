"""Runs one seed, or many over several processes: each ends with the audit's verdict, or with how to repeat it."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import structlog

from orchestrator.simulation.check import oddities, statistics, verdict
from orchestrator.simulation.loop import new_loop
from orchestrator.simulation.mutations import MUTATIONS
from orchestrator.simulation.stage import Mutation
from orchestrator.simulation.trace import Trace
from orchestrator.simulation.world import SimulatedWorld, tasks_left
from orchestrator.telemetry import Metrics

# Seeds that a worker takes at a time.
CHUNK = 10

# What production code logs when it has met something that cannot be.
_DEFECTS = frozenset({"term_failed", "term_does_not_end", "campaign_does_not_end"})
_POISON = "saga_cannot_be_driven"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one seed. `complaints` is empty when all is well."""

    seed: int
    complaints: tuple[str, ...]
    verdict: tuple[str, ...]
    counts: Counter[str]


@dataclass(slots=True)
class Batch:
    """What came of many seeds."""

    seeds: int = 0
    seconds: float = 0.0
    failed: list[Outcome] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count one seed in."""
        self.seeds += 1
        self.counts.update(outcome.counts)
        if outcome.complaints:
            self.failed.append(outcome)


def simulate(seed: int, mutation: str = "") -> tuple[Outcome, Trace]:
    """Run one seed to its end. Never raises for what a run meets: that is a complaint."""
    loop = new_loop()
    wrong = MUTATIONS[mutation] if mutation else Mutation()
    with _errors_heard() as errors, wrong.core():
        world = SimulatedWorld(loop, str(seed), wrong, _metrics())
        complaints: list[str] = []
        findings: list[str] = []
        counts: Counter[str] = Counter()
        try:
            loop.run(world.run())
            judged = verdict(world)
            findings = judged.lines()
            complaints += [line for finding in judged.findings if not finding.holds for line in finding.lines()]
            complaints += oddities(world)
            complaints += [f"a task is left behind: {task}" for task in tasks_left(loop)]
            counts = statistics(world)
        except Exception:
            # Whatever ended a run, or cannot be judged, is what the run has found; the seed repeats it.
            complaints.append(f"the run broke off:\n{traceback.format_exc()}")
    complaints += [line for event, line in errors if event in _DEFECTS]
    if not world.has_poison:
        complaints += [line for event, line in errors if event == _POISON]
    complaints += loop.strays
    return Outcome(seed, tuple(complaints), tuple(findings), counts), world.trace


def run_batch(seeds: Sequence[int], workers: int, mutation: str = "") -> Iterator[Outcome]:
    """Run many seeds over so many processes; outcomes in the order of the seeds."""
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    if workers <= 1:
        for chunk in chunks:
            yield from _chunk(chunk, mutation)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        for outcomes in pool.map(_chunk, chunks, [mutation] * len(chunks)):
            yield from outcomes


def measure(seeds: Sequence[int], workers: int, mutation: str = "") -> Batch:
    """Run many seeds and add up what came of them."""
    batch = Batch()
    began_s = time.perf_counter()
    for outcome in run_batch(seeds, workers, mutation):
        batch.add(outcome)
    batch.seconds = time.perf_counter() - began_s
    return batch


def repeat_command(seed: int, mutation: str = "") -> str:
    """The command that runs a seed once more, and shows it."""
    return f"baton simulate --seed {seed}" + (f" --mutation {mutation}" if mutation else "")


def _chunk(seeds: Sequence[int], mutation: str) -> list[Outcome]:
    # Each run leaves cycles of tasks and frames behind: collected at once, and not in the middle of the next run.
    gc.disable()
    try:
        outcomes = []
        for seed in seeds:
            outcomes.append(simulate(seed, mutation)[0])
            gc.collect()
        return outcomes
    finally:
        gc.enable()


@cache
def _metrics() -> Metrics:
    """Metrics count, and nothing reads them here: all runs of a process share them."""
    return Metrics("simulated", "all")


@contextmanager
def _errors_heard() -> Iterator[list[tuple[str, str]]]:
    """Collect what production code logs as errors, and throw the rest away."""
    errors: list[tuple[str, str]] = []

    def hear(_logger: Any, _name: str, event: Any) -> Any:
        fields = dict(event)
        name = str(fields.pop("event"))
        trouble = traceback.format_exc() if fields.pop("exc_info", None) else ""
        errors.append((name, f"{name}: {fields} {trouble}".rstrip()))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[hear],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield errors
    finally:
        structlog.configure(**before)
