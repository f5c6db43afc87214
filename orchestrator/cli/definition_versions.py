"""`baton definition diff`, `retire` and `reinstate`: what is done with versions that are stored."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import output
from orchestrator.cli.command import ENDPOINTS_DEFAULT, AsJson, Endpoints, call
from orchestrator.cli.holds import user
from orchestrator.pb.baton.v1 import versions_pb2

_TIMEOUT_S = 30.0
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}

_Name = Annotated[str, typer.Argument(help="The definition's name.")]


def diff(
    name: _Name,
    old: Annotated[int, typer.Argument(min=0, help="The version before; 0 is the newest.")],
    new: Annotated[int, typer.Argument(min=0, help="The version after; 0 is the newest.")] = 0,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Print what differs between two versions in meaning: steps and fields, defaults filled in."""
    answer = call(endpoint, _TIMEOUT_S, lambda client: client.diff_definitions(name, old, new))
    if as_json:
        found = [{"kind": c.kind, "path": c.path, "before": c.before, "after": c.after} for c in answer.changes]
        output.print_json({"name": name, "from": answer.from_version, "to": answer.to_version, "changes": found})
        return
    typer.echo(f"{name}: version {answer.from_version} -> {answer.to_version}")
    if not answer.changes:
        typer.echo("  both mean the same")
    for change in answer.changes:
        typer.echo(f"  {change_line(change)}")


def change_line(change: versions_pb2.DefinitionChange) -> str:
    """A difference in a line."""
    what = {"added": change.after, "removed": change.before}.get(change.kind, f"{change.before} -> {change.after}")
    return f"{_SIGNS.get(change.kind, '?')} {change.path}: {what}"


def retire(
    name: _Name,
    version: Annotated[int, typer.Argument(min=0, help="0 means every version, and those that come later.")] = 0,
    reason: Annotated[str, typer.Option(help="Why; whoever is refused reads it.", prompt=True)] = "",
    by: Annotated[str, typer.Option(help="Who wants it; default: your user name.")] = "",
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Refuse new sagas of a definition, or of one version, from now on; sagas that have begun go on."""
    who = by or user()
    answer = call(endpoint, _TIMEOUT_S, lambda client: client.retire_definition(name, version, reason, who))
    found = answer.retirement
    if as_json:
        output.print_json(
            {
                "name": found.name,
                "version": found.version,
                "reason": found.reason,
                "by": found.by,
                "at": output.iso(found.at),
                "existing": answer.existing,
            }
        )
        return
    was = f"was retired before, by {found.by}: {found.reason}" if answer.existing else "is retired"
    typer.echo(f"{_which(name, version)} {was}")


def reinstate(
    name: _Name,
    version: Annotated[int, typer.Argument(min=0, help="As it was retired: 0 for every version.")] = 0,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Take a retirement back."""
    answer = call(endpoint, _TIMEOUT_S, lambda client: client.reinstate_definition(name, version))
    if as_json:
        output.print_json({"name": name, "version": version, "existing": answer.existing})
    else:
        typer.echo(f"{_which(name, version)} {'is reinstated' if answer.existing else 'was not retired'}")


def _which(name: str, version: int) -> str:
    return f"{name} version {version}" if version else name
