"""What of a saga nobody is shown: the secrets of its definition, hidden before anything leaves the replica.

The definition is looked up by the registry. When that is not possible, nobody knows what is secret: everything is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson
import structlog

from orchestrator.driving.handing_on import secret_paths
from orchestrator.driving.registry import Compiled
from orchestrator.errors import BatonError
from orchestrator.events.model import EventRecord
from orchestrator.saga.definition import Definition
from orchestrator.saga.mapping import Leaf, Mapping, Tree
from orchestrator.saga.model import Failure, Json, Saga
from orchestrator.saga.secrets import EVERYTHING, HIDDEN, blanked, redacted, scrubbed, secret_texts
from orchestrator.sagalog.records import NewSaga, SagaRecord, TransitionRecord

# Why rows could not be understood: about the rows themselves, and never a word of what they hold.
_ROWS = "CORRUPT_LOG"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Veil:
    """The secrets of one saga: paths into its input and into the results of its steps, and what messages must not say.

    `steps` has the paths by the names of the steps; a step that it does not name has `otherwise`.
    """

    input: tuple[str, ...] = ()
    steps: tuple[tuple[str, tuple[str, ...]], ...] = ()
    otherwise: tuple[str, ...] = ()
    texts: frozenset[str] = frozenset()
    # Nobody knows what messages must not say, so they say nothing.
    mute: bool = False

    @property
    def clear(self) -> bool:
        """Whether there is nothing to hide."""
        return not (self.input or self.steps or self.otherwise)

    def saga(self, record: SagaRecord) -> SagaRecord:
        """The saga as it may be shown."""
        if self.clear:
            return record
        return replace(
            record,
            input=record.input and _shown(record.input, lambda value: redacted(value, self.input)),
            result=record.result and _shown(record.result, self._outcome),
            failure=self._failure(record.failure),
            cancel_reason=record.cancel_reason and scrubbed(record.cancel_reason, self.texts),
        )

    def transition(self, record: TransitionRecord) -> TransitionRecord:
        """A transition as it may be shown."""
        if self.clear:
            return record
        paths = self._paths(record.step or "")
        return replace(
            record,
            result=record.result and _shown(record.result, lambda value: redacted(value, paths)),
            failure=self._failure(record.failure),
            ordered=record.ordered and _shown(record.ordered, self._order),
        )

    def _order(self, order: Any) -> Any:
        """Who ordered something is shown in any case; why, and by which evidence, is a message like others."""
        said = order.items() if isinstance(order, dict) else ()
        return {name: text if name == "by" else self._said(str(text)) for name, text in said}

    def _said(self, message: str) -> str:
        return HIDDEN if self.mute else scrubbed(message, self.texts)

    def _paths(self, step: str) -> tuple[str, ...]:
        return next((paths for name, paths in self.steps if name == step), self.otherwise)

    def _outcome(self, outcome: Any) -> Any:
        """Of the outcome of a saga the results are hidden; which steps were done is no secret."""
        if not isinstance(outcome, dict):
            return redacted(outcome, EVERYTHING)
        # The last result stands there without the name of its step: what is secret in any is secret in it.
        every = tuple(path for _, paths in self.steps for path in paths) + self.otherwise
        shown = dict(outcome)
        for name, value in outcome.items():
            if name == "results" and isinstance(value, dict):
                shown[name] = {step: redacted(result, self._paths(step)) for step, result in value.items()}
            elif name not in ("steps_executed", "steps_compensated"):
                shown[name] = redacted(value, every)
        return shown

    def _failure(self, failure: Failure | None) -> Failure | None:
        if failure is None or not (self.texts or self.mute):
            return failure
        if failure.code == _ROWS:
            return failure
        return replace(failure, message=self._said(failure.message))


ALL_HIDDEN = Veil(input=EVERYTHING, otherwise=EVERYTHING, mute=True)


class Lookup(Protocol):
    """Finds compiled definitions: the registry."""

    async def get(self, name: str, version: int) -> Compiled:
        """One version. Raises NotFound, LogUnavailable, Rejected."""


class Veils:
    """Makes the veil of a saga from its definition."""

    def __init__(self, registry: Lookup) -> None:
        self._registry = registry
        self._unknown: set[tuple[str, int]] = set()

    async def of(self, record: SagaRecord) -> Veil:
        """The veil of a saga."""
        return await self.of_saga(record.definition, record.version, record.input)

    async def of_saga(self, name: str, version: int, input_json: str | None) -> Veil:
        """The veil of a saga of this definition; one that hides everything when it cannot be looked up.

        Without the input, or where a list leaves a large one out, it cannot be told what messages quote of its
        secrets: then they say nothing.
        """
        veil = await self._of_definition(name, version)
        if not veil.input or veil.mute:
            return veil
        if input_json is None:
            return replace(veil, mute=True)
        return replace(veil, texts=secret_texts(_value(input_json), veil.input))

    async def input_of(self, new: NewSaga) -> str:
        """The input of a saga that has just been started, as it may be shown."""
        veil = await self._of_definition(new.definition, new.version)
        return _shown(new.input_json, lambda value: redacted(value, veil.input)) if veil.input else new.input_json

    async def event(self, record: EventRecord) -> EventRecord:
        """An event as it may be shown. Its saga's input is not at hand: messages that could quote it say nothing."""
        veil = await self._of_definition(record.definition, record.version)
        shown = replace(veil, mute=True) if veil.input else veil
        return replace(record, transition=shown.transition(record.transition))

    async def _of_definition(self, name: str, version: int) -> Veil:
        try:
            return of_definition((await self._registry.get(name, version)).definition)
        except BatonError as error:
            if (name, version) not in self._unknown and len(self._unknown) < _TOLD_MAX:
                self._unknown.add((name, version))
                reaction = "everything in its sagas is hidden"
                log.warning("secrets_unknown", definition=name, version=version, error=str(error), reaction=reaction)
            return ALL_HIDDEN


_TOLD_MAX = 1_000


def of_definition(definition: Definition) -> Veil:
    """The secrets that a definition names."""
    steps = tuple((step.name, step.secrets) for step in definition.steps if step.secrets)
    return Veil(input=definition.secrets, steps=steps)


def shown_request(saga: Saga, mapping: Mapping, request: Json) -> Json:
    """A request that `mapping` has made for a saga, without what it has of the saga's secrets.

    A secret that was taken over is found by its value, what an expression has made of one by what it reads.
    """
    definition = saga.definition
    shown: Json = blanked(request, saga.input, definition.secrets)
    for position, result in saga.results:
        shown = blanked(shown, result, definition.step(position).secrets)
    secret = secret_paths(definition)
    return _without_made(mapping.tree, shown, secret) if secret else shown


def _without_made(tree: Tree, shown: Json, secret: list[tuple[str, ...]]) -> Json:
    found = dict(shown)
    for name, node in tree.items():
        if name not in found:
            continue
        if not isinstance(node, Leaf):
            found[name] = _without_made(node, found[name], secret)
        elif node.path is None and any(_meet(read, path) for read in node.reads for path in secret):
            found[name] = HIDDEN
    return found


def _meet(read: tuple[str, ...], secret: tuple[str, ...]) -> bool:
    """Whether what is read is the secret, is inside it, or has it inside."""
    return all(a == b for a, b in zip(read, secret, strict=False))


def _shown(text: str, hide: Callable[[Any], Any]) -> str:
    return orjson.dumps(hide(_value(text))).decode() if text else text


def _value(text: str | None) -> Any:
    return orjson.loads(text) if text else None
