"""`baton definition pause` and `resume`, `baton participant pause` and `resume`, and what is paused."""

from __future__ import annotations

from typing import Annotated

import typer
from google.protobuf.message import Message

from orchestrator.cli import output
from orchestrator.cli.calls import Answer, Method
from orchestrator.cli.client import WAIT_MAX_S
from orchestrator.cli.command import ENDPOINTS_DEFAULT, AsJson, Endpoints, call
from orchestrator.cli.holds import user
from orchestrator.pb.baton.v1 import pauses_pb2 as pb
from orchestrator.pb.baton.v1 import pauses_pb2_grpc

_TIMEOUT_S = 30.0

_Service = pauses_pb2_grpc.PauseServiceStub
_LIST = Method(_Service, "ListPauses", pb.ListPausesResponse)
# Answered when the leader goes by them.
_PAUSE_DEFINITION = Method(_Service, "PauseDefinition", pb.PauseAnswer, attempt_max_s=WAIT_MAX_S)
_RESUME_DEFINITION = Method(_Service, "ResumeDefinition", pb.ResumeAnswer, attempt_max_s=WAIT_MAX_S)
_PAUSE_PARTICIPANT = Method(_Service, "PauseParticipant", pb.PauseAnswer, attempt_max_s=WAIT_MAX_S)
_RESUME_PARTICIPANT = Method(_Service, "ResumeParticipant", pb.ResumeAnswer, attempt_max_s=WAIT_MAX_S)
_DEFINITION, _PARTICIPANT = pb.PauseKind.PAUSE_KIND_DEFINITION, pb.PauseKind.PAUSE_KIND_PARTICIPANT
_WORDS: dict[int, str] = {_DEFINITION: "definition", _PARTICIPANT: "participant"}

Name = Annotated[str, typer.Argument(help="The definition's name.")]
Address = Annotated[str, typer.Argument(help="The participant's address, as the definitions name it.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; whoever looks at what waits reads it.")]
By = Annotated[str, typer.Option(help="Who wants it; default: your user name.")]
Ended = Annotated[bool, typer.Option("--ended", help="What was paused as well, the latest first.")]

participants = typer.Typer(help="Pause participants, and resume them.", no_args_is_help=True)


def add_to(definitions: typer.Typer) -> None:
    """The commands of `baton definition`."""
    definitions.command("pause")(pause_definition)
    definitions.command("resume")(resume_definition)
    definitions.command("paused")(paused_definitions)


def pause_definition(
    name: Name, reason: Reason, by: By = "", endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False
) -> None:
    """Let no saga of a definition call anybody until it is resumed; new ones are accepted, and wait."""
    request = pb.PauseDefinitionRequest(definition=name, reason=reason, by=by or user())
    _paused(_ask(_PAUSE_DEFINITION, request, endpoint), as_json)


def resume_definition(
    name: Name, reason: Reason, by: By = "", endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False
) -> None:
    """Let the sagas of a paused definition go on."""
    request = pb.ResumeDefinitionRequest(definition=name, reason=reason, by=by or user())
    _resumed(_ask(_RESUME_DEFINITION, request, endpoint), as_json)


def paused_definitions(ended: Ended = False, endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False) -> None:
    """List the definitions that are paused."""
    _list(_DEFINITION, ended, endpoint, as_json)


@participants.command("pause")
def pause_participant(
    address: Address, reason: Reason, by: By = "", endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False
) -> None:
    """Let nobody call a participant until it is resumed; its sagas wait, and spend no attempt."""
    request = pb.PauseParticipantRequest(participant=address, reason=reason, by=by or user())
    _paused(_ask(_PAUSE_PARTICIPANT, request, endpoint), as_json)


@participants.command("resume")
def resume_participant(
    address: Address, reason: Reason, by: By = "", endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False
) -> None:
    """Let a paused participant be called again: a few calls first, then more."""
    request = pb.ResumeParticipantRequest(participant=address, reason=reason, by=by or user())
    _resumed(_ask(_RESUME_PARTICIPANT, request, endpoint), as_json)


@participants.command("paused")
def paused_participants(ended: Ended = False, endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False) -> None:
    """List the participants that are paused."""
    _list(_PARTICIPANT, ended, endpoint, as_json)


def _paused(answer: pb.PauseAnswer, as_json: bool) -> None:
    if as_json:
        output.print_json({"heeded": answer.heeded, **_json(answer.pause)})
        return
    what = f"{_WORDS[answer.pause.kind]} {answer.pause.name}"
    if answer.heeded:
        typer.echo(f"{what} is paused: no call begins that this holds; those under way end")
    else:
        typer.echo(f"stored: whoever leads next goes by the pause of {what}; no leader has heeded it yet")


def _resumed(answer: pb.ResumeAnswer, as_json: bool) -> None:
    if as_json:
        output.print_json({"released": answer.released, **_json(answer.pause)})
        return
    what = f"{_WORDS[answer.pause.kind]} {answer.pause.name}"
    if answer.released:
        typer.echo(f"{what} is resumed: what was held goes on")
    else:
        typer.echo(f"stored: the leader has not let go on all that the pause of {what} held yet")


def _list(kind: int, ended: bool, endpoint: list[str], as_json: bool) -> None:
    answer = _ask(_LIST, pb.ListPausesRequest(ended=ended), endpoint)
    found = [pause for pause in answer.pauses if pause.kind == kind]
    if as_json:
        output.print_json([_json(pause) for pause in found])
        return
    if not found:
        output.console().print(f"no {_WORDS[kind]} is paused")
        return
    columns = (_WORDS[kind], "since", "by", "reason", *(("until", "resumed by", "reason") if ended else ()))
    output.table(columns, [_row(pause, ended=ended) for pause in found])


def _row(pause: pb.Pause, *, ended: bool) -> tuple[str, ...]:
    row = (pause.name, output.when(pause.paused_at), pause.paused_by, pause.reason)
    if not ended:
        return row
    until = output.when(pause.resumed_at) if pause.HasField("resumed_at") else ""
    return (*row, until, pause.resumed_by, pause.resumed_reason)


def _ask(method: Method[Answer], request: Message, endpoint: list[str]) -> Answer:
    return call(endpoint, _TIMEOUT_S, lambda client: client.ask(method, request))


def _json(pause: pb.Pause) -> dict[str, object]:
    return {
        "kind": _WORDS[pause.kind],
        "name": pause.name,
        "paused_by": pause.paused_by,
        "reason": pause.reason,
        "paused_at": output.iso(pause.paused_at),
        "heeded_at": output.iso(pause.heeded_at),
        "resumed_by": pause.resumed_by,
        "resumed_reason": pause.resumed_reason,
        "resumed_at": output.iso(pause.resumed_at),
        "released_at": output.iso(pause.released_at),
    }
