"""The fault of too much work: a leader dies with a hundred thousand sagas in flight.

The sagas lie in the log as a leader leaves them: the intent of the first step is written, nobody has been called yet.
"""

from __future__ import annotations

import asyncio
import random
import time

import orjson
import psycopg

from orchestrator.drill.arena import Arena
from orchestrator.drill.fault import Fault
from orchestrator.drill.vitals import examine
from orchestrator.embedded.processes import ProcessFailed
from orchestrator.saga.ids import RANDOM_BITS, saga_id

SAGAS = 100_000
# A leader drives 10,000 sagas at once by default (BATON_SAGAS_MAX), and one may cost it 20 kB (benchmarks/takeover.py).
GROWTH_MAX_BYTES = 10_000 * 20_000
# When so few are left, the ordinary load is most of it.
_FEW = 500
_SAMPLE_EVERY_S = 1.0
_TELL_EVERY_S = 20.0

_SAGA = "id, shard, request_id, request_hash, definition, version, state, current_step, sequence, epoch, input"
_ROW = "saga_id, sequence, step, position, status, attempt, epoch"
_FIRST_STEP = "create_order"


async def _strike(arena: Arena) -> None:
    leader = await arena.leader()
    arena.tell(f"{SAGAS:,} sagas are put into the log, each with the intent of its first step")
    await asyncio.to_thread(_leave_behind, arena.cluster.baton_dsn, leader.epoch, arena.chance)
    before = {replica.name: await _private_bytes(replica.name, replica.pid) for replica in arena.cluster.replicas}
    arena.struck(leader)
    leader.replica.kill()
    successor = (await arena.cluster.wait_leader(above_epoch=leader.epoch)).replica
    most, told_s = 0, time.monotonic()
    while (unfinished := (await arena.gauge.picture()).unfinished) > _FEW:
        most = max(most, await _private_bytes(successor.name, successor.pid))
        if time.monotonic() > told_s + _TELL_EVERY_S:
            told_s = time.monotonic()
            arena.tell(f"{unfinished:,} sagas are unfinished")
        await asyncio.sleep(_SAMPLE_EVERY_S)
    grown = most - before[successor.name]
    arena.tell(f"{successor.name} took over {SAGAS:,} sagas and grew by {grown / 1e6:.0f} MB")
    if grown > GROWTH_MAX_BYTES:
        raise ProcessFailed(f"{successor.name} grew by {grown:,} bytes, more than {GROWTH_MAX_BYTES:,}")


async def _private_bytes(name: str, pid: int) -> int:
    found = await examine({name: (pid, None)}, 0.0)
    return found[0].private_bytes if found else 0


def _leave_behind(dsn: str, epoch: int, chance: random.Random) -> None:
    """Store sagas of an order as the leader of this epoch leaves them behind when it dies."""
    milliseconds = time.time_ns() // 1_000_000
    identities = [saga_id(milliseconds, chance.getrandbits(RANDOM_BITS)) for _ in range(SAGAS)]
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        with cursor.copy(f"COPY baton.saga ({_SAGA}) FROM STDIN".encode()) as copy:
            for number, identity in enumerate(identities):
                order = orjson.dumps(_order(number)).decode()
                copy.write_row(
                    (identity, 0, f"crowd-{number}", "\\x00", "order", 1, "RUNNING", _FIRST_STEP, 1, epoch, order)
                )
        with cursor.copy(f"COPY baton.step_log ({_ROW}) FROM STDIN".encode()) as copy:
            for identity in identities:
                copy.write_row((identity, 1, _FIRST_STEP, 1, "executing", 1, epoch))


def _order(number: int) -> dict[str, object]:
    lines = [{"stock_code": f"s{number % 97}", "quantity": 1}]
    customer = f"c{number % 50}"
    return {
        "order_id": f"crowd-{number}",
        "customer_id": customer,
        "amount": "12.34",
        "destination": "Germany",
        "lines": lines,
    }


FAULTS: tuple[Fault, ...] = (
    Fault(
        26,
        "hundred-thousand-in-flight",
        f"the leader is killed with {SAGAS:,} sagas in flight; the next one's memory stays bounded",
        _strike,
        bound_s=0.15,
        repetitions=1,
        reason="it takes many minutes until all have ended; benchmarks/takeover.py repeats the takeover of 10,000",
        strike_max_s=3000.0,
    ),
)
