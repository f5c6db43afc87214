"""Faults of single sagas and of participants: a crash around a commit, and sagas that no driver can understand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import psycopg

from orchestrator.audit.evidence import Acknowledgement
from orchestrator.drill.arena import Arena
from orchestrator.drill.fault import Fault, Measure
from orchestrator.drill.injection import clear, inject
from orchestrator.embedded.processes import ProcessFailed

_WITHIN_S = 60.0
_ASK_INTERVAL_S = 0.05
# The poisoned saga waits in its call for so long: time enough to poison its row.
_WAITS_MS = 20_000

# What a hand on the database does to the row of a saga under way.
_NO_OBJECT = b"UPDATE baton.saga SET input = '[1]' WHERE id = %(id)s"
_NO_VERSION = b"UPDATE baton.saga SET version = 99 WHERE id = %(id)s"


def _crash(*, after: bool) -> Callable[[Arena], Awaitable[None]]:
    """A participant by chance ends at the next call, around the commit of its effect."""

    async def strike(arena: Arena) -> None:
        leader = await arena.leader()
        participant = arena.chance.choice(list(arena.cluster.participants.values()))
        rule = {"crash_after_commit" if after else "crash_before_commit": True, "times": 1}
        ended = asyncio.ensure_future(participant.wait_exit())
        try:
            await inject(participant, rule)
            arena.struck(leader)
            async with asyncio.timeout(_WITHIN_S):
                await ended
        finally:
            ended.cancel()
        await participant.wait_ready(_WITHIN_S)

    return strike


def _poison(statement: bytes) -> Callable[[Arena], Awaitable[None]]:
    """The row of a saga under way is spoilt, and the leader killed: every later leader meets that row in its scan."""

    async def strike(arena: Arena) -> None:
        leader = await arena.leader()
        name = f"poison-{arena.chance.getrandbits(48):012x}"
        payment = arena.cluster.participants["payment"]
        rule_id = await inject(payment, {"order_id": name, "method": "Charge", "delay_ms": _WAITS_MS, "times": 1})
        try:
            saga_id = await _start(arena, name)
            async with await psycopg.AsyncConnection.connect(arena.cluster.baton_dsn, autocommit=True) as connection:
                await _until(connection, b"SELECT count(*) > 0 FROM baton.step_log WHERE saga_id = %(id)s", saga_id)
                spoilt = await connection.execute(statement, {"id": saga_id})
                if spoilt.rowcount != 1:
                    raise ProcessFailed(f"saga {saga_id} has no row to be spoilt")
                arena.struck(leader)
                leader.replica.kill()
                await arena.cluster.wait_leader(above_epoch=leader.epoch)
                await _until(connection, b"SELECT state = 'FAILED' FROM baton.saga WHERE id = %(id)s", saga_id)
        finally:
            await clear(payment, rule_id)

    return strike


async def _start(arena: Arena, name: str) -> str:
    order = {
        "order_id": name,
        "customer_id": "c1",
        "amount": "12.34",
        "destination": "Germany",
        "lines": [{"stock_code": "s1", "quantity": 1}],
    }
    answer = await arena.load.starter.start_saga(
        arena.load.definition, orjson.dumps(order).decode(), request_id=name, deadline_s=_WITHIN_S
    )
    saga_id = answer.saga.saga_id
    arena.load.acknowledged.append(Acknowledgement(name, saga_id))
    return saga_id


async def _until(connection: psycopg.AsyncConnection[tuple[object, ...]], question: bytes, saga_id: str) -> None:
    """Ask the log until it says yes. Raises TimeoutError."""
    async with asyncio.timeout(_WITHIN_S):
        while True:
            row = await (await connection.execute(question, {"id": saga_id})).fetchone()
            if row is not None and row[0]:
                return
            await asyncio.sleep(_ASK_INTERVAL_S)


FAULTS: tuple[Fault, ...] = (
    Fault(
        23,
        "participant-crashes-before-commit",
        "a participant ends before the commit of an effect, and comes back",
        _crash(after=False),
        measure=Measure.NONE,
        changes_max=0,
    ),
    Fault(
        23,
        "participant-crashes-after-commit",
        "a participant ends after the commit of an effect that nobody has heard of, and comes back",
        _crash(after=True),
        measure=Measure.NONE,
        changes_max=0,
    ),
    Fault(
        24,
        "poison-saga",
        "the row of one saga raises in every driver: it is parked, and all others finish",
        _poison(_NO_OBJECT),
    ),
    Fault(
        24,
        "poison-version",
        "one saga is of a version that nobody knows: it is parked, and all others finish",
        _poison(_NO_VERSION),
    ),
)
