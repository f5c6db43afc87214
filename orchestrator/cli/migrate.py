"""`baton migrate`: bring the saga log's schema to this release's version."""

from __future__ import annotations

from typing import Annotated

import psycopg
import typer

from orchestrator.cli import output
from orchestrator.config import Settings
from orchestrator.sagalog.migrate import SchemaTooNew
from orchestrator.sagalog.migrate import migrate as run_migrations


def migrate(
    dsn: Annotated[
        str, typer.Option(metavar="URL", envvar="BATON_DSN", help="Postgres of the saga log.", show_default="settings")
    ] = "",
) -> None:
    """Run the migrations that the database has not seen, and exit. Safe while replicas run, and several at once."""
    try:
        ran = run_migrations(dsn or str(Settings.model_fields["dsn"].default))
    except SchemaTooNew as error:
        output.complain(str(error))
        raise typer.Exit(1) from None
    except psycopg.Error as error:
        output.complain(f"cannot migrate: {str(error).strip()}")
        raise typer.Exit(3 if isinstance(error, psycopg.OperationalError) else 1) from None
    for migration in ran:
        output.console().print(f"migration {migration.number:04} {migration.name}")
    if not ran:
        output.console().print("the schema is up to date")
