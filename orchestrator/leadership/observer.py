"""The standby's eye on the leader: reads its beats, tries fresh connections, and returns only with evidence.

What counts as evidence is decided in verdict.py; here it is gathered. The leader's peer address must lead to the
replica itself: a proxy that accepts connections in its place would make a cut network look like a frozen process.
"""

from __future__ import annotations

import asyncio

import structlog

from orchestrator.leadership.beacon import parse_beat
from orchestrator.leadership.companions import Companions
from orchestrator.leadership.peer import ObserverPace, PeerConnection, probe
from orchestrator.leadership.port import Member
from orchestrator.leadership.pulse import Clock, boottime_s
from orchestrator.leadership.verdict import Stream, Verdict, judge
from orchestrator.security.dialer import PLAIN, Dialer

log = structlog.get_logger()


class Observer:
    """Observes one leader after another, for one standby."""

    def __init__(
        self,
        pace: ObserverPace,
        clock: Clock = boottime_s,
        companions: Companions | None = None,
        dialer: Dialer = PLAIN,
    ) -> None:
        self._pace = pace
        self._dialer = dialer
        self._clock = clock
        self._companions = companions or Companions(pace, clock, dialer)
        self.last_sign_s: float | None = None

    async def observe(self, leader: Member) -> Verdict:
        """Watch this process of a leader and return when there is evidence that it does not run.

        Never returns while the leader answers, nor while it merely cannot be reached: cancel it when the key changes.
        """
        async with self._companions.taken(leader.incarnation) as companion:
            self.last_sign_s = companion.last_sign_s
            stream = Stream.LOST if companion.lost else Stream.NEVER
            retry_s = 0.0
            while True:
                if companion.connection is not None:
                    stream, beats = await self._listen(companion.connection)
                    retry_s = 0.0 if beats else retry_s
                    if stream is Stream.LOST:
                        companion.hang_up()
                await asyncio.sleep(retry_s)
                retry_s = min(max(2 * retry_s, self._pace.retry_first_s), self._pace.retry_max_s)
                met, fresh, own_pause = await probe(leader, self._pace, self._clock, self._dialer)
                if verdict := judge(stream, met, own_pause=own_pause):
                    log.warning("leader accused", leader=leader.replica_id, verdict=verdict, stream=stream, probe=met)
                    return verdict
                if fresh is not None:
                    self.last_sign_s = self._clock()
                    companion.hang_up()
                    companion.connection = fresh

    async def _listen(self, connection: PeerConnection) -> tuple[Stream, int]:
        """Read beats until the stream ends or is silent for too long; also how many beats came.

        The wait is cut into short slices: one that took longer than it should tells that this process did not run,
        and then the silence is counted from the start.
        """
        beats = 0
        silent_since_s = self._clock()
        while True:
            asked_s = self._clock()
            try:
                async with asyncio.timeout(self._pace.beat_interval_s):
                    line = await connection.line()
            except TimeoutError:
                now_s = self._clock()
                if now_s - asked_s > self._pace.beat_interval_s + self._pace.own_pause_s:
                    silent_since_s = now_s
                elif now_s - silent_since_s >= self._pace.beat_timeout_s:
                    return Stream.SILENT, beats
                continue
            # The end of the stream is a sign as well: until then, the process had it open.
            silent_since_s = self.last_sign_s = self._clock()
            if line is None or parse_beat(line) is None:
                return Stream.LOST, beats
            beats += 1
