"""`baton drill`: real faults on a real cluster on this machine, under load, each followed by the audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.demo import connect, run_guarded


def register(app: typer.Typer) -> None:
    """Add the command `drill`."""
    app.command("drill")(drill)


def drill(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Faults by name or number.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every fault of the catalogue.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Name all faults, and make none.")] = False,
    repetitions: Annotated[
        int | None, typer.Option("--repetitions", min=1, metavar="N", help="Default: as the catalogue says.")
    ] = None,
    rate: Annotated[float, typer.Option("--rate", min=1, max=1000, help="Sagas a second.")] = 40.0,
    seed: Annotated[int, typer.Option("--seed", help="Decides what faults choose.")] = 0,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Folder for data and logs; default: a new one below .baton/."),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="The report as a page.")] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="The report as numbers.")] = None,
    previous: Annotated[
        Path | None,
        typer.Option("--previous", metavar="PYTHON", help="Python of an environment with another release installed."),
    ] = None,
) -> None:
    """Make faults under load, heal them, wait for all sagas to end, and audit.

    Exit status 1 if anything is violated.
    """
    from rich.console import Console

    from orchestrator.cli.command import REFUSED
    from orchestrator.cli.output import complain
    from orchestrator.drill.catalogue import FAULTS, named
    from orchestrator.drill.drill import DrillOptions, run_drill
    from orchestrator.drill.report import print_catalogue
    from orchestrator.drill.stages import StageOptions
    from orchestrator.embedded.cluster import data_dir_for
    from orchestrator.errors import BatonError

    console = Console()
    if listing:
        print_catalogue(console, FAULTS)
        return
    if not names and not everything:
        raise typer.BadParameter("name a fault, or say --all; --list names them all")
    try:
        faults = FAULTS if everything else named(names or [])
        stage = StageOptions(
            data or data_dir_for("drill"), connect, lambda text: console.print(text, highlight=False, markup=False),
            rate, seed, previous,
        )  # fmt: skip
    except BatonError as error:
        complain(str(error))
        raise typer.Exit(REFUSED) from None
    good = run_guarded(lambda: run_drill(DrillOptions(faults, stage, repetitions, html, json), console))
    raise typer.Exit(0 if good else 1)
