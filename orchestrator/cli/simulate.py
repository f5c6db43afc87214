"""`baton simulate`: the whole cluster on virtual time under seeded faults; one seed told in full, or many counted."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections import Counter

    from orchestrator.simulation.run import Batch, Outcome

# What a batch says about how deep its faults went, in this order.
_DEPTH = (
    "terms",
    "sagas carried on by another leader",
    "sagas carried on by three leaders or more",
    "intents written again by a successor",
    "fenced_statements",
    "writes_repeated",
    "backends_ended",
    "unknown_outcomes",
    "tombstone",
    "tombstones_hit",
    "request_lost",
    "answer_lost",
    "late",
    "twice",
)

# Fewer seeds than that say nothing about how often a feature comes.
_SEEDS_MEANINGFUL = 200


def register(app: typer.Typer) -> None:
    """Add the command `simulate`."""
    app.command("simulate")(simulate)


def simulate(
    seed: Annotated[int | None, typer.Option("--seed", help="Run this seed, and print all that happens.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, metavar="COUNT", help="Run so many seeds.")] = 100,
    first: Annotated[int, typer.Option("--from", min=0, metavar="SEED", help="The first of them.")] = 0,
    random: Annotated[bool, typer.Option("--random", help="Begin at a random seed, which is printed.")] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; default: one a core.")] = None,
    mutation: Annotated[
        str, typer.Option("--mutation", help="Break one rule on purpose: the simulation must notice.")
    ] = "",
) -> None:
    """Run the production leader, driver, term and campaign on a virtual clock, under faults drawn from a seed.

    The same seed gives the same run everywhere. Exit status 1 if an invariant does not hold.
    """
    from orchestrator.simulation.mutations import MUTATIONS

    if mutation and mutation not in MUTATIONS:
        raise typer.BadParameter(f"there are {', '.join(MUTATIONS)}", param_hint="--mutation")
    if seed is not None:
        raise typer.Exit(0 if _one(seed, mutation) else 1)
    if random:
        first = secrets.randbelow(1_000_000_000)
    raise typer.Exit(0 if _many(range(first, first + seeds), workers or os.cpu_count() or 1, mutation) else 1)


def _one(seed: int, mutation: str) -> bool:
    from orchestrator.simulation.run import simulate as run

    outcome, trace = run(seed, mutation)
    for line in trace.lines():
        print(line)
    print(f"\nseed {seed}, trace {trace.digest()[:16]}")
    print(*outcome.verdict, sep="\n")
    if outcome.complaints:
        print("\nNOT GOOD:", *outcome.complaints, sep="\n  ")
    return not outcome.complaints


def _many(seeds: range, workers: int, mutation: str) -> bool:
    from orchestrator.simulation.run import measure

    print(f"seeds {seeds.start} to {seeds.stop - 1}, {workers} processes")
    batch = measure(seeds, workers, mutation)
    _print_batch(batch)
    covered = _print_features(batch)
    for outcome in batch.failed:
        _print_failure(outcome, mutation)
    print(f"{len(batch.failed)} of {batch.seeds} seeds failed" if batch.failed else f"all {batch.seeds} seeds are good")
    return not batch.failed and (covered or batch.seeds < _SEEDS_MEANINGFUL)


def _print_batch(batch: Batch) -> None:
    counts = batch.counts
    print(f"{batch.seeds} seeds in {batch.seconds:.1f} s: {60 * batch.seeds / batch.seconds:,.0f} a minute")
    _print_counts("faults", counts, "fault ")
    _print_counts("sagas", counts, "saga ")
    print("how deep the faults went")
    for name in _DEPTH:
        print(f"  {counts[name]:>8,}  {name.replace('_', ' ')}")


def _print_features(batch: Batch) -> bool:
    """How often each feature of the saga language was come to; whether each was often enough."""
    from orchestrator.simulation.coverage import PREFIX, WANTED, shortfalls

    short = shortfalls(batch.counts, batch.seeds)
    print("features of the saga language: times, in a hundred seeds, and how often at the least")
    for name, wanted in sorted(WANTED.items()):
        count = batch.counts[PREFIX + name]
        seldom = "  TOO SELDOM" if name in short else ""
        print(f"  {count:>8,} {100 * count / batch.seeds:>9.1f} {wanted:>7.1f}  {name}{seldom}")
    return not short


def _print_counts(title: str, counts: Counter[str], prefix: str) -> None:
    found = sorted((name.removeprefix(prefix), count) for name, count in counts.items() if name.startswith(prefix))
    print(f"{title} ({sum(count for _, count in found):,})")
    for name, count in found:
        print(f"  {count:>8,}  {name}")


def _print_failure(outcome: Outcome, mutation: str) -> None:
    from orchestrator.simulation.run import repeat_command

    print(f"\nseed {outcome.seed} FAILED; repeat it with: {repeat_command(outcome.seed, mutation)}")
    for line in outcome.complaints[:12]:
        print(f"  {line}")
