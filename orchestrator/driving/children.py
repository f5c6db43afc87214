"""Child sagas: how a step begins the saga that it runs, and how it has that undone."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.driving.registry import Registry
from orchestrator.errors import InvariantError, LogUnavailable, NotFound, Rejected
from orchestrator.saga.commands import Accepted, Begin, Held, Outcome, Refused, Succeeded
from orchestrator.saga.definition import Child, Step
from orchestrator.saga.events import NOT_CALLED, NOT_TO_BE_MADE
from orchestrator.saga.ids import RANDOM_BITS, saga_id
from orchestrator.saga.mapping import PointsNowhere
from orchestrator.saga.model import Kind, Saga, SagaId, SagaState
from orchestrator.saga.progress import context
from orchestrator.sagalog.port import NewChild, TermLog

# A child whose definition cannot be read, since Postgres does not answer, is begun so many seconds later.
READ_AGAIN_S = 0.5


class Children:
    """Begins and undoes the child sagas of one term. `begun` is called when there may be a new saga, or a signal."""

    def __init__(
        self, log: TermLog, registry: Registry, chance: Callable[[], float], begun: Callable[[], None]
    ) -> None:
        self._log = log
        self._registry = registry
        self._chance = chance
        self._begun = begun
        self._last_id: SagaId | None = None

    async def perform(self, saga: Saga, effort: Begin) -> Outcome:
        """Begin the child of a step, or have it undone; its end comes as a signal. Raises Fenced."""
        step = saga.definition.step(effort.position)
        if step.child is None:
            raise InvariantError(f"step {step.name} of saga {saga.id} runs no saga")
        if effort.kind is Kind.ACTION:
            return await self._begin(saga, step, step.child)
        # Not by the attempt: those are counted from one again when a parked saga is retried.
        state = await self._log.undo_child(saga, step.name, saga.sequence)
        self._begun()
        return Succeeded({}) if state in ("", SagaState.COMPENSATED) else Accepted()

    async def _begin(self, saga: Saga, step: Step, child: Child) -> Outcome:
        try:
            value = child.input.evaluate(context(saga))
        except PointsNowhere as error:
            return Refused(NOT_TO_BE_MADE, str(error))
        try:
            newest = child.version == 0
            registry = self._registry
            compiled = await (
                registry.newest(child.definition) if newest else registry.get(child.definition, child.version)
            )
            violations = compiled.check_input(value, saga.labels)
            if violations:
                raise Rejected(f"definition {child.definition!r} cannot run with this input", violations)
        except NotFound as error:
            return Refused("NOT_FOUND", str(error))
        except Rejected as error:
            return Refused("INVALID_ARGUMENT", str(error))
        except LogUnavailable as error:
            return Held(
                NOT_CALLED, f"definition {child.definition!r} cannot be read: {error}", READ_AGAIN_S, called=False
            )
        version = compiled.definition.version
        new = NewChild(self._new_id(), child.definition, version, value, saga.labels)
        await self._log.begin_child(saga, step.name, new)
        self._begun()
        return Accepted()

    def _new_id(self) -> SagaId:
        bits = int(self._chance() * (1 << 53)) << (RANDOM_BITS - 53)
        self._last_id = saga_id(int(self._log.now().timestamp() * 1000), bits, after=self._last_id)
        return self._last_id
