"""Participants whose calls are traced: each attempt is a span, and the call carries on the trace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from orchestrator.driving.port import Answer, Invocation, Participants
from orchestrator.saga.commands import Accepted, Held, Refused, Succeeded, Unknown
from orchestrator.tracing import ids
from orchestrator.tracing.sagas import SagaSpans
from orchestrator.tracing.span import Attributes, Link, Side, Sink, Span

# The outcome of a call that this leader gave up: its term has ended, or the saga has.
BROKEN_OFF = "BROKEN_OFF"


class TracedParticipants:
    """Implements `Participants` over others."""

    def __init__(
        self, participants: Participants, sagas: SagaSpans, sink: Sink, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._participants = participants
        self._sagas = sagas
        self._sink = sink
        self._now_ns = now_ns

    def warm(self, services: Iterable[str]) -> None:
        """Connect ahead of the first call."""
        self._participants.warm(services)

    async def call(self, invocation: Invocation) -> Answer:
        """Call the participant; see `Participants.call`."""
        saga = invocation.saga_id
        span_id = ids.attempt_id(saga, invocation.step, invocation.kind, invocation.attempt, invocation.epoch)
        traced = self._sagas.traced(saga)
        carrying = replace(invocation, traceparent=ids.traceparent(saga, span_id, traced=traced))
        if not traced:
            return await self._participants.call(carrying)
        start_ns = self._now_ns()
        answer: Answer | None = None
        try:
            answer = await self._participants.call(carrying)
        finally:
            self._ended(invocation, span_id, start_ns, answer)
        return answer

    def _ended(self, invocation: Invocation, span_id: int, start_ns: int, answer: Answer | None) -> None:
        outcome, code = _said(answer)
        attributes: Attributes = {
            "baton.saga": str(invocation.saga_id),
            "baton.definition": invocation.definition,
            "baton.version": invocation.version,
            "baton.step": invocation.step,
            "baton.kind": invocation.kind.value,
            "baton.attempt": invocation.attempt,
            "baton.epoch": invocation.epoch,
            "baton.outcome": outcome,
            "rpc.system": "grpc",
            "rpc.method": invocation.method.path,
            "server.address": invocation.service,
        }
        if code:
            attributes["baton.code"] = code
        if invocation.asks:
            attributes["baton.asks"] = True
        links: tuple[Link, ...] = ()
        former = self._sagas.broken_off(invocation.saga_id, invocation.step)
        if former is not None:
            former_id = ids.attempt_id(invocation.saga_id, invocation.step, former.kind, former.attempt, former.epoch)
            relation = "repeats" if former.kind is invocation.kind else "undoes"
            links = (Link(invocation.saga_id.int, former_id, relation),)
        self._sink(
            Span(
                invocation.saga_id,
                span_id,
                ids.step_id(invocation.saga_id, invocation.step, invocation.kind),
                f"attempt {invocation.attempt} of {invocation.method.path}",
                Side.CLIENT,
                start_ns,
                max(start_ns, self._now_ns()),
                attributes,
                code if outcome not in ("succeeded", "accepted") else None,
                links,
            )
        )


def _said(answer: Answer | None) -> tuple[str, str]:
    """The outcome and its code. A participant's words are not for spans: they may hold what is private."""
    match answer:
        case None:
            return "broken_off", BROKEN_OFF
        case Succeeded():
            return "succeeded", ""
        case Accepted():
            return "accepted", ""
        case Refused(code=code):
            return "refused", code
        case Unknown(code=code):
            return "unknown", code
        case Held(code=code):
            return "held", code
