"""Faults of the wall clock: replicas whose clocks are an hour wrong, each in another direction.

libfaketime moves the wall clock of a process while it runs, by what a file says. Clocks that only count on, as
CLOCK_MONOTONIC and CLOCK_BOOTTIME, stay as they are: no machine's administrator can move those either.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.drill.arena import Arena
from orchestrator.drill.fault import Fault
from orchestrator.embedded.servers import Replica

_READY_S = 60.0
_AHEAD, _BEHIND, _RIGHT = "+3600", "-3600", "+0"
_CACHE_S = 1
# So long a leader drives on with its wrong clock before it dies: it has seen the file, and begun and ended sagas.
_KEEP_S = _CACHE_S + 2.0


def _library() -> Path | None:
    """Where Debian, and distributions like it, have libfaketime."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return found[0] if found else None


def _missing() -> str | None:
    return None if _library() else "libfaketime is not installed (Debian: apt-get install libfaketime)"


async def _prepare(arena: Arena) -> None:
    """Restart every replica with a wall clock that can be moved."""
    cluster = arena.cluster
    for index, replica in enumerate(cluster.replicas):
        replica.watched = False
        replica.terminate()
        await replica.wait_exit()
        _move(replica, _RIGHT)
        replica.env |= {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(_file(replica)),
            # Without a cache the file is read at each look at the clock, which makes a replica too slow to live.
            "FAKETIME_CACHE_DURATION": f"{_CACHE_S:d}",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        await cluster.start_replica(index, _READY_S)
        replica.watched = True


async def _strike(arena: Arena) -> None:
    """The leader's clock goes an hour ahead; it drives on, and dies; the next one's clock is an hour behind."""
    leader = await arena.leader()
    replicas = arena.cluster.replicas
    try:
        _move(leader.replica, _AHEAD)
        await arena.keep(_KEEP_S)
        for standby in replicas:
            if standby is not leader.replica:
                _move(standby, _BEHIND)
        await arena.keep(_KEEP_S)
        arena.struck(leader)
        leader.replica.kill()
        await arena.cluster.wait_leader(above_epoch=leader.epoch)
        await arena.driven(20)
    finally:
        for replica in replicas:
            _move(replica, _RIGHT)
    await arena.driven(10)


def _file(replica: Replica) -> Path:
    return replica.log_path.with_name(f"{replica.replica_id}.clock")


def _move(replica: Replica, offset: str) -> None:
    """Have the replica's wall clock go wrong by so many seconds, from now on."""
    fresh = _file(replica).with_suffix(".fresh")
    fresh.write_text(offset)
    fresh.rename(_file(replica))  # at once: a clock that is read meanwhile finds the one or the other


FAULTS: tuple[Fault, ...] = (
    Fault(
        21,
        "wall-clock-moved",
        "the leader's wall clock goes an hour ahead, those of the standbys an hour behind; then the leader is killed",
        _strike,
        bound_s=0.1,
        needs=_missing,
        prepare=_prepare,
    ),
)
