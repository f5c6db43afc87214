"""Faults of whole processes: replicas, participants, etcd and Postgres are killed, frozen, and started again."""

from __future__ import annotations

from orchestrator.drill.arena import Arena
from orchestrator.drill.fault import Fault

GAP_S = 0.1


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


FAULTS: tuple[Fault, ...] = (
    Fault(1, "sigterm-leader", "the leader is told to end, and hands over", _sigterm_leader, bound_s=GAP_S),
    Fault(2, "kill-leader", "the leader is killed (kill -9)", _kill_leader, bound_s=GAP_S),
)
