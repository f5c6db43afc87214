"""Retention of a log in which much has to stay: that holds up nothing, and is looked at once in a sweep."""

from __future__ import annotations

import psycopg
import pytest

from orchestrator.errors import LogUnavailable
from orchestrator.saga.model import SagaId
from tests.integration.test_retention import AFTER_S, World, ids, world

__all__ = ["world"]


def keep(world: World, sagas: set[str]) -> None:
    world.keepers.ids = frozenset(SagaId(row) for row in ids(world) if str(row) in sagas)


async def test_batches_that_are_held_back_keep_nothing_waiting_and_are_looked_at_once_in_a_sweep(world: World) -> None:
    held, free = world.insert(8, ended_s_ago=9 * AFTER_S), world.insert(4, ended_s_ago=5 * AFTER_S)
    keep(world, held)
    retention = world.retention()
    assert await retention.sweep(world.term) == 4
    assert (world.kept(), set(world.archived())) == (held, free)
    assert sorted(world.keepers.asked) == sorted(held | free), "each once"

    newly = world.insert(4, ended_s_ago=2 * AFTER_S)
    world.keepers.asked.clear()
    assert await retention.sweep(world.term) == 4
    assert set(world.keepers.asked[:4]) == newly, "what has become due comes before what had to stay"
    assert sorted(world.keepers.asked) == sorted(held | newly), "each once"

    world.keepers.asked.clear()
    go = set(sorted(held)[3:7])
    keep(world, held - go)
    assert await retention.sweep(world.term) == 4
    assert world.kept() == held - go
    assert sorted(world.keepers.asked) == sorted(held), "each once"


async def test_what_is_held_back_is_looked_at_a_part_at_a_time_and_what_becomes_due_goes_with_every_sweep(
    world: World,
) -> None:
    held = world.insert(7, ended_s_ago=9 * AFTER_S)
    keep(world, held)
    retention = world.retention(batch=2, again_max_s=0.0)
    assert await retention.sweep(world.term) == 0
    world.keepers.asked.clear()
    for _ in range(4):
        due = world.insert(3, ended_s_ago=2 * AFTER_S)
        assert await retention.sweep(world.term) == 3
        assert world.kept() == held
        assert len(world.keepers.asked) <= len(due) * 4 + len(held)
    assert {saga for saga in world.keepers.asked if saga in held} == held, "four sweeps come to the end of them"
    keep(world, set())
    assert sum([await retention.sweep(world.term) for _ in range(4)]) == 7


async def test_a_term_that_begins_anew_passes_what_is_held_back_and_comes_to_what_may_go(world: World) -> None:
    held, free = world.insert(7, ended_s_ago=9 * AFTER_S), world.insert(3, ended_s_ago=2 * AFTER_S)
    keep(world, held)
    world.log.fails = "before"
    retention = world.retention()
    with pytest.raises(LogUnavailable):
        await retention.sweep(world.term)
    world.log.fails = ""
    assert await retention.sweep(world.term) == 3, "the page that failed is looked at again"
    assert world.kept() == held
    assert set(world.archived()) == free


async def test_children_stay_while_their_parent_does_and_hold_up_nothing(world: World) -> None:
    (parent,) = world.insert(1, "RUNNING", ended_s_ago=9 * AFTER_S)
    children = world.insert(8, ended_s_ago=8 * AFTER_S)
    with psycopg.connect(world.dsn) as connection:
        connection.execute("UPDATE baton.saga SET parent = %s WHERE id = ANY (%s::uuid[])", [parent, list(children)])
    free = world.insert(4)
    retention = world.retention()
    assert await retention.sweep(world.term) == len(free)
    assert world.kept() == {parent, *children}
    with psycopg.connect(world.dsn) as connection:
        connection.execute(
            "UPDATE baton.saga SET state = 'COMPLETED', finished_at = now() - %s * interval '1 s' WHERE id = %s",
            [1.5 * AFTER_S, parent],
        )
    assert await retention.sweep(world.term) == 1 + len(children), "the parent is newly due, and comes first"
    assert world.kept() == set()
    assert set(world.archived()) == {parent, *children, *free}
