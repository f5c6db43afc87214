"""`baton definition held` and `release`: what is held, and how it is let go on."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from orchestrator.cli import output
from orchestrator.cli.calls import Method
from orchestrator.cli.command import ENDPOINTS_DEFAULT, AsJson, Endpoints, call
from orchestrator.pb.baton.v1 import holds_pb2, holds_pb2_grpc

_TIMEOUT_S = 30.0

_Service = holds_pb2_grpc.HoldServiceStub
_RELEASE = Method(_Service, "ReleaseStarts", holds_pb2.ReleaseStartsResponse)
_LIST = Method(_Service, "ListStartHolds", holds_pb2.ListStartHoldsResponse)

Reason = Annotated[str, typer.Option(help="Why; kept beside it for whoever looks into it.", prompt=True)]
By = Annotated[str, typer.Option(help="Who wants it; default: your user name.")]


def release(
    name: Annotated[str, typer.Argument(help="The definition's name.")],
    reason: Reason = "",
    by: By = "",
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Let new starts of a definition through again that are held because too many of its sagas were undone."""
    request = holds_pb2.ReleaseStartsRequest(definition=name, reason=reason, by=by or user())
    answer = call(endpoint, _TIMEOUT_S, lambda client: client.ask(_RELEASE, request))
    held = answer.HasField("ended")
    if as_json:
        output.print_json({"definition": name, "ended": _json(answer.ended) if held else None})
    elif held:
        typer.echo(f"new starts of {name} are let through again; {_why(answer.ended)}")
    else:
        typer.echo(f"new starts of {name} were not held")


def held(endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False) -> None:
    """List the definitions whose new starts are held."""
    answer = call(endpoint, _TIMEOUT_S, lambda client: client.ask(_LIST, holds_pb2.ListStartHoldsRequest()))
    if as_json:
        output.print_json([_json(hold) for hold in answer.holds])
        return
    for hold in answer.holds:
        typer.echo(f"{hold.definition}: {_why(hold)}, until {output.iso(hold.until)}")
    if not answer.holds:
        typer.echo("no starts are held")


def user() -> str:
    """The name under which whoever runs the command is logged in; empty when it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _why(hold: holds_pb2.StartHold) -> str:
    undone = f"{hold.turned_back} of the last {hold.of_last} sagas were undone"
    return f"held since {output.iso(hold.since)}: {undone}"


def _json(hold: holds_pb2.StartHold) -> dict[str, object]:
    return {
        "definition": hold.definition,
        "since": output.iso(hold.since),
        "until": output.iso(hold.until),
        "of_last": hold.of_last,
        "turned_back": hold.turned_back,
    }
