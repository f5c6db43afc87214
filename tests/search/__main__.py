"""python -m tests.search: visit every state that the pure core can be brought into, and check the invariants in each.

Steps that follow one another are searched by themselves, with all that Postgres and the network may do; each feature of
the saga language (--feature) in a world of its own.

Ends with 0 when no invariant is violated, 1 with the shortest trace when one is, 2 for a wrong call.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext

from tests.search.actions import Game
from tests.search.bounds import Bounds
from tests.search.canonical import canonical, overtaken_silenced
from tests.search.features import words
from tests.search.features.bugs import BUGS, seeded
from tests.search.features.catalogue import FEATURES
from tests.search.features.search import search as search_feature
from tests.search.mutations import RULE, Mutation, rules_of
from tests.search.search import Reduce, Result, search
from tests.search.trace import in_words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one search as the command line says."""
    options = _parser().parse_args(arguments)
    if options.feature or options.bug:
        return _feature(options.feature, options.bug, frozenset(options.silent))
    bounds = Bounds(
        steps=options.steps,
        leaders=options.leaders,
        generations=options.generations,
        faults=options.faults,
        retries=options.retries,
        cancel=not options.no_cancel,
        states_max=options.states_max,
    )
    mutation = None if options.mutation is None else Mutation(options.mutation)
    game = Game.of(bounds, rules_of(mutation))
    reduce: Reduce = canonical if options.every_term else overtaken_silenced
    if mutation is not None:
        print(f"without {RULE[mutation][0]}: {RULE[mutation][1]}")
    result = search(game, frozenset(options.silent), reduce)
    for line in summary(game, result, reduce):
        print(line)
    return 0 if result.violation is None else 1


def _feature(name: str | None, bug: str | None, silent: frozenset[str]) -> int:
    """Search one feature, or all; or the one that a seeded bug belongs to, with the bug in it."""
    failed = False
    if bug is not None:
        print(f"with a bug: {BUGS[bug].what}")
    for found in [BUGS[bug].feature] if bug else list(FEATURES) if name == "all" else [str(name)]:
        with nullcontext() if bug is None else seeded(BUGS[bug]):
            game, result = search_feature(FEATURES[found], silent)
            lines = words.summary(game, result)
        for line in lines:
            print(line)
        failed = failed or result.violation is not None
    return int(failed)


def summary(game: Game, result: Result, reduce: Reduce) -> list[str]:
    """What a search has found, in lines."""
    bounds = game.bounds
    extent = "exhausted" if result.exhausted else "bounded: there are more"
    if result.violation is not None:
        extent = "ended at the first violation"
    states = Counter(game.core.states[world.log].value if world.sagas else "-" for world in result.graph.worlds)
    lines = [
        f"{bounds.steps} steps, {bounds.leaders} leaders, {bounds.generations} generations, {bounds.faults} faults, "
        f"{bounds.retries} retries, {'with' if bounds.cancel else 'without'} cancellation",
        f"{result.states:,} states, {result.transitions:,} transitions, depth {result.depth}, "
        f"{result.seconds:.1f} s ({extent})",
        "saga in the log: " + ", ".join(f"{count:,} {state}" for state, count in sorted(states.items())),
    ]
    if result.violation is None:
        checked = "I1 I2 I3 I4 I5 I9 LOG hold in every state"
        return [*lines, f"{checked}{', I6 from every state' if result.exhausted else '; I6 needs the whole space'}"]
    violation = result.violation
    return [*lines, f"{violation.invariant} VIOLATED: {violation.what}", *in_words(game, result.trace, reduce)]


def _parser() -> argparse.ArgumentParser:
    default = Bounds()
    parser = argparse.ArgumentParser(prog="python -m tests.search", description=__doc__)
    names = "; ".join(f"{name}: {what}" for name, (_, what) in RULE.items())
    parser.add_argument("--mutation", choices=[str(name) for name in Mutation], help=f"a rule to take out ({names})")
    about = "; ".join(f"{feature.name}: {feature.what}" for feature in FEATURES.values())
    parser.add_argument("--feature", choices=["all", *FEATURES], help=f"a feature to search instead ({about})")
    flaws = "; ".join(f"{bug}: {seed.what}" for bug, seed in BUGS.items())
    parser.add_argument("--bug", choices=list(BUGS), help=f"a bug to seed, searched with its feature ({flaws})")
    parser.add_argument("--steps", type=int, default=default.steps)
    parser.add_argument("--leaders", type=int, default=default.leaders, help="replicas that lead at once")
    parser.add_argument("--generations", type=int, default=default.generations, help="victories in etcd")
    parser.add_argument("--faults", type=int, default=default.faults)
    parser.add_argument("--retries", type=int, default=default.retries, help="retries of each action and compensation")
    parser.add_argument("--no-cancel", action="store_true", help="nobody asks for a cancellation")
    parser.add_argument("--every-term", action="store_true", help="overtaken leaders act out what comes to nothing")
    parser.add_argument("--silent", nargs="*", default=[], metavar="I4", help="invariants that may be violated")
    parser.add_argument("--states-max", type=int, default=default.states_max)
    return parser


if __name__ == "__main__":
    sys.exit(main())
