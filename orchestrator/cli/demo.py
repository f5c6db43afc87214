"""`baton demo` and `baton dev`: a whole cluster on this machine, ended in every case when the command ends."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.cli.client import Client
    from orchestrator.security.dialer import Dialer

T = TypeVar("T")

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Folder for data and logs; default: a new one below .baton/."),
]

# What a shell reports of a process that such a signal has ended.
_INTERRUPTED, _TERMINATED = 130, 143


def register(app: typer.Typer) -> None:
    """Add the commands `demo` and `dev`."""
    app.command("demo")(demo)
    app.command("dev")(dev)


def demo(
    orders: Annotated[
        Path | None,
        typer.Option("--orders", metavar="FILE", help="CSV of a shop's invoices; default: a sample."),
    ] = None,
    data: Data = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.1, max=10_000, help="Orders a second; default: by their number.")
    ] = None,
    stock: Annotated[
        int | None, typer.Option("--stock", min=0, help="Pieces of each article; default: too few of some.")
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="With certificates made for it, on every link but that to Postgres.")
    ] = False,
) -> None:
    """Run real orders through a cluster whose leader is killed and then frozen, and audit what came of it.

    Exit status 0 only if every invariant holds.
    """
    from rich.console import Console

    from orchestrator.demo.demo import DemoOptions, run_demo

    options = DemoOptions(orders, data, rate, stock, secure=tls)
    good = run_guarded(lambda: run_demo(options, connect_by, Console()))
    raise typer.Exit(0 if good else 1)


def dev(
    data: Data = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="With certificates made for it, on every link but that to Postgres.")
    ] = False,
) -> None:
    """Keep a cluster up to play with: prints its endpoints and the commands to try. Ctrl-C ends it."""
    from rich.console import Console

    from orchestrator.demo.dev import run_dev

    run_guarded(lambda: run_dev(data, Console(), secure=tls))


def connect(endpoints: Sequence[str], on_retry: Callable[[str, str], None]) -> Client:
    """A client that goes around the replicas of somebody's cluster, as the options and the environment say."""
    from orchestrator.cli.access import chosen
    from orchestrator.cli.client import Client

    return Client(endpoints, spread=True, on_retry=on_retry, access=chosen())


def connect_by(dialer: Dialer) -> Callable[[Sequence[str], Callable[[str, str], None]], Client]:
    """The same for a cluster of our own, which the options and the environment know nothing about."""
    from orchestrator.cli.access import ClientAccess
    from orchestrator.cli.client import Client

    access = ClientAccess(dialer)
    return lambda endpoints, on_retry: Client(endpoints, spread=True, on_retry=on_retry, access=access)


def run_guarded(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main`; Ctrl-C and SIGTERM cancel it, so that it ends what it has started."""
    import asyncio
    import signal

    from orchestrator.cli.command import REFUSED
    from orchestrator.cli.output import complain
    from orchestrator.errors import BatonError

    terminated = False

    async def guarded() -> T:
        task = asyncio.ensure_future(main())

        def terminate() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        return await task

    try:
        return asyncio.run(guarded())
    except BatonError as error:
        complain(str(error))
        raise typer.Exit(REFUSED) from None
    except KeyboardInterrupt:
        complain("interrupted; every process has been ended")
        raise typer.Exit(_INTERRUPTED) from None
    except asyncio.CancelledError:
        if not terminated:
            raise
        complain("terminated; every process has been ended")
        raise typer.Exit(_TERMINATED) from None
