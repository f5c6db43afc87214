"""The faults of links: what a leader is cut from, answers that nobody hears, and calls that go astray."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from orchestrator.drill.arena import Arena
from orchestrator.drill.call_proxy import CallProxy, Mischief
from orchestrator.drill.fault import Fault, Measure, Stage
from orchestrator.drill.links import ANY, STANDBYS, Links
from orchestrator.drill.proxy import BOTH, Tally, Toward
from orchestrator.embedded.processes import ProcessFailed

SERVICE = "inventory"

# How Postgres ends its answer to a statement that is committed: ReadyForQuery, in no transaction.
_READY_FOR_QUERY = b"Z\x00\x00\x00\x05I"
# What stands in no other request than the leader's writes, a raise after a handover, a start of an order.
_INTENT = b"executing"
_HANDOVER = b"handed_over"
_START = b'"order_id"'

# Longer than the beat's timeout, the lease, and the longest wait of a standby for a fresh connection together.
CUT_S = 5.0
SUCCESSION_TIMEOUT_S = 40.0
# BATON_LOG_ABSENCE_MAX_S, counted from the first write that fails; an idle leader tries one every half second.
RESIGNED_S = 8.0 + 2.0
_STRIKES = 3
_STRUCK_TIMEOUT_S = 30.0

_Disturb = Callable[[Links, str], Awaitable[None]]


def _succeeded(disturb: _Disturb) -> Callable[[Arena], Awaitable[None]]:
    """The leader is disturbed until another one leads."""

    async def strike(arena: Arena) -> None:
        links, leader = arena.the_links(), await arena.leader()
        arena.struck(leader)
        await disturb(links, leader.replica.name)
        try:
            await arena.cluster.wait_leader(above_epoch=leader.epoch, timeout_s=SUCCESSION_TIMEOUT_S)
            await arena.driven(10)
        finally:
            await links.heal()

    return strike


def _endured(disturb: _Disturb) -> Callable[[Arena], Awaitable[None]]:
    """The leader is disturbed for a while, and leads on."""

    async def strike(arena: Arena) -> None:
        links, leader = arena.the_links(), await arena.leader()
        before = await links.tally()
        arena.struck(leader)
        await disturb(links, leader.replica.name)
        try:
            await arena.keep(CUT_S)
        finally:
            await links.heal()
        arena.tell(_marks(before, await links.tally()))

    return strike


def _unheard(request: bytes, source: str) -> Callable[[Arena], Awaitable[None]]:
    """Postgres commits, and its answer is lost with the connection; `source` is whose, empty for the leader."""

    async def strike(arena: Arena) -> None:
        links, leader = arena.the_links(), await arena.leader()
        before = await links.tally()
        arena.struck(leader)
        await links.swallow_answers(source or leader.replica.name, "postgres", request, _READY_FOR_QUERY, _STRIKES)
        try:
            await _strikes(arena, links, before.struck + _STRIKES)
        finally:
            await links.heal()
        arena.tell(_marks(before, await links.tally()))

    return strike


async def _unheard_raise(arena: Arena) -> None:
    """The leader hands over, and the first answer to its successor's raise of the epoch is lost."""
    links, leader = arena.the_links(), await arena.leader()
    before = await links.tally()
    await links.swallow_answers(ANY, "postgres", _HANDOVER, _READY_FOR_QUERY)
    arena.struck(leader)
    leader.replica.terminate()
    try:
        await _strikes(arena, links, before.struck + 1)
    finally:
        await links.heal()
    await arena.cluster.wait_leader(above_epoch=leader.epoch)
    arena.tell(_marks(before, await links.tally()))


async def _strikes(arena: Arena, links: Links, wanted: int) -> None:
    loop_s = 0.0
    while (await links.tally()).struck < wanted:
        if loop_s > _STRUCK_TIMEOUT_S:
            raise ProcessFailed(f"no answer was swallowed within {_STRUCK_TIMEOUT_S:g} s: the fault has not struck")
        await arena.keep(0.05)
        loop_s += 0.05


def _astray(mischief: Mischief, keep_s: float) -> Callable[[Arena], Awaitable[None]]:
    """All calls pass proxies that make mischief; the strike ends when the last held call was delivered."""

    async def strike(arena: Arena) -> None:
        links, leader = arena.the_links(), await arena.leader()
        async with AsyncExitStack() as stack:
            proxies = []
            for name, participant in arena.cluster.participants.items():
                proxy = await stack.enter_async_context(CallProxy(participant.address, arena.chance.getrandbits(32)))
                proxy.mischief = mischief
                proxies.append(proxy)
                await links.divert(ANY, name, proxy.address)
            arena.struck(leader)
            try:
                await arena.keep(keep_s)
            finally:
                await links.heal()
            for proxy in proxies:
                await proxy.settled()
            tallies = [proxy.tally for proxy in proxies]
        arena.tell(
            f"{sum(tally.taken for tally in tallies)} calls: {sum(tally.duplicated for tally in tallies)} duplicated, "
            f"{sum(tally.held for tally in tallies)} held, {sum(tally.overtaken for tally in tallies)} overtaken"
        )

    return strike


def _marks(before: Tally, after: Tally) -> str:
    """What the links have done between two tallies, in words."""
    return (
        f"{after.resets - before.resets} resets, {after.held_bytes - before.held_bytes} bytes held, "
        f"{after.delayed_bytes - before.delayed_bytes} delayed, {after.struck - before.struck} answers swallowed"
    )


def _etcd(disturb: _Disturb, name: str, how: str) -> Fault:
    says = f"the leader is {how} every member of etcd, Postgres fine: it drives on until another one raises the epoch"
    # No gap but a pause: until its key has expired and a standby has raised the epoch, the old leader drives.
    return Fault(9, name, says, _succeeded(disturb), stage=Stage.LINKS, measure=Measure.PAUSE, bound_s=1.0)


def _postgres(disturb: _Disturb, name: str, how: str) -> Fault:
    says = f"the leader is {how} Postgres alone: it resigns after BATON_LOG_ABSENCE_MAX_S (8 s), and another leads"
    return Fault(10, name, says, _succeeded(disturb), stage=Stage.LINKS, measure=Measure.GAP, bound_s=RESIGNED_S)


def _standbys(disturb: _Disturb, name: str, says: str) -> Fault:
    strike = _endured(disturb)
    return Fault(11, name, says, strike, stage=Stage.LINKS, measure=Measure.PAUSE, bound_s=1.0, changes_max=0)


def _participant(disturb: _Disturb, name: str, how: str) -> Fault:
    says = f"every replica is {how} {SERVICE}: its steps are retried, then compensated; nobody else leads"
    return Fault(12, name, says, _endured(disturb), stage=Stage.LINKS, measure=Measure.NONE, changes_max=0)


def _commit(strike: Callable[[Arena], Awaitable[None]], name: str, what: str, changes_max: int) -> Fault:
    return Fault(18, name, f"Postgres commits {what}, and nobody hears of it", strike, stage=Stage.LINKS,
                 measure=Measure.NONE, changes_max=changes_max)  # fmt: skip


def _calls(mischief: Mischief, keep_s: float, name: str, how: str, repetitions: int = 20, reason: str = "") -> Fault:
    return Fault(22, name, f"calls to every participant are {how}", _astray(mischief, keep_s), stage=Stage.LINKS,
                 measure=Measure.NONE, changes_max=0, repetitions=repetitions, reason=reason)  # fmt: skip


def _blackholed(source: str, target: str, toward: Sequence[Toward] = BOTH) -> _Disturb:
    """The link of `source` (empty: of the leader) to `target` (empty: the leader) is a blackhole."""
    return lambda links, leader: links.blackhole(source or leader, target or leader, toward)


_DUPLICATED = Mischief(duplicated=0.5, jitter_s=0.05)
_LATE = Mischief(held=0.05, hold_s=8.0, jitter_s=0.05)
_A_MINUTE_LATE = Mischief(held=0.05, hold_s=60.0, duplicated=0.1, jitter_s=0.05)
_MINUTE = "each lasts more than a minute; `calls-late` repeats the same with calls held for 8 s, longer than an attempt"

FAULTS: tuple[Fault, ...] = (
    _etcd(lambda links, leader: links.cut(leader, "etcd"), "etcd-cut", "cut from"),
    _etcd(_blackholed("", "etcd"), "etcd-blackhole", "in a blackhole towards"),
    _etcd(lambda links, leader: links.unplug(leader, "etcd"), "etcd-unplugged", "unplugged from"),
    _postgres(lambda links, leader: links.cut(leader, "postgres"), "postgres-cut", "cut from"),
    _postgres(_blackholed("", "postgres"), "postgres-blackhole", "in a blackhole towards"),
    _standbys(
        lambda links, leader: links.reset(STANDBYS, leader),
        "standbys-reset",
        "the standbys' connections to the leader are reset: they connect again, and accuse nobody",
    ),
    _standbys(
        lambda links, leader: links.unplug(STANDBYS, leader),
        "standbys-unplugged",
        "the standbys lose every packet to and from the leader: silence is no evidence",
    ),
    _standbys(
        lambda links, leader: links.delay(STANDBYS, leader, 0.2),
        "standbys-slow",
        "the leader's beats come 0.2 s late, less than the beat's timeout",
    ),
    Fault(
        11,
        "standbys-answered-for",
        "something accepts the standbys' connections in the leader's place and says nothing, which looks like a frozen "
        "process: that costs one failover, and no more",
        _succeeded(_blackholed(STANDBYS, "")),
        stage=Stage.LINKS,
        measure=Measure.GAP,
        bound_s=2.0,
    ),
    _participant(lambda links, _: links.cut(ANY, SERVICE), "participant-cut", "cut from"),
    _participant(_blackholed(ANY, SERVICE), "participant-blackhole", "in a blackhole towards"),
    _participant(_blackholed(ANY, SERVICE, [Toward.SERVER]), "participant-deaf", "not heard by"),
    _participant(_blackholed(ANY, SERVICE, [Toward.CLIENT]), "participant-mute", "heard, but not answered by"),
    _commit(_unheard(_INTENT, ""), "commit-unheard", "writes of the leader", 0),
    _commit(_unheard(_START, ANY), "start-unheard", "starts of sagas, on every replica", 0),
    # The raise that nobody heard of counts. Its winner gives the key back, and the next one raises the epoch again.
    _commit(_unheard_raise, "raise-unheard", "the raise of the epoch", 2),
    _calls(_DUPLICATED, 8.0, "calls-duplicated", "delivered twice and in another order"),
    _calls(_LATE, 8.0, "calls-late", "held back for 8 s at every attempt, one step in twenty, and reordered"),
    _calls(_A_MINUTE_LATE, 10.0, "calls-a-minute-late", "held back for 60 s, duplicated and reordered", 1, _MINUTE),
)
