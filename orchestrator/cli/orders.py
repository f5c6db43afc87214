"""`baton saga pause`, `approve`, `resolve` and their like: what people order, and what they look at before."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from orchestrator.cli import many, output
from orchestrator.cli.calls import Answer, Method
from orchestrator.cli.client import WAIT_MAX_S, Client
from orchestrator.cli.command import ENDPOINTS_DEFAULT, AsJson, Endpoints, call
from orchestrator.pb.baton.v1 import bulk_pb2, operations_pb2, operations_pb2_grpc, steps_pb2, steps_pb2_grpc

_TIMEOUT_S = 30.0
_PAGE = 500

_Operations = operations_pb2_grpc.OperationServiceStub
_Steps = steps_pb2_grpc.StepServiceStub

Saga = Annotated[str, typer.Argument(metavar="SAGA", help="The saga's id.")]
StepName = Annotated[str, typer.Argument(metavar="STEP", help="The step's name.")]
AnyStep = Annotated[str, typer.Option("--step", help="One step alone; default: all that wait.")]
By = Annotated[str, typer.Option("--by", help="Who orders it; default: the user of this machine.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it stands in the saga's history.")]
Evidence = Annotated[str, typer.Option("--evidence", help="What shows that it is right: a ticket, a receipt.")]
Result = Annotated[str, typer.Option("--result", metavar="JSON", help="The step's result, a JSON object.")]
Definition = Annotated[str, typer.Option("--definition", "-d", help="Sagas of this definition alone.")]


def add_to(app: typer.Typer) -> None:
    """The commands of `baton saga`."""
    for command in (pause, resume, retry, approve, reject, skip, resolve, force):
        app.command()(command)
    app.command("plan-cancel")(plan_cancel)


def pause(
    saga: Saga, reason: Reason = "", by: By = "", endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False
) -> None:
    """Let no step of a saga begin until it is resumed; calls under way are heard."""
    _order("PauseSaga", operations_pb2.SagaOrder(saga_id=saga, by=who(by), reason=reason), endpoint, as_json)


def resume(
    saga: Saga, reason: Reason = "", by: By = "", endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False
) -> None:
    """Let a paused saga go on."""
    _order("ResumeSaga", operations_pb2.SagaOrder(saga_id=saga, by=who(by), reason=reason), endpoint, as_json)


def retry(
    saga: Annotated[str, typer.Argument(metavar="SAGA", help="The saga's id; without it, --stuck.")] = "",
    step: AnyStep = "",
    reason: Reason = "",
    by: By = "",
    stuck: Annotated[bool, typer.Option("--stuck", help="Every parked saga.")] = False,
    definition: Definition = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --stuck: say what would be retried.")] = False,
    max_: Annotated[int, typer.Option("--max", min=0, help="With --stuck: at most so many; 0 means 10,000.")] = 0,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Do not wait for the next attempt; take a parked saga, or all that are parked, up again, with new budgets.

    With --stuck the exit status is 6 when the order did not reach a saga that is parked.
    """
    if bool(saga) == stuck or (stuck and step) or (saga and (definition or dry_run or max_)):
        raise typer.BadParameter("give a saga, or --stuck with --definition, --dry-run, --max", param_hint="SAGA")
    if stuck:
        chosen = bulk_pb2.BulkFilter(definition=definition, all=not definition)
        many_asked = bulk_pb2.BulkRetryRequest(filter=chosen, reason=reason, by=who(by), dry_run=dry_run, max=max_)
        many.give(endpoint, lambda client: client.bulk_order(many_asked), dry_run=dry_run, as_json=as_json)
        return
    request = operations_pb2.StepOrder(saga_id=saga, step=step, by=who(by), reason=reason)
    _order("RetrySaga", request, endpoint, as_json)


def skip(
    saga: Saga,
    step: StepName,
    reason: Reason,
    evidence: Evidence,
    by: By = "",
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Pass a step over: it is not called any more, and never undone."""
    request = operations_pb2.StepOrder(saga_id=saga, step=step, by=who(by), reason=reason, evidence=evidence)
    _order("SkipStep", request, endpoint, as_json)


def resolve(
    saga: Saga,
    step: StepName,
    reason: Reason,
    evidence: Evidence,
    by: By = "",
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Count the compensation of a step as done, because it was done by hand."""
    request = operations_pb2.StepOrder(saga_id=saga, step=step, by=who(by), reason=reason, evidence=evidence)
    _order("ResolveStep", request, endpoint, as_json)


def force(
    saga: Saga,
    step: StepName,
    reason: Reason,
    evidence: Evidence,
    result: Result = "",
    by: By = "",
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Count the action of a step as done, and go forward."""
    request = operations_pb2.ForceOrder(
        saga_id=saga, step=step, by=who(by), reason=reason, evidence=evidence, result_json=result
    )
    _order("ForceStep", request, endpoint, as_json)


def approve(
    saga: Saga,
    step: StepName,
    reason: Reason = "",
    result: Result = "",
    by: By = "",
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
) -> None:
    """Say yes to a step that waits for a person."""
    request = steps_pb2.ApproveStepRequest(saga_id=saga, step=step, by=who(by), reason=reason, result_json=result)
    _say(_ask(_heeded(_Steps, "ApproveStep", steps_pb2.StepAnswer), request, endpoint).heeded)


def reject(
    saga: Saga, step: StepName, reason: Reason = "", by: By = "", endpoint: Endpoints = ENDPOINTS_DEFAULT
) -> None:
    """Say no to a step that waits for a person: the saga turns back."""
    request = steps_pb2.RejectStepRequest(saga_id=saga, step=step, by=who(by), reason=reason)
    _say(_ask(_heeded(_Steps, "RejectStep", steps_pb2.StepAnswer), request, endpoint).heeded)


def plan_cancel(saga: Saga, endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False) -> None:
    """Show the calls that a cancellation would make now, with their payloads. Changes nothing."""
    method = Method(_Operations, "PlanCancel", operations_pb2.PlanCancelResponse)
    plan = _ask(method, operations_pb2.PlanCancelRequest(saga_id=saga), endpoint)
    if as_json:
        output.print_json(_dict(plan))
        return
    if plan.refusal:
        output.complain(plan.refusal)
        raise typer.Exit(1)
    rows = [
        (
            c.step if c.saga_id in ("", saga) else f"{c.step} of {c.saga_id}",
            c.service,
            c.method,
            c.request_json or f"not known{' yet' if c.method else ''}: {c.unknown_because}",
        )
        for c in plan.calls
    ]
    _table(("step", "service", "method", "request"), rows, "nothing would be called")
    for name in plan.left_alone:
        output.console().print(f"left alone: {name} (it has no compensation)")


def parked(definition: Definition = "", endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False) -> None:
    """List the sagas that wait for a person, the longest first, and what may be ordered for each."""
    method = Method(_Operations, "ListParked", operations_pb2.ListParkedResponse)
    found = _ask(method, operations_pb2.ListParkedRequest(definition=definition), endpoint)
    if as_json:
        output.print_json(_dict(found))
        return
    rows = [
        (
            one.saga.saga_id,
            one.saga.definition,
            output.when(one.parked_at),
            f"{one.saga.error.step} {one.saga.error.code}: {one.saga.error.message}".strip(),
            ", ".join(one.resolutions),
        )
        for one in found.sagas
    ]
    _table(("saga", "definition", "since", "why", "may be ordered"), rows, "no saga is parked")
    if found.count:
        output.console().print(f"{found.count} parked, the first for {found.oldest_age_s:.0f} s")


def approvals(
    definition: Definition = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="At most about so many.")] = 100,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List the steps that wait for a person's approval, the longest first."""
    found, more = call(endpoint, _TIMEOUT_S, lambda client: _approvals(client, definition, limit))
    if as_json:
        output.print_json(_dict(steps_pb2.ListApprovalsResponse(approvals=found)))
        return
    rows = [
        (one.saga_id, one.definition, one.step, one.question, output.when(one.since), output.when(one.until))
        for one in found
    ]
    _table(("saga", "definition", "step", "question", "since", "until"), rows, "nothing waits")
    if more:
        output.console().print("more wait: see --limit")


async def _approvals(client: Client, definition: str, limit: int) -> tuple[list[steps_pb2.OpenApproval], bool]:
    """Approvals that are asked for, of so many sagas, over as many pages as it takes; and whether there are more."""
    method = Method(_Steps, "ListApprovals", steps_pb2.ListApprovalsResponse)
    request = steps_pb2.ListApprovalsRequest(definition=definition)
    found: list[steps_pb2.OpenApproval] = []
    while len(found) < limit:
        request.page_size = min(_PAGE, limit - len(found))
        page = await client.ask(method, request)
        found.extend(page.approvals)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    return found, bool(request.page_token)


def _order(name: str, request: Message, endpoint: list[str], as_json: bool) -> None:
    answer = _ask(_heeded(_Operations, name, operations_pb2.OrderAnswer), request, endpoint)
    if as_json:
        output.print_json({"heeded": answer.heeded, **output.saga_json(answer.saga)})
    else:
        _say(answer.heeded)


def _heeded(stub: type[Any], name: str, answer: type[Answer]) -> Method[Answer]:
    """A method that waits until the leader has heeded what was ordered, which may not lead for long yet."""
    return Method(stub, name, answer, attempt_max_s=WAIT_MAX_S)


def _say(heeded: bool) -> None:
    output.console().print("done" if heeded else "stored; the leader has not heeded it yet")


def _ask(method: Method[Answer], request: Message, endpoint: list[str]) -> Answer:
    return call(endpoint, _TIMEOUT_S, lambda client: client.ask(method, request))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    if rows:
        output.table(columns, rows)
    else:
        output.console().print(nothing)


def who(by: str) -> str:
    """Who orders something: whoever is named, else the user of this machine."""
    return by or getpass.getuser()


def _dict(message: Message) -> object:
    return orjson.loads(orjson.dumps(MessageToDict(message, preserving_proto_field_name=True)))
