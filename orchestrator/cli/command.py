"""How a client command runs: its common options, its connection, and how it fails.

Exit status: 0 done, 1 refused (the message names the fields), 2 wrong usage, 3 no replica answered in time, 4 the saga
ended but did not complete, 5 the saga had not ended in time, 6 an order for many did not reach all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from orchestrator.cli.access import chosen
from orchestrator.cli.client import Client
from orchestrator.cli.errors import ApiUnavailable, CallRefused
from orchestrator.cli.output import complain
from orchestrator.errors import BatonError

REFUSED, UNAVAILABLE, NOT_COMPLETED, NOT_ENDED, PARTLY = 1, 3, 4, 5, 6
_INTERRUPTED = 130

T = TypeVar("T")

Endpoints = Annotated[
    list[str],
    typer.Option(
        "--endpoint",
        "-e",
        metavar="HOST:PORT",
        envvar="BATON_ENDPOINTS",
        help="A replica's API; repeat it, or give a comma list. What one does not answer is asked of the next.",
        show_default="127.0.0.1:7400",
    ),
]
ENDPOINTS_DEFAULT = ["127.0.0.1:7400"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Give up after so long.")]


def call(endpoints: list[str], timeout_s: float, ask: Callable[[Client], Awaitable[T]]) -> T:
    """What `ask` returns of a client; its errors are printed, and end the command with their exit status."""

    async def run() -> T:
        async with Client(addresses(endpoints), deadline_s=timeout_s, access=chosen()) as client:
            return await ask(client)

    try:
        return asyncio.run(run())
    except CallRefused as error:
        complain(*error.lines())
        raise typer.Exit(REFUSED) from None
    except ApiUnavailable as error:
        complain(str(error))
        raise typer.Exit(UNAVAILABLE) from None
    except BatonError as error:
        complain(str(error))
        raise typer.Exit(REFUSED) from None
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None


def addresses(endpoints: list[str]) -> tuple[str, ...]:
    """Every host:port of options that may be comma lists. Raises BadParameter."""
    found = tuple(part.strip() for endpoint in endpoints for part in endpoint.split(",") if part.strip())
    for address in found:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise typer.BadParameter(f"{address!r} is not host:port", param_hint="--endpoint / BATON_ENDPOINTS")
    if not found:
        raise typer.BadParameter("name at least one endpoint, host:port", param_hint="--endpoint / BATON_ENDPOINTS")
    return found
