"""How an answer or an order reaches a saga: it is checked, stored, and waited for until the leader has heeded it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from orchestrator.api import checks
from orchestrator.api.errors import UnknownName
from orchestrator.api.inputs import parsed
from orchestrator.api.patience import looks
from orchestrator.api.port import Registry, SagaReader
from orchestrator.driving.registry import Compiled
from orchestrator.errors import CorruptLog, NotFound, WrongState
from orchestrator.saga.events import Order
from orchestrator.saga.model import NO_EPOCH, Epoch, Json, Saga, SagaId, SagaState
from orchestrator.saga.script import Moment
from orchestrator.saga.signals import HEARD_PARKED, NEEDS_EVIDENCE, Signal, Verb, heed
from orchestrator.sagalog.port import StoredSaga
from orchestrator.sagalog.records import SagaRecord
from orchestrator.sagalog.restoring import restored, versions
from orchestrator.sagalog.signal_box import AskedPage, Fate, Place
from orchestrator.security.caller import current

# When a signal is only tried on a saga: whether it is wanted is a question of neither the time nor the leader.
_UNASKED = Moment(Epoch(NO_EPOCH + 1), datetime.fromtimestamp(0, UTC), 0.5)

_WORDS_MAX = 1000
_RESULT_BYTES_MAX = 1_000_000


class SignalBox(Protocol):
    """Stores signals and tells what became of them. All methods raise LogUnavailable."""

    async def post(self, saga_id: SagaId, signal: Signal) -> int:
        """Store a signal. Raises NotFound, AlreadyTold."""

    async def fate(self, number: int) -> Fate:
        """What became of a signal."""

    async def stored(self, saga_id: SagaId) -> StoredSaga | None:
        """A saga as a leader reads it."""

    async def asked(self, definitions: Sequence[str], after: Place | None, page: int) -> AskedPage:
        """What waits in sagas that ask for approvals, the longest first."""

    async def parked(self, definition: str) -> tuple[int, float]:
        """How many sagas are parked, and for how many seconds the first of them has been."""


class Signalling:
    """Tells sagas things on behalf of callers of this replica."""

    def __init__(self, box: SignalBox, reader: SagaReader, registry: Registry) -> None:
        self._box = box
        self._reader = reader
        self._registry = registry

    async def tell(self, saga_id: SagaId, signal: Signal, left_s: float | None) -> bool:
        """Store a signal, and wait a while for the leader to heed it; whether it has.

        Raises WrongState with the reason when it cannot be heeded, AlreadyTold, and NotFound when there is no saga.
        """
        await self._hearing(saga_id, signal.verb)
        number = await self._box.post(saga_id, signal)
        async for _ in looks(left_s):
            fate = await self._box.fate(number)
            if fate.refusal:
                raise WrongState(f"saga {saga_id}: {fate.refusal}")
            if fate.heard:
                return True
        return False

    async def refuse_unwanted(self, saga_id: SagaId, verb: Verb, step: str) -> None:
        """Raises WrongState, as the leader would, when nobody waits for such an answer any longer, whatever it says."""
        await self._hearing(saga_id, verb)
        heeded = heed(await self.folded(saga_id), Signal(0, verb, step), _UNASKED)
        if heeded is not None and heeded.refusal:
            raise WrongState(f"saga {saga_id}: {heeded.refusal}")

    async def _hearing(self, saga_id: SagaId, verb: Verb) -> None:
        """Raises WrongState when the saga has ended and hears nothing of the kind, UnknownName when there is none."""
        record = await self.existing(saga_id)
        heard = record.state == SagaState.FAILED and verb in HEARD_PARKED
        if record.terminal and not heard:
            raise WrongState(f"saga {saga_id} is {record.state}")

    async def existing(self, saga_id: SagaId) -> SagaRecord:
        """The saga's row. Raises UnknownName."""
        record = await self._reader.saga(saga_id)
        if record is None:
            raise UnknownName("saga_id", f"there is no saga {saga_id}")
        current().require(record.definition)
        return record

    async def compiled(self, saga_id: SagaId) -> Compiled:
        """The definition that a saga runs by. Raises UnknownName, NotFound."""
        record = await self.existing(saga_id)
        return await self._registry.get(record.definition, record.version)

    async def folded(self, saga_id: SagaId) -> Saga:
        """The saga as the core sees it. Raises UnknownName, and WrongState when its rows cannot be understood."""
        stored = await self._box.stored(saga_id)
        if stored is None:
            raise UnknownName("saga_id", f"there is no saga {saga_id}")
        current().require(stored.definition)
        try:
            registry = self._registry
            definitions = {n: (await registry.get(stored.definition, n)).definition for n in versions(stored)}
            return restored(stored, definitions)
        except (CorruptLog, NotFound) as error:
            raise WrongState(f"the rows of saga {saga_id} cannot be understood: {error}") from error


def order(by: str, reason: str, verb: Verb, evidence: str = "") -> Order:
    """Who orders something and why. Raises Rejected, naming the field that is missing."""
    for field, text in (("by", by), ("reason", reason), ("evidence", evidence)):
        if len(text) > _WORDS_MAX or "\x00" in text:
            raise checks.rejected(field, f"must have at most {_WORDS_MAX} characters, and none of them NUL")
    if verb in NEEDS_EVIDENCE:
        for field, text in (("reason", reason), ("evidence", evidence)):
            if not text.strip():
                raise checks.rejected(field, f"is missing: {verb} replaces what a participant would have to say")
    return Order(checks.ordered_by(by), reason, evidence)


def json_object(field: str, text: str) -> Json | None:
    """A JSON object, or None for an empty text. Raises Rejected."""
    if not text:
        return None
    if len(text) > _RESULT_BYTES_MAX:
        raise checks.rejected(field, f"has {len(text)} characters; {_RESULT_BYTES_MAX} are allowed")
    return parsed(text.encode(), field, field)
