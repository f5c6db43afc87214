"""`baton saga`: start, get, list, watch and cancel sagas."""

from __future__ import annotations

import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from orchestrator.cli import many, output
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
from orchestrator.cli.selection import (
    LabelKeys,
    Labels,
    OfDefinition,
    Since,
    States,
    Until,
    Where,
    bulk_filter,
    labels_of,
    state_of,
    time_of,
)
from orchestrator.pb.baton.v1 import bulk_pb2, counting_pb2, saga_pb2

_TIMEOUT_S = 30.0

app = typer.Typer(help="Start sagas, and look at them.", no_args_is_help=True)

SagaId = Annotated[str, typer.Argument(metavar="SAGA", help="The saga's id.")]


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
    text, labels = _input(input_), labels_of(label)
    if at and wait:
        raise typer.BadParameter("a saga that begins later is not waited for: leave out --wait", param_hint="--at")
    start_at = time_of(at, "--at") if at else None

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
    state: States = None,
    definition: OfDefinition = "",
    label: Labels = None,
    has_label: LabelKeys = None,
    where: Where = "",
    since: Since = "",
    until: Until = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List sagas, the newest first."""
    request = saga_pb2.ListSagasRequest(
        states=[state_of(name) for name in state or ()],
        definition=definition,
        labels=labels_of(label),
        label_keys=has_label or (),
        input_path=where,
    )
    if since:
        request.created_after.FromDatetime(time_of(since, "--since"))
    if until:
        request.created_before.FromDatetime(time_of(until, "--until"))
    found = call(endpoint, _TIMEOUT_S, lambda client: client.list_sagas(request, limit))
    if as_json:
        output.print_json([output.saga_json(saga) for saga in found])
        return
    columns = ("SAGA", "DEFINITION", "STATE", "STEP", "CREATED", "LABELS", "ERROR")
    output.table(columns, (_list_row(saga) for saga in found))


@app.command()
def count(
    definition: OfDefinition = "",
    state: States = None,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Count sagas by definition and state."""
    request = counting_pb2.CountSagasRequest(definition=definition, states=[state_of(name) for name in state or ()])
    answer = call(endpoint, _TIMEOUT_S, lambda client: client.count_sagas(request))
    rows = [(count.definition, output.state_name(count.state), count.count) for count in answer.counts]
    if as_json:
        counts = [{"definition": name, "state": state, "count": count} for name, state, count in rows]
        output.print_json({"counts": counts, "total": answer.total})
        return
    lines = [(name, output.coloured(state), str(count)) for name, state, count in rows]
    output.table(("DEFINITION", "STATE", "SAGAS"), [*lines, ("total", "", str(answer.total))])


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
    saga: Annotated[str, typer.Argument(metavar="SAGA", help="The saga's id; without it, those of the filter.")] = "",
    reason: Annotated[str, typer.Option("--reason", "-r", help="For the log.")] = "",
    state: States = None,
    definition: OfDefinition = "",
    label: Labels = None,
    has_label: LabelKeys = None,
    where: Where = "",
    since: Since = "",
    until: Until = "",
    all_: Annotated[bool, typer.Option("--all", help="Every saga that has not ended, instead of a filter.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be cancelled, and cancel nothing.")
    ] = False,
    max_: Annotated[int, typer.Option("--max", min=0, help="At most so many; 0 means 10,000.")] = 0,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Ask that a saga, or all of a filter, be undone: what they have done is compensated.

    With a filter the exit status is 6 when an order did not reach a saga that matched.
    """
    chosen = bulk_filter(state, definition, label, has_label, where, since, until, every=all_)
    if saga:
        if chosen.ListFields() or dry_run or max_:
            raise typer.BadParameter("give a saga or a filter, not both", param_hint="SAGA")
        answer = call(endpoint, _TIMEOUT_S, lambda client: client.cancel_saga(saga, reason))
        if as_json:
            output.print_json(output.saga_json(answer))
        else:
            _print_saga(answer)
        return
    if not chosen.ListFields():
        raise typer.BadParameter("give a saga's id, a filter such as --definition, or --all", param_hint="SAGA")
    request = bulk_pb2.BulkCancelRequest(filter=chosen, reason=reason, dry_run=dry_run, max=max_)
    many.give(endpoint, lambda client: client.bulk_order(request), dry_run=dry_run, as_json=as_json)


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
    if transition.HasField("ordered"):
        detail = f"{output.order_text(transition.ordered)}  {detail}".rstrip()
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
