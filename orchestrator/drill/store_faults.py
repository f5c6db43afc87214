"""Faults of the stores: Postgres fails over to its standby, and etcd goes back in time.

An asynchronous standby is no fault of the catalogue: it loses what was acknowledged, as it must (see
docs/postgres-failover.md for how much).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from orchestrator.drill.arena import Arena
from orchestrator.drill.fault import Fault, Measure, Stage
from orchestrator.embedded.cluster import in_thread
from orchestrator.embedded.standby import PostgresPair

# How many changes of leadership an etcd forgets: the snapshot is taken before them.
FORGOTTEN_TERMS = 3

# From the promotion to the next row of the log: the writer looks for the primary every 0.1 s.
FAILOVER_S = 1.0
# From the moment that etcd is back: keys are read again within a second, and a key that etcd remembers although its
# holder is gone expires with its lease, of 2 s, which etcd's leader renews in full after a restore.
RECOVERY_S = 5.0

_CALM_SAGAS = 10


async def _postgres_fails_over(arena: Arena) -> None:
    """The primary's machine dies; the standby is promoted; the old primary comes back as its standby."""
    await _fail_over(arena, lambda pair: pair.primary.crash())


async def _postgres_is_shut_down(arena: Arena) -> None:
    """The primary is shut down in order, which lets the standby catch up; the standby is promoted."""
    await _fail_over(arena, lambda pair: pair.primary.shut_down())


async def _primary_turns_read_only(arena: Arena) -> None:
    """The primary refuses writes on the connections that are open, goes on to read, and another one is promoted."""
    await _fail_over(arena, lambda pair: pair.turn_read_only())


async def _fail_over(arena: Arena, take_away: Callable[[PostgresPair], None]) -> None:
    pair = arena.the_pair()
    leader = await arena.leader()
    arena.struck(leader)
    began_s = time.monotonic()
    await in_thread(partial(take_away, pair))
    await in_thread(pair.promote)
    arena.outage(time.monotonic() - began_s)
    await arena.driven(_CALM_SAGAS)
    await in_thread(pair.rejoin)


async def _etcd_restored(arena: Arena) -> None:
    """etcd forgets three changes of leadership: it is restored from an older snapshot, under the same cluster id."""
    etcd = arena.cluster.etcd
    snapshot = arena.cluster.data_dir / "etcd.snapshot"
    snapshot.unlink(missing_ok=True)
    await in_thread(partial(etcd.save_snapshot, snapshot))
    await _change_leaders(arena)
    await _go_back(arena, partial(etcd.restore, snapshot))


async def _etcd_wiped(arena: Arena) -> None:
    """etcd comes back with nothing, under the same cluster id."""
    await _change_leaders(arena)
    await _go_back(arena, arena.cluster.etcd.wipe)


async def _etcd_replaced(arena: Arena) -> None:
    """Another etcd, with another cluster id and nothing in it, stands where the former one stood."""
    token = f"replaced-{arena.chance.getrandbits(32):08x}"
    await _go_back(arena, partial(arena.cluster.etcd.wipe, token))


async def _change_leaders(arena: Arena) -> None:
    for _ in range(FORGOTTEN_TERMS):
        leader = await arena.leader()
        leader.replica.kill()
        await arena.cluster.wait_leader(above_epoch=leader.epoch)
    await arena.leader()


async def _go_back(arena: Arena, travel: Callable[[], None]) -> None:
    """The sagas pause for nothing: the leader goes on while etcd is away, and the next one takes over at once."""
    leader = await arena.leader()
    arena.struck(leader)
    await in_thread(travel)
    await arena.driven(_CALM_SAGAS)
    # Whoever leads now leads by the new history. That it can be replaced is the proof.
    leader = await arena.leader()
    leader.replica.kill()
    await arena.cluster.wait_leader(above_epoch=leader.epoch, timeout_s=RECOVERY_S * 4)


FAULTS: tuple[Fault, ...] = (
    Fault(
        16,
        "etcd-restored",
        "etcd is restored from a snapshot of three leaders ago",
        _etcd_restored,
        measure=Measure.PAUSE,
        bound_s=RECOVERY_S,
        # Three kills, what the keys that come back may cause (one that holds, one that expires), and the last kill.
        changes_max=FORGOTTEN_TERMS + 3,
    ),
    Fault(
        16,
        "etcd-wiped",
        "etcd loses everything, and keeps its cluster id",
        _etcd_wiped,
        measure=Measure.PAUSE,
        bound_s=RECOVERY_S,
        changes_max=FORGOTTEN_TERMS + 2,
    ),
    Fault(
        16,
        "etcd-replaced",
        "another, empty etcd takes the place of the former one",
        _etcd_replaced,
        measure=Measure.PAUSE,
        bound_s=RECOVERY_S,
        changes_max=2,
    ),
    Fault(
        19,
        "postgres-fails-over",
        "the primary dies, its synchronous standby is promoted, and it comes back as a standby",
        _postgres_fails_over,
        stage=Stage.STANDBY,
        measure=Measure.PAUSE,
        bound_s=FAILOVER_S,
    ),
    Fault(
        19,
        "postgres-switched-over",
        "the primary is shut down in order, and its standby promoted",
        _postgres_is_shut_down,
        stage=Stage.STANDBY,
        measure=Measure.PAUSE,
        bound_s=FAILOVER_S,
    ),
    Fault(
        19,
        "postgres-primary-read-only",
        "the primary turns read-only with its connections open, and its standby is promoted",
        _primary_turns_read_only,
        stage=Stage.STANDBY,
        measure=Measure.PAUSE,
        bound_s=FAILOVER_S,
    ),
)
