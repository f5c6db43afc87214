"""What the driver needs of participants, however they are reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from orchestrator.saga.commands import Accepted, Held, Refused, Succeeded, Unknown
from orchestrator.saga.definition import Method
from orchestrator.saga.model import Epoch, Json, Kind, SagaId


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of a participant. Its intent is durable under `epoch`. `timeout_s` bounds this attempt, in seconds."""

    saga_id: SagaId
    definition: str
    version: int
    step: str
    service: str
    method: Method
    kind: Kind
    attempt: int
    shard: int
    epoch: Epoch
    request: Json
    timeout_s: float
    # The call asks whether the action of this key took effect, by the step's status method.
    asks: bool = False
    # The participant may accept the call and answer later, by the token.
    answers_later: bool = False
    # The trace that the participant is to go on in (W3C Trace Context); empty when nothing is traced.
    traceparent: str = ""

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt; a participant's barrier knows the effect by it."""
        return f"{self.saga_id}/{self.step}/{self.kind}"

    @property
    def answer_token(self) -> str:
        """What the participant answers by when it does so later; empty when it may not."""
        return f"{self.saga_id}/{self.step}" if self.answers_later else ""


# What can come of a call.
Answer = Succeeded | Refused | Unknown | Held | Accepted


class Participants(Protocol):
    """Calls participants. No error of a participant is raised: it is an outcome."""

    async def call(self, invocation: Invocation) -> Answer:
        """Call the participant and say what came of it (R7), at the latest after `timeout_s`."""

    def warm(self, services: Iterable[str]) -> None:
        """Connect to these addresses ahead of the first call."""
