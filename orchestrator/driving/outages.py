"""Participants behind breakers: an outage holds the sagas of a participant, and spends none of their attempts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from orchestrator.driving.breaker import Breaker, BreakerPolicy
from orchestrator.driving.port import Answer, Invocation, Participants
from orchestrator.saga.commands import Held, Unknown
from orchestrator.saga.events import NOT_CALLED
from orchestrator.telemetry import Metrics

# What a call gives that has not reached its participant, or lost it on the way.
OUTAGE = "UNAVAILABLE"

log = structlog.get_logger()


class Outages:
    """Implements `Participants` over others, with a breaker for each address."""

    def __init__(
        self,
        participants: Participants,
        boottime_s: Callable[[], float],
        chance: Callable[[], float],
        metrics: Metrics,
        policy: BreakerPolicy | None = None,
    ) -> None:
        self._participants = participants
        self._boottime_s = boottime_s
        self._chance = chance
        self._metrics = metrics
        self._policy = policy or BreakerPolicy()
        self._breakers: dict[str, Breaker] = {}

    async def call(self, invocation: Invocation) -> Answer:
        """Call unless the breaker holds; see `Participants.call`."""
        breaker = self._breaker(invocation.service)
        wait_s = breaker.wait_s(self._boottime_s(), self._chance())
        if wait_s is not None:
            return Held(NOT_CALLED, f"{invocation.service} is not to be reached", wait_s, called=False)
        try:
            answer = await self._participants.call(invocation)
        except BaseException:
            # The one that tried it out was given up: the next one tries again.
            breaker.unheard()
            raise
        was_open = breaker.open
        if isinstance(answer, Unknown) and answer.code == OUTAGE:
            answer = Held(OUTAGE, answer.message, breaker.missed(self._boottime_s(), self._chance()), called=True)
        else:
            breaker.reached(self._boottime_s())
        if breaker.open != was_open:
            self._tell(invocation.service, breaker.open)
        return answer

    def comes_back(self, service: str) -> None:
        """A participant was paused, and is no more: what has waited comes back in the ramp of the breaker."""
        self._breaker(service).come_back(self._boottime_s())

    def warm(self, services: Iterable[str]) -> None:
        """See `Participants.warm`."""
        services = list(services)
        for service in services:
            self._breaker(service)
        self._participants.warm(services)

    def _breaker(self, service: str) -> Breaker:
        breaker = self._breakers.get(service)
        if breaker is None:
            breaker = self._breakers[service] = Breaker(self._policy)
            self._metrics.breaker_open.labels(service).set(0)
        return breaker

    def _tell(self, service: str, is_open: bool) -> None:
        self._metrics.breaker_open.labels(service).set(int(is_open))
        if is_open:
            log.warning("participant_away", participant=service, reaction="its sagas are held")
        else:
            log.info("participant_back", participant=service)
