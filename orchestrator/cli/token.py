"""`baton token`: make a bearer token, and the hash by which replicas know it."""

from __future__ import annotations

import sys

import typer

from orchestrator.cli import output
from orchestrator.cli.command import REFUSED
from orchestrator.security.tokens import new_token, token_hash

app = typer.Typer(help="Make bearer tokens, and their hashes for the file of callers.", no_args_is_help=True)


@app.command("new")
def new() -> None:
    """Print a random token, and its hash. Nobody can get the token from the hash: keep it now."""
    token = new_token()
    typer.echo(f"token:        {token}")
    typer.echo(f"token_sha256: {token_hash(token)}")


@app.command("hash")
def hash_() -> None:
    """Read a token from standard input, and print its hash. Not from an argument, which everybody can see."""
    try:
        typer.echo(token_hash(sys.stdin.readline().strip()))
    except ValueError as error:
        output.complain(f"the token {error}")
        raise typer.Exit(REFUSED) from None
