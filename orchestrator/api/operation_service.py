"""baton.v1.OperationService: what operators order, and what they look at before, on any replica."""

from __future__ import annotations

import orjson

from orchestrator.api import checks, conversion
from orchestrator.api.errors import Context, answered
from orchestrator.api.port import SagaReader
from orchestrator.api.signalling import SignalBox, Signalling, json_object, order
from orchestrator.driving.veil import Veils, shown_request
from orchestrator.errors import WrongState
from orchestrator.pb.baton.v1 import operations_pb2 as pb
from orchestrator.pb.baton.v1 import operations_pb2_grpc
from orchestrator.saga.model import Saga, SagaId
from orchestrator.saga.plan import CancelPlan, PlannedCall, plan_cancel, plan_undo, resolutions
from orchestrator.saga.signals import Signal, Verb
from orchestrator.security.caller import current


class OperationService(operations_pb2_grpc.OperationServiceServicer):
    """Serves the API."""

    def __init__(self, signalling: Signalling, box: SignalBox, reader: SagaReader, veils: Veils) -> None:
        self._signalling = signalling
        self._box = box
        self._reader = reader
        self._veils = veils

    @answered
    async def PauseSaga(self, request: pb.SagaOrder, context: Context) -> pb.OrderAnswer:
        """No step begins until the saga is resumed."""
        return await self._order(request.saga_id, _whole(Verb.PAUSE, request), context)

    @answered
    async def ResumeSaga(self, request: pb.SagaOrder, context: Context) -> pb.OrderAnswer:
        """The saga goes on."""
        return await self._order(request.saga_id, _whole(Verb.RESUME, request), context)

    @answered
    async def RetrySaga(self, request: pb.StepOrder, context: Context) -> pb.OrderAnswer:
        """The next attempt begins at once; a parked saga goes on."""
        return await self._order(request.saga_id, _of_step(Verb.RETRY, request), context)

    @answered
    async def SkipStep(self, request: pb.StepOrder, context: Context) -> pb.OrderAnswer:
        """The step is passed over."""
        return await self._order(request.saga_id, _of_step(Verb.SKIP, request), context)

    @answered
    async def ResolveStep(self, request: pb.StepOrder, context: Context) -> pb.OrderAnswer:
        """The step's compensation counts as done."""
        return await self._order(request.saga_id, _of_step(Verb.RESOLVE, request), context)

    @answered
    async def ForceStep(self, request: pb.ForceOrder, context: Context) -> pb.OrderAnswer:
        """The step's action counts as done."""
        given = order(request.by, request.reason, Verb.FORCE, request.evidence)
        signal = Signal(0, Verb.FORCE, request.step, json_object("result_json", request.result_json), order=given)
        return await self._order(request.saga_id, signal, context)

    @answered
    async def ListParked(self, request: pb.ListParkedRequest, context: Context) -> pb.ListParkedResponse:
        """The parked sagas, the longest first."""
        size = checks.page_size(request.page_size)
        definition = checks.name("definition", request.definition) if request.definition else ""
        if definition:
            current().require(definition)
        else:
            current().require_all("a list without `definition`")
        count, oldest_age_s = await self._box.parked(definition)
        sagas = []
        for record in await self._reader.parked(definition, size):
            parked_at = conversion.timestamp(record.finished_at)
            may = await self._resolutions(record.id)
            shown = conversion.saga(record, await self._veils.of(record))
            sagas.append(pb.ParkedSaga(saga=shown, parked_at=parked_at, resolutions=may))
        return pb.ListParkedResponse(sagas=sagas, count=count, oldest_age_s=oldest_age_s)

    @answered
    async def PlanCancel(self, request: pb.PlanCancelRequest, context: Context) -> pb.PlanCancelResponse:
        """What a cancellation would call."""
        saga = await self._signalling.folded(checks.saga_id(request.saga_id))
        plan = plan_cancel(saga)
        calls, alone = await self._planned(saga, plan)
        return pb.PlanCancelResponse(refusal=plan.refusal, calls=calls, left_alone=alone)

    async def _planned(self, saga: Saga, plan: CancelPlan) -> tuple[list[pb.PlannedCall], list[str]]:
        """The calls of a plan, those of child sagas in their places; and the steps that are left alone."""
        calls: list[pb.PlannedCall] = []
        alone = list(plan.left_alone)
        for call in plan.calls:
            shown = pb.PlannedCall(
                saga_id=str(saga.id),
                step=call.step,
                service=call.service,
                method=call.method,
                request_json=_request_json(saga, call),
                unknown_because=call.because,
            )
            child_id = None if call.method else await self._reader.child(saga.id, call.step)
            if call.method:
                calls.append(shown)
            elif child_id is not None:
                child = await self._signalling.folded(child_id)
                inner = plan_undo(child)
                if inner.refusal:
                    shown.unknown_because = inner.refusal
                    calls.append(shown)
                deeper, left = await self._planned(child, inner)
                calls += deeper
                alone += [f"{call.step}/{name}" for name in left]
        return calls, alone

    async def _order(self, text: str, signal: Signal, context: Context) -> pb.OrderAnswer:
        saga_id = checks.saga_id(text)
        heeded = await self._signalling.tell(saga_id, signal, context.time_remaining())
        record = await self._signalling.existing(saga_id)
        return pb.OrderAnswer(heeded=heeded, saga=conversion.saga(record, await self._veils.of(record)))

    async def _resolutions(self, saga_id: SagaId) -> tuple[str, ...]:
        try:
            return resolutions(await self._signalling.folded(saga_id))
        except WrongState:
            return ()


def _request_json(saga: Saga, call: PlannedCall) -> str:
    """A planned request without secrets; empty where it is not known."""
    if call.request is None or call.mapping is None:
        return ""
    return orjson.dumps(shown_request(saga, call.mapping, call.request)).decode()


def _whole(verb: Verb, request: pb.SagaOrder) -> Signal:
    return Signal(0, verb, order=order(request.by, request.reason, verb))


def _of_step(verb: Verb, request: pb.StepOrder) -> Signal:
    if not request.step and verb is not Verb.RETRY:
        raise checks.rejected("step", "is missing")
    return Signal(0, verb, request.step, order=order(request.by, request.reason, verb, request.evidence))
