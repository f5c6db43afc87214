"""Which host of a DSN with several takes a connection: the first one that answers with what is asked for.

psycopg tries the hosts one after the other, and gives each the whole connect timeout: a host that is a black hole, as
a machine that has lost its power, would cost all the time there is. Here the next host is tried as soon as the one
before has failed, or has not answered for a moment, and the first that takes the connection wins (RFC 8305 does so
with addresses). So a black hole costs a moment, and a standby, which `target_session_attrs` refuses, costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

# How long a host has for itself before the next one is tried as well.
HEAD_START_S = 0.25

# What libpq takes as comma lists, with one entry for each host.
_LISTS = ("host", "hostaddr", "port")

Connect = Callable[[str], Awaitable[psycopg.AsyncConnection]]
_Outcome = psycopg.AsyncConnection | psycopg.Error


def hosts_of(conninfo: str) -> list[str]:
    """The conninfo of each single host of `conninfo`, in its order. Raises psycopg.ProgrammingError."""
    parameters = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    lists = {name: parameters[name].split(",") for name in _LISTS if name in parameters}
    count = max((len(entries) for entries in lists.values()), default=1)
    if any(len(entries) not in (1, count) for entries in lists.values()):
        raise psycopg.ProgrammingError("the DSN does not name as many ports as hosts")
    # One port may stand for all hosts.
    spread = {name: entries * (count // len(entries)) for name, entries in lists.items()}
    return [
        make_conninfo("", **{**parameters, **{name: entries[index] for name, entries in spread.items()}})
        for index in range(count)
    ]


async def connect_to_any(hosts: Sequence[str], connect: Connect) -> psycopg.AsyncConnection:
    """The connection that `connect` makes first, given the conninfo of one host each; its caller bounds the time.

    Raises psycopg.OperationalError with what each host has answered.
    """
    if len(hosts) == 1:
        return await connect(hosts[0])
    left = list(hosts)
    errors: list[psycopg.Error] = []
    trying: set[asyncio.Task[_Outcome]] = set()
    async with asyncio.TaskGroup() as group:
        try:
            while left or trying:
                if left:
                    trying.add(group.create_task(_outcome(connect, left.pop(0))))
                head_start_s = HEAD_START_S if left else None
                done, trying = await asyncio.wait(trying, timeout=head_start_s, return_when=asyncio.FIRST_COMPLETED)
                outcomes = [task.result() for task in done]
                errors += [outcome for outcome in outcomes if isinstance(outcome, psycopg.Error)]
                if made := [outcome for outcome in outcomes if isinstance(outcome, psycopg.AsyncConnection)]:
                    return await _keep_first(made)
        finally:
            for task in trying:
                task.cancel()
    raise psycopg.OperationalError("; ".join(str(error).strip() for error in errors))


async def _keep_first(connections: Sequence[psycopg.AsyncConnection]) -> psycopg.AsyncConnection:
    for connection in connections[1:]:
        await connection.close()
    return connections[0]


async def _outcome(connect: Connect, host: str) -> _Outcome:
    try:
        return await connect(host)
    except psycopg.Error as error:
        return error
