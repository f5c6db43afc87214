"""Faults of replicas: they are ended, killed, frozen, and started again, one at a time or together."""

from __future__ import annotations

import asyncio
import sys

from orchestrator.drill.arena import Arena
from orchestrator.drill.fault import Fault, Measure
from orchestrator.embedded.cluster import Leader
from orchestrator.embedded.servers import Replica

_READY_S = 60.0
_FREEZE_S = 10.0


async def _sigterm_leader(arena: Arena) -> None:
    leader = await arena.leader()
    arena.struck(leader)
    leader.replica.terminate()
    await arena.cluster.wait_leader(above_epoch=leader.epoch)


async def _kill_leader(arena: Arena) -> None:
    leader = await arena.leader()
    arena.struck(leader)
    leader.replica.kill()
    await arena.cluster.wait_leader(above_epoch=leader.epoch)


async def _kill_leader_twice(arena: Arena) -> None:
    """The new leader is killed as soon as it has raised its epoch: it scans."""
    leader = await arena.leader()
    leader.replica.watched = False
    arena.struck(leader)
    try:
        leader.replica.kill()
        successor = await arena.epoch_above(leader.epoch)
        successor.kill()
        await arena.cluster.wait_leader(above_epoch=leader.epoch + 1)
    finally:
        leader.replica.watched = True


async def _kill_all_start_one(arena: Arena) -> None:
    leader = await arena.leader()
    for replica in arena.cluster.replicas:
        replica.watched = False
    arena.struck(leader)
    try:
        for replica in arena.cluster.replicas:
            replica.kill()
        survivor = arena.chance.choice(arena.cluster.replicas)
        survivor.watched = True
        await arena.cluster.wait_leader(above_epoch=leader.epoch)
    finally:
        for replica in arena.cluster.replicas:
            replica.watched = True


async def _freeze_leader(arena: Arena) -> None:
    leader = await arena.leader()
    arena.struck(leader)
    leader.replica.suspend()
    try:
        await arena.keep(_FREEZE_S)
    finally:
        leader.replica.resume()


async def _three_generations(arena: Arena) -> None:
    """Two leaders are frozen, one after the other, and wake together while a third leads."""
    first = await arena.leader()
    arena.struck(first)
    frozen: list[Leader] = []
    try:
        for _ in range(2):
            leader = await arena.cluster.wait_leader(above_epoch=frozen[-1].epoch if frozen else 0)
            await arena.driven(2)
            leader.replica.suspend()
            frozen.append(leader)
        await arena.cluster.wait_leader(above_epoch=frozen[-1].epoch)
        await arena.driven(5)
    finally:
        for leader in frozen:
            leader.replica.resume()


async def _rolling_restart(arena: Arena) -> None:
    """Every replica is ended and started again, in turn; where there is another release, as that one."""
    leader = await arena.leader()
    if arena.previous is None:
        arena.tell("no other release is at hand (--previous): every replica comes back as what it was")
    arena.struck(leader)
    for replica in arena.cluster.replicas:
        replica.watched = False
        try:
            replica.terminate()
            await replica.wait_exit()
            _other_release(arena, replica)
            await arena.cluster.start_replica(arena.cluster.replicas.index(replica), _READY_S)
        finally:
            replica.watched = True
        await asyncio.sleep(0)


def _other_release(arena: Arena, replica: Replica) -> None:
    """Have the replica start as the release that it was not before."""
    if arena.previous is not None:
        here = replica.argv[0] == sys.executable
        replica.argv = (str(arena.previous) if here else sys.executable, *replica.argv[1:])


FAULTS: tuple[Fault, ...] = (
    Fault(1, "sigterm-leader", "the leader is told to end, and hands over", _sigterm_leader, bound_s=0.1),
    Fault(2, "kill-leader", "the leader is killed (kill -9)", _kill_leader, bound_s=0.1),
    Fault(
        3,
        "kill-leader-twice",
        "the leader is killed, and the next one during its scan",
        _kill_leader_twice,
        changes_max=2,
    ),
    Fault(4, "kill-all-start-one", "all replicas are killed, and one is started", _kill_all_start_one),
    Fault(5, "freeze-leader", f"the leader is frozen for {_FREEZE_S:g} s and wakes", _freeze_leader, bound_s=1.0),
    Fault(
        8,
        "three-generations",
        "two frozen leaders wake while a third one leads: three epochs meet at the fence",
        _three_generations,
        changes_max=2,
    ),
    Fault(
        25,
        "rolling-restart",
        "every replica is restarted in turn, as another release where there is one",
        _rolling_restart,
        measure=Measure.PAUSE,
        bound_s=0.5,
        changes_max=3,
    ),
)
