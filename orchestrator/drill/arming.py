"""Arms failpoints of running replicas over their HTTP ports, and waits for what they do."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from orchestrator.embedded.servers import Replica
from orchestrator.errors import BatonError

# What every replica of a drill is started with: nothing is armed, and everything may be.
SETTINGS = {"BATON_FAILPOINTS": "on"}

# A replica that stands still at what it was armed with answers nothing more; one that is slow does by and by.
_ARM_TIMEOUT_S = 2.0
_ANSWER_TIMEOUT_S = 20.0
_ASK_INTERVAL_S = 0.005

# A proxy of the user's environment knows nothing of our ports.
_direct = build_opener(ProxyHandler({}))


class CannotArm(BatonError):
    """A replica refuses a failpoint, or lets nobody arm any: start it with BATON_FAILPOINTS=on."""


async def arm(replica: Replica, point: str, terms: str) -> None:
    """Arm a failpoint of one replica. Raises CannotArm."""
    await asyncio.to_thread(_ask, replica, "PUT", point, terms)


async def disarm(replica: Replica) -> None:
    """Disarm all failpoints of a replica; does nothing when it does not answer."""
    try:
        await asyncio.to_thread(_ask, replica, "DELETE", "", "")
    except CannotArm:
        return


async def struck(replica: Replica, point: str) -> int:
    """How often a failpoint has struck in this replica's life. Raises CannotArm when it does not answer."""
    answer = await asyncio.to_thread(_ask, replica, "GET", point, "")
    return int(answer["struck"])


async def until_struck(replica: Replica, point: str, timeout_s: float, before: int = 0) -> None:
    """Wait until a failpoint of a replica that goes on has struck more often than `before`.

    Raises ProcessFailed after `timeout_s` seconds.
    """
    give_up_at_s = time.monotonic() + timeout_s
    while await struck(replica, point) <= before:
        if time.monotonic() > give_up_at_s:
            raise replica.failed(f"has not passed {point} within {timeout_s:g} s")
        await asyncio.sleep(_ASK_INTERVAL_S)


async def until_killed(replica: Replica, point: str, timeout_s: float) -> None:
    """Wait until a replica has died of its failpoint. Raises ProcessFailed after `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            await replica.wait_exit()
    except TimeoutError:
        raise replica.failed(f"has not passed {point} within {timeout_s:g} s") from None


async def until_stopped(replica: Replica, point: str, timeout_s: float) -> None:
    """Wait until a replica has stopped itself at its failpoint; it then counts as suspended, and `resume` wakes it.

    Raises ProcessFailed after `timeout_s`.
    """
    give_up_at_s = time.monotonic() + timeout_s
    while not _is_stopped(replica.pid):
        if not replica.alive or time.monotonic() > give_up_at_s:
            raise replica.failed(f"has not stopped at {point} within {timeout_s:g} s")
        await asyncio.sleep(_ASK_INTERVAL_S)
    replica.suspended = True


def _is_stopped(pid: int) -> bool:
    try:
        # pid (command, with any characters) state ...
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def _ask(replica: Replica, method: str, point: str, body: str) -> dict[str, Any]:
    url = f"http://{replica.http_address}/failpoints/{point}"
    try:
        timeout_s = _ANSWER_TIMEOUT_S if method == "GET" else _ARM_TIMEOUT_S
        with _direct.open(Request(url, body.encode() or None, method=method), timeout=timeout_s) as reply:
            answer: dict[str, Any] = json.loads(reply.read())
            return answer
    except HTTPError as error:
        raise CannotArm(f"{replica.name}: {method} {point} {body}: {error.read().decode(errors='replace')}") from None
    except (HTTPException, ConnectionResetError, TimeoutError) as error:
        if method == "PUT":
            # It has struck before the answer was complete: the process is gone, or stands still.
            return {}
        raise CannotArm(f"{replica.name}: {method} {point}: {error}") from None
    except (URLError, OSError) as error:
        raise CannotArm(f"{replica.name}: {method} {point}: {error}") from None


def struck_at(replica: Replica, point: str) -> datetime:
    """When a failpoint struck last in a replica, by the line that it wrote before it acted.

    Raises ProcessFailed when there is no such line.
    """
    lines = (line for line in reversed(replica.log_path.read_text(errors="replace").splitlines()))
    for line in lines:
        if "failpoint_strikes" in line and point in line:
            return datetime.fromisoformat(line.split()[0])
    raise replica.failed(f"has not said that it passed {point}")
