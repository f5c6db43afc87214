"""baton.v1.StepService: answers for steps that wait, on any replica."""

from __future__ import annotations

from orchestrator.api import checks, conversion
from orchestrator.api.errors import Context, answered
from orchestrator.api.port import Definitions, Registry
from orchestrator.api.signalling import SignalBox, Signalling, json_object, order
from orchestrator.driving.registry import Compiled
from orchestrator.driving.scalars import WrongType
from orchestrator.errors import NotFound, Rejected
from orchestrator.pb.baton.v1 import steps_pb2, steps_pb2_grpc
from orchestrator.saga.definition import Step, Work
from orchestrator.saga.model import Json, SagaId
from orchestrator.saga.signals import Signal, Verb
from orchestrator.sagalog.signal_box import WaitingStep
from orchestrator.security.caller import current
from orchestrator.security.roles import Role

_CODES = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "ABORTED",
        "RESOURCE_EXHAUSTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "CANCELLED",
        "UNKNOWN",
        "DATA_LOSS",
    }
)
_MESSAGE_MAX = 2000

# The steps that ask for approvals, by definition and version, and by position.
Asking = dict[tuple[str, int], dict[int, Step]]


class StepService(steps_pb2_grpc.StepServiceServicer):
    """Serves the API."""

    def __init__(self, signalling: Signalling, box: SignalBox, registry: Registry, definitions: Definitions) -> None:
        self._signalling = signalling
        self._box = box
        self._registry = registry
        self._definitions = definitions

    @answered
    async def CompleteStep(self, request: steps_pb2.CompleteStepRequest, context: Context) -> steps_pb2.StepAnswer:
        """The participant has done what it accepted."""
        saga_id, name = _token(request.token)
        compiled = await self._signalling.compiled(saga_id)
        try:
            result = _result(compiled, _step(compiled, name), request)
        except Rejected:
            # That nobody waits for the answer says more than what is wrong with it.
            await self._signalling.refuse_unwanted(saga_id, Verb.COMPLETE, name)
            raise
        return await self._tell(saga_id, Signal(0, Verb.COMPLETE, name, result), context)

    @answered
    async def FailStep(self, request: steps_pb2.FailStepRequest, context: Context) -> steps_pb2.StepAnswer:
        """The participant could not do it, and it took no effect."""
        saga_id, name = _token(request.token)
        if request.code and request.code not in _CODES:
            known = ", ".join(sorted(_CODES))
            raise checks.rejected("code", f"{request.code!r:.60} is no gRPC status; known are {known}")
        message = request.message.replace("\x00", "")[:_MESSAGE_MAX]
        signal = Signal(0, Verb.FAIL, name, None, request.code or "FAILED_PRECONDITION", message)
        return await self._tell(saga_id, signal, context)

    @answered
    async def HeartbeatStep(self, request: steps_pb2.HeartbeatStepRequest, context: Context) -> steps_pb2.StepAnswer:
        """The participant is still at it."""
        saga_id, name = _token(request.token)
        return await self._tell(saga_id, Signal(0, Verb.HEARTBEAT, name), context)

    @answered
    async def ApproveStep(self, request: steps_pb2.ApproveStepRequest, context: Context) -> steps_pb2.StepAnswer:
        """A person says yes."""
        result = json_object("result_json", request.result_json)
        given = order(request.by, request.reason, Verb.APPROVE)
        signal = Signal(0, Verb.APPROVE, request.step, result, order=given)
        await self._refuse_outsiders(checks.saga_id(request.saga_id), request.step)
        return await self._tell(checks.saga_id(request.saga_id), signal, context)

    @answered
    async def RejectStep(self, request: steps_pb2.RejectStepRequest, context: Context) -> steps_pb2.StepAnswer:
        """A person says no."""
        given = order(request.by, request.reason, Verb.REJECT)
        signal = Signal(0, Verb.REJECT, request.step, order=given)
        await self._refuse_outsiders(checks.saga_id(request.saga_id), request.step)
        return await self._tell(checks.saga_id(request.saga_id), signal, context)

    @answered
    async def ListApprovals(
        self, request: steps_pb2.ListApprovalsRequest, context: Context
    ) -> steps_pb2.ListApprovalsResponse:
        """What waits for a person, the longest first."""
        size = checks.page_size(request.page_size)
        if request.definition:
            current().require(checks.name("definition", request.definition))
        filters = request.definition.encode()
        after = checks.place_start(request.page_token, filters)
        asking = await self._asking(request.definition)
        definitions = sorted({name for name, _ in asking if current().may_touch(name)})
        found: list[steps_pb2.OpenApproval] = []
        while definitions:
            # A page may have less to show than was looked at; then the next one is looked at as well.
            page = await self._box.asked(definitions, after, size)
            found += [shown for waiting in page.steps if (shown := _open_approval(waiting, asking)) is not None]
            after = page.last
            if found or after is None:
                break
        token = checks.place_token(filters, after) if after is not None else ""
        return steps_pb2.ListApprovalsResponse(approvals=found, next_page_token=token)

    async def _refuse_outsiders(self, saga_id: SagaId, name: str) -> None:
        """Raises Forbidden when the step does not ask for this caller's word."""
        if current().has(Role.OPERATOR):
            return
        compiled = await self._signalling.compiled(saga_id)
        groups = {
            group
            for step in compiled.definition.steps
            if step.name == name and step.approval is not None
            for group in step.approval.roles
        }
        current().require_decision(sorted(groups), f"step {name}")

    async def _asking(self, definition: str) -> Asking:
        """The steps of a definition, or of all, that ask for approvals."""
        asking: Asking = {}
        for listed in await self._definitions.list_definitions():
            if definition not in ("", listed.name):
                continue
            try:
                compiled = await self._registry.get(listed.name, listed.version)
            except (NotFound, Rejected):
                continue  # Of another release: its sagas are parked, and wait for nobody.
            steps = {n: step for n, step in enumerate(compiled.definition.steps, 1) if step.work is Work.APPROVAL}
            if steps:
                asking[listed.name, listed.version] = steps
        return asking

    async def _tell(self, saga_id: SagaId, signal: Signal, context: Context) -> steps_pb2.StepAnswer:
        return steps_pb2.StepAnswer(heeded=await self._signalling.tell(saga_id, signal, context.time_remaining()))


def _open_approval(waiting: WaitingStep, asking: Asking) -> steps_pb2.OpenApproval | None:
    """What a step that waits asks for; None when it does not wait for an approval."""
    step = asking.get((waiting.definition, waiting.version), {}).get(waiting.position)
    if step is None or step.approval is None:
        return None
    return steps_pb2.OpenApproval(
        saga_id=str(waiting.saga_id),
        definition=waiting.definition,
        step=step.name,
        question=step.approval.question,
        roles=step.approval.roles,
        since=conversion.timestamp(waiting.since),
        until=conversion.timestamp(waiting.until),
    )


def _token(token: str) -> tuple[SagaId, str]:
    saga, slash, step = token.partition("/")
    if not slash or not step:
        raise checks.rejected("token", f"{token!r:.60} is not a token that a call of Baton had")
    return checks.saga_id(saga), step


def _step(compiled: Compiled, name: str) -> Step:
    for step in compiled.definition.steps:
        if step.name == name:
            return step
    raise checks.rejected("token", f"{compiled.definition.name} has no step {name!r:.60}")


def _result(compiled: Compiled, step: Step, request: steps_pb2.CompleteStepRequest) -> Json:
    """The step's result: the response as the action's own method would have given it. Raises Rejected."""
    told = json_object("response_json", request.response_json)
    if step.action is None:
        if told is None:
            raise checks.rejected("token", f"step {step.name} calls nobody")
        return told  # The leader says what the step waits for.
    codec = compiled.codecs[step.action.path]
    try:
        return codec.decode(request.response) if told is None else codec.normal_reply(told)
    except WrongType as error:
        field = f"response_json.{error.field}" if error.field else "response_json"
        raise checks.rejected(field, f"{error.description} (in the answer of {step.action.path})") from None
    except ValueError as error:
        field = "response" if told is None else "response_json"
        raise checks.rejected(field, f"is no {step.action.path} response: {error}") from None
