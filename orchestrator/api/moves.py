"""How a saga is moved to another version of its definition: the plan that is shown first, and the order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from orchestrator.api import checks, conversion
from orchestrator.api.errors import UnknownName
from orchestrator.api.orders import Outcome, Verdict
from orchestrator.api.port import Definitions, Registry
from orchestrator.api.signalling import Signalling, order
from orchestrator.driving.destinations import destination
from orchestrator.driving.registry import Compiled
from orchestrator.driving.veil import Veils, shown_request
from orchestrator.errors import NotFound, Rejected, WrongState
from orchestrator.pb.baton.v1 import versions_pb2 as pb
from orchestrator.saga.definition import Definition
from orchestrator.saga.difference import Change
from orchestrator.saga.events import Order as OrderedBy
from orchestrator.saga.model import Saga, SagaState
from orchestrator.saga.moving import obstacles, told
from orchestrator.saga.plan_move import Ahead, plan_move
from orchestrator.saga.signals import Signal, Verb
from orchestrator.sagalog.records import SagaRecord


class Moves:
    """Plans moves and orders them, on any replica."""

    def __init__(self, signalling: Signalling, registry: Registry, definitions: Definitions, veils: Veils) -> None:
        self._signalling = signalling
        self._registry = registry
        self._definitions = definitions
        self._veils = veils

    async def plan(self, request: pb.PlanMoveRequest) -> pb.PlanMoveResponse:
        """What a move would do now. Raises Rejected, UnknownName, WrongState."""
        saga_id = checks.saga_id(request.saga_id)
        record = await self._signalling.existing(saga_id)
        to = await self._version(record.definition, request.to_version)
        saga = await self._signalling.folded(saga_id)
        present = await self._registry.get(saga.definition.name, saga.definition.version)
        if saga.state.terminal and saga.parked_from is None:
            raise WrongState(f"saga {saga_id} is {saga.state}; only a saga that has not ended, or is parked, is moved")
        plan, moved = plan_move(saga, destination(present, to, saga), datetime.now(UTC))
        return pb.PlanMoveResponse(
            from_version=plan.from_version,
            to_version=plan.to_version,
            obstacles=[
                pb.MoveObstacle(step=o.step, field=o.field, before=o.before, after=o.after, why=o.why)
                for o in plan.obstacles
            ],
            kept=[pb.KeptStep(step=kept.step, how=kept.how) for kept in plan.kept],
            changes=[definition_change(change) for change in plan.changes],
            ahead=[_ahead(moved, ahead) for ahead in plan.ahead],
            deadline_before=conversion.timestamp(plan.deadline_before),
            deadline_after=conversion.timestamp(plan.deadline_after),
            state=plan.state,
        )

    async def move(self, request: pb.MoveSagaRequest, left_s: float | None) -> pb.MoveSagaResponse:
        """Order a move, and wait a while for the leader to heed it. Raises as `plan` does."""
        saga_id = checks.saga_id(request.saga_id)
        given = _given(request.by, request.reason)
        record = await self._signalling.existing(saga_id)
        to = (await self._version(record.definition, request.to_version)).definition
        heeded = await self._signalling.tell(saga_id, _signal(to, given), left_s)
        now = await self._signalling.existing(saga_id)
        shown = conversion.saga(now, await self._veils.of(now))
        return pb.MoveSagaResponse(heeded=heeded, from_version=record.version, to_version=to.version, saga=shown)

    async def order_for_many(self, name: str, version: int, by: str, reason: str) -> MoveOrder:
        """The order to move sagas of a definition. Raises Rejected, UnknownName, WrongState."""
        given = _given(by, reason)
        return MoveOrder(self._signalling, self._registry, await self._version(name, version), given)

    async def _version(self, name: str, version: int) -> Compiled:
        """The version to move to, 0 being the newest. Raises Rejected, UnknownName; WrongState when it is retired."""
        if version < 0:
            raise checks.rejected("to_version", f"{version} is not a version; they count from 1, and 0 is the newest")
        try:
            compiled = await (self._registry.get(name, version) if version else self._registry.newest(name))
        except NotFound as error:
            raise UnknownName("to_version", str(error)) from None
        except Rejected as error:
            raise WrongState(f"version {version} of definition {name!r} cannot be used any more: {error}") from None
        for retired in await self._definitions.retirements():
            # One of every version says that nothing new begins; what has begun may still be mended.
            if (retired.name, retired.version) == (name, compiled.definition.version):
                raise WrongState(
                    f"version {retired.version} of definition {name!r} was retired by {retired.by}: {retired.reason}; "
                    "no sagas are moved to it"
                )
        return compiled


@dataclass(frozen=True, slots=True)
class MoveOrder:
    """Implements `Order`: go on under another version of the definition."""

    signalling: Signalling
    registry: Registry
    to: Compiled
    given: OrderedBy

    @property
    def states(self) -> tuple[str, ...]:
        """Sagas that have not ended, and parked ones."""
        ended = (SagaState.COMPLETED, SagaState.COMPENSATED)
        return tuple(state.value for state in SagaState if state not in ended)

    async def judge(self, saga: SagaRecord) -> Verdict:
        """See `Order.judge`."""
        if saga.version == self.to.definition.version:
            return Verdict(Outcome.ALREADY_ORDERED, saga.state, f"it goes by version {saga.version} already")
        if saga.state in (SagaState.COMPLETED, SagaState.COMPENSATED):
            return Verdict(Outcome.ENDED, saga.state, f"it is {saga.state}")
        present = await self.registry.get(saga.definition, saga.version)
        folded = await self.signalling.folded(saga.id)
        if found := obstacles(folded, destination(present, self.to, folded), datetime.now(UTC)):
            return Verdict(Outcome.REFUSED, saga.state, told(found))
        return Verdict(Outcome.ORDERED, saga.state)

    async def give(self, saga: SagaRecord) -> Verdict:
        """See `Order.give`. Given twice, the leader refuses the second one, and nothing else happens."""
        verdict = await self.judge(saga)
        if verdict.outcome is Outcome.ORDERED:
            await self.signalling.tell(saga.id, _signal(self.to.definition, self.given), left_s=0.0)
        return verdict


def _given(by: str, reason: str) -> OrderedBy:
    """Who orders a move, and why. Raises Rejected."""
    if not reason.strip():
        raise checks.rejected("reason", "is missing: it stands in the saga's history")
    return order(by, reason, Verb.MOVE)


def _signal(to: Definition, given: OrderedBy) -> Signal:
    return Signal(0, Verb.MOVE, result={"definition": to.name, "to": to.version}, order=given)


def definition_change(change: Change) -> pb.DefinitionChange:
    """A difference between two versions, for the API."""
    return pb.DefinitionChange(kind=change.kind.value, path=change.path, before=change.before, after=change.after)


def _ahead(saga: Saga, ahead: Ahead) -> pb.StepAhead:
    request = ""
    if ahead.request is not None and ahead.mapping is not None:
        request = orjson.dumps(shown_request(saga, ahead.mapping, ahead.request)).decode()
    return pb.StepAhead(
        step=ahead.step,
        what=ahead.what,
        service=ahead.service,
        method=ahead.method,
        request_json=request,
        unknown_because=ahead.because,
        at_once=ahead.at_once,
    )
