"""What an audit looks at: rows of the saga log and of the participants' ledgers, and what the client was told.

Values only. They say what lies in the databases, in no words of the orchestrator's own code: whoever checks must not
make the same mistake as what is checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class SagaRow:
    """A saga as the log has it last."""

    id: str
    request_id: str
    shard: int
    definition: str
    version: int
    state: str
    error: Mapping[str, Any] | None
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StepRow:
    """A transition; `step` is empty for one of the saga as a whole."""

    saga_id: str
    sequence: int
    step: str
    status: str
    epoch: int
    at: datetime


@dataclass(frozen=True, slots=True)
class StepShape:
    """What a definition says about a step: its name, whether anything undoes it, and whether it calls anybody."""

    name: str
    compensated: bool
    calls: bool = True


@dataclass(frozen=True, slots=True)
class EpochRow:
    """A raise of the epoch."""

    shard: int
    epoch: int
    holder: str
    cause: str
    raised_at: datetime


@dataclass(frozen=True, slots=True)
class EffectRow:
    """An entry of a participant's ledger: something took effect. `kind` is action or compensation."""

    service: str
    id: int
    saga_id: str
    step: str
    kind: str
    epoch: int
    effect: Mapping[str, Any]
    at: datetime

    @property
    def key(self) -> Key:
        """The idempotency key."""
        return (self.saga_id, self.step, self.kind)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An action that must never take effect, since its compensation came first."""

    service: str
    saga_id: str
    step: str


@dataclass(frozen=True, slots=True)
class StockRow:
    """One article: pieces at the beginning, there now, held by orders, and brought back by returns."""

    stock_code: str
    initial: int
    available: int
    reserved: int
    restocked: int


@dataclass(frozen=True, slots=True)
class Money:
    """All payments that stand: charged to customers, refunded to them, and the sum of their accounts."""

    charged: Decimal
    refunded: Decimal
    balance: Decimal


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the databases say. `stock` and `money` are None where there is no such participant."""

    sagas: Sequence[SagaRow]
    steps: Sequence[StepRow]
    epochs: Sequence[EpochRow]
    definitions: Mapping[tuple[str, int], tuple[StepShape, ...]]
    effects: Sequence[EffectRow]
    tombstones: Sequence[Tombstone]
    stock: Sequence[StockRow] | None = None
    money: Money | None = None


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A StartSaga that was answered: the client's request id, and the saga that it got."""

    request_id: str
    saga_id: str


@dataclass(frozen=True, slots=True)
class Gap:
    """The time without a driving leader after a fault, in seconds; `seconds` is None if nobody carried on."""

    fault: str
    seconds: float | None
    bound_s: float


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What only the one who ran the cluster knows.

    `faults` counts what gave leadership a reason to change since `since` (None: since the beginning, which is a reason
    by itself).
    """

    acknowledged: Sequence[Acknowledgement] = ()
    faults: int = 0
    gaps: Sequence[Gap] = field(default_factory=tuple)
    since: datetime | None = None
