"""The second versions that the simulation draws: they differ in all that they are to differ in, and in nothing else."""

from __future__ import annotations

import random
from collections import Counter

from orchestrator.saga.difference import Kind, changes
from orchestrator.simulation.definitions import draw_documents
from orchestrator.simulation.editions import Library, draw_editions

SEEDS = 80

# By the end of a path, what second versions must come to change.
FIELDS = ("service", "after", "when", "delay", "within", "compensate", "timeout", "retry.initial")


def library(seed: int) -> Library:
    documents = draw_documents(random.Random(f"{seed}/definitions"))
    return Library(documents, draw_editions(documents, random.Random(f"{seed}/editions")))


def test_second_versions_change_steps_in_every_way_that_a_move_has_to_do_with() -> None:
    seen: Counter[str] = Counter()
    libraries = [library(seed) for seed in range(SEEDS)]
    # In about every other run there is none.
    assert SEEDS / 4 < sum(not drawn.editions for drawn in libraries) < 3 * SEEDS / 4
    for drawn in libraries:
        for name in drawn.editions:
            drawn.apply(name)
            found = changes(drawn.versions(name)[1], drawn.versions(name)[2])
            for change in found:
                seen.update(field for field in FIELDS if change.path.endswith(field))
                seen["action"] += ".action.request" in change.path
                seen["compensation"] += ".compensation.request" in change.path
                if change.path.count(".") == 1:
                    seen["step more"] += change.kind is Kind.ADDED
                    seen["step less"] += change.kind is Kind.REMOVED
    wanted = (*FIELDS, "action", "compensation", "step more", "step less")
    assert {what: seen[what] for what in wanted if seen[what] < 2} == {}


def test_a_second_version_is_not_there_before_somebody_applies_it() -> None:
    drawn = next(found for found in map(library, range(SEEDS)) if found.editions)
    name = drawn.editions[0]
    assert (drawn.get(name, 2), drawn.newest(name)) == (None, drawn.first[name])
    drawn.apply(name)
    assert drawn.newest(name) is drawn.get(name, 2) is not drawn.first[name]
