"""`baton saga plan-move` and `baton saga move`: a saga goes on under another version of its definition."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict

from orchestrator.cli import many, output, selection
from orchestrator.cli.calls import Method
from orchestrator.cli.client import WAIT_MAX_S
from orchestrator.cli.command import ENDPOINTS_DEFAULT, AsJson, Endpoints, call
from orchestrator.cli.definition_versions import change_line
from orchestrator.cli.orders import By, Reason, Saga, who
from orchestrator.pb.baton.v1 import bulk_pb2, versions_pb2_grpc
from orchestrator.pb.baton.v1 import versions_pb2 as pb

_TIMEOUT_S = 30.0
_PLAN = Method(versions_pb2_grpc.VersionServiceStub, "PlanMove", pb.PlanMoveResponse)
# Answered when the leader has heeded it.
_MOVE = Method(versions_pb2_grpc.VersionServiceStub, "MoveSaga", pb.MoveSagaResponse, attempt_max_s=WAIT_MAX_S)

_To = Annotated[int, typer.Option("--to", min=0, metavar="VERSION", help="The version; default: the newest.")]


def add_to(app: typer.Typer) -> None:
    """The commands of `baton saga`."""
    app.command("plan-move")(plan_move)
    app.command()(move)


def plan_move(saga: Saga, to: _To = 0, endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False) -> None:
    """Show what a move to another version would do now: what stays, what differs, what comes then. Changes nothing.

    The exit status is 1 when the saga cannot be moved.
    """
    plan = _plan(saga, to, endpoint)
    if as_json:
        output.print_json(MessageToDict(plan, preserving_proto_field_name=True))
    else:
        _show(plan)
    if plan.obstacles:
        raise typer.Exit(1)


def move(
    reason: Reason,
    saga: Annotated[str, typer.Argument(metavar="SAGA", help="The saga's id; without it, --definition.")] = "",
    to: _To = 0,
    by: By = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, at a terminal.")] = False,
    definition: Annotated[str, typer.Option("--definition", "-d", help="Every live or parked saga of it.")] = "",
    state: selection.States = None,
    label: selection.Labels = None,
    where: selection.Where = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --definition: say what would be moved.")] = False,
    max_: Annotated[int, typer.Option("--max", min=0, help="With --definition: at most so many; 0: 10,000.")] = 0,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Let a saga go on under another version of its definition, in which all that has begun is equal.

    The plan is shown first. A parked saga stays parked: `baton saga retry` takes it up. The exit status is 1 when the
    saga cannot be moved; then it goes on as it was. With --definition every saga is judged by itself, and the exit
    status is 6 when the order did not reach all of them.
    """
    if bool(saga) == bool(definition) or (saga and (state or label or where or dry_run or max_)):
        raise typer.BadParameter(
            "give a saga, or --definition with --state, --label, --where, --dry-run, --max", param_hint="SAGA"
        )
    if definition:
        chosen = selection.bulk_filter(state, definition, label, None, where, "", "", every=False)
        asked = bulk_pb2.BulkMoveRequest(
            filter=chosen, reason=reason, by=who(by), dry_run=dry_run, max=max_, to_version=to
        )
        many.give(endpoint, lambda client: client.bulk_order(asked), dry_run=dry_run, as_json=as_json)
        return
    _move_one(saga, to, reason, who(by), yes=yes, endpoint=endpoint, as_json=as_json)


def _move_one(saga: str, to: int, reason: str, by: str, *, yes: bool, endpoint: list[str], as_json: bool) -> None:
    plan = _plan(saga, to, endpoint)
    if not as_json:
        _show(plan)
    elif plan.obstacles:
        output.print_json(MessageToDict(plan, preserving_proto_field_name=True))
    if plan.obstacles:
        raise typer.Exit(1)
    if not (yes or as_json) and sys.stdin.isatty() and not typer.confirm("Move it?"):
        raise typer.Exit(1)
    # The version of the plan, whatever has been applied since.
    request = pb.MoveSagaRequest(saga_id=saga, to_version=plan.to_version, reason=reason, by=by)
    answer = call(endpoint, _TIMEOUT_S, lambda client: client.ask(_MOVE, request))
    if as_json:
        told = {"heeded": answer.heeded, "from_version": answer.from_version, "to_version": answer.to_version}
        output.print_json({**told, **output.saga_json(answer.saga)})
        return
    if answer.heeded:
        typer.echo(f"moved to version {answer.to_version}; it is {output.state_name(answer.saga.state)}")
    else:
        typer.echo("stored; the leader has not heeded it yet")


def _plan(saga: str, to: int, endpoint: list[str]) -> pb.PlanMoveResponse:
    request = pb.PlanMoveRequest(saga_id=saga, to_version=to)
    return call(endpoint, _TIMEOUT_S, lambda client: client.ask(_PLAN, request))


def _show(plan: pb.PlanMoveResponse) -> None:
    typer.echo(f"version {plan.from_version} -> {plan.to_version}")
    for obstacle in plan.obstacles:
        where = f"step {obstacle.step}: {obstacle.field}" if obstacle.step else obstacle.field
        output.complain(f"cannot be moved: {where} {obstacle.why}")
    for kept in plan.kept:
        typer.echo(f"  stays   {kept.step}: {kept.how}")
    for change in plan.changes:
        typer.echo(f"  differs {change_line(change)}")
    before, after = (output.when(at) for at in (plan.deadline_before, plan.deadline_after))
    if before != after:
        typer.echo(f"  deadline {before or 'none'} -> {after or 'none'}")
    for ahead in plan.ahead:
        when = "at once" if ahead.at_once else "then"
        request = ahead.request_json or (f"(not known yet: {ahead.unknown_because})" if ahead.unknown_because else "")
        called = " ".join(part for part in (ahead.service, ahead.method, request) if part)
        typer.echo(f"  {when:7} {ahead.step}: {ahead.what} {called}".rstrip())
    if plan.state == "FAILED" and not plan.obstacles:
        typer.echo("  it stays parked until it is retried")
