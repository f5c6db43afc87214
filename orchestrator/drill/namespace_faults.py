"""The faults of links once more, with packets that are really lost, for one replica alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from orchestrator.drill.arena import Arena
from orchestrator.drill.fault import Fault, Measure, Stage
from orchestrator.drill.link_faults import CUT_S, RESIGNED_S, SERVICE, SUCCESSION_TIMEOUT_S
from orchestrator.drill.namespaces import why_not
from orchestrator.drill.proxy import BOTH, Toward
from orchestrator.embedded.processes import ProcessFailed

_Lose = Callable[[Arena, str], None]


def _succeeded(lose: _Lose) -> Callable[[Arena], Awaitable[None]]:
    """Packets of the leader are lost until another one leads."""

    async def strike(arena: Arena) -> None:
        leader = await arena.leader()
        arena.struck(leader)
        try:
            lose(arena, leader.replica.name)
            await arena.cluster.wait_leader(above_epoch=leader.epoch, timeout_s=SUCCESSION_TIMEOUT_S)
            await arena.driven(10)
            _tell(arena)
        finally:
            arena.the_namespaces().heal()

    return strike


def _endured(lose: _Lose) -> Callable[[Arena], Awaitable[None]]:
    """Packets of the leader are lost for a while, and it leads on."""

    async def strike(arena: Arena) -> None:
        leader = await arena.leader()
        arena.struck(leader)
        try:
            lose(arena, leader.replica.name)
            await arena.keep(CUT_S)
            _tell(arena)
        finally:
            arena.the_namespaces().heal()

    return strike


def _tell(arena: Arena) -> None:
    dropped = arena.the_namespaces().dropped()
    if not dropped:
        raise ProcessFailed("no packet was dropped: the fault has not struck")
    arena.tell(f"{dropped} packets dropped")


def _to(target: str, toward: Sequence[Toward] = BOTH) -> _Lose:
    """What the leader and the target send each other is lost, or what one of them sends."""
    return lambda arena, leader: arena.the_namespaces().lose(leader, target, toward)


def _from_standbys(toward: Sequence[Toward] = BOTH) -> _Lose:
    """What the standbys and the leader's beacon send each other is lost, or what one side sends."""

    def lose(arena: Arena, leader: str) -> None:
        for replica in arena.cluster.replicas:
            if replica.name != leader:
                arena.the_namespaces().lose(replica.name, leader, toward)

    return lose


def _fault(
    number: int, name: str, says: str, strike: Callable[[Arena], Awaitable[None]], measure: Measure,
    bound_s: float | None, changes_max: int,
) -> Fault:  # fmt: skip
    return Fault(number, name, says, strike, stage=Stage.NAMESPACES, measure=measure, bound_s=bound_s,
                 changes_max=changes_max, needs=why_not)  # fmt: skip


def _etcd(name: str, what: str, toward: Sequence[Toward]) -> Fault:
    says = f"{what} the leader and etcd: it drives on until another one raises the epoch"
    return _fault(9, name, says, _succeeded(_to("etcd", toward)), Measure.PAUSE, 1.0, 1)


def _postgres(name: str, what: str, toward: Sequence[Toward]) -> Fault:
    says = f"{what} the leader and Postgres alone: it resigns, and another leads"
    return _fault(10, name, says, _succeeded(_to("postgres", toward)), Measure.GAP, RESIGNED_S, 1)


def _standbys(name: str, what: str, toward: Sequence[Toward]) -> Fault:
    says = f"{what} the leader's beacon and the standbys: silence accuses nobody"
    return _fault(11, name, says, _endured(_from_standbys(toward)), Measure.PAUSE, 1.0, 0)


def _participant(name: str, what: str, toward: Sequence[Toward]) -> Fault:
    says = f"{what} the leader and {SERVICE}, which the other replicas reach: nobody else leads for that"
    return _fault(12, name, says, _endured(_to(SERVICE, toward)), Measure.NONE, None, 0)


_BETWEEN = "packets are lost between"
_THERE = "packets are lost one way, on the way there, between"
_BACK = "packets are lost one way, on the way back, between"

FAULTS: tuple[Fault, ...] = (
    _etcd("etcd-lost", _BETWEEN, BOTH),
    _etcd("etcd-lost-there", _THERE, [Toward.SERVER]),
    _etcd("etcd-lost-back", _BACK, [Toward.CLIENT]),
    _postgres("postgres-lost", _BETWEEN, BOTH),
    _postgres("postgres-lost-there", _THERE, [Toward.SERVER]),
    _postgres("postgres-lost-back", _BACK, [Toward.CLIENT]),
    _standbys("standbys-lost", _BETWEEN, BOTH),
    _standbys("standbys-lost-there", _THERE, [Toward.SERVER]),
    _standbys("standbys-lost-back", _BACK, [Toward.CLIENT]),
    _participant("participant-lost", _BETWEEN, BOTH),
    _participant("participant-lost-there", _THERE, [Toward.SERVER]),
    _participant("participant-lost-back", _BACK, [Toward.CLIENT]),
)
