"""`baton soak`: hours of load and faults on a cluster on this machine, with the vital signs of every process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.demo import connect_by, run_guarded


def register(app: typer.Typer) -> None:
    """Add the command `soak`."""
    app.command("soak")(soak)


def soak(
    minutes: Annotated[float, typer.Option("--minutes", min=1, help="How long.")] = 60.0,
    fault_every: Annotated[float, typer.Option("--fault-every", min=1, metavar="SECONDS")] = 20.0,
    rate: Annotated[float, typer.Option("--rate", min=1, max=1000, help="Sagas a second.")] = 20.0,
    seed: Annotated[int, typer.Option("--seed", help="Decides which faults come, and what they choose.")] = 0,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Folder for data and logs; default: a new one below .baton/."),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="The report as a page.")] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="The report as numbers.")] = None,
) -> None:
    """Load, a random fault every few seconds, an audit every ten minutes, and what grows.

    Exit status 1 if an invariant is violated, a bound exceeded, or memory, files, connections or tasks grow.
    """
    from rich.console import Console

    from orchestrator.audit.screen import Screen
    from orchestrator.cli.command import REFUSED
    from orchestrator.cli.output import complain
    from orchestrator.drill.live import LivePicture
    from orchestrator.drill.soak import SoakOptions, run_soak
    from orchestrator.drill.soak_report import report
    from orchestrator.drill.stages import StageOptions
    from orchestrator.embedded.cluster import data_dir_for
    from orchestrator.errors import BatonError
    from orchestrator.security.dialer import PLAIN

    screen = Screen(Console(), dated=False)
    try:
        folder = data or data_dir_for("soak")
        stage = StageOptions(folder, connect_by(PLAIN), screen.tell, rate, seed, live=LivePicture(screen))
    except BatonError as error:
        complain(str(error))
        raise typer.Exit(REFUSED) from None
    options = SoakOptions(stage, minutes * 60, fault_every)
    with screen.showing():
        result = run_guarded(lambda: run_soak(options))
    try:
        report(result, options, html, json, screen.tell)
    except OSError as error:
        complain(f"the report cannot be written: {error}")
        raise typer.Exit(REFUSED) from None
    raise typer.Exit(0 if result.passed else 1)
