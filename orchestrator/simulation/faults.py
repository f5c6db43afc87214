"""The faults of the simulation: what each does to the world, how often it comes, and which a seed has at all.

Which faults are possible in a run is itself drawn by the seed (swarm testing: Groce et al., ISSTA 2012): a run in which
everything may happen seldom goes deep into anything. `Fault.cause` is how many changes of leadership it may account
for (I8); one that holds on is given one more for every few seconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.leadership.port import Delete, LeaseId, Txn
from orchestrator.simulation.network import Fate, Weather
from orchestrator.simulation.replica import KEYS, Replica, Weathers
from orchestrator.simulation.services import Temper

if TYPE_CHECKING:
    from orchestrator.simulation.stage import Stage

# How long a fault lasts, in seconds: mostly short, now and then longer than leases, timeouts and budgets.
_SHORT_S, _LONG_S = 1.5, 12.0


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault: `strike` does it and arranges its end."""

    name: str
    weight: float
    cause: int
    strike: Callable[[Stage, random.Random], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed has drawn: the faults that strike with their times in seconds, and the weather."""

    strikes: tuple[tuple[float, Fault], ...]
    weathers: Weathers
    poison: float
    # Whether the participants refuse an old epoch: everything must hold without it as well (R6).
    epochs: bool
    # How likely a statement on Postgres takes up to a second: it is still open when its client has long ended.
    slow: float


def draw(chance: random.Random, load_s: float) -> Plan:
    """The plan of one seed: 10 to 25 faults over the time of the load."""
    possible = [fault for fault in FAULTS if chance.random() < 0.5] or list(FAULTS)
    weights = [fault.weight for fault in possible]
    times = sorted(chance.uniform(0.5, load_s) for _ in range(chance.randint(10, 25)))
    strikes = tuple((at_s, chance.choices(possible, weights)[0]) for at_s in times)
    return Plan(
        strikes,
        _weathers(chance),
        0.02 if chance.random() < 0.1 else 0.0,
        chance.random() < 0.5,
        chance.choice((0.0, 0.02)),
    )


def _weathers(chance: random.Random) -> Weathers:
    lost, late, twice = (chance.choice((0.0, 0.01, 0.05)) for _ in range(3))
    unheard = chance.choice((0.0, 0.01, 0.05))
    late_max_s = 60.0 if chance.random() < 0.1 else 8.0
    return Weathers(
        etcd=Weather(0.001, 0.003, _fates(lost / 2, unheard / 2, late / 2, 0.0), 4.0),
        postgres=Weather(0.0005, 0.002, _fates(lost / 2, unheard / 2, late / 2, 0.0), 6.0),
        services=Weather(
            0.001, chance.choice((0.004, 0.05)), _fates(1.4 * lost, 1.4 * unheard, 2 * late, twice), late_max_s
        ),
    )


def _fates(lost: float, unheard: float, late: float, twice: float) -> tuple[tuple[Fate, float], ...]:
    drawn = ((Fate.REQUEST_LOST, lost), (Fate.ANSWER_LOST, unheard), (Fate.LATE, late), (Fate.TWICE, twice))
    return tuple((fate, likely) for fate, likely in drawn if likely)


def _lasting(chance: random.Random) -> float:
    return chance.uniform(0.05, _SHORT_S if chance.random() < 0.6 else _LONG_S)


def _victim(stage: Stage, chance: random.Random) -> Replica | None:
    """Mostly the leader."""
    leader = stage.leader()
    running = stage.running()
    if leader is not None and chance.random() < 0.75:
        return leader
    return chance.choice(running) if running else None


# Processes.


def _kill(stage: Stage, chance: random.Random) -> None:
    if victim := _victim(stage, chance):
        stage.kill(victim, restart_after_s=chance.choice((0.05, 0.5, 4.0)) * chance.random())


def _kill_heir(stage: Stage, chance: random.Random) -> None:
    """The leader, and then its successor, a moment after it has raised the epoch."""
    _kill(stage, chance)
    delay_s = 0.05 * chance.random()
    stage.at_next_raise(lambda: stage.after(delay_s, lambda: _kill_leader(stage, chance)))


def _kill_leader(stage: Stage, chance: random.Random) -> None:
    if leader := stage.leader():
        stage.kill(leader, restart_after_s=2 * chance.random())


def _kill_all(stage: Stage, chance: random.Random) -> None:
    for replica in stage.running():
        stage.kill(replica, restart_after_s=3 * chance.random())


def _terminate(stage: Stage, chance: random.Random) -> None:
    if victim := _victim(stage, chance):
        stage.terminate(victim, restart_after_s=2 * chance.random())


def _freeze(stage: Stage, chance: random.Random) -> None:
    if victim := _victim(stage, chance):
        stage.freeze(victim, _lasting(chance), threads=True)


def _hang(stage: Stage, chance: random.Random) -> None:
    if victim := _victim(stage, chance):
        stage.freeze(victim, _lasting(chance) / 2, threads=False)


def _generations(stage: Stage, chance: random.Random) -> None:
    """Three leaders, each frozen in the middle of its work, that wake together."""
    frozen: list[Replica] = []

    def one_more() -> None:
        leader = stage.leader()
        if leader is not None and not leader.frozen:
            stage.freeze(leader, None, threads=True)
            frozen.append(leader)
        if len(frozen) < 3:
            stage.at_next_raise(lambda: stage.after(0.1 * chance.random(), one_more))

    one_more()
    stage.after(chance.uniform(4, 10), lambda: stage.wake(*frozen))


def _step_down(stage: Stage, chance: random.Random) -> None:
    if leader := stage.leader():
        stage.step_down(leader, chance.random())


def _clock(stage: Stage, chance: random.Random) -> None:
    if victim := _victim(stage, chance):
        victim.skew_s = chance.choice((-3600.0, 3600.0, 0.0, -5.0, 5.0))
        stage.trace.note("clock_moved", victim.incarnation, victim.skew_s)


def _accuse(stage: Stage, chance: random.Random) -> None:
    if leader := stage.leader():
        stage.slander(leader, 1.5)


# Links.


def _cut(stage: Stage, chance: random.Random) -> None:
    victim = _victim(stage, chance)
    if victim is None:
        return
    others = [name for name in stage.names if name != victim.name]
    other = chance.choice(["etcd", "postgres", *others, *stage.services])
    pairs = [(victim.name, other), (other, victim.name)]
    ways = chance.choice((pairs, pairs[:1], pairs[1:]))
    stage.cut(ways, _lasting(chance))


def _isolate(stage: Stage, chance: random.Random) -> None:
    if victim := _victim(stage, chance):
        others = [name for name in stage.names if name != victim.name] + ["etcd", "postgres"]
        stage.cut([pair for other in others for pair in ((victim.name, other), (other, victim.name))], _lasting(chance))


# Stores.


def _postgres_restarts(stage: Stage, chance: random.Random) -> None:
    stage.stop_postgres(0.5 * chance.random())


def _postgres_away(stage: Stage, chance: random.Random) -> None:
    stage.stop_postgres(_lasting(chance))


def _postgres_slow(stage: Stage, chance: random.Random) -> None:
    stage.postgres.slow, stage.postgres.slow_max_s = chance.choice((0.05, 0.3)), chance.choice((0.1, 1.0, 4.0))
    stage.after(_lasting(chance), stage.heal_postgres_speed)


def _no_quorum(stage: Stage, chance: random.Random) -> None:
    stage.lose_quorum(chance.choice((1.6, 5.0, 15.0)) * chance.random())


def _etcd_away(stage: Stage, chance: random.Random) -> None:
    stage.stop_etcd(_lasting(chance))


def _lease_ends(stage: Stage, chance: random.Random) -> None:
    victim = _victim(stage, chance)
    key = stage.etcd.entries.get(KEYS.replica(victim.name)) if victim else None
    if key is not None:
        stage.etcd.revoke(LeaseId(key.lease))


def _compact(stage: Stage, _: random.Random) -> None:
    stage.etcd.compact(stage.etcd.revision)


def _key_deleted(stage: Stage, _: random.Random) -> None:
    stage.etcd.run(Txn((), (Delete(KEYS.leader),)))


def _etcd_restored(stage: Stage, chance: random.Random) -> None:
    stage.restore_etcd(another_id=chance.random() < 0.5)


def _etcd_wiped(stage: Stage, chance: random.Random) -> None:
    stage.wipe_etcd(another_id=chance.random() < 0.5)


# Participants and sagas.


def _service_away(stage: Stage, chance: random.Random) -> None:
    stage.stop_service(chance.choice(list(stage.services)), _lasting(chance))


def _service_crashes(stage: Stage, chance: random.Random) -> None:
    service = stage.services[chance.choice(list(stage.services))]
    service.temper = Temper(chance.choice((0.0, 0.3)), chance.choice((0.1, 0.5)), chance.choice((0.0, 0.3)), 3.0)
    stage.after(_lasting(chance), service.calm)


def _corrupt(stage: Stage, chance: random.Random) -> None:
    live = [row.id for row in stage.postgres.log.rows.values() if row.events and not row.state.terminal]
    if live:
        stage.postgres.history.corrupt[chance.choice(live)] = None


FAULTS = (
    Fault("kill", 6, 1, _kill),
    Fault("kill_heir", 3, 2, _kill_heir),
    Fault("kill_all", 1, 2, _kill_all),
    Fault("sigterm", 3, 1, _terminate),
    Fault("freeze", 5, 2, _freeze),
    Fault("hang", 3, 2, _hang),
    Fault("three_generations", 1.5, 6, _generations),
    Fault("step_down", 2, 1, _step_down),
    Fault("clock_moved", 2, 0, _clock),
    Fault("slander", 1, 1, _accuse),
    Fault("cut", 6, 2, _cut),
    Fault("isolate", 3, 2, _isolate),
    Fault("postgres_restart", 3, 1, _postgres_restarts),
    Fault("postgres_away", 2, 2, _postgres_away),
    Fault("postgres_slow", 2, 2, _postgres_slow),
    Fault("etcd_no_quorum", 2, 2, _no_quorum),
    Fault("etcd_away", 2, 2, _etcd_away),
    Fault("lease_ends", 2, 1, _lease_ends),
    Fault("etcd_compacted", 1, 0, _compact),
    Fault("key_deleted", 0.5, 1, _key_deleted),
    Fault("etcd_restored", 0.4, 3, _etcd_restored),
    Fault("etcd_wiped", 0.3, 3, _etcd_wiped),
    Fault("service_away", 4, 0, _service_away),
    Fault("service_crashes", 4, 0, _service_crashes),
    Fault("corrupt_saga", 0.4, 0, _corrupt),
)
