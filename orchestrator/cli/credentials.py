"""The options of `baton` itself: by what it is known to the API, and whose servers it believes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.access import ClientAccess, choose
from orchestrator.cli.command import REFUSED
from orchestrator.cli.output import complain
from orchestrator.security.files import BadFile

_File = Path | None


def credentials(
    ca_file: Annotated[
        _File,
        typer.Option(metavar="FILE", envvar="BATON_CA_FILE", help="Authority of the replicas' certificates: TLS."),
    ] = None,
    cert_file: Annotated[
        _File, typer.Option(metavar="FILE", envvar="BATON_CERT_FILE", help="This caller's certificate.")
    ] = None,
    key_file: Annotated[_File, typer.Option(metavar="FILE", envvar="BATON_KEY_FILE", help="Its key.")] = None,
    token_file: Annotated[
        _File,
        typer.Option(
            metavar="FILE", envvar="BATON_TOKEN_FILE", help="A bearer token; BATON_TOKEN may hold one itself."
        ),
    ] = None,
    token: Annotated[str, typer.Option(envvar="BATON_TOKEN", hidden=True)] = "",
    tls: Annotated[bool, typer.Option("--tls", envvar="BATON_TLS", help="TLS by the system's authorities.")] = False,
) -> None:
    """A highly available saga orchestrator: etcd elects, Postgres fences, gRPC participants compensate."""
    if bool(cert_file) != bool(key_file):
        raise typer.BadParameter("a certificate and its key go together", param_hint="--cert-file, --key-file")
    try:
        choose(
            ClientAccess.of(
                ca_file=ca_file, cert_file=cert_file, key_file=key_file, token=token, token_file=token_file, tls=tls
            )
        )
    except BadFile as error:
        complain(str(error))
        raise typer.Exit(REFUSED) from None
