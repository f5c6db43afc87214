"""`baton saga`: start, get, list, watch and cancel sagas."""

from __future__ import annotations

import sys
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from orchestrator.cli import output
from orchestrator.cli.client import TERMINAL, Client
from orchestrator.cli.command import (
    ENDPOINTS_DEFAULT,
    NOT_COMPLETED,
    NOT_ENDED,
    AsJson,
    Endpoints,
    Timeout,
    call,
)
from orchestrator.pb.baton.v1 import saga_pb2

_TIMEOUT_S = 30.0
_STATES = tuple(name.removeprefix("SAGA_STATE_") for name in saga_pb2.SagaState.keys()[1:])

app = typer.Typer(help="Start sagas, and look at them.", no_args_is_help=True)

SagaId = Annotated[str, typer.Argument(metavar="SAGA", help="The saga's id.")]
Labels = Annotated[list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label; repeat it.")]


@app.command()
def start(
    definition: Annotated[str, typer.Argument(help="The definition to run.")],
    input_: Annotated[
        str, typer.Option("--input", "-i", metavar="JSON|@FILE", help="A JSON object; @- reads standard input.")
    ] = "{}",
    version: Annotated[int, typer.Option(min=0, help="A version of the definition; 0 is the newest.")] = 0,
    label: Labels = None,
    request_id: Annotated[
        str, typer.Option("--request-id", help="Sent again, it gives the same saga; default: a new one.")
    ] = "",
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="Begin no earlier, as 2026-01-31T14:00.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the saga has ended.")] = False,
    timeout: Timeout = _TIMEOUT_S,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Start a saga; it is durable when this returns."""
    text, labels = _input(input_), _labels(label)
    if at and wait:
        raise typer.BadParameter("a saga that begins later is not waited for: leave out --wait", param_hint="--at")
    start_at = _time(at, "--at") if at else None

    async def ask(client: Client) -> saga_pb2.StartSagaResponse:
        request = request_id or None
        if wait:
            return await client.run_saga(definition, text, version=version, labels=labels, request_id=request)
        return await client.start_saga(
            definition, text, version=version, labels=labels, request_id=request, start_at=start_at
        )

    answer = call(endpoint, timeout, ask)
    if as_json:
        output.print_json({**output.saga_json(answer.saga), "existing": answer.existing})
    else:
        _print_saga(answer.saga)
        if answer.existing:
            output.console().print("this request id had started it before")
    if wait:
        _exit_by_state(answer.saga.state)


@app.command()
def get(saga: SagaId, endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False) -> None:
    """Show a saga with its history."""
    answer = call(endpoint, _TIMEOUT_S, lambda client: client.get_saga(saga))
    if as_json:
        history = [output.transition_json(transition) for transition in answer.history]
        output.print_json({**output.saga_json(answer.saga), "history": history})
        return
    _print_saga(answer.saga)
    if answer.history:
        output.console().print()
        columns = ("SEQ", "AT", "STEP", "STATUS", "ATTEMPT", "EPOCH", "DETAIL")
        output.table(columns, (_history_row(transition) for transition in answer.history))


@app.command("list")
def list_(
    state: Annotated[
        list[str] | None, typer.Option("--state", "-s", help=f"One of {', '.join(_STATES)}; repeat it.")
    ] = None,
    definition: Annotated[str, typer.Option("--definition", "-d", help="Sagas of this definition alone.")] = "",
    label: Labels = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="Created at this time (ISO 8601) or later.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="Created before this time.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List sagas, the newest first."""
    request = saga_pb2.ListSagasRequest(
        states=[_state(name) for name in state or ()], definition=definition, labels=_labels(label)
    )
    if since:
        request.created_after.FromDatetime(_time(since, "--since"))
    if until:
        request.created_before.FromDatetime(_time(until, "--until"))
    found = call(endpoint, _TIMEOUT_S, lambda client: client.list_sagas(request, limit))
    if as_json:
        output.print_json([output.saga_json(saga) for saga in found])
        return
    columns = ("SAGA", "DEFINITION", "STATE", "STEP", "CREATED", "LABELS", "ERROR")
    output.table(columns, (_list_row(saga) for saga in found))


@app.command()
def watch(
    saga: SagaId,
    after: Annotated[int, typer.Option(min=0, help="Begin behind this sequence; 0 begins at the beginning.")] = 0,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Follow a saga, from the past until it has ended."""

    async def follow(client: Client) -> int:
        state = saga_pb2.SAGA_STATE_UNSPECIFIED
        async with aclosing(client.watch_saga(saga, after)) as transitions:
            async for transition in transitions:
                state = transition.state
                if as_json:
                    output.print_json(output.transition_json(transition))
                else:
                    output.console().print(_watch_line(transition))
        if state not in TERMINAL:
            # There was nothing behind `after`: the saga had ended before.
            state = (await client.get_saga(saga)).saga.state
        return state

    _exit_by_state(call(endpoint, _TIMEOUT_S, follow))


@app.command()
def cancel(
    saga: SagaId,
    reason: Annotated[str, typer.Option("--reason", "-r", help="For the log.")] = "",
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Ask that a saga be undone: what it has done is compensated."""
    answer = call(endpoint, _TIMEOUT_S, lambda client: client.cancel_saga(saga, reason))
    if as_json:
        output.print_json(output.saga_json(answer))
    else:
        _print_saga(answer)


def _print_saga(saga: saga_pb2.Saga) -> None:
    steps = ", ".join(str(position) for position in saga.steps_executed)
    undone = ", ".join(str(position) for position in saga.steps_compensated)
    output.fields(
        (
            ("saga", saga.saga_id),
            ("definition", f"{saga.definition} version {saga.version}"),
            ("state", output.coloured(output.state_name(saga.state))),
            ("current step", saga.current_step),
            ("next run at", output.when(saga.next_run_at)),
            ("error", output.error_text(saga.error) if saga.HasField("error") else ""),
            ("cancelled", saga.cancel_reason),
            ("input", saga.input_json),
            ("result", saga.result_json),
            ("executed", steps),
            ("compensated", undone),
            ("labels", _label_text(saga)),
            ("request id", saga.request_id if saga.request_id != saga.saga_id else ""),
            ("created", output.when(saga.created_at)),
            ("finished", output.when(saga.finished_at)),
        )
    )


def _watch_line(transition: saga_pb2.Transition) -> Text:
    sequence, at, step, status, attempt, epoch, detail = _history_row(transition)
    tries = f"attempt {attempt}" if attempt else ""
    words = [word for word in (f"{sequence:>3}", at, step, status, tries, f"epoch {epoch}", detail) if word]
    return Text("  ").join([*map(Text, words), output.coloured(output.state_name(transition.state))])


def _history_row(transition: saga_pb2.Transition) -> tuple[str, str, str, str, str, str, str]:
    detail = output.error_text(transition.error) if transition.HasField("error") else transition.result_json
    attempt, epoch = str(transition.attempt or ""), str(transition.epoch)
    return (
        str(transition.sequence),
        output.when(transition.at),
        transition.step or "-",
        transition.status,
        attempt,
        epoch,
        detail,
    )


def _list_row(saga: saga_pb2.Saga) -> tuple[str | Text, ...]:
    return (
        saga.saga_id,
        f"{saga.definition} v{saga.version}",
        output.coloured(output.state_name(saga.state)),
        saga.current_step,
        output.when(saga.created_at),
        _label_text(saga),
        output.error_text(saga.error) if saga.HasField("error") else "",
    )


def _label_text(saga: saga_pb2.Saga) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(saga.labels.items()))


def _exit_by_state(state: int) -> None:
    if state not in TERMINAL:
        raise typer.Exit(NOT_ENDED)
    if state != saga_pb2.SAGA_STATE_COMPLETED:
        raise typer.Exit(NOT_COMPLETED)


def _input(given: str) -> str:
    """The JSON itself, or what the file behind @ holds."""
    if not given.startswith("@"):
        return given
    try:
        return sys.stdin.read() if given == "@-" else Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{given[1:]}: {error}", param_hint="--input") from None


def _labels(given: list[str] | None) -> dict[str, str]:
    labels = {}
    for pair in given or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--label")
        labels[key] = value
    return labels


def _state(name: str) -> saga_pb2.SagaState:
    if name.upper() not in _STATES:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(_STATES)}", param_hint="--state")
    state: saga_pb2.SagaState = getattr(saga_pb2, f"SAGA_STATE_{name.upper()}")
    return state


def _time(text: str, option: str) -> datetime:
    try:
        return output.local_time(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time such as 2026-01-31T14:00", param_hint=option) from None
