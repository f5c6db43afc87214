"""`baton drill`: real faults under load, each followed by the audit, on clusters of its own or a deployed one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.command import REFUSED, addresses
from orchestrator.cli.demo import connect, connect_by, run_guarded
from orchestrator.cli.output import complain

if TYPE_CHECKING:
    from orchestrator.drill.drill import Drilled
    from orchestrator.drill.fault import FaultProfile
    from orchestrator.drill.live import LivePicture
    from orchestrator.drill.operator_command import OperatorCommand

_DEPLOYED = "A deployed cluster"
_REPETITIONS = 20
_NAMED = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)=(.+)", re.DOTALL)

Option = typer.Option
Command = Annotated[
    str | None,
    Option("--kill-command", metavar="COMMAND", rich_help_panel=_DEPLOYED,
           help="Ends the leader: {replica} and {pid} are replaced by its own."),
]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command `drill`."""
    app.command("drill")(drill)


def drill(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Faults by name or number.")] = None,
    everything: Annotated[bool, Option("--all", help="Every fault of the catalogue.")] = False,
    listing: Annotated[bool, Option("--list", help="Name all faults, and make none.")] = False,
    markdown: Annotated[bool, Option("--markdown", help="With --list: as the table of docs/drill.md.")] = False,
    repetitions: Annotated[
        int | None, Option("--repetitions", min=1, metavar="N", help="Default: as the catalogue says.")
    ] = None,
    rate: Annotated[float, Option("--rate", min=1, max=1000, help="Sagas a second.")] = 40.0,
    seed: Annotated[int, Option("--seed", help="Decides what faults choose.")] = 0,
    data: Annotated[
        Path | None, Option("--data", metavar="DIR", help="Folder for data and logs; default: a new one below .baton/.")
    ] = None,
    html: Annotated[Path | None, Option("--html", metavar="FILE", help="The report as a page.")] = None,
    json: Annotated[Path | None, Option("--json", metavar="FILE", help="The report as numbers.")] = None,
    previous: Annotated[
        Path | None,
        Option("--previous", metavar="PYTHON", help="Python of an environment with another release installed."),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        Option("--endpoint", "-e", metavar="HOST:PORT", rich_help_panel=_DEPLOYED,
               help="A replica's API; name all of them, by repeating it or as a comma list."),
    ] = None,
    kill_command: Command = None,
    fault_command: Annotated[
        list[str] | None,
        Option("--fault-command", metavar="NAME=COMMAND", rich_help_panel=_DEPLOYED, help="Another fault; repeat it."),
    ] = None,
    heal_command: Annotated[
        str | None, Option("--heal-command", metavar="COMMAND", rich_help_panel=_DEPLOYED, help="Undoes each fault.")
    ] = None,
    keep: Annotated[
        float, Option("--keep", min=0, max=200, metavar="SECONDS", rich_help_panel=_DEPLOYED,
                      help="How long a fault lasts that is no kill.")
    ] = 5.0,
    bound: Annotated[
        float | None, Option("--bound", min=0, metavar="SECONDS", rich_help_panel=_DEPLOYED,
                             help="The longest gap allowed after a kill; default: it is told, not judged.")
    ] = None,
    definition: Annotated[
        str, Option("--definition", metavar="NAME", rich_help_panel=_DEPLOYED, help="What is started; takes an order.")
    ] = "order",
    dsn_log: Annotated[
        str | None, Option("--dsn-log", metavar="DSN", rich_help_panel=_DEPLOYED, help="The saga log, to be audited.")
    ] = None,
    dsn_shop: Annotated[
        str | None,
        Option("--dsn-shop", metavar="DSN", rich_help_panel=_DEPLOYED, help="The participants' database, likewise."),
    ] = None,
) -> None:  # fmt: skip
    """Make faults under load, heal them, wait for all sagas to end, and audit.

    With --endpoint a deployed cluster is drilled, by commands of your own. Exit status 1 if anything is violated.
    """
    from rich.console import Console

    from orchestrator.audit.screen import Screen
    from orchestrator.drill.catalogue import FAULTS
    from orchestrator.drill.deployed import DeployedOptions
    from orchestrator.drill.drill import DrillOptions, on_deployed, run_drill
    from orchestrator.drill.live import LivePicture
    from orchestrator.drill.operator_command import OperatorCommand
    from orchestrator.drill.report import catalogue_in_markdown, print_catalogue

    console = Console()
    screen = Screen(console, dated=False)
    live = LivePicture(screen)
    if listing and markdown:
        typer.echo("\n".join(catalogue_in_markdown(FAULTS)))
        return
    if listing:
        print_catalogue(console, FAULTS)
        return
    if endpoint:
        if names or everything or data or previous:
            raise typer.BadParameter("faults of the catalogue, --data and --previous are not for a deployed cluster")
        if dsn_shop and not dsn_log:
            raise typer.BadParameter("the participants' ledgers say nothing without --dsn-log")
        heal = OperatorCommand(heal_command) if heal_command else None
        deployed = DeployedOptions(
            addresses(endpoint), connect, screen.tell, heal, dsn_log, dsn_shop, definition, rate, keep, live
        )  # fmt: skip
        commands = _commands(kill_command, fault_command or [], repetitions or _REPETITIONS, bound, log=bool(dsn_log))
        drilled, circumstances = on_deployed(commands, deployed), f"{', '.join(deployed.endpoints)}, {rate:g} sagas/s"
    else:
        if kill_command or fault_command or heal_command:
            raise typer.BadParameter("commands of your own need --endpoint: the cluster that they disturb")
        drilled = _of_catalogue(names or [], everything, data, live, rate, seed, previous, repetitions)
        circumstances = f"{rate:g} sagas/s, seed {seed}"
    good = run_guarded(lambda: run_drill(DrillOptions(drilled, screen, circumstances, html, json), console))
    raise typer.Exit(0 if good else 1)


def _of_catalogue(
    names: Sequence[str], everything: bool, data: Path | None, live: LivePicture, rate: float, seed: int,
    previous: Path | None, repetitions: int | None,
) -> list[Drilled]:  # fmt: skip
    from orchestrator.drill.catalogue import FAULTS, named
    from orchestrator.drill.drill import on_own_clusters
    from orchestrator.drill.stages import StageOptions
    from orchestrator.embedded.cluster import data_dir_for
    from orchestrator.errors import BatonError
    from orchestrator.security.dialer import PLAIN

    if not names and not everything:
        raise typer.BadParameter("name a fault, or say --all; --list names them all")
    try:
        faults = FAULTS if everything else named(names)
        stage = StageOptions(
            data or data_dir_for("drill"), connect_by(PLAIN), live.screen.tell, rate, seed, previous, live
        )
    except BatonError as error:
        complain(str(error))
        raise typer.Exit(REFUSED) from None
    return on_own_clusters(faults, stage, repetitions)


def _commands(
    kill: str | None, others: Sequence[str], repetitions: int, bound_s: float | None, *, log: bool
) -> list[tuple[FaultProfile, OperatorCommand]]:
    """The operator's commands, each with what is said of it."""
    from orchestrator.drill.deployed import disturbing, killing
    from orchestrator.drill.operator_command import OperatorCommand

    commands = [] if kill is None else [(killing(kill, repetitions, bound_s), OperatorCommand(kill))]
    for other in others:
        if (match := _NAMED.fullmatch(other)) is None:
            raise typer.BadParameter(f"{other!r} is not NAME=COMMAND, with a name such as slow-disk")
        name, text = match.groups()
        commands.append((disturbing(name, text, repetitions, log=log), OperatorCommand(text)))
    if not commands:
        raise typer.BadParameter("say what is done to the cluster: --kill-command, --fault-command")
    return commands
