"""`baton replica`: runs one replica until a signal ends it. It is configured by BATON_* in the environment."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from orchestrator.errors import BatonError

# What sysexits.h calls a wrong configuration.
BAD_CONFIGURATION = 78


def register(app: typer.Typer) -> None:
    """Add the command `replica`."""
    app.command("replica")(replica)


def replica() -> None:
    """Run one replica, configured by BATON_* variables in the environment. SIGTERM hands leadership over and ends it.

    SIGUSR1 hands leadership over for good, and ends nothing: a preStop hook sends it while callers go elsewhere.

    Exit status 78: a setting is wrong, or a port cannot be had; the message names it.
    """
    import uvloop
    from pydantic import ValidationError

    from orchestrator.config import Settings
    from orchestrator.errors import BatonError
    from orchestrator.replica import Replica
    from orchestrator.telemetry import set_up_log

    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(("BATON", *map(str, problem["loc"]))).upper()
            print(f"{name}: {problem['msg']}", file=sys.stderr)
        raise typer.Exit(BAD_CONFIGURATION) from None
    set_up_log(settings.log_format, settings.log_level)

    async def serve() -> None:
        await Replica(settings).run()
        # Not by the interpreter's way out, which stops the gRPC server: calls that arrive in that moment would be
        # answered CANCELLED. A connection that ends with the process is UNAVAILABLE, and every client retries that.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    try:
        uvloop.run(serve())
    except (BatonError, OSError) as error:
        print(f"baton replica: {error}", file=sys.stderr)
        raise typer.Exit(BAD_CONFIGURATION) from None
    except ExceptionGroup as group:
        # One of the replica's parts cannot work: the schema is that of a later release, say.
        refusals = group.subgroup(BatonError)
        if refusals is None:
            raise
        print(f"baton replica: {_first(refusals)}", file=sys.stderr)
        raise typer.Exit(BAD_CONFIGURATION) from None


def _first(group: ExceptionGroup[BatonError]) -> BatonError:
    """One error of a group; the others are cancellations, or the same again."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
