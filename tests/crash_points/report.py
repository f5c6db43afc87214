"""Explores flows, case by case in several processes, and counts."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

import structlog

from orchestrator.simulation.loop import new_loop
from orchestrator.simulation.participants import Rules

from .cases import Case
from .explore import Explorer, Tally
from .flows import FLOWS, flow
from .run import Stage
from .world import DatedLog, new_world


@dataclass(frozen=True, slots=True)
class Explored:
    """What came of one flow, and how long it took, in seconds of all processes."""

    name: str
    tally: Tally
    took_s: float


@contextmanager
def staged() -> Iterator[Stage]:
    """A stage on virtual time, with a silent log."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    # Each run leaves cycles of tasks and frames behind: collected at the end, and not in the middle of every run. What
    # was there before the first one stays, and is not looked through for them.
    gc.disable()
    if gc.get_freeze_count() == 0:
        gc.collect()
        gc.freeze()
    try:
        yield Stage(new_loop())
    finally:
        gc.enable()
        gc.collect()
        structlog.reset_defaults()


def _explore(name: str, number: int, pairs: bool, exact: bool) -> tuple[Tally, float]:
    """Every crash point of one case of a flow, by its number; and the seconds that took."""
    began_s, subject = time.monotonic(), flow(name)
    case = list(subject.cases(subject))[number]
    with staged() as stage:
        world = new_world(subject, DatedLog(stage.clock))
        tally = Explorer(stage, case, pairs=pairs, exact=exact).explore(world)
    return tally, time.monotonic() - began_s


def explore_case(name: str, case: Case, rules: Rules, log: type[DatedLog] = DatedLog) -> Tally:
    """The single faults of one case, under a barrier or on a log that may be broken."""
    with staged() as stage:
        return Explorer(stage, case, pairs=False).explore(new_world(flow(name), log(stage.clock), rules))


def explore_all(
    names: Sequence[str], processes: int, *, exact: bool = False, singles_alone: Collection[str] = ()
) -> Iterator[Explored]:
    """Explore several flows at once, the longest first; yields each in the order of `names`.

    Those in `singles_alone` are struck by single faults alone.
    """
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        begun = {
            name: [
                pool.submit(_explore, name, number, name not in singles_alone, exact)
                for number, _ in enumerate(flow(name).cases(flow(name)))
            ]
            for name in sorted(names, key=lambda name: -len(flow(name).definition.steps))
        }
        for name in names:
            tally, took_s = Tally(), 0.0
            for one in begun[name]:
                part, part_s = one.result()
                tally.add(part)
                took_s += part_s
            yield Explored(name, tally, took_s)


def lines(explored: Sequence[Explored], took_s: float) -> Iterator[str]:
    """A table, a row for each flow."""
    row = "{:<38} {:>6} {:>8} {:>8} {:>6} {:>9} {:>8} {:>8}"
    yield row.format("flow", "cases", "effects", "singles", "gaps", "pairs", "runs", "seconds")
    total = Tally()
    for one in explored:
        tally = one.tally
        total.add(tally)
        name = one.name if one.name in FLOWS else f"feature {one.name}"
        yield row.format(*_figures(name, tally), f"{one.took_s:.1f}")
    yield row.format(*_figures("all", total), f"{took_s:.1f}")
    yield from total.violations
    yield f"{len(total.violations)} violations"


def _figures(name: str, tally: Tally) -> tuple[object, ...]:
    return name, tally.cases, tally.effects, tally.singles, tally.gaps, tally.pairs, tally.runs
