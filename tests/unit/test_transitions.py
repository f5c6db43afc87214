"""All that can happen to small sagas with every feature reaches every entry of the table, and no other."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.errors import CorruptLog
from orchestrator.saga import evolve as evolving
from orchestrator.saga.machine import evolve
from orchestrator.saga.model import Saga
from orchestrator.saga.transitions import TRANSITIONS

from .choices import World, choices, key
from .sagas import EPOCH, NOW, Walk, graph, graph_definition

ROOT = Path(__file__).parents[2]
ASKS = {"on_unknown": "query", "status": {"method": "t.S/Get"}}
NOT_UNDONE = {"compensation": "none", "reason": "a test"}

# Each with how many things happen to it one after the other.
WALKS: dict[str, tuple[Saga, int]] = {
    "codes": (graph({"retry": {"retries": 1, "transient": ["FAILED_PRECONDITION"]}}), 6),
    "answers": (graph({"answer": "later", "heartbeat": "2s", "within": "5s"}), 5),
    "pivot": (graph({}, {"pivot": True}, {"compensation": None, "when": "input.never"}), 6),
    "people-and-times": (graph({"approval": {}, "within": "5s"}, {"delay": "1s", "after": []}, within="4s"), 6),
    # As a new leader finds it: it asks first.
    "questions": (Walk(graph(ASKS, {"after": []}, compensate="parallel")).ready().failover().saga, 3),
    "not-undone": (graph({**NOT_UNDONE, "answer": "later"}, {**NOT_UNDONE, "after": []}), 5),
    "cannot-begin-behind": (graph({"pivot": True}, {"compensation": None, "when": "ceil(input.rush)"}), 6),
    "cannot-begin": (graph({"when": "ceil(input.rush)"}), 4),
    "deadline": (graph({}, {}, within="4s"), 4),
    "moves": (graph({}, {}), 4),
}

# What the walks may be moved to: less, and the same.
VERSIONS = {"moves": (replace(graph_definition({}), version=2), replace(graph_definition({}, {}), version=3))}


def walked() -> set[tuple[str, str, str]]:
    found = set()
    for name, (saga, depth) in WALKS.items():
        versions = VERSIONS.get(name, ())
        epoch = saga.open[0].intent_epoch if saga.open else EPOCH
        late = NOW + timedelta(seconds=60)
        front = [World(saga, epoch, now, child=True, versions=versions) for now in (NOW, late)]
        seen = {key(world) for world in front}
        for _ in range(depth):
            reached = [after for world in front for _, after in choices(world) if not _record(found, world, after)]
            front = []
            for world in reached:
                mark = key(world)
                if mark not in seen:
                    seen.add(mark)
                    front.append(world)
    return found


def _record(found: set[tuple[str, str, str]], before: World, after: World) -> None:
    saga = before.saga
    for event in after.events:
        state, saga = saga.state, evolve(saga, event, {version.version: version for version in after.versions})
        found.add((state.value, event.status.value, saga.state.value))


def test_every_entry_of_the_table_is_reached_and_no_other() -> None:
    table = {(before.value, status.value, after.value) for before, status, after in TRANSITIONS}
    found = walked()
    assert found - table == set()
    assert table - found == set(), "in the table, and never seen"


def test_a_change_that_is_not_in_the_table_is_a_corrupt_log(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(graph({}))
    (_, intended), *_ = choices(world)
    less = frozenset(entry for entry in TRANSITIONS if entry[1] is not intended.events[0].status)
    monkeypatch.setattr(evolving, "TRANSITIONS", less)
    with pytest.raises(CorruptLog, match="leads from PENDING to RUNNING"):
        evolve(world.saga, intended.events[0])


def test_the_picture_in_the_docs_is_drawn_from_the_table() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "state_picture.py"), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
